"""A PostgreSQL server of the tests' own: a new cluster in a temporary folder, reached by a socket in it."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg

DEBIAN = Path("/usr/lib/postgresql")
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "''"}
_NUMBERS = count(1)


@dataclass(frozen=True)
class Postgres:
    """A running server. Its superuser is `postgres`, who needs no password."""

    folder: Path

    def url(self, database: str) -> str:
        """Return the URL of a database, as settings take it."""
        return f"postgresql+asyncpg://postgres@/{database}?host={self.folder}"

    async def create(self, *, template: str = "template1") -> str:
        """Create a database, as a copy of `template`, and return its name."""
        name = f"test_{next(_NUMBERS)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def drop(self, database: str) -> None:
        """Drop a database, whoever is still connected."""
        await self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    @contextmanager
    def copied(self, template: str) -> Iterator[str]:
        """Yield the URL of a new copy of `template`, which is dropped at the end."""
        name = asyncio.run(self.create(template=template))
        yield self.url(name)
        asyncio.run(self.drop(name))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(user="postgres", database="postgres", host=str(self.folder))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def serve_postgres() -> Iterator[Postgres]:
    """Run a server until the end.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    programs = find_programs()
    # The server refuses to run as root: Debian's package brings the user `postgres`.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        options = {**FAST, "unix_socket_directories": f"'{folder}'"}
        arguments = " ".join(f"-c {name}={value}" for name, value in options.items())

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, "--pgdata", folder / "data", *arguments],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", arguments)
        try:
            yield Postgres(folder)
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")


def find_programs() -> Path:
    """Return the folder of the server's programs, those of the newest version that Debian has installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise FileNotFoundError("PostgreSQL is missing: apt-get install postgresql")
    return versions[-1].parent
