"""How a client says who it is, and proves it (RFC 6749 section 2.3)."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus
from uuid import UUID

from servicekit.database import Database, utc_now
from servicekit.logs import get_audit_log

from auth_service.client_assertions import ClientAssertions
from auth_service.client_rows import digest, live_secrets
from auth_service.clients import CLIENT_ID, PINHOLE_WEB, PUBLIC, SIGNED, AuthMethod, Client
from auth_service.errors import InvalidClient, InvalidRequest
from auth_service.forms import required
from auth_service.revocations import end_sessions
from auth_service.tables import ClientRow, SessionRow

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

audit = get_audit_log()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says of its client, unchecked."""

    client_id: str
    method: AuthMethod = "none"
    secret: str = ""
    """The secret, or the assertion in its place."""


def read_credentials(form: Mapping[str, str], authorization: str | None) -> Credentials:
    """Return what the form or the Basic credentials say: `pinhole-web` where neither names a client.

    Raises:
        InvalidRequest: the client authenticates in two ways, or bears two names.
        InvalidClient: the Basic credentials are malformed, or a secret has no client.
    """
    basic = _read_basic(authorization)
    if "client_assertion" in form or "client_assertion_type" in form:
        if basic is not None or "client_secret" in form:
            raise InvalidRequest("the client authenticates in two ways")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidRequest("client_assertion_type is not the one of RFC 7523")
        return Credentials(form.get("client_id", ""), SIGNED, required(form, "client_assertion"))
    if basic is None:
        if "client_secret" not in form:
            return Credentials(form.get("client_id", PINHOLE_WEB.id))
        return Credentials(_required_id(form.get("client_id", "")), "client_secret_post", form["client_secret"])
    client_id, secret = basic
    if "client_secret" in form:
        raise InvalidRequest("the client authenticates in two ways")
    if client_id and form.get("client_id", client_id) != client_id:
        raise InvalidRequest("client_id differs between header and body")
    if not secret:  # an empty one proves nothing: it is how some libraries send the name of a public client
        return Credentials(client_id or form.get("client_id", PINHOLE_WEB.id))
    return Credentials(_required_id(client_id), "client_secret_basic", secret)


def _read_basic(authorization: str | None) -> tuple[str, str] | None:
    """Return id and secret, None where another scheme or none is used: those say nothing about the client."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise InvalidClient("the Basic credentials are malformed") from None
    client_id, separator, secret = text.partition(":")
    if not separator:
        raise InvalidClient("the Basic credentials are malformed")
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    return unquote_plus(client_id), unquote_plus(secret)


def _required_id(client_id: str) -> str:
    if not client_id:
        raise InvalidClient("the secret comes without a client_id")
    return client_id


class ClientAuthenticator:
    """Tells which registered client a request comes from."""

    def __init__(self, database: Database, assertions: ClientAssertions) -> None:
        self._database = database
        self._assertions = assertions

    async def authenticate(self, credentials: Credentials) -> Client:
        """Return the client that `credentials` prove.

        Raises:
            InvalidClient: there is none, or it has to prove itself in another way.
            DatabaseUnavailable, KeysUnavailable: nobody can tell now.
        """
        if credentials == Credentials(PINHOLE_WEB.id):
            return PINHOLE_WEB
        if credentials.method == SIGNED:
            signer = await self._assertions.authenticate(credentials.secret, credentials.client_id)
            return _client(signer, signer.key_credential_id)
        if not re.fullmatch(CLIENT_ID, credentials.client_id):
            raise _refused()  # PostgreSQL takes no null character, even to look for
        async with self._database.begin() as transaction:
            row = await transaction.get(ClientRow, credentials.client_id)
        if row is None or row.token_endpoint_auth_method != credentials.method:
            raise _refused()
        if credentials.method == PUBLIC:
            return _client(row, None)
        given = digest(credentials.secret)
        for secret in live_secrets(row, utc_now()):
            if hmac.compare_digest(secret.hash, given):
                return _client(row, secret.id)
        audit.info("client_refused", client_id=row.id)
        raise _refused()

    async def confirm(self, client: Client, session_id: UUID) -> None:
        """Make sure that nothing was taken from `client` while it got a session; else end that.

        Raises:
            InvalidClient: something was.
        """
        if client is PINHOLE_WEB:
            return
        async with self._database.begin() as transaction:
            # This waits for a change that is under way; a later one sees the session, and ends it.
            row = await transaction.get(ClientRow, client.id, with_for_update={"read": True})
            is_same = row is not None and _still_holds(client, row)
            if not is_same:
                await end_sessions(transaction, SessionRow.id == session_id)
        if not is_same:
            raise _refused()


def _still_holds(client: Client, row: ClientRow) -> bool:
    return (
        client.grant_types <= set(row.grant_types.split())
        and client.scopes <= set(row.scope.split())
        and client.credential_id in {None, row.key_credential_id, *(secret.id for secret in row.secrets)}
    )


def _client(row: ClientRow, credential_id: UUID | None) -> Client:
    return Client(row.id, frozenset(row.grant_types.split()), frozenset(row.scope.split()), credential_id)


def _refused() -> InvalidClient:
    return InvalidClient("the client is unknown or its credentials are wrong")
