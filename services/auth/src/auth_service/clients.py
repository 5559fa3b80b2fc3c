"""OAuth clients: what an application is here, and what it may do."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args
from uuid import UUID

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from servicekit.auth import SCOPES
from servicekit.tokens import PublicKey

GrantType = Literal["password", "refresh_token", "client_credentials"]
GRANT_TYPES: tuple[GrantType, ...] = get_args(GrantType)
AuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
AUTH_METHODS: tuple[AuthMethod, ...] = get_args(AuthMethod)

PUBLIC: AuthMethod = "none"
SIGNED: AuthMethod = "private_key_jwt"

CLIENT_ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_KEY_MEMBERS = {
    "RSA": ("kid", "kty", "alg", "use", "n", "e"),
    "EC": ("kid", "kty", "alg", "use", "crv", "x", "y"),
}
MAX_KEY_ID_LENGTH = 255
MAX_MEMBER_LENGTH = 2731
"""Characters of an RSA modulus of 16384 bits, the longest that OpenSSL verifies with."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-f:.]+")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
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


def _read_key(key: dict[str, Any]) -> dict[str, Any]:
    """Check a key, and leave out what is not there to verify with. The rest is read by others, and shown to them."""
    PublicKey(key)
    members = {name: key[name] for name in _KEY_MEMBERS[key["kty"]] if name in key}
    for name, value in members.items():
        longest = MAX_KEY_ID_LENGTH if name == "kid" else MAX_MEMBER_LENGTH
        if not 0 < len(value) <= longest or not value.isprintable():
            raise ValueError(f"expected {name} to be a printable text of at most {longest} characters")
    return members


def _read_keys(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_read_key(key) for key in keys]


def _is_safe(url: str) -> str:
    """Check an address in the reading of the client that will ask it: others see other hosts in some."""
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("expected an address") from None
    host, port = address.raw_host.decode("ascii"), address.port
    if not _VISIBLE.fullmatch(url) or not _HOST.fullmatch(host) or not (port is None or 0 < port < 65536):
        raise ValueError("expected an address with a host")
    if address.scheme != "https" and not (address.scheme == "http" and host in _THIS_MACHINE):
        raise ValueError("expected an https address, or one of this machine")
    return url


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
Keys = Annotated[
    list[dict[str, Any]],
    Field(
        min_length=1,
        max_length=10,
        description="Public RS256 and ES256 keys that it signs its assertions with: the `keys` of a JWK set.",
    ),
    AfterValidator(_read_keys),
]
KeysUri = Annotated[
    str,
    Field(max_length=500, description="Where such keys are, in place of `jwks`; assertions need a `kid` then."),
    AfterValidator(_is_safe),
]
ServiceAccount = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9-]{1,63}:[a-z0-9.-]{1,253}$",
        description="`namespace:name` of a Kubernetes ServiceAccount whose tokens are taken as its assertions.",
        examples=["reports:nightly"],
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
    jwks: Keys | None = None
    jwks_uri: KeysUri | None = None
    service_account: ServiceAccount | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if "password" in self.grant_types and not self.first_party:
            raise ValueError("the grant password is for first-party clients")
        if "client_credentials" in self.grant_types and self.is_public:
            raise ValueError("the grant client_credentials needs a client that authenticates")
        sources = [source for source in (self.jwks, self.jwks_uri, self.service_account) if source is not None]
        if len(sources) != (1 if self.token_endpoint_auth_method == SIGNED else 0):
            raise ValueError("private_key_jwt needs one of jwks, jwks_uri and service_account, and they need it")
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
