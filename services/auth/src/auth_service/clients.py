"""OAuth clients, and how one says who it is (RFC 6749 section 2.3)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from auth_service.errors import InvalidClient, InvalidRequest


@dataclass(frozen=True, slots=True)
class Client:
    """An application that gets tokens for its user."""

    id: str


PINHOLE_WEB = Client("pinhole-web")
"""Our own page and command lines: public, so it has no secret."""

CLIENTS = {PINHOLE_WEB.id: PINHOLE_WEB}


def identify_client(form: Mapping[str, str], authorization: str | None) -> Client:
    """Return the client that the form or the Basic credentials name, `pinhole-web` where none is.

    Raises:
        InvalidRequest: form and header contradict each other.
        InvalidClient: there is no such client, or it has no such secret.
    """
    client_id, secret = _read_basic(authorization)
    if secret and "client_secret" in form:
        raise InvalidRequest("the client authenticates in two ways")
    if client_id and form.get("client_id", client_id) != client_id:
        raise InvalidRequest("client_id differs between header and body")
    client = CLIENTS.get(client_id or form.get("client_id", PINHOLE_WEB.id))
    if client is None or secret or "client_secret" in form:
        raise InvalidClient("the client is unknown or its credentials are wrong")
    return client


def _read_basic(authorization: str | None) -> tuple[str, str]:
    """Return id and secret, each empty where not given. Other schemes say nothing about the client."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise InvalidClient("the Basic credentials are malformed") from None
    client_id, separator, secret = text.partition(":")
    if not separator:
        raise InvalidClient("the Basic credentials are malformed")
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    return unquote_plus(client_id), unquote_plus(secret)
