"""The form of signed tokens (RFC 7515), settled before any key or library looks at one."""

import base64
import binascii
import json
import re
from collections.abc import Collection
from typing import Any, Literal, NoReturn, get_args

Algorithm = Literal["RS256", "ES256"]

MAX_TOKEN_BYTES = 8 * 1024

_HEADER_NAMES = frozenset({"alg", "typ", "kid"})
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


class InvalidToken(Exception):
    """The token is not one of ours, or not now. The message says why and holds nothing of it."""


class ExpiredToken(InvalidToken):
    """The token is past its time."""

    def __init__(self) -> None:
        super().__init__("expired")


class RevokedToken(InvalidToken):
    """The token would be good, had its session not ended."""

    def __init__(self) -> None:
        super().__init__("its session has ended")


def read_signed(
    token: str, *, types: Collection[str], optional: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return header and payload of a token that is in our form; its signature is not looked at.

    The header has `alg`, `typ` (one of `types`) and `kid`, and nothing else; those that are
    `optional` may be left out.

    Raises:
        InvalidToken: it is in another form.
    """
    if len(token) > MAX_TOKEN_BYTES:
        refuse("too long")
    segments = token.split(".")
    if len(segments) != 3:
        refuse("not a signed token")
    header, payload = _read_object(_decode(segments[0])), _read_object(_decode(segments[1]))
    _decode(segments[2])
    if header.keys() | set(optional) != _HEADER_NAMES or not all(isinstance(value, str) for value in header.values()):
        refuse("the header is not as expected")
    if "typ" in header and header["typ"] not in types:
        refuse("not a token of the expected type")
    if header["alg"] not in get_args(Algorithm):
        refuse("the algorithm is not allowed")
    return header, payload


def refuse(reason: str) -> NoReturn:
    """Refuse a token.

    Raises:
        InvalidToken: always.
    """
    raise InvalidToken(reason)


def _decode(segment: str) -> bytes:
    """Decode base64url, refusing every spelling but the canonical one (RFC 4648 section 3.5)."""
    if not _SEGMENT.fullmatch(segment):
        refuse("not base64url")
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        refuse("not base64url")
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode("ascii"):
        refuse("not canonical base64url")
    return data


def _read_object(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            refuse("a member stands twice")
        return members

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError):
        refuse("not JSON")
    if not isinstance(document, dict):
        refuse("not a JSON object")
    return document
