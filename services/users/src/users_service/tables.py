"""The tables of this service."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from servicekit.database import NAMING, UtcDateTime, new_id, utc_now
from sqlalchemy import JSON, BigInteger, Index, LargeBinary, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from users_service.identifiers import canonical_email, canonical_full_name, canonical_username

Role = Literal["user", "admin"]
EventType = Literal[
    "account.created",
    "account.changed",
    "account.deleted",
    "account.restored",
    "account.erased",
    "password.changed",
    "password.reset",
]


class Base(DeclarativeBase):
    """What the tables have in common."""

    metadata = MetaData(naming_convention=NAMING)


class _Record:
    """What is known of somebody."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(64))
    email: Mapped[str] = mapped_column(String(254))
    full_name: Mapped[str | None] = mapped_column(String(200))
    disabled: Mapped[bool] = mapped_column(default=False)
    role_user: Mapped[bool]
    role_admin: Mapped[bool]
    password_hash: Mapped[str | None] = mapped_column(String(255))
    """None where nobody can sign in."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)

    @property
    def roles(self) -> list[Role]:
        """What the account is, in a fixed order."""
        held: list[tuple[Role, bool]] = [("user", self.role_user), ("admin", self.role_admin)]
        return [role for role, is_held in held if is_held]

    @roles.setter
    def roles(self, roles: Collection[Role]) -> None:
        self.role_user, self.role_admin = "user" in roles, "admin" in roles


# With `IS TRUE`: else SQLite takes the index of all full names, where everybody is under null who has none.
UNSPELLED = text("full_name IS NOT NULL AND (full_name_canonical IS NULL) IS TRUE")
"""A service of the version before has written the full name: see `listing`."""


class Account(_Record, Base):
    """Who may sign in. The unique columns are what two spellings of one name have in common."""

    __tablename__ = "accounts"
    __table_args__ = (
        Index(
            "ix_accounts_administrators", "id", sqlite_where=text("role_admin = 1"), postgresql_where=text("role_admin")
        ),
        Index("ix_accounts_disabled", "id", sqlite_where=text("disabled = 1"), postgresql_where=text("disabled")),
        Index("ix_accounts_unspelled", "id", sqlite_where=UNSPELLED, postgresql_where=UNSPELLED),
    )

    username_canonical: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"), unique=True
    )
    email_canonical: Mapped[str] = mapped_column(Text().with_variant(Text(collation="C"), "postgresql"), unique=True)
    full_name_canonical: Mapped[str | None] = mapped_column(
        Text().with_variant(Text(collation="C"), "postgresql"), index=True
    )

    @validates("username", "email", "full_name")
    def _set_canonical(self, name: str, value: Any) -> Any:
        match name:
            case "username":
                self.username_canonical = canonical_username(value)
            case "email":
                self.email_canonical = canonical_email(value)
            case _:
                self.full_name_canonical = value and canonical_full_name(value)
        return value


class DeletedAccount(_Record, Base):
    """Who was deleted, until they are restored or erased.

    In a table of their own, no query can take them for accounts and their names are free.
    """

    __tablename__ = "deleted_accounts"

    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class Event(Base):
    """Something that happened to an account. The server refuses to change or delete one."""

    __tablename__ = "events"

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    type: Mapped[EventType] = mapped_column(String(32))
    account_id: Mapped[UUID] = mapped_column(index=True)
    actor: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class EventHead(Base):
    """One row: the number and the hash of the last event. Who writes an event locks it first."""

    __tablename__ = "event_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class IdempotencyKey(Base):
    """A request that has created an account. It goes with the account when that is erased."""

    __tablename__ = "idempotency_keys"

    key_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    account_id: Mapped[UUID] = mapped_column(index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)


class AttemptCounter(Base):
    """How often passwords were tried by somebody, or for somebody. Times are Unix times in milliseconds."""

    __tablename__ = "attempt_counters"

    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    count: Mapped[int]
    """Attempts that were wrong or have no outcome yet, less those that are forgotten, at `counted_at`."""
    counted_at: Mapped[int] = mapped_column(BigInteger)
    retry_at: Mapped[int] = mapped_column(BigInteger)
    pending: Mapped[int]
    """Attempts without an outcome; none at `pending_until`."""
    pending_until: Mapped[int] = mapped_column(BigInteger)
    known_until: Mapped[int] = mapped_column(BigInteger)
    """Until then this address is one where this name has signed in."""
    forget_at: Mapped[int] = mapped_column(BigInteger, index=True)


class Secret(Base):
    """A key that the replicas share."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)
