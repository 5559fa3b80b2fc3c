"""Clients that prove who they are by a signature: assertions of their own, and ServiceAccount tokens of a cluster.

RFC 7523 and OpenID Connect Core section 9 (`private_key_jwt`). The form of an assertion is held to
what is said of access tokens in `servicekit.token_form`, before any key is looked at.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from servicekit.database import Database, utc_now
from servicekit.logs import get_audit_log
from servicekit.token_form import InvalidToken, read_signed, refuse
from servicekit.tokens import MAX_CLOCK_SKEW_SECONDS, PublicKey, check_signature
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from auth_service.client_keys import RemoteKeys, find_key
from auth_service.errors import InvalidClient
from auth_service.tables import ClientAssertionRow, ClientRow

TYPES = ("JWT", "client-authentication+jwt")
MAX_LIFETIME_SECONDS = 3600
"""As long as libraries in use write by default. A copy is worth nothing however long it lives: each is taken once."""

MAX_ID_LENGTH = 320
"""Characters of the longest name of a ServiceAccount, and of more than any `jti` needs."""

PURGE_AT_ONCE = 20
PURGE_AFTER = timedelta(minutes=1)
"""A replica whose clock is behind takes an assertion for longer: that it was used is known for as long."""

audit = get_audit_log()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes cluster whose ServiceAccount tokens are taken, and where its keys are."""

    issuer: str
    jwks_url: str


class ClientAssertions:
    """Checks assertions."""

    def __init__(
        self,
        database: Database,
        *,
        audiences: frozenset[str],
        keys: RemoteKeys,
        cluster: Cluster | None,
        cluster_keys: RemoteKeys,
    ) -> None:
        """Take the names of this server: an assertion is for one or more of them, and for nobody else."""
        self._database = database
        self._audiences = audiences
        self._keys = keys
        self._cluster = cluster
        self._cluster_keys = cluster_keys

    async def authenticate(self, assertion: str, client_id: str) -> ClientRow:
        """Return the client that has signed `assertion`; `client_id` is empty where the request does not name it.

        Raises:
            InvalidClient: it is not valid now, was used before, or is of no client.
            KeysUnavailable: the keys to check it with cannot be had now.
        """
        try:
            header, payload = read_signed(assertion, types=TYPES, optional=("typ", "kid"))
            if self._cluster is not None and payload.get("iss") == self._cluster.issuer:
                return await self._authenticate_service_account(assertion, header, payload, client_id)
            return await self._authenticate_signer(assertion, header, payload, client_id)
        except InvalidToken as refused:
            audit.info("client_assertion_refused", reason=str(refused))
            raise InvalidClient("the client assertion is not valid") from None

    async def _authenticate_signer(
        self, assertion: str, header: Mapping[str, str], payload: Mapping[str, Any], client_id: str
    ) -> ClientRow:
        subject = _text(payload, "sub")
        if payload.get("iss") != subject or client_id not in {"", subject}:
            refuse("issuer, subject and client differ")
        async with self._database.begin() as transaction:
            row = await transaction.get(ClientRow, subject)
        if row is None or (row.jwks is None and row.jwks_uri is None):
            refuse("no such client")
        check_signature(assertion, header, await self._find_key(row, header))
        expires_at = self._check_claims(payload)
        if expires_at > time.time() + MAX_LIFETIME_SECONDS + MAX_CLOCK_SKEW_SECONDS:
            refuse("it lives too long")
        await self._use(row.id, _text(payload, "jti"), expires_at)
        return row

    async def _authenticate_service_account(
        self, assertion: str, header: Mapping[str, str], payload: Mapping[str, Any], client_id: str
    ) -> ClientRow:
        """Take a projected token. It may come again: a pod has the same one until the kubelet replaces it."""
        assert self._cluster is not None
        subject = _text(payload, "sub")
        key = await self._cluster_keys.get(self._cluster.jwks_url, header["kid"]) if "kid" in header else None
        if key is None:
            refuse("unknown key")
        check_signature(assertion, header, key)
        self._check_claims(payload)
        query = select(ClientRow).where(ClientRow.service_account == subject.removeprefix("system:serviceaccount:"))
        async with self._database.begin() as transaction:
            row = (await transaction.scalars(query)).one_or_none()
        if row is None or not subject.startswith("system:serviceaccount:") or client_id not in {"", row.id}:
            refuse("no client of this ServiceAccount")
        return row

    async def _find_key(self, row: ClientRow, header: Mapping[str, str]) -> PublicKey:
        key = None
        if row.jwks is not None:
            key = find_key(row.jwks, header.get("kid"), header["alg"])
        elif row.jwks_uri is not None and "kid" in header:
            key = await self._keys.get(row.jwks_uri, header["kid"])
        if key is None:
            refuse("unknown key")
        return key

    def _check_claims(self, payload: Mapping[str, Any]) -> int:
        """Check whom and when an assertion is for, and return its end."""
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        # For us alone: one that is good elsewhere, too, could be sent on from there.
        if not audiences or not all(isinstance(name, str) and name in self._audiences for name in audiences):
            refuse("not for this audience")
        now, expires_at = time.time(), payload.get("exp")
        if type(expires_at) is not int or not now < expires_at < 2**40:
            refuse("expired, or without an end")
        for name in ("iat", "nbf"):
            starts_at = payload.get(name, 0)
            if type(starts_at) is not int or starts_at > now + MAX_CLOCK_SKEW_SECONDS:
                refuse("not valid yet")
        return expires_at

    async def _use(self, client_id: str, assertion_id: str, expires_at: int) -> None:
        """Record that an assertion was used; of several who send it at once, the database lets one in."""
        digest = hashlib.sha256(f"{client_id} {assertion_id}".encode()).digest()
        end = utc_now() - PURGE_AFTER
        over = select(ClientAssertionRow.hash).where(ClientAssertionRow.expires_at < end).limit(PURGE_AT_ONCE)
        try:
            async with self._database.begin() as transaction:
                await transaction.execute(
                    delete(ClientAssertionRow)
                    .where(ClientAssertionRow.hash.in_(over.with_for_update(skip_locked=True)))
                    .execution_options(synchronize_session=False)
                )
                row = ClientAssertionRow(hash=digest, expires_at=datetime.fromtimestamp(expires_at, UTC))
                transaction.add(row)
        except IntegrityError:
            refuse("it was used before")


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH or not value.isprintable():
        refuse(f"{name} is missing or not a short text")
    return value
