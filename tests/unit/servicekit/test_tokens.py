"""Access tokens: what is taken, and the keys that they are verified with."""

import hashlib
import json
import time
from typing import Any

import pytest
from servicekit.tokens import Algorithm, PublicKey

from tests.issuer import AUDIENCE
from tests.unit.servicekit.forging import KEY, KEYS, VERIFIER, claims, encode


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_of_ours_says_what_was_signed(algorithm: Algorithm) -> None:
    token = KEYS[algorithm].sign(claims(sub="ada", sid="s1"))
    verified = await VERIFIER.verify(token)
    assert verified.subject == "ada"
    assert verified.scopes == {"profile", "users:read"}
    assert verified.session_id == "s1"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE, "other"]])
async def test_an_audience_may_be_one_of_several(audience: str | list[str]) -> None:
    assert (await VERIFIER.verify(KEY.sign(claims(aud=audience)))).subject == "someone"


async def test_an_empty_scope_grants_nothing() -> None:
    assert (await VERIFIER.verify(KEY.sign(claims() | {"scope": ""}))).scopes == frozenset()


async def test_a_clock_that_is_a_little_ahead_is_forgiven() -> None:
    assert await VERIFIER.verify(KEY.sign(claims(iat=int(time.time()) + 5)))


@pytest.mark.parametrize(
    "change",
    [{"alg": "HS256"}, {"use": "enc"}, {"kty": "oct"}, {"d": "AQAB"}, {"alg": "ES256"}, {"n": None}],
    ids=str,
)
def test_a_key_that_is_not_a_public_signature_key_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PublicKey(KEY.public_document | change)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_public_document_holds_nothing_private(algorithm: Algorithm) -> None:
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & KEYS[algorithm].public_document.keys()


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    """The expected value is computed here by the RFC's section 3, from the published document."""
    document = KEY.public_document
    members = json.dumps({name: document[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    assert KEY.key_id == encode(hashlib.sha256(members.encode()).digest())
