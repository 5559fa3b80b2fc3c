"""The public keys that clients sign their assertions with, and those of the cluster's ServiceAccount tokens."""

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from servicekit.health import Readiness
from servicekit.jwks import JwksClient, usable_keys
from servicekit.tokens import PublicKey

MAX_SETS = 100
"""Key sets of other origins that are remembered; past it the one goes that was not asked for the longest."""

MAX_AGE_SECONDS = 300.0
"""A key that its owner has taken away is taken for so long at most, unless the set cannot be fetched again."""

SILENCE_SECONDS = 3.0
"""How long another origin may be silent in a fetch; for the whole, `servicekit.jwks` has a limit."""


class TokenFile(httpx.Auth):
    """Puts the token in a file on each request, as it is then: the kubelet replaces it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; httpx calls this for each request."""
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise httpx.RequestError(f"the token cannot be read: {error.strerror}") from None
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


class RemoteKeys:
    """Key sets by their address, each fetched when it is first asked for and kept."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._sets: OrderedDict[str, JwksClient] = OrderedDict()

    async def get(self, url: str, key_id: str) -> PublicKey | None:
        """Return a key of the set at `url`.

        Raises:
            KeysUnavailable: the set was never fetched, and cannot be now.
        """
        if url not in self._sets:
            self._sets[url] = JwksClient(url, self._http, Readiness(), max_age_seconds=MAX_AGE_SECONDS)
            if len(self._sets) > MAX_SETS:
                self._sets.popitem(last=False)
        self._sets.move_to_end(url)
        return await self._sets[url].get(key_id)


def find_key(documents: Sequence[dict[str, Any]], key_id: str | None, algorithm: str) -> PublicKey | None:
    """Return the key of a set that a header names; without a name the only one of its algorithm."""
    try:
        usable = usable_keys(documents)
    except ValueError:
        return None  # they were taken by a version that asked less of a key
    keys = [key for key in usable if key.algorithm == algorithm and key_id in {None, key.key_id}]
    return keys[0] if len(keys) == 1 else None


@asynccontextmanager
async def open_remote_keys(*, ca_file: Path | None = None, token_file: Path | None = None) -> AsyncIterator[RemoteKeys]:
    """Yield key sets of other origins, asked with a token and checked against a CA where those are given."""
    verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
    auth = TokenFile(token_file) if token_file else None
    async with httpx.AsyncClient(verify=verify, auth=auth, timeout=SILENCE_SECONDS, trust_env=False) as http:
        yield RemoteKeys(http)
