"""Makes tokens as an attacker would, and as one could who has our keys."""

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from servicekit.tokens import PublicKey, SigningKey, TokenVerifier

from tests.issuer import AUDIENCE, ISSUER, Issuer

KEYS = {"RS256": SigningKey.generate("RS256"), "ES256": SigningKey.generate("ES256")}
KEY = KEYS["RS256"]
LIFETIME_SECONDS = 3600
"""Longer than a run of the tests: a token that has expired meanwhile is refused for the wrong reason."""


class KnownKeys:
    """A key source that has both keys."""

    def __init__(self) -> None:
        self.by_id = {key.key_id: PublicKey(key.public_document) for key in KEYS.values()}

    async def get(self, key_id: str) -> PublicKey | None:
        return self.by_id.get(key_id)


VERIFIER = TokenVerifier(KnownKeys(), issuer=ISSUER, audience=AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    good = Issuer("", KEY).claims(scope="profile users:read")
    changed = good | {"exp": good["iat"] + LIFETIME_SECONDS} | changes
    return {name: value for name, value in changed.items() if value is not None}


def header(key: SigningKey = KEY, **changes: Any) -> dict[str, Any]:
    return {"alg": key.algorithm, "typ": "at+jwt", "kid": key.key_id} | changes


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def private_key(pem: str) -> PrivateKeyTypes:
    return load_pem_private_key(pem.encode(), None)  # checking an RSA key takes 40 ms


def signature(signed: bytes, key: SigningKey = KEY) -> bytes:
    """Return what a good signature of `signed` is in a token."""
    private = private_key(key.pem)
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(signed, padding.PKCS1v15(), SHA256())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def unsigned(header: dict[str, Any] | str, payload: dict[str, Any] | str) -> str:
    """Return the first two segments of a token; texts are taken as they are."""
    texts = (part if isinstance(part, str) else json.dumps(part) for part in (header, payload))
    return ".".join(encode(text.encode()) for text in texts)


def forge(header: dict[str, Any] | str, payload: dict[str, Any] | str, *, key: SigningKey = KEY) -> str:
    """Return a token with a good signature of `key`, whatever it says."""
    signed = unsigned(header, payload)
    return f"{signed}.{encode(signature(signed.encode(), key))}"


def public_bytes(encoding: Encoding, format: PublicFormat, *, key: SigningKey = KEY) -> bytes:
    return private_key(key.pem).public_key().public_bytes(encoding, format)


def confused(secret: bytes, *, key: SigningKey = KEY, alg: str = "HS256") -> str:
    """Return a token signed by HMAC with what everybody knows: the public key."""
    signed = unsigned(header(key, alg=alg), claims())
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), digest).digest())}"


def loosened(token: str) -> str:
    """Return the token in a spelling that decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(token.rsplit(".", 1)[1]) % 4 == 2  # an RS256 signature leaves four unused bits
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
