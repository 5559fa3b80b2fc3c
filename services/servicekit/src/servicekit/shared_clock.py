"""The clock of the database: replicas share it, and their own may differ."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from servicekit.database import UtcDateTime


class shared_now(FunctionElement[datetime]):  # noqa: N801 - in a statement it is a function
    """The time at which the statement runs."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(shared_now, "postgresql")
def _on_postgresql(_element: shared_now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "clock_timestamp()"


@compiles(shared_now, "sqlite")
def _on_sqlite(_element: shared_now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"  # as times are stored there, in UTC


async def read_shared_clock(session: AsyncSession) -> datetime:
    """Return the time."""
    return (await session.scalars(select(shared_now()))).one()
