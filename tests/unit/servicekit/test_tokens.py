"""Access tokens: what is taken, and the hostile ones that are not."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from servicekit.tokens import Algorithm, InvalidToken, PublicKey, SigningKey, TokenVerifier

from tests.issuer import AUDIENCE, ISSUER, Issuer

KEYS = {"RS256": SigningKey.generate("RS256"), "ES256": SigningKey.generate("ES256")}
KEY = KEYS["RS256"]


class KnownKeys:
    """A key source that has both keys."""

    async def get(self, key_id: str) -> PublicKey | None:
        for key in KEYS.values():
            if key.key_id == key_id:
                return PublicKey(key.public_document)
        return None


VERIFIER = TokenVerifier(KnownKeys(), issuer=ISSUER, audience=AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    return Issuer("", KEY).claims(scope="profile users:read", **changes)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: dict[str, Any] | str, payload: dict[str, Any] | str, *, key: SigningKey = KEY) -> str:
    """Return a token with a good RS256 signature, whatever it says."""
    header, payload = (part if isinstance(part, str) else json.dumps(part) for part in (header, payload))
    signed = f"{encode(header.encode())}.{encode(payload.encode())}"
    private = load_pem_private_key(key.pem.encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return f"{signed}.{encode(private.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def header(**changes: Any) -> dict[str, Any]:
    return {"alg": "RS256", "typ": "at+jwt", "kid": KEY.key_id} | changes


def public_bytes(encoding: Encoding) -> bytes:
    public = load_pem_private_key(KEY.pem.encode(), None).public_key()
    return public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def confused(secret: bytes) -> str:
    """Return a token signed by HMAC with what everybody knows: the public key."""
    signed = f"{encode(json.dumps(header(alg='HS256')).encode())}.{encode(json.dumps(claims()).encode())}"
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def loosened(token: str) -> str:
    """Return the token in a spelling that decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(token.rsplit(".", 1)[1]) % 4 == 2  # an RS256 signature leaves four unused bits
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_of_ours_says_what_was_signed(algorithm: Algorithm) -> None:
    token = KEYS[algorithm].sign(claims(subject="ada", sid="s1"))
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


GOOD = KEY.sign(claims())
NOW = int(time.time())
HOSTILE: dict[str, str] = {
    "empty": "",
    "one segment": "abc",
    "two segments": GOOD.rsplit(".", 1)[0],
    "four segments": f"{GOOD}.abc",
    "no signature": GOOD.rsplit(".", 1)[0] + ".",
    "another signature": GOOD.rsplit(".", 1)[0] + "." + encode(b"x" * 256),
    "padding": GOOD + "==",
    "loose last character": loosened(GOOD),
    "standard alphabet": GOOD.replace("_", "/").replace("-", "+") + "+",
    "white space": GOOD + " ",
    "new line": GOOD + "\n",
    "not ascii": GOOD + "é",
    "one megabyte": "a" * 2**20 + "." + GOOD,
    "header is not JSON": forge("nonsense", claims()),
    "header is not UTF-8": encode(b"\xff\xfe") + "." + GOOD.split(".", 1)[1],
    "header is a list": forge("[]", claims()),
    "header is nested deeply": forge('{"a":' * 900 + "1" + "}" * 900, claims()),
    "payload is nested deeply": forge(header(), "[" * 2000 + "]" * 2000),
    "header member twice": forge(f'{{"alg":"RS256","alg":"RS256","typ":"at+jwt","kid":"{KEY.key_id}"}}', claims()),
    "payload member twice": forge(header(), json.dumps(claims())[:-1] + ', "sub": "admin"}'),
    "payload has NaN": forge(header(), json.dumps(claims() | {"exp": float("nan")})),
    "payload is a string": forge(header(), '"sub"'),
    "alg none": forge(header(alg="none"), claims()).rsplit(".", 1)[0] + ".",
    "alg None with a signature": forge(header(alg="None"), claims()),
    "alg missing": forge({"typ": "at+jwt", "kid": KEY.key_id}, claims()),
    "alg is a number": forge(header(alg=1), claims()),
    "alg of another family": forge(header(alg="ES256"), claims()),
    "alg HS256": forge(header(alg="HS256"), claims()),
    "alg RS512": forge(header(alg="RS512"), claims()),
    "alg PS256": forge(header(alg="PS256"), claims()),
    "alg lower case": forge(header(alg="rs256"), claims()),
    "HMAC with the public PEM": confused(public_bytes(Encoding.PEM)),
    "HMAC with the public DER": confused(public_bytes(Encoding.DER)),
    "HMAC with nothing": confused(b""),
    "typ JWT": forge(header(typ="JWT"), claims()),
    "typ missing": forge({"alg": "RS256", "kid": KEY.key_id}, claims()),
    "typ of an ID token": forge(header(typ="id+jwt"), claims()),
    "kid missing": forge({"alg": "RS256", "typ": "at+jwt"}, claims()),
    "kid unknown": forge(header(kid="other"), claims()),
    "kid is a path": forge(header(kid="../../dev/null"), claims()),
    "kid is SQL": forge(header(kid="' OR 1=1 --"), claims()),
    "kid is null": forge(header(kid=None), claims()),
    "kid is a list": forge(header(kid=[KEY.key_id]), claims()),
    "kid of the other key": forge(header(kid=KEYS["ES256"].key_id), claims()),
    "crit": forge(header(crit=["exp"]), claims()),
    "b64": forge(header(b64=False, crit=["b64"]), claims()),
    "jku": forge(header(jku="http://127.0.0.1/keys"), claims()),
    "jwk": forge(header(jwk=KEY.public_document), claims()),
    "x5u": forge(header(x5u="http://127.0.0.1/keys"), claims()),
    "x5c": forge(header(x5c=["AA=="]), claims()),
    "zip": forge(header(zip="DEF"), claims()),
    "cty": forge(header(cty="JWT"), claims()),
    "exp missing": KEY.sign(claims(exp=None)),
    "exp passed": KEY.sign(claims(exp=NOW - 1)),
    "exp a string": forge(header(), claims(exp=str(NOW + 60))),
    "exp a fraction": forge(header(), claims(exp=NOW + 60.5)),
    "exp true": forge(header(), claims(exp=True)),
    "exp huge": forge(header(), claims(exp=10**400)),
    "exp infinite": forge(header(), json.dumps(claims(exp=1)).replace('"exp": 1', '"exp": 1e999')),
    "exp negative": forge(header(), claims(exp=-1)),
    "iat missing": forge(header(), claims(iat=None)),
    "iat ahead": forge(header(), claims(iat=NOW + 600)),
    "nbf ahead": forge(header(), claims(nbf=NOW + 600)),
    "nbf a string": forge(header(), claims(nbf="0")),
    "aud missing": forge(header(), claims(aud=None)),
    "aud another": forge(header(), claims(aud="other")),
    "aud contains ours": forge(header(), claims(aud="pinhole2")),
    "aud a number": forge(header(), claims(aud=1)),
    "aud a map": forge(header(), claims(aud={AUDIENCE: 1})),
    "iss missing": forge(header(), claims(iss=None)),
    "iss another": forge(header(), claims(iss="http://evil.example")),
    "iss with a slash": forge(header(), claims(iss=ISSUER + "/")),
    "iss a list": forge(header(), claims(iss=[ISSUER])),
    "sub missing": forge(header(), claims(sub=None)),
    "sub empty": forge(header(), claims(sub="")),
    "sub a number": forge(header(), claims(sub=1)),
    "jti missing": forge(header(), claims(jti=None)),
    "client_id missing": forge(header(), claims(client_id=None)),
    "scope missing": forge(header(), claims() | {"scope": None}),
    "scope a list": forge(header(), claims() | {"scope": ["users:write"]}),
    "scope with a tab": forge(header(), claims() | {"scope": "profile\tusers:write"}),
    "scope with two spaces": forge(header(), claims() | {"scope": "profile  users:write"}),
    "sid a number": forge(header(), claims(sid=1)),
    "changed payload": ".".join(
        (GOOD.split(".")[0], encode(json.dumps(claims(sub="admin")).encode()), GOOD.split(".")[2])
    ),
}


async def test_a_forged_token_that_says_only_good_things_is_taken() -> None:
    """Were `forge` broken, every token below would be refused for the wrong reason."""
    assert (await VERIFIER.verify(forge(header(), claims()))).subject == "someone"


@pytest.mark.parametrize("token", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        await VERIFIER.verify(token)
    assert len(str(refused.value)) < 60


@given(st.text(alphabet="abcABC012-_.=é{}\x00", max_size=200))
async def test_random_text_is_refused_and_nothing_else_is_raised(token: str) -> None:
    with pytest.raises(InvalidToken):
        await VERIFIER.verify(token)


@given(position=st.integers(0, len(GOOD) - 1), character=st.characters(min_codepoint=33, max_codepoint=126))
async def test_a_token_with_one_changed_character_is_refused(position: int, character: str) -> None:
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    if changed != GOOD:
        with pytest.raises(InvalidToken):
            await VERIFIER.verify(changed)


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
