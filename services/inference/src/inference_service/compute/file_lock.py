"""Work that one process does for all: the others wait, and find it done."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from servicekit.logs import get_logger

from inference_service.ending import Ending

_LOOKS_EVERY_SECONDS = 0.2

log = get_logger(__name__)


@contextmanager
def locked(path: Path, ending: Ending) -> Iterator[None]:
    """Hold the lock of the file at `path`, which is there for as long. It goes with its process, however that ends.

    Where the file cannot be made nobody waits: then nothing that is done can be kept for others either.

    Raises:
        ServiceEnds: the service ends meanwhile.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (file := _taken(path)) is None:
            ending.sleep(_LOOKS_EVERY_SECONDS)
    except OSError as error:
        log.warning("not_locked", path=str(path), reason=error.strerror)
        yield
        return
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _taken(path: Path) -> BinaryIO | None:
    """Return the file with its lock, None where another has that."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()  # of a file that was removed when it was opened, too
    return None
