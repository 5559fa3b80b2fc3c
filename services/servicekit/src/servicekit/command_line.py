"""The command line of a service: what an operator does at the machine, with the settings and the database of it."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import ValidationError

from servicekit.connections import ConnectionSettings
from servicekit.database import Database
from servicekit.existing_database import NoDatabase, open_existing_database
from servicekit.logs import audited_as, configure_logs
from servicekit.problem import Problem
from servicekit.settings import load_settings

S = TypeVar("S", bound=ConnectionSettings)
T = TypeVar("T")


class CommandLine(Generic[S]):
    """Runs the commands of `pinhole-SERVICE`, which the audit log names as the actor."""

    def __init__(self, settings: type[S]) -> None:
        self._settings = settings
        self.name = f"pinhole-{settings.service}"

    def run(self, command: Callable[[Database, S], Awaitable[T]]) -> T:
        """Return what `command` does with the database and the settings of the service.

        Raises:
            SystemExit: there is no database (1), or the arguments are not valid (2); the reason is one sentence.
        """
        settings = load_settings(self._settings)
        configure_logs(settings.service, level="ERROR", format=settings.log_format)

        async def run() -> T:
            async with open_existing_database(settings) as database:
                if settings.migrate_at_start:
                    await database.migrate(f"{settings.service}_service")
                return await command(database, settings)

        try:
            with audited_as(self.name):
                return asyncio.run(run())
        except NoDatabase as none:
            self.fail(str(none), status=1)
        except Problem as problem:
            self.fail(problem.detail or problem.title)
        except ValidationError as invalid:
            self.fail(
                "; ".join(
                    ": ".join((*map(str, error["loc"][:1]), error["msg"].removeprefix("Value error, ")))
                    for error in invalid.errors()
                )
            )

    def fail(self, reason: str, *, status: int = 2) -> NoReturn:
        """End the process with a sentence on standard error."""
        print(f"{self.name}: {reason}", file=sys.stderr)
        raise SystemExit(status)


def say(sentence: str, answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a sentence, or the same as one JSON object."""
    print(json.dumps(answer) if as_json else sentence)
