"""The clock of the database: replicas share it, and their own may differ."""

from datetime import datetime
from typing import Any

from servicekit.database import UtcDateTime
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


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
