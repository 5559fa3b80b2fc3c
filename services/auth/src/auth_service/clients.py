"""OAuth clients: what an application is here, and what it may do."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from servicekit.auth import SCOPES

GrantType = Literal["password", "refresh_token", "client_credentials"]
GRANT_TYPES: tuple[GrantType, ...] = get_args(GrantType)
AuthMethod = Literal["none", "client_secret_basic", "client_secret_post"]
AUTH_METHODS: tuple[AuthMethod, ...] = get_args(AuthMethod)

PUBLIC: AuthMethod = "none"

CLIENT_ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_SECRETS = 2
"""One in use, and one that takes its place."""


@dataclass(frozen=True, slots=True)
class Client:
    """An application that has said who it is, and proven it where it can."""

    id: str
    grant_types: frozenset[str]
    scopes: frozenset[str]
    credential_id: UUID | None = None
    """What it has proven it with. A public client has nothing."""


PINHOLE_WEB = Client("pinhole-web", frozenset({"password", "refresh_token"}), frozenset(SCOPES))
"""Our own page and command lines: public, so it has no secret."""

RESERVED_IDS = frozenset({PINHOLE_WEB.id, "auth"})


def _is_known(scope: str) -> str:
    if scope not in SCOPES:
        raise ValueError(f"expected one of {', '.join(SCOPES)}")
    return scope


def _is_no_account(client_id: str) -> str:
    """Keep `sub` unambiguous: a client's tokens bear its id where users' bear a UUID (RFC 9068 section 5)."""
    try:
        UUID(client_id)
    except ValueError:
        return client_id
    raise ValueError("must not look like the id of an account")


def _may_repeat(schema: dict[str, Any]) -> None:
    del schema["uniqueItems"]  # a set: order and repetition mean nothing


Scope = Annotated[str, AfterValidator(_is_known), Field(json_schema_extra={"enum": list(SCOPES)})]
ClientId = Annotated[
    str,
    Field(pattern=CLIENT_ID, examples=["nightly-report"]),
    AfterValidator(_is_no_account),
]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["Nightly report"])]
GrantTypes = Annotated[frozenset[GrantType], Field(min_length=1, json_schema_extra=_may_repeat)]
Scopes = Annotated[
    frozenset[Scope],
    Field(
        min_length=1,
        description="All that its tokens can be for, those of its users too.",
        json_schema_extra=_may_repeat,
    ),
]
FirstParty = Annotated[bool, Strict(), Field(description="Ours, so that people may type their passwords into it.")]


class ClientRegistration(BaseModel):
    """What a client may do, and how it says who it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    grant_types: GrantTypes = frozenset({"client_credentials"})
    scopes: Scopes
    token_endpoint_auth_method: AuthMethod = "client_secret_basic"  # noqa: S105 - the name of a method
    first_party: FirstParty = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if "password" in self.grant_types and not self.first_party:
            raise ValueError("the grant password is for first-party clients")
        if "client_credentials" in self.grant_types and self.is_public:
            raise ValueError("the grant client_credentials needs a client that authenticates")
        return self

    @property
    def is_public(self) -> bool:
        """Whether it cannot prove who it is (RFC 6749 section 2.1)."""
        return self.token_endpoint_auth_method == PUBLIC

    @property
    def has_secrets(self) -> bool:
        """Whether it proves who it is by a secret."""
        return self.token_endpoint_auth_method.startswith("client_secret_")


class NewClient(ClientRegistration):
    """A client to register."""

    id: ClientId


class ConfiguredClient(NewClient):
    """A client of the settings. Its secrets are made by who writes them, and only their hashes are written."""

    secret_sha256: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Field(max_length=MAX_SECRETS)
    ] = ()

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.id in RESERVED_IDS:
            raise ValueError("the id is Pinhole's own")
        if self.has_secrets != bool(self.secret_sha256):
            raise ValueError("secret_sha256 goes with client_secret_basic and client_secret_post, and they need it")
        return self
