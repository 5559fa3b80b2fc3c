"""`python -m servicekit.migrate auth_service.settings:AuthSettings`: bring a service's schema up to date, and end.

For where replicas are not to migrate at their start: it runs before them, with the variables of the service.
Several may run at once: a lock in the database lets one work, and the others find nothing left to do.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from importlib import import_module
from typing import Any

from servicekit.connections import ConnectionLimits
from servicekit.database import open_database
from servicekit.logs import configure_logs, get_logger
from servicekit.settings import load_settings

log = get_logger(__name__)


async def migrate(url: str, package: str, *, wait_seconds: float) -> None:
    """Bring the schema of the database at `url` to the newest revision in `<package>/migrations`.

    Raises:
        SystemExit: the database did not answer within `wait_seconds`.
    """
    async with open_database(url, ConnectionLimits(pool_size=1, max_overflow=0)) as database:
        try:
            async with asyncio.timeout(wait_seconds):
                await database.wait_for_an_answer()
        except TimeoutError:
            raise SystemExit(f"the database does not answer for {wait_seconds:g} s") from None
        await database.migrate(package)
    log.info("schema_is_up_to_date", package=package)


def main() -> None:
    """Migrate as the environment says; the status is 0 where the schema is up to date, and 143 at SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.migrate", description=main.__doc__)
    parser.add_argument("settings", metavar="PACKAGE.MODULE:CLASS", help="the settings of the service")
    parser.add_argument("--wait-seconds", type=float, default=120.0, help="for the database to answer (default 120)")
    arguments = parser.parse_args()
    module, _, name = arguments.settings.partition(":")
    settings = load_settings(getattr(import_module(module), name))
    configure_logs(settings.service, level=settings.log_level, format=settings.log_format)
    package = module.partition(".")[0]
    try:
        asyncio.run(_until_sigterm(migrate(settings.database_url, package, wait_seconds=arguments.wait_seconds)))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)


async def _until_sigterm(work: Coroutine[Any, Any, None]) -> None:
    """Do the work. In a container this is the first process, which no signal ends that it does not handle itself."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


if __name__ == "__main__":
    main()
