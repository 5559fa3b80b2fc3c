"""The tables of this service."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from servicekit.database import NAMING, UtcDateTime, new_id, utc_now
from sqlalchemy import Index, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from users_service.identifiers import canonical_email, canonical_username

Role = Literal["user", "admin"]


class Base(DeclarativeBase):
    """What the tables have in common."""

    metadata = MetaData(naming_convention=NAMING)


class Account(Base):
    """Who may sign in. The unique columns are what two spellings of one name have in common."""

    __tablename__ = "accounts"
    __table_args__ = (
        Index(
            "ix_accounts_administrators", "id", sqlite_where=text("role_admin = 1"), postgresql_where=text("role_admin")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(64))
    username_canonical: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str] = mapped_column(String(254))
    email_canonical: Mapped[str] = mapped_column(Text, unique=True)
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

    @validates("username", "email")
    def _set_canonical(self, name: str, value: Any) -> Any:
        if name == "username":
            self.username_canonical = canonical_username(value)
        else:
            self.email_canonical = canonical_email(value)
        return value
