"""What travels over HTTP when clients are registered."""

import json
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import MISSING, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from servicekit.database import utc_now

from auth_service.client_rows import live_secrets, registration
from auth_service.clients import (
    AuthMethod,
    FirstParty,
    GrantType,
    GrantTypes,
    Keys,
    KeysUri,
    Name,
    Scopes,
    ServiceAccount,
)
from auth_service.tables import ClientRow, ClientSecretRow


class SecretResponse(BaseModel):
    """A secret that works. Only its hash is kept, so it is never read again."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(description="When it stops to work; null until another takes its place.")


class NewSecretResponse(SecretResponse):
    """A secret, this once."""

    secret: str = Field(description="Keep it: this is the only answer that holds it.")

    @classmethod
    def of(cls, row: ClientSecretRow, secret: str) -> Self:
        """Return the answer that tells a new secret."""
        return cls(id=row.id, created_at=row.created_at, expires_at=row.expires_at, secret=secret)


class ClientResponse(BaseModel):
    """A client, as it is read."""

    id: str
    name: str
    grant_types: list[GrantType]
    scopes: list[str]
    token_endpoint_auth_method: AuthMethod
    first_party: bool
    jwks: list[dict[str, Any]] | None
    jwks_uri: str | None
    service_account: str | None
    is_configured: bool = Field(description="It comes from the settings of the service, and only they can change it.")
    created_at: AwareDatetime
    secrets: list[SecretResponse]

    @classmethod
    def of(cls, row: ClientRow) -> Self:
        """Return what may be read of a stored client."""
        return cls.model_validate(
            {
                **registration(row).model_dump(mode="json", exclude={"jwks"}),
                "jwks": _shown(row.jwks),
                "id": row.id,
                "grant_types": row.grant_types.split(),
                "scopes": row.scope.split(),
                "is_configured": row.is_configured,
                "created_at": row.created_at,
                "secrets": [SecretResponse.model_validate(secret) for secret in live_secrets(row, utc_now())],
            }
        )


def _shown(keys: list[dict[str, Any]] | None) -> Any:
    """Return keys as they can be written: a version before took ids with half a surrogate, which no answer can hold."""
    return json.loads(json.dumps(keys, ensure_ascii=False).encode("utf-8", "replace"))


class RegisteredClient(ClientResponse):
    """A client that was registered just now, with its secret where it has one."""

    secret: str | None = Field(description="Keep it: this is the only answer that holds it.")


class ClientList(BaseModel):
    """Clients in the order of their ids."""

    clients: list[ClientResponse]


class ClientPatch(BaseModel):
    """A merge patch (RFC 7396): the members that are given replace those of the client."""

    model_config = ConfigDict(extra="forbid")

    name: Name | MISSING = MISSING
    grant_types: GrantTypes | MISSING = MISSING
    scopes: Scopes | MISSING = MISSING
    token_endpoint_auth_method: AuthMethod | MISSING = MISSING
    first_party: FirstParty | MISSING = MISSING
    jwks: Keys | MISSING | None = MISSING
    jwks_uri: KeysUri | MISSING | None = MISSING
    service_account: ServiceAccount | MISSING | None = MISSING


def _whole(value: Any) -> Any:
    """Take 60.0 for 60: JSON has one kind of number, and JSON Schema calls both an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class SecretRotation(BaseModel):
    """How a secret makes way for another."""

    model_config = ConfigDict(extra="forbid")

    old_expires_in_seconds: Annotated[StrictInt, BeforeValidator(_whole)] = Field(
        24 * 3600, ge=0, le=90 * 24 * 3600, description="For so long the present secret works beside the new one."
    )
