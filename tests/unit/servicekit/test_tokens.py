"""Access tokens: what is taken, and the keys that they are verified with."""

import hashlib
import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey
from servicekit.token_form import Algorithm, InvalidToken
from servicekit.tokens import PublicKey, SigningKey, TokenVerifier

from tests.issuer import AUDIENCE, ISSUER
from tests.unit.servicekit.forging import KEY, KEYS, VERIFIER, KnownKeys, claims, encode


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


@pytest.mark.parametrize(
    "document",
    [
        RSAKey.generate_key(2048).as_dict(private=True),
        ECKey.generate_key("P-256").as_dict(private=True),
        KEY.public_document | {"n": encode((2**1023 + 1).to_bytes(128, "big"))},
        ECKey.generate_key("P-384").as_dict() | {"alg": "ES256"},
        KEYS["ES256"].public_document | {"x": "AA"},
        {name: value for name, value in KEYS["ES256"].public_document.items() if name != "y"},
    ],
    ids=["RSA private", "EC private", "RSA short", "another curve", "not on the curve", "half"],
)
def test_a_key_that_is_good_for_something_else_or_nothing_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PublicKey(document)


def test_a_key_without_an_id_goes_by_its_thumbprint() -> None:
    document = {name: value for name, value in KEY.public_document.items() if name != "kid"}
    assert PublicKey(document).key_id == KEY.key_id
    assert PublicKey(document | {"kid": "theirs"}).key_id == "theirs"


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_public_document_holds_nothing_private(algorithm: Algorithm) -> None:
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & KEYS[algorithm].public_document.keys()


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    """The expected value is computed here by the RFC's section 3, from the published document."""
    document = KEY.public_document
    members = json.dumps({name: document[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    assert KEY.key_id == encode(hashlib.sha256(members.encode()).digest())


class Ended:
    """Sessions that have ended."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    async def is_revoked(self, session_id: str) -> bool:
        return session_id in self.ids


class Remembering:
    """A verifier with its surroundings in the test's hands."""

    def __init__(self, max_remembered_tokens: int = 10) -> None:
        self.keys = KnownKeys()
        self.ended = Ended()
        self.now = time.time()
        self.verifier = TokenVerifier(
            self.keys,
            issuer=ISSUER,
            audience=AUDIENCE,
            revocations=self.ended,
            max_remembered_tokens=max_remembered_tokens,
            clock=lambda: self.now,
        )

    async def accepts(self, token: str) -> bool:
        try:
            await self.verifier.verify(token)
        except InvalidToken:
            return False
        return True

    def spoil_signatures(self) -> None:
        """Let every signature that is computed from now on be wrong."""
        self.keys.by_id[KEY.key_id].key = PublicKey(KEYS["ES256"].public_document).key


async def test_the_signature_of_a_verified_token_is_not_computed_again() -> None:
    remembering, token = Remembering(), KEY.sign(claims())
    assert await remembering.accepts(token)
    remembering.spoil_signatures()
    assert await remembering.accepts(token)
    assert not await remembering.accepts(KEY.sign(claims()))


async def test_a_refused_token_is_not_remembered() -> None:
    remembering, token = Remembering(), KEY.sign(claims())
    key = remembering.keys.by_id.pop(KEY.key_id)
    assert not await remembering.accepts(token)
    remembering.keys.by_id[KEY.key_id] = key
    assert await remembering.accepts(token)


async def test_a_remembered_token_expires_to_the_second() -> None:
    remembering = Remembering()
    token = KEY.sign(claims(exp=int(remembering.now) + 60))
    assert await remembering.accepts(token)
    remembering.now = int(remembering.now) + 59.999
    assert await remembering.accepts(token)
    remembering.now = int(remembering.now) + 1.0
    assert not await remembering.accepts(token)


async def test_a_remembered_token_ends_with_its_session() -> None:
    remembering, token = Remembering(), KEY.sign(claims(sid="s1"))
    assert await remembering.accepts(token)
    remembering.ended.ids.add("s1")
    assert not await remembering.accepts(token)


async def test_a_remembered_token_ends_with_its_key() -> None:
    remembering, token = Remembering(), KEY.sign(claims())
    assert await remembering.accepts(token)
    del remembering.keys.by_id[KEY.key_id]
    assert not await remembering.accepts(token)


async def test_another_key_under_the_same_id_is_not_taken_for_the_one_that_verified() -> None:
    remembering, token = Remembering(), KEY.sign(claims())
    assert await remembering.accepts(token)
    other = SigningKey.generate("RS256").public_document
    remembering.keys.by_id[KEY.key_id] = PublicKey(other | {"kid": KEY.key_id})
    assert not await remembering.accepts(token)


async def test_no_more_tokens_are_remembered_than_was_said() -> None:
    remembering = Remembering(max_remembered_tokens=2)
    first, second, third = (KEY.sign(claims()) for _ in range(3))
    for token in (first, second, third):
        assert await remembering.accepts(token)
    remembering.spoil_signatures()
    assert [await remembering.accepts(token) for token in (first, second, third)] == [False, True, True]
