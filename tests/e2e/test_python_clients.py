"""The clients that Python programs use, unmodified, against the running product."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jwt
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from joserfc import jwt as joserfc_jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from jwt.types import Options
from oauthlib.oauth2 import (
    BackendApplicationClient,
    InvalidClientError,
    InvalidGrantError,
    InvalidScopeError,
    LegacyApplicationClient,
)
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from tests.e2e.conftest import Pinhole, register_client

PERSON = {"username": "barbara", "password": "correct horse barbara"}
AUDIENCE = "pinhole"


@pytest.fixture(scope="module")
def origin(pinhole: Pinhole) -> str:
    """Where the product is; `PERSON` may sign in to it."""
    pinhole.sign_up(PERSON["username"]).close()
    return pinhole.url


@pytest.fixture(autouse=True)
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries insist on TLS unless told, and the product of the tests has none."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def authlib_client(kind: type[Any], origin: str, **options: Any) -> Any:
    settings = {"client_id": "pinhole-web", "token_endpoint_auth_method": "none"} | options
    return kind(token_endpoint=f"{origin}/token", revocation_endpoint_auth_method="none", **settings)


@pytest.fixture(params=[OAuth2Client, AuthlibSession], ids=["httpx", "requests"])
def authlib(request: pytest.FixtureRequest, origin: str) -> Iterator[Any]:
    """Authlib's client, over each of its two HTTP libraries."""
    with authlib_client(request.param, origin) as client:
        yield client


def test_authlib_signs_in_and_calls(authlib: Any, origin: str) -> None:
    token = authlib.fetch_token(**PERSON, scope="profile")
    assert (token["token_type"], token["scope"]) == ("Bearer", "profile")
    assert authlib.get(f"{origin}/users/me").json()["username"] == PERSON["username"]


def test_authlib_refreshes_an_expired_token_by_itself(authlib: Any, origin: str) -> None:
    first = dict(authlib.fetch_token(**PERSON))
    authlib.token = first | {"expires_at": 1}
    assert authlib.get(f"{origin}/users/me").status_code == 200
    assert authlib.token["access_token"] != first["access_token"]
    assert authlib.token["refresh_token"] != first["refresh_token"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (PERSON | {"password": "not the password"}, "invalid_grant"),
        (PERSON | {"username": "nobody"}, "invalid_grant"),
        (PERSON | {"scope": "nothing:at-all"}, "invalid_scope"),
        (PERSON | {"grant_type": "authorization_code", "code": "made-up"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "made up"}, "invalid_grant"),
        ({"grant_type": "password", "username": "barbara"}, "invalid_request"),
    ],
    ids=["password", "name", "scope", "grant", "refresh token", "missing"],
)
def test_authlib_reads_the_error(authlib: Any, form: dict[str, str], error: str) -> None:
    with pytest.raises(OAuthError) as refused:
        authlib.fetch_token(**form)
    assert refused.value.error == error
    assert refused.value.description


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
@pytest.mark.parametrize("kind", [OAuth2Client, AuthlibSession], ids=["httpx", "requests"])
def test_authlib_is_told_that_its_client_is_unknown(kind: type[Any], method: str, origin: str) -> None:
    options = {"client_id": "nobody", "client_secret": "a secret: 100 % & ü", "token_endpoint_auth_method": method}
    with (
        authlib_client(kind, origin, **options) as client,
        pytest.raises(OAuthError) as refused,
    ):
        client.fetch_token(**PERSON)
    assert refused.value.error == "invalid_client"


def test_authlib_revokes_and_the_refresh_token_is_worth_nothing(authlib: Any, origin: str) -> None:
    token = authlib.fetch_token(**PERSON)
    answer = authlib.revoke_token(
        f"{origin}/oauth2/revoke", token=token["refresh_token"], token_type_hint="refresh_token"
    )
    assert answer.status_code == 200
    with pytest.raises(OAuthError, match="invalid_grant"):
        authlib.refresh_token()


def test_authlib_introspects_with_an_administrators_token(authlib: Any, pinhole: Pinhole) -> None:
    token = authlib.fetch_token(**PERSON, scope="profile")
    with authlib_client(OAuth2Client, pinhole.url) as admin:
        admin.fetch_token(username=pinhole.admin_username, password=pinhole.admin_password)
        url = f"{pinhole.url}/oauth2/introspect"
        seen = admin.introspect_token(url, token=token["access_token"], auth=admin.token_auth).json()
        assert (seen["active"], seen["scope"], seen["client_id"]) == (True, "profile", "pinhole-web")
        authlib.revoke_token(f"{pinhole.url}/oauth2/revoke", token=token["access_token"])
        assert admin.introspect_token(url, token=token["access_token"], auth=admin.token_auth).json() == {
            "active": False
        }


@pytest.fixture(scope="module", params=["client_secret_basic", "client_secret_post"])
def service(request: pytest.FixtureRequest, admin: httpx.Client) -> Mapping[str, str]:
    """A registered client, as Authlib is configured for it."""
    client_id = f"authlib-{request.param.rpartition('_')[2]}"
    secret = register_client(admin, client_id, request.param, "users:read")
    return {"client_id": client_id, "client_secret": secret, "token_endpoint_auth_method": request.param}


@pytest.mark.parametrize("kind", [OAuth2Client, AuthlibSession], ids=["httpx", "requests"])
def test_authlib_gets_tokens_for_a_service_and_renews_them(
    kind: type[Any], service: Mapping[str, str], origin: str
) -> None:
    with authlib_client(kind, origin, **service) as client:
        first = dict(client.fetch_token())
        assert "refresh_token" not in first
        assert client.get(f"{origin}/users").status_code == 200
        client.token = first | {"expires_at": 1}
        assert client.get(f"{origin}/users").status_code == 200
        assert client.token["access_token"] != first["access_token"]


@pytest.mark.parametrize(
    ("changes", "form", "error"),
    [
        ({"client_secret": "not the secret"}, {}, "invalid_client"),
        ({"client_id": "nobody"}, {}, "invalid_client"),
        ({}, {"scope": "users:write"}, "invalid_scope"),
        ({}, PERSON, "unauthorized_client"),
    ],
    ids=["secret", "client", "scope", "grant"],
)
def test_authlib_reads_why_a_service_gets_no_token(
    service: Mapping[str, str], origin: str, changes: dict[str, str], form: dict[str, str], error: str
) -> None:
    grant = "password" if "password" in form else "client_credentials"
    with authlib_client(OAuth2Client, origin, **{**service, **changes}) as client, pytest.raises(OAuthError) as refused:
        client.fetch_token(grant_type=grant, **form)
    assert refused.value.error == error


def test_authlib_introspects_as_a_service(authlib: Any, service: Mapping[str, str], origin: str) -> None:
    token = authlib.fetch_token(**PERSON, scope="profile")
    with authlib_client(OAuth2Client, origin, **service) as client:
        seen = client.introspect_token(f"{origin}/oauth2/introspect", token=token["access_token"]).json()
    assert (seen["active"], seen["scope"]) == (True, "profile")


def test_requests_oauthlib_gets_tokens_for_a_service(admin: httpx.Client, origin: str) -> None:
    secret = register_client(admin, "oauthlib", "client_secret_basic", "users:read")
    with OAuth2Session(client=BackendApplicationClient(client_id="oauthlib")) as session:
        session.fetch_token(f"{origin}/token", auth=HTTPBasicAuth("oauthlib", secret))
        assert session.get(f"{origin}/users").status_code == 200
        with pytest.raises(InvalidClientError):
            session.fetch_token(f"{origin}/token", auth=HTTPBasicAuth("oauthlib", "not the secret"))


def test_a_missing_scope_is_told(authlib: Any, origin: str) -> None:
    authlib.fetch_token(**PERSON)
    answer = authlib.get(f"{origin}/users")
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert 'scope="users:read"' in answer.headers["WWW-Authenticate"]


@pytest.fixture
def oauthlib(origin: str) -> Iterator[OAuth2Session]:
    """requests-oauthlib's session, which keeps its tokens fresh by itself."""
    kept: list[dict[str, Any]] = []
    with OAuth2Session(
        client=LegacyApplicationClient(client_id="pinhole-web"),
        auto_refresh_url=f"{origin}/token",
        auto_refresh_kwargs={"client_id": "pinhole-web"},
        token_updater=kept.append,
    ) as session:
        session.kept = kept
        yield session


def oauthlib_sign_in(session: OAuth2Session, origin: str, **changes: str) -> dict[str, Any]:
    token = session.fetch_token(f"{origin}/token", include_client_id=True, **(PERSON | changes))
    return dict(token)


def test_requests_oauthlib_signs_in_and_refreshes_by_itself(oauthlib: OAuth2Session, origin: str) -> None:
    first = oauthlib_sign_in(oauthlib, origin)
    assert oauthlib.get(f"{origin}/users/me").json()["username"] == PERSON["username"]
    assert oauthlib.kept == []
    oauthlib.token = first | {"expires_at": 1, "expires_in": -1}
    assert oauthlib.get(f"{origin}/users/me").status_code == 200
    (second,) = oauthlib.kept
    assert second["refresh_token"] != first["refresh_token"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"password": "not the password"}, InvalidGrantError),
        ({"scope": "nothing:at-all"}, InvalidScopeError),
        ({"client_secret": "made up"}, InvalidClientError),
    ],
    ids=["password", "scope", "client"],
)
def test_requests_oauthlib_reads_the_error(
    oauthlib: OAuth2Session, origin: str, changes: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        oauthlib_sign_in(oauthlib, origin, **changes)


def test_requests_oauthlib_reads_the_error_of_an_old_refresh_token(oauthlib: OAuth2Session, origin: str) -> None:
    first = oauthlib_sign_in(oauthlib, origin)
    for _ in range(2):
        oauthlib.refresh_token(f"{origin}/token", client_id="pinhole-web")
    with pytest.raises(InvalidGrantError):
        oauthlib.refresh_token(f"{origin}/token", refresh_token=first["refresh_token"], client_id="pinhole-web")


@pytest.fixture(scope="module")
def access_token(pinhole: Pinhole, origin: str) -> str:
    return pinhole.token(**PERSON)


def changed(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'A' * len(signature)}"


def test_pyjwt_verifies_with_the_published_keys(access_token: str, origin: str) -> None:
    key = jwt.PyJWKClient(f"{origin}/.well-known/jwks.json").get_signing_key_from_jwt(access_token)

    def verify(token: str, audience: str) -> dict[str, Any]:
        options: Options = {"require": ["exp", "iat", "sub", "jti"]}
        return jwt.decode(token, key, algorithms=["RS256"], issuer=origin, audience=audience, options=options)

    assert verify(access_token, AUDIENCE)["client_id"] == "pinhole-web"
    with pytest.raises(jwt.InvalidAudienceError):
        verify(access_token, "other")
    with pytest.raises(jwt.InvalidSignatureError):
        verify(changed(access_token), AUDIENCE)


def test_joserfc_verifies_with_the_published_keys(access_token: str, origin: str) -> None:
    keys = KeySet.import_key_set(httpx.get(f"{origin}/.well-known/jwks.json").json())
    token = joserfc_jwt.decode(access_token, keys, algorithms=["RS256"])
    assert token.header["typ"] == "at+jwt"
    assert token.claims["iss"] == origin
    with pytest.raises(BadSignatureError):
        joserfc_jwt.decode(changed(access_token), keys, algorithms=["RS256"])
