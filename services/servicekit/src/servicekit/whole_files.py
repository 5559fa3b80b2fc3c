"""Files that are there whole or not at all, for whoever reads them meanwhile and after a crash."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import IO

_PARTIAL = ".partial"
"""The end of the name of what is being written."""

_YOUNG_SECONDS = 60.0
"""What was written to so lately is left alone: it may be of a machine whose locks are not seen here."""


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Take what takes the place of `path` once all of it is on the disk. Its owner alone can read it.

    Raises:
        OSError: it cannot be written; what was at `path` before is there still.
    """
    # Of a name that nobody knows beforehand: in a folder that all share, a stranger may have put a link there.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL, delete=False) as new:
        try:
            hold(new.fileno())
            yield new
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent` for what is on its way. It is gone at the end.

    Raises:
        OSError: it cannot be made.
    """
    with TemporaryDirectory(dir=parent, prefix=".", suffix=_PARTIAL, ignore_cleanup_errors=True) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            hold(descriptor)
            yield Path(folder)
        finally:
            os.close(descriptor)


def hold(descriptor: int) -> None:
    """Keep a file or a folder from `sweep` for as long as the descriptor is open, here or in a process forked later."""
    with suppress(OSError):  # where there are no locks, nothing is swept either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path, pattern: str = f".*{_PARTIAL}") -> None:
    """Remove from a folder what was being written by processes that have been killed. What cannot be removed stays."""
    found: list[Path] = []
    with suppress(OSError):
        found = list(folder.glob(pattern))
    for path in found:
        with suppress(OSError):
            _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    if time.time() - path.lstat().st_mtime < _YOUNG_SECONDS:
        return
    is_folder = path.is_dir()
    # Over a network a lock takes a file that is open for writing.
    descriptor = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if is_folder else os.O_RDWR))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
