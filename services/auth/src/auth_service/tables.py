"""The tables of auth."""

from datetime import datetime
from typing import Any
from uuid import UUID

from servicekit.database import NAMING, UtcDateTime
from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What the tables share."""

    metadata = MetaData(naming_convention=NAMING)


class SigningKeyRow(Base):
    """A key that signs access tokens."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(43), primary_key=True)
    """The `kid`: the key's thumbprint (RFC 7638)."""

    algorithm: Mapped[str] = mapped_column(String(5))
    private_pem: Mapped[str] = mapped_column(Text)
    """Sealed where the settings have a key for that; empty once the key is revoked."""

    public_jwk: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    """What verifies, so that who cannot open the private half can tell. None of a version that did not store it."""

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    active_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """It signs from then on, until another one does. None means from its making."""

    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SessionRow(Base):
    """A sign-in: the family of the refresh tokens that follow from it."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), index=True)
    client_id: Mapped[str] = mapped_column(String(64), index=True)
    scope: Mapped[str] = mapped_column(Text)
    """What the sign-in granted; no refresh grants more."""

    device: Mapped[str | None] = mapped_column(String(200))
    """The `User-Agent` of the sign-in, cut to this length: for its owner to know it again."""

    credential_id: Mapped[UUID | None] = mapped_column(index=True)
    """What a client has authenticated with, where the session is its own and not a user's."""

    successor_secret: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Makes each refresh token's successor out of it, so that a retry gets the same one and no token is stored."""

    events_seen: Mapped[int | None] = mapped_column(BigInteger)
    """The number of users' last event when it verified the sign-in: only later ones end the session."""

    access_token_seconds: Mapped[int | None] = mapped_column(BigInteger, index=True)
    """The longest that an access token of it was made to live. None of a version that did not say."""

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    """The earlier of the idle and the absolute end, as of the last use."""

    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)


class RefreshTokenRow(Base):
    """A refresh token, of which only the hash is known here."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256: the token has 256 random bits, so a slow hash would add nothing."""

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ClientRow(Base):
    """An OAuth client that was registered, or that the settings name."""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    grant_types: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    token_endpoint_auth_method: Mapped[str] = mapped_column(String(24))
    first_party: Mapped[bool]
    jwks: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """The public keys that it signs with; or they are at `jwks_uri`; or it has the tokens of a ServiceAccount."""

    jwks_uri: Mapped[str | None] = mapped_column(String(500))
    service_account: Mapped[str | None] = mapped_column(String(320), index=True, unique=True)
    key_credential_id: Mapped[UUID | None]
    """Stands for these keys, as the id of a secret does for a secret; another one when they change."""

    is_configured: Mapped[bool]
    """It comes from the settings, and goes with them."""

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    secrets: Mapped[list["ClientSecretRow"]] = relationship(
        cascade="all, delete-orphan", lazy="selectin", order_by="ClientSecretRow.id", passive_deletes=True
    )


class ClientSecretRow(Base):
    """A secret of a client, of which only the hash is known here."""

    __tablename__ = "client_secrets"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AccountFeed(Base):
    """One row: how far the events of users are taken."""

    __tablename__ = "account_feed"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)


class AccountEnding(Base):
    """An event that has ended sessions, for the sign-ins that were under way then."""

    __tablename__ = "account_endings"

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    subject: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class ClientAssertionRow(Base):
    """An assertion that a client has used. It is taken once."""

    __tablename__ = "client_assertions"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256 of the client's id and the assertion's `jti`."""

    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
