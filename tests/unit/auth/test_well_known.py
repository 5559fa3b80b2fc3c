"""Keys and metadata, as libraries discover them."""

import httpx
import pytest
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from servicekit.auth import SCOPES

from tests.asgi import running

PROOFS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]


@pytest.mark.parametrize(("algorithm", "members"), [("RS256", {"kty", "n", "e"}), ("ES256", {"kty", "crv", "x", "y"})])
async def test_the_keys_are_public_and_complete(settings: AuthSettings, algorithm: str, members: set[str]) -> None:
    async with running(create_app(settings.model_copy(update={"signing_algorithm": algorithm}))) as client:
        response = await client.get("/.well-known/jwks.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "public, max-age=300"
    (key,) = response.json()["keys"]
    assert key.keys() == {"kid", "alg", "use"} | members
    assert (key["alg"], key["use"]) == (algorithm, "sig")


async def test_nobody_keeps_the_keys_for_longer_than_a_new_one_is_published(settings: AuthSettings) -> None:
    async with running(create_app(settings.model_copy(update={"key_publish_seconds": 60}))) as client:
        response = await client.get("/.well-known/jwks.json")
    assert response.headers["cache-control"] == "public, max-age=30"


@pytest.mark.parametrize("name", ["oauth-authorization-server", "openid-configuration"])
async def test_the_metadata_names_what_is_there_and_nothing_else(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/.well-known/{name}")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=3600"
    assert response.json() == {
        "issuer": "http://localhost:8000",
        "token_endpoint": "http://localhost:8000/token",
        "revocation_endpoint": "http://localhost:8000/oauth2/revoke",
        "introspection_endpoint": "http://localhost:8000/oauth2/introspect",
        "jwks_uri": "http://localhost:8000/.well-known/jwks.json",
        "scopes_supported": list(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": ["password", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["none", *PROOFS],
        "revocation_endpoint_auth_methods_supported": ["none", *PROOFS],
        "introspection_endpoint_auth_methods_supported": PROOFS,
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
        "revocation_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
        "introspection_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
        "subject_types_supported": ["public"],
    }


async def test_the_addresses_follow_the_issuer(settings: AuthSettings) -> None:
    async with running(create_app(settings.model_copy(update={"issuer": "https://pinhole.example/"}))) as client:
        metadata = (await client.get("/.well-known/openid-configuration")).json()
    assert metadata["issuer"] == "https://pinhole.example/"
    assert metadata["token_endpoint"] == "https://pinhole.example/token"


async def test_another_method_is_a_problem(client: httpx.AsyncClient) -> None:
    response = await client.post("/.well-known/jwks.json")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"] == "GET, HEAD"
