"""The list of accounts: filters, orders, pages. Each page costs what the first does, however far it is.

A page starts behind the last account of the one before (keyset), in the order of a unique index. A
filter by prefix is a range of the index that gives the order, unless the caller asks for another.
"""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, ColumnExpressionArgument, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from users_service.identifiers import canonical_email, canonical_full_name, canonical_username
from users_service.tables import UNSPELLED, Account, Role

Sort = Literal["created", "-created", "username", "-username", "email", "-email"]
SPELLED_AT_ONCE = 1000
"""Full names of a service of the version before."""

_LAST_CHARACTER = "\U0010ffff"
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"

_KEYS: dict[str, InstrumentedAttribute[Any]] = {
    "created": Account.id,
    "username": Account.username_canonical,
    "email": Account.email_canonical,
}


def without_null(schema: dict[str, Any]) -> None:
    """Take null out of the schema of a parameter that may be left out: a query string has no null."""
    (given,) = [choice for choice in schema.pop("anyOf") if choice != {"type": "null"}]
    schema.update(given)


class Filters(BaseModel):
    """Which accounts are listed, and in what order."""

    model_config = ConfigDict(frozen=True)

    username: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        pattern=_NO_CONTROLS,
        json_schema_extra=without_null,
        description="How the user name begins.",
    )
    email: str | None = Field(
        None,
        min_length=1,
        max_length=254,
        pattern=_NO_CONTROLS,
        json_schema_extra=without_null,
        description="How the e-mail address begins.",
    )
    q: str | None = Field(
        None,
        min_length=1,
        max_length=254,
        pattern=_NO_CONTROLS,
        json_schema_extra=without_null,
        description="How the user name, the e-mail address or the full name begins.",
    )
    disabled: bool | None = Field(None, json_schema_extra=without_null)
    role: Role | None = Field(None, json_schema_extra=without_null, description="A role that the account has.")
    sort: Sort | None = Field(
        None,
        json_schema_extra=without_null,
        description="The order; `-` for the reverse. By default that of a given `username` or `email`, else `created`.",
    )

    @property
    def order(self) -> Sort:
        """The order that is meant."""
        if self.sort is not None:
            return self.sort
        return "username" if self.username else "email" if self.email else "created"

    def conditions(self) -> list[ColumnExpressionArgument[bool]]:
        """Return what the accounts have in common."""
        conditions: list[ColumnExpressionArgument[bool]] = []
        if self.username is not None:
            conditions.append(_begins(Account.username_canonical, canonical_username(self.username)))
        if self.email is not None:
            conditions.append(_begins(Account.email_canonical, canonical_email(self.email)))
        if self.q is not None:
            conditions.append(
                or_(
                    _begins(Account.username_canonical, canonical_username(self.q)),
                    _begins(Account.email_canonical, canonical_email(self.q)),
                    _begins(Account.full_name_canonical, canonical_full_name(self.q)),
                )
            )
        if self.disabled is not None:
            conditions.append(Account.disabled if self.disabled else ~Account.disabled)
        if self.role is not None:
            conditions.append({"user": Account.role_user, "admin": Account.role_admin}[self.role])
        return conditions


async def read_page(
    session: AsyncSession, filters: Filters, *, after: str | None, limit: int
) -> tuple[Sequence[Account], str | None]:
    """Return at most `limit` accounts behind the position `after`, and the position of the last if there are more."""
    if filters.q is not None:
        await _spell_full_names(session)
    is_reverse, name = filters.order.startswith("-"), filters.order.removeprefix("-")
    key = _KEYS[name]
    query = select(Account).where(*filters.conditions()).order_by(key.desc() if is_reverse else key).limit(limit + 1)
    if after is not None:
        position: str | UUID = UUID(after) if name == "created" else after
        query = query.where(key < position if is_reverse else key > position)
    found = (await session.scalars(query)).all()
    last = str(getattr(found[limit - 1], key.key)) if len(found) > limit else None
    return found[:limit], last


async def _spell_full_names(session: AsyncSession) -> None:
    """Spell the full names that a service of the version before has written as they are looked for.

    It may go on beside this one for as long as it likes, so they are looked for when they matter.
    """
    unspelled = (
        select(Account.id, Account.full_name)
        .where(UNSPELLED)
        .order_by(Account.id)
        .limit(SPELLED_AT_ONCE)
        .with_for_update(skip_locked=True)  # who reads waits for no writer, and no writer for two readers
    )
    change = (
        update(Account)
        .where(Account.id == bindparam("account_id"))
        # As it was: for its reader the account is the same, and so has to be its tag.
        .values(full_name_canonical=bindparam("canonical"), updated_at=Account.updated_at)
    )
    while rows := (await session.execute(unspelled)).all():
        spelled = [{"account_id": row.id, "canonical": canonical_full_name(row.full_name)} for row in rows]
        await (await session.connection()).execute(change, spelled)


def _begins(column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], prefix: str) -> ColumnElement[bool]:
    return (column >= prefix) & (column < prefix + _LAST_CHARACTER)
