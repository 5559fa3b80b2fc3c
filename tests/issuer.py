"""A token issuer for the tests of services that take tokens: a key, and its JWKS over real HTTP."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from servicekit.revocations import REVOCATIONS_PATH
from servicekit.tokens import SigningKey

from tests.http_server import QuietHandler, serving

ISSUER = "http://localhost:8000"
AUDIENCE = "pinhole"


@dataclass
class Issuer:
    """Signs tokens with `key`, whose public half is served at `url`."""

    url: str
    key: SigningKey

    def claims(self, *, subject: str = "someone", scope: str = "", **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token; a change to None takes the claim out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": "tests",
            "scope": scope,
            "jti": uuid4().hex,
            "iat": now,
            "exp": now + 60,
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, subject: str = "someone", scope: str = "", **changes: Any) -> str:
        """Return a signed token."""
        return self.key.sign(self.claims(subject=subject, scope=scope, **changes))

    def bearer(self, *, subject: str = "someone", scope: str = "", **changes: Any) -> Mapping[str, str]:
        """Return the request headers of a caller."""
        return {"Authorization": f"Bearer {self.token(subject=subject, scope=scope, **changes)}"}


@contextmanager
def serve_issuer() -> Iterator[Issuer]:
    """Run an issuer on a free loopback port."""
    key = SigningKey.generate("RS256")
    answers: dict[str, Any] = {
        "/.well-known/jwks.json": {"keys": [key.public_document]},
        REVOCATIONS_PATH: {"revocations": [], "next": "0", "has_more": False},
    }

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            self.respond(404 if answer is None else 200, b"" if answer is None else json.dumps(answer).encode())

    with serving(Handler) as url:
        yield Issuer(url, key)
