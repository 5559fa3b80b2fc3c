"""Access tokens by RFC 9068, signed and verified with python-jose behind a strict check.

python-jose 3.5.0 ignores `kid`, `typ` and `crit`, takes tokens without `exp` or `aud`, tries an
HMAC with whatever key it is given (CVE-2026-85394) and raises more than its own errors on hostile
input. So nothing reaches it here but a token whose form, header and key are already settled. No
other module imports it.
"""

import base64
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jws, jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

from servicekit.token_form import (
    MAX_TOKEN_BYTES,
    Algorithm,
    ExpiredToken,
    InvalidToken,
    RevokedToken,
    read_signed,
    refuse,
)

TYPE = "at+jwt"
MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""

MAX_CLOCK_SKEW_SECONDS = 30
"""How far ahead of ours the clock that set `iat` and `nbf` may be. `exp` is taken as it is."""

MAX_REMEMBERED_TOKENS = 10_000
"""Verified tokens whose signature is not computed again; about 1 kB each."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 section 3.3
_LATEST_TIME = 2**40
# Members of a public key (RFC 7518 section 6) that its thumbprint covers (RFC 7638 section 3.2).
_ALGORITHM_OF = {"RSA": "RS256", "EC": "ES256"}
_THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says."""

    subject: str
    client_id: str
    scopes: frozenset[str]
    issued_at: int
    expires_at: int
    token_id: str
    session_id: str | None


class PublicKey:
    """A key that verifies signatures of one algorithm."""

    def __init__(self, document: Mapping[str, str]) -> None:
        """Read one member of a JWK set (RFC 7517 section 4).

        Raises:
            ValueError: it is not a public signature key of an algorithm that we use.
        """
        algorithm = _ALGORITHM_OF.get(str(document.get("kty")), "")
        members = {"use": "sig", "alg": algorithm, **document}
        if members["alg"] not in get_args(Algorithm) or members["use"] != "sig" or "d" in members:
            raise ValueError("expected a public RS256 or ES256 signature key")
        if "kid" in members and not isinstance(members["kid"], str):
            raise ValueError("expected a key id that is a text")
        if members["alg"] != algorithm or (algorithm == "ES256" and members.get("crv") != "P-256"):
            raise ValueError(f"expected a key of {members['alg']}")
        self.algorithm = cast(Algorithm, algorithm)
        try:
            self.key: Key = jwk.construct(members, self.algorithm)
            # A set of somebody else's may leave the id out (RFC 7517 section 4.5).
            self.key_id = members.get("kid") or _thumbprint(members)
        except (JOSEError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError("expected a complete key") from error
        if algorithm == "RS256" and self.key.prepared_key.key_size < MIN_RSA_BITS:
            raise ValueError(f"expected an RSA key of {MIN_RSA_BITS} bits or more")


class SigningKey:
    """A private key and the public document that goes with it."""

    def __init__(self, pem: str, algorithm: Algorithm) -> None:
        """Read a PKCS #8 private key."""
        self.pem = pem
        self.algorithm = algorithm
        self._key: Key = jwk.construct(pem, algorithm)  # read once: checking an RSA key takes 40 ms
        public = self._key.public_key().to_dict()
        members = {name: _text(value) for name, value in public.items()}
        self.key_id = _thumbprint(members)
        self.public_document: dict[str, str] = {**members, "alg": algorithm, "use": "sig", "kid": self.key_id}

    @classmethod
    def generate(cls, algorithm: Algorithm) -> "SigningKey":
        """Make a new key: RSA with 2048 bits, or P-256."""
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(pem.decode("ascii"), algorithm)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the access token that carries `claims`."""
        token: str = jwt.encode(
            dict(claims), self._key, algorithm=self.algorithm, headers={"typ": TYPE, "kid": self.key_id}
        )
        return token


class KeySource(Protocol):
    """Where a verifier finds the key that a token names."""

    async def get(self, key_id: str) -> PublicKey | None:
        """Return the key, or None where there is none of that id."""
        ...


class RevocationSource(Protocol):
    """Where a verifier learns which sessions have ended before their tokens did."""

    async def is_revoked(self, session_id: str) -> bool:
        """Tell whether the tokens of a session are worth nothing any more."""
        ...


class TokenVerifier:
    """Tells whether an access token is ours and current. Without `revocations` only its lifetime ends a token.

    A signature is computed once: a token that was verified is remembered by its hash until it
    expires or its key is replaced or withdrawn. Whether its session has ended is asked each time.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        revocations: RevocationSource | None = None,
        max_remembered_tokens: int = MAX_REMEMBERED_TOKENS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._revocations = revocations
        self._issuer = issuer
        self._audience = audience
        self._max_remembered_tokens = max_remembered_tokens
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[PublicKey, Claims]] = OrderedDict()

    async def verify(self, token: str) -> Claims:
        """Return what `token` says.

        Raises:
            InvalidToken: anything about it is not as we write it.
        """
        if len(token) > MAX_TOKEN_BYTES:
            refuse("too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = await self._recall(digest)
        if claims is None:
            key, claims = await self._verify_signed(token)
            self._remember(digest, key, claims)
        session_id, revocations = claims.session_id, self._revocations
        if revocations is not None and session_id is not None and await revocations.is_revoked(session_id):
            raise RevokedToken
        return claims

    async def _verify_signed(self, token: str) -> tuple[PublicKey, Claims]:
        header, payload = read_signed(token, types=(TYPE,))
        key = await self._keys.get(header["kid"])
        if key is None:
            refuse("unknown key")
        check_signature(token, header, key)
        return key, _read_claims(payload, issuer=self._issuer, audience=self._audience, now=self._clock())

    async def _recall(self, digest: bytes) -> Claims | None:
        """Return the claims of a token that was verified before and still would be."""
        if (remembered := self._remembered.get(digest)) is None:
            return None
        key, claims = remembered
        # The same object, for a key source may have put another key under the same id.
        if self._clock() < claims.expires_at and await self._keys.get(key.key_id) is key:
            return claims
        self._remembered.pop(digest, None)
        return None

    def _remember(self, digest: bytes, key: PublicKey, claims: Claims) -> None:
        if len(self._remembered) >= self._max_remembered_tokens:
            self._remembered.popitem(last=False)  # the one that came first
        self._remembered[digest] = (key, claims)


def check_signature(token: str, header: Mapping[str, str], key: PublicKey) -> None:
    """Check that `key` has signed a token that was read with `read_signed`.

    Raises:
        InvalidToken: it has not.
    """
    if header["alg"] != key.algorithm:
        refuse("the algorithm is not the key's")
    try:
        jws.verify(token, key.key, [key.algorithm])
    except (JOSEError, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidToken("the signature does not match") from None


def _read_claims(payload: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> Claims:
    audiences = payload.get("aud")
    if audiences != audience and not (isinstance(audiences, list) and audience in audiences):
        refuse("not for this audience")
    if payload.get("iss") != issuer:
        refuse("not from this issuer")
    expires_at, issued_at = _time(payload, "exp"), _time(payload, "iat")
    if now >= expires_at:
        raise ExpiredToken
    starts_at = max(issued_at, _time(payload, "nbf") if "nbf" in payload else issued_at)
    if starts_at > now + MAX_CLOCK_SKEW_SECONDS:
        refuse("not valid yet")
    scope = payload.get("scope")
    if not isinstance(scope, str) or (scope and not _SCOPE.fullmatch(scope)):
        refuse("scope is not as expected")
    return Claims(
        subject=_string(payload, "sub"),
        client_id=_string(payload, "client_id"),
        scopes=frozenset(scope.split(" ")) if scope else frozenset(),
        issued_at=issued_at,
        expires_at=expires_at,
        token_id=_string(payload, "jti"),
        session_id=_string(payload, "sid") if "sid" in payload else None,
    )


def _string(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        refuse(f"{name} is missing or not a string")
    return value


def _time(payload: Mapping[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or not 0 <= value < _LATEST_TIME:
        refuse(f"{name} is missing or not a time")
    return value


def _thumbprint(members: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638)."""
    required = {name: members[name] for name in _THUMBPRINT_MEMBERS[members["kty"]]}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
