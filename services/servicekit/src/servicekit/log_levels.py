"""`pinhole-log-level`: changes how much a service logs while it runs, for some minutes.

What it writes is a file, which every process of the service looks at each second: no port is open for it, and
who may write the file is who may run commands beside the service.
"""

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from servicekit.logs import get_audit_log
from servicekit.settings import LogLevel, ServiceSettings, load_settings
from servicekit.whole_files import written_whole

POLL_SECONDS = 1.0
MAX_MINUTES = 24 * 60
ROOT = "root"
"""The logger that all others follow, but those that have a level of their own."""

audit = get_audit_log()


class Levels(BaseModel):
    """The levels of some loggers, until a time in seconds since 1970."""

    levels: dict[str, LogLevel] = {}
    until: float = 0.0


async def follow_levels(path: Path) -> None:
    """Apply what the file `path` says from second to second; without it, the levels are those of the start."""
    applied: Mapping[str, LogLevel] = {}
    original: dict[str, int] = {}
    while True:
        wanted = wanted_levels(path)
        if wanted != applied:
            for name, number in original.items():
                logging.getLogger(name).setLevel(number)
            original = {name: logging.getLogger(name).level for name in wanted}
            for name, level in wanted.items():
                logging.getLogger(name).setLevel(level)
            audit.info("log_levels_changed", levels=dict(wanted))
            applied = wanted
        await asyncio.sleep(POLL_SECONDS)


def wanted_levels(path: Path, *, owner: int | None = None) -> Mapping[str, LogLevel]:
    """Return what the file says now: nothing where it is not of `owner` (this user), cannot be read or is over."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != (os.geteuid() if owner is None else owner):
                return {}  # a stranger's, in a folder that all share
            said = Levels.model_validate_json(file.read())
    except (OSError, ValidationError):
        return {}
    return said.levels if time.time() < said.until else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, and say what is so then."""
    options = _parser().parse_args(arguments)
    path = load_settings(ServiceSettings).log_levels_file
    if options.reset:
        path.unlink(missing_ok=True)
    elif options.level:
        levels = {**wanted_levels(path), options.logger: options.level}
        said = Levels(levels=levels, until=time.time() + 60 * options.minutes)
        with written_whole(path) as file:
            file.write(said.model_dump_json().encode())
    for name, level in wanted_levels(path).items():
        sys.stdout.write(f"{name} {level}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pinhole-log-level",
        description="Change how much the service beside this command logs. Without arguments, show what was changed.",
        epilog="The file that tells the service is LOG_LEVELS_FILE, as the service itself was told.",
    )
    parser.add_argument("level", nargs="?", type=str.upper, choices=get_args(LogLevel))
    parser.add_argument("logger", nargs="?", default=ROOT, help="as `logger` in a line of the log (default: all)")
    parser.add_argument("--minutes", type=_minutes, default=15.0, help="for so long (default 15)")
    parser.add_argument("--reset", action="store_true", help="back to what the service was started with")
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"expected up to {MAX_MINUTES}, got {text}")
    return minutes


if __name__ == "__main__":
    main()
