"""Files that are there whole or not at all, for whoever reads them meanwhile and after a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Take what takes the place of `path` once all of it is on the disk. Its owner alone can read it.

    Raises:
        OSError: it cannot be written; what was at `path` before is there still.
    """
    # Of a name that nobody knows beforehand: in a folder that all share, a stranger may have put a link there.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        try:
            yield new
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink()
            raise
