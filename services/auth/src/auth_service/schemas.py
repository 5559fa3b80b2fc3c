"""What auth says on the wire, and what its OpenAPI document says of it."""

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

MAX_PARAMETERS = 32

ErrorCode = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "slow_down",
    "server_error",
    "temporarily_unavailable",
    "invalid_token",
    "insufficient_scope",
]


class TokenResponse(BaseModel):
    """Tokens for a client (RFC 6749 section 5.1)."""

    access_token: str = Field(description="A signed JWT (RFC 9068), sent as `Authorization: Bearer`.")
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Lifetime of the access token in seconds.")
    refresh_token: str | SkipJsonSchema[None] = Field(
        None, description="Gives the next tokens, once. A client that asks for itself has none."
    )
    scope: str = Field(description="What was granted, which may be less than was asked for.")


class OAuthErrorResponse(BaseModel):
    """Why there are no tokens (RFC 6749 section 5.2)."""

    error: ErrorCode
    error_description: str = Field(description="For the developer of the client.")


class SessionResponse(BaseModel):
    """A sign-in that goes on."""

    id: UUID
    client_id: str
    device: str | None = Field(description="What it called itself when it signed in: the start of its `User-Agent`.")
    created_at: AwareDatetime
    last_used_at: AwareDatetime = Field(description="The last time that it got tokens.")
    expires_at: AwareDatetime = Field(description="The end, unless it is used before.")
    is_current: bool = Field(description="Whether it is the session that asks.")


class SessionList(BaseModel):
    """Where somebody is signed in."""

    sessions: list[SessionResponse]


class Introspection(BaseModel):
    """What a token is (RFC 7662 section 2.2); only `active` where it is not good."""

    active: bool
    token_type: Literal["Bearer"] | None = Field(None, description="There for access tokens.")
    scope: str | None = None
    client_id: str | None = None
    sub: str | None = None
    iat: int | None = None
    exp: int | None = None
    jti: str | None = None
    sid: str | None = Field(None, description="The session that it belongs to.")


class Jwk(BaseModel):
    """A public key that verifies signatures (RFC 7517): RSA with `n` and `e`, or EC with `crv`, `x` and `y`."""

    kid: str
    kty: Literal["RSA", "EC"]
    alg: Literal["RS256", "ES256"]
    use: Literal["sig"]
    n: str | None = None
    e: str | None = None
    crv: Literal["P-256"] | None = None
    x: str | None = None
    y: str | None = None


class JwkSet(BaseModel):
    """The keys of access tokens."""

    keys: list[Jwk]


class ServerMetadata(BaseModel):
    """What this authorization server can do (RFC 8414)."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    jwks_uri: str
    scopes_supported: list[str]
    response_types_supported: list[str] = Field(description="Empty: there is no authorization endpoint.")
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str] = Field(
        description="A bearer token with the scope `users:read` is taken, too."
    )
    token_endpoint_auth_signing_alg_values_supported: list[str] = Field(
        description="How a client may sign its assertions for `private_key_jwt`."
    )
    revocation_endpoint_auth_signing_alg_values_supported: list[str]
    introspection_endpoint_auth_signing_alg_values_supported: list[str]
    subject_types_supported: list[str]


_TEXT = r"^[^\u0000-\u0008\u000a-\u001f\u007f]+$"
_SCOPE_FIELD = {
    "type": "string",
    "pattern": r"^([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?$",
    "description": "Scopes with spaces between them. It can only take away from what would be granted without it.",
    "examples": ["inference:predict profile"],
}
_ANY_OTHER = {"additionalProperties": {"type": "string"}, "maxProperties": MAX_PARAMETERS}
"""Unknown parameters are ignored; none may be repeated."""

_CLIENT_FIELDS = {
    "client_id": {
        "type": "string",
        "description": "The client, unless Basic credentials name it; `pinhole-web` when left out or empty.",
        "examples": ["pinhole-web"],
    },
    "client_secret": {
        "type": "string",
        "format": "password",
        "description": "Its secret, where it is registered for `client_secret_post`.",
    },
    "client_assertion_type": {
        "type": "string",
        "enum": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer", ""],
        "description": "Goes with `client_assertion`.",
    },
    "client_assertion": {
        "type": "string",
        "format": "client-assertion",
        "description": "A JWT that it has signed, where it is registered for `private_key_jwt` (RFC 7523); or the "
        "token of its Kubernetes ServiceAccount.",
    },
}

TOKEN_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "oneOf": [
                        {
                            "title": "PasswordGrant",
                            "type": "object",
                            **_ANY_OTHER,
                            "required": ["grant_type", "username", "password"],
                            "properties": {
                                "grant_type": {"type": "string", "enum": ["password"]},
                                "username": {"type": "string", "pattern": _TEXT},
                                "password": {"type": "string", "format": "password", "pattern": _TEXT},
                                "scope": _SCOPE_FIELD,
                                **_CLIENT_FIELDS,
                            },
                        },
                        {
                            "title": "RefreshGrant",
                            "type": "object",
                            **_ANY_OTHER,
                            "required": ["grant_type", "refresh_token"],
                            "properties": {
                                "grant_type": {"type": "string", "enum": ["refresh_token"]},
                                "refresh_token": {"type": "string", "minLength": 1},
                                "scope": _SCOPE_FIELD,
                                **_CLIENT_FIELDS,
                            },
                        },
                        {
                            "title": "ClientCredentialsGrant",
                            "type": "object",
                            **_ANY_OTHER,
                            "required": ["grant_type"],
                            "properties": {
                                "grant_type": {"type": "string", "enum": ["client_credentials"]},
                                "scope": _SCOPE_FIELD,
                                **_CLIENT_FIELDS,
                            },
                        },
                    ]
                },
                "examples": {
                    "password": {
                        "summary": "Sign in",
                        "value": {"grant_type": "password", "username": "ada", "password": "correct horse battery"},
                    },
                    "client": {
                        "summary": "Get a token for a client itself",
                        "value": {
                            "grant_type": "client_credentials",
                            "client_id": "nightly-report",
                            "client_secret": "the one of its registration",
                        },
                    },
                    "refresh": {
                        "summary": "Get the next tokens",
                        "value": {"grant_type": "refresh_token", "refresh_token": "the one of the last answer"},
                    },
                },
            }
        },
    }
}
"""The body of `POST /token`: it is parsed by hand, so that every error is OAuth's."""

REVOCATION_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "title": "Revocation",
                    "type": "object",
                    **_ANY_OTHER,
                    "required": ["token"],
                    "properties": {
                        "token": {"type": "string", "minLength": 1},
                        "token_type_hint": {"type": "string", "examples": ["refresh_token", "access_token"]},
                        **_CLIENT_FIELDS,
                    },
                },
                "examples": {
                    "refresh": {"summary": "Sign out", "value": {"token": "the refresh token of the last answer"}},
                },
            }
        },
    }
}
"""The body of `POST /oauth2/revoke`."""

INTROSPECTION_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "title": "Introspection",
                    "type": "object",
                    **_ANY_OTHER,
                    "required": ["token"],
                    "properties": {
                        "token": {"type": "string", "minLength": 1},
                        "token_type_hint": {"type": "string", "examples": ["refresh_token", "access_token"]},
                        **_CLIENT_FIELDS,
                        # Nobody looks at it where a bearer token says who asks.
                        "client_assertion_type": {"type": "string", "description": "Goes with `client_assertion`."},
                    },
                },
                "examples": {
                    "access": {"summary": "Whose token is this?", "value": {"token": "an access token"}},
                },
            }
        },
    }
}
"""The body of `POST /oauth2/introspect`."""
