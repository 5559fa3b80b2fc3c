"""What the children print: kept in a file each, and shown where the user wants to see it."""

import contextlib
import re
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from honcho.manager import SYSTEM_PRINTER_NAME
from servicekit.settings import BAD_CONFIGURATION
from servicekit.starting import UNKNOWN_SETTING

from gateway.laptop.data_folder import DataFolder
from gateway.laptop.errors import CannotStart

_REMEMBERED_LINES = 50
_NO_REASON = re.compile(
    r"""
    \s*$
    | .* Application\ startup\ failed   # uvicorn's last words, after the reason
    | \s*\[uvicorn\.error\]            # what the console format puts behind an event of many lines
    """,
    re.VERBOSE,
)
_WARNING = re.compile(r".*?\[(?:warning|error|critical)\s*\]\s*(.+)")
"""A line of the console format; what is behind the level is kept, for the time differs each time."""

_ERROR = re.compile(r".*?\[(?:error|critical)\s*\]\s*(.+?)\s*\[[\w.]+\]\s+\S+=.*")
"""The same of an error, without the logger and the fields."""


def say(text: str) -> None:
    """Print a line. A terminal that is gone is no reason to leave children behind."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


class Output:
    """The printer of honcho's manager: it is given every line of every child."""

    width = 0
    """honcho sets it to the length of the longest name."""

    def __init__(self, names: Iterable[str], folder: DataFolder, *, is_shown: bool) -> None:
        """Start the files anew. Raises CannotStart where one cannot be written."""
        try:
            self._files = {name: folder.log_file(name).open("w", buffering=1) for name in names}
        except OSError as error:
            raise CannotStart(f"cannot write to {error.filename}: {error.strerror}") from None
        self._last_lines = {name: deque[str](maxlen=_REMEMBERED_LINES) for name in self._files}
        self._last_warnings = dict.fromkeys(self._files, "")
        self.is_shown = is_shown

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def write(self, message: Any) -> None:
        """Take one line; honcho's own, about what it starts and stops, are passed over.

        A setting that is not known is shown in any case: a file is where nobody would look for it.
        """
        if message.name == SYSTEM_PRINTER_NAME:
            return
        line = message.data.decode("utf-8", "replace").rstrip()
        self._last_lines[message.name].append(line)
        if warning := _WARNING.match(line):
            self._last_warnings[message.name] = " ".join(warning[1].split())
        with contextlib.suppress(OSError):  # a full disk: the children tell of it themselves
            self._files[message.name].write(f"{line}\n")
        if self.is_shown or UNKNOWN_SETTING in line:
            say(f"{message.name.ljust(self.width)} | {line}")

    def last_warning(self, name: str) -> str:
        """Return the last warning or error that a child printed in the console format, and nothing before one."""
        return self._last_warnings[name]

    def reason(self, name: str) -> str:
        """Return why a child has stopped: its bad settings, on lines where there are several, or its last line."""
        lines = list(self._last_lines[name])
        if BAD_CONFIGURATION in lines:
            told = lines[lines.index(BAD_CONFIGURATION) :]
            return "\n".join(told) if len(told) > 2 else told[-1].strip()
        for line in reversed(lines):
            if not _NO_REASON.match(line):
                error = _ERROR.match(line)
                return error[1] if error else line.strip().removeprefix("SystemExit: ")
        return "it said nothing"
