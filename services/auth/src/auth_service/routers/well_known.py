"""What clients and services can find out by themselves: keys and metadata."""

from typing import get_args

from fastapi import APIRouter, Response
from servicekit.auth import SCOPES
from servicekit.tokens import Algorithm

from auth_service.clients import AUTH_METHODS
from auth_service.dependencies import KeyRingDep, SettingsDep
from auth_service.routers.token import supported_grant_types
from auth_service.schemas import Jwk, JwkSet, ServerMetadata

router = APIRouter(prefix="/.well-known", tags=["discovery"])

ALGORITHMS = get_args(Algorithm)
MAX_JWKS_AGE_SECONDS = 300
METADATA_CACHE = "public, max-age=3600"


@router.get("/jwks.json", response_model_exclude_none=True)
async def jwks(keys: KeyRingDep, settings: SettingsDep, response: Response) -> JwkSet:
    """Return the public keys of access tokens (RFC 7517), those too that will sign soon or have signed lately.

    A key signs nothing before everybody who keeps this answer as long as they may has seen it.
    """
    max_age_seconds = min(MAX_JWKS_AGE_SECONDS, settings.key_publish_seconds // 2)
    response.headers["Cache-Control"] = f"public, max-age={max_age_seconds}"
    return JwkSet(keys=[Jwk.model_validate(document) for document in keys.public_documents])


@router.get("/oauth-authorization-server")
@router.get("/openid-configuration")
async def metadata(settings: SettingsDep, response: Response) -> ServerMetadata:
    """Return what there is and where (RFC 8414).

    The second address is where OpenID Connect's clients look; there are no ID tokens.
    """
    response.headers["Cache-Control"] = METADATA_CACHE
    origin = settings.issuer.rstrip("/")
    return ServerMetadata(
        issuer=settings.issuer,
        token_endpoint=f"{origin}/token",
        revocation_endpoint=f"{origin}/oauth2/revoke",
        introspection_endpoint=f"{origin}/oauth2/introspect",
        jwks_uri=f"{origin}/.well-known/jwks.json",
        scopes_supported=list(SCOPES),
        response_types_supported=[],
        grant_types_supported=supported_grant_types(settings),
        token_endpoint_auth_methods_supported=list(AUTH_METHODS),
        revocation_endpoint_auth_methods_supported=list(AUTH_METHODS),
        introspection_endpoint_auth_methods_supported=[method for method in AUTH_METHODS if method != "none"],
        token_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        revocation_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        introspection_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        subject_types_supported=["public"],
    )
