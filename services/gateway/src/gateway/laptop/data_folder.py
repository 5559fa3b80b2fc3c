"""The folder that keeps everything between two starts."""

import fcntl
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from servicekit.whole_files import written_whole

from gateway.laptop.errors import CannotStart

PASSWORD_BYTES = 12


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where things are. `path` is as the user wrote it, for what is printed."""

    path: Path
    new_password: str | None
    """The administrator's, where this start has made it."""

    @property
    def password_file(self) -> Path:
        """Return the file of the administrator's first password."""
        return self.path / "admin-password"

    @property
    def logs(self) -> Path:
        """Return the folder of the logs."""
        return self.path / "logs"

    def log_file(self, name: str) -> Path:
        """Return the file of what one child has printed since its last start."""
        return self.logs / f"{name}.log"

    def database(self, name: str) -> Path:
        """Return the database of one service."""
        return self.path / f"{name}.db"


def hold_data_folder(path: Path) -> FileIO:
    """Create the folder, and keep it for this process until the file that is returned is closed.

    Raises:
        CannotStart: another process has it, or it cannot be written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = FileIO(path / "pid", "a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no child inherits it
        except BlockingIOError:
            with file:
                file.seek(0)
                raise CannotStart(
                    f"process {file.read().decode().strip()} runs Pinhole with the data folder {path};"
                    " end it, or choose another folder with --data (variable PINHOLE_DATA)"
                ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    except OSError as error:
        raise _cannot_write(path, error) from None
    return file


def prepare_data_folder(path: Path, variables: Mapping[str, str]) -> DataFolder:
    """Create what is missing in the folder. At the first start, make a password for the administrator.

    Raises:
        CannotStart: the folder cannot be written.
    """
    folder = DataFolder(path, None)
    is_ours = not {"USERS_ADMIN_PASSWORD", "USERS_ADMIN_PASSWORD_FILE"} & variables.keys()
    try:
        folder.logs.mkdir(exist_ok=True)
        # Where there are accounts already, a password made now would open none of them.
        if is_ours and not folder.password_file.exists() and not folder.database("users").exists():
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            # Whole or not at all: on a full disk an empty file would be kept for a password.
            with written_whole(folder.password_file) as file:
                file.write(f"{password}\n".encode())
            return DataFolder(path, password)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return folder


def _cannot_write(path: Path, error: OSError) -> CannotStart:
    return CannotStart(f"cannot write to the data folder {path}: {error.strerror}; choose another with --data")
