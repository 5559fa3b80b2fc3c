"""The corpus of hostile tokens: what has broken verifiers before, and what could break one."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwe
from joserfc.jwk import RSAKey
from servicekit.tokens import SigningKey

from tests.issuer import AUDIENCE, ISSUER
from tests.unit.servicekit.forging import (
    KEY,
    KEYS,
    claims,
    confused,
    encode,
    forge,
    header,
    loosened,
    private_key,
    public_bytes,
    signature,
    unsigned,
)


@dataclass(frozen=True)
class Hostile:
    """A token that has to be refused.

    `stricter` is there where joserfc takes it under the same policy, and says why we do not.
    """

    token: str
    stricter: str | None = None


EC_KEY = KEYS["ES256"]
THEIR_KEY = SigningKey.generate("RS256")
NOW = int(time.time())
GOOD = KEY.sign(claims())
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
EC_GOOD = EC_KEY.sign(claims())

ONE_SPELLING = "a token has one spelling, so that whoever compares or caches tokens sees the same one"
THREE_MEMBERS = "our header has alg, typ and kid and no other member: what is ignored today may be obeyed tomorrow"
ONE_MEANING = "readers differ in which of two members they take"
ONE_TYPE = "we write at+jwt; RFC 9068 lets others be more generous"
WHOLE_SECONDS = "our times are whole seconds within reason: nothing is left to how a float is compared"
SCOPE_GRAMMAR = "RFC 6749 section 3.3 has a grammar, and a scope is split by it"


def all_hostile() -> dict[str, Hostile]:
    """Return the corpus by name."""
    return {name: Hostile(*case) if isinstance(case, tuple) else Hostile(case) for name, case in _cases()}


def _cases() -> Iterator[tuple[str, str | tuple[str, str]]]:
    for group in (_FORMS, _ENCODINGS, _JSON, _ALGORITHMS, _CONFUSED, _SIGNATURES, _KEY_IDS, _HEADERS, _CLAIMS, _TIMES):
        yield from group.items()


def _private() -> rsa.RSAPrivateKey:
    key = private_key(KEY.pem)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _encrypted() -> str:
    """Return a JWE for our public key that holds a token of ours (RFC 7519 section 11.2)."""
    key = RSAKey.import_key({name: KEY.public_document[name] for name in ("kty", "n", "e")})
    registry = jwe.JWERegistry(algorithms=["RSA-OAEP", "A128GCM"])
    sealed = {"alg": "RSA-OAEP", "enc": "A128GCM", "kid": KEY.key_id, "typ": "at+jwt", "cty": "JWT"}
    return jwe.encrypt_compact(sealed, GOOD, key, registry=registry)


def _unencoded() -> str:
    """Return a token whose payload is not encoded (RFC 7797)."""
    payload = json.dumps(claims(), separators=(",", ":")).replace(".", "")
    signed = encode(json.dumps(header(b64=False, crit=["b64"])).encode()) + "." + payload
    return f"{signed}.{encode(signature(signed.encode()))}"


def _der_signature() -> str:
    signed = unsigned(header(EC_KEY), claims())
    raw = signature(signed.encode(), EC_KEY)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    return f"{signed}.{encode(der)}"


_FORMS: dict[str, str | tuple[str, str]] = {
    "empty": "",
    "dots": "..",
    "one segment": "abc",
    "two segments": GOOD.rsplit(".", 1)[0],
    "four segments": f"{GOOD}.abc",
    "two tokens": f"{GOOD}.{GOOD}",
    "JWE": _encrypted(),
    "JWE without a key": f"{HEADER}..{PAYLOAD}.{SIGNATURE}.{SIGNATURE}",
    "JSON serialisation, flattened": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
    "JSON serialisation, general": json.dumps(
        {"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}
    ),
    "detached payload": f"{HEADER}..{SIGNATURE}",
    "unencoded payload": (_unencoded(), ONE_SPELLING),
    "white space": GOOD + " ",
    "new line": GOOD + "\n",
    "white space in front": " " + GOOD,
    "scheme in front": "Bearer " + GOOD,
    "not ascii": GOOD + "é",
    "lone surrogate": GOOD + "\ud800",
    "NUL": GOOD + "\x00",
    "one megabyte of header": "a" * 2**20 + "." + GOOD,
    "one megabyte of header that is JSON": forge(header(pad="x" * 2**20), claims()),
    "one megabyte of payload": forge(header(), claims(pad="x" * 2**20)),
    "a million dots": "." * 10**6,
}

_ENCODINGS: dict[str, str | tuple[str, str]] = {
    "padding": GOOD + "==",
    "loose last character": loosened(GOOD),
    "standard alphabet": f"{HEADER}.{PAYLOAD}."
    + encode(b"\xfb\xff\xfe" * 85 + b"a").replace("-", "+").replace("_", "/"),
    "impossible length": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}",
    "percent encoding": GOOD.replace(".", "%2E"),
    "full-width dots": GOOD.replace(".", "\uff0e"),
    "line break in the payload": f"{HEADER}.{PAYLOAD[:40]}\r\n{PAYLOAD[40:]}.{SIGNATURE}",
    "header is not UTF-8": f"{encode(bytes([255, 254]))}.{PAYLOAD}.{SIGNATURE}",
    "header is UTF-16": f"{encode(json.dumps(header()).encode('utf-16'))}.{PAYLOAD}.{SIGNATURE}",
    "header with a byte order mark": (forge("\ufeff" + json.dumps(header()), claims()), ONE_SPELLING),
}

_JSON: dict[str, str | tuple[str, str]] = {
    "header is not JSON": forge("nonsense", claims()),
    "header is a list": forge("[]", claims()),
    "header is null": forge("null", claims()),
    "header is nested deeply": forge('{"a":' * 900 + "1" + "}" * 900, claims()),
    "header is nested deeper than Python": forge("[" * 100_000, claims()),
    "header member twice": (
        forge(f'{{"alg":"RS256","alg":"RS256","typ":"at+jwt","kid":"{KEY.key_id}"}}', claims()),
        ONE_MEANING,
    ),
    "alg twice, none first": (
        forge(f'{{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"{KEY.key_id}"}}', claims()),
        ONE_MEANING,
    ),
    "payload is nested deeply": forge(header(), "[" * 2000 + "]" * 2000),
    "payload member twice": (forge(header(), json.dumps(claims())[:-1] + ', "sub": "admin"}'), ONE_MEANING),
    "payload member twice, escaped": (
        forge(header(), json.dumps(claims())[:-1] + ', "s\\u0075b": "admin"}'),
        ONE_MEANING,
    ),
    "payload is a string": forge(header(), '"sub"'),
    "payload is a list": forge(header(), json.dumps([claims()])),
    "payload has a comment": forge(header(), json.dumps(claims()) + "/**/"),
    "payload twice": forge(header(), json.dumps(claims()) * 2),
    "number with 10 000 digits": forge(
        header(), json.dumps(claims(exp=1)).replace('"exp": 1', '"exp": ' + "9" * 10_000)
    ),
}

_ALGORITHMS: dict[str, str | tuple[str, str]] = {
    **{
        f"alg {name}, unsigned": unsigned(header(alg=name), claims()) + "." for name in ("none", "None", "NONE", "nOnE")
    },
    **{f"alg {name}, signed": forge(header(alg=name), claims()) for name in ("none", "None", "NONE", "nOnE")},
    "alg none with white space": unsigned(header(alg=" none"), claims()) + ".",
    "alg empty": forge(header(alg=""), claims()),
    "alg missing": forge({"typ": "at+jwt", "kid": KEY.key_id}, claims()),
    "alg null": forge(header(alg=None), claims()),
    "alg a number": forge(header(alg=1), claims()),
    "alg a list": forge(header(alg=["RS256"]), claims()),
    "alg of the other key": forge(header(alg="ES256"), claims()),
    "alg RS512": forge(header(alg="RS512"), claims()),
    "alg PS256": forge(header(alg="PS256"), claims()),
    "alg lower case": forge(header(alg="rs256"), claims()),
    "alg of an encryption": forge(header(alg="RSA-OAEP"), claims()),
    "alg EdDSA": forge(header(alg="EdDSA"), claims()),
}

_CONFUSED: dict[str, str | tuple[str, str]] = {
    "HMAC with the PEM": confused(public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    "HMAC with the PEM, stripped": confused(public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip()),
    "HMAC with the PEM of PKCS #1": confused(public_bytes(Encoding.PEM, PublicFormat.PKCS1)),
    "HMAC with the DER": confused(public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
    "HMAC with the DER of PKCS #1": confused(public_bytes(Encoding.DER, PublicFormat.PKCS1)),
    "HMAC with the PEM, HS384": confused(public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), alg="HS384"),
    "HMAC with the DER, HS512": confused(public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), alg="HS512"),
    "HMAC with the JWK": confused(json.dumps(KEY.public_document).encode()),
    "HMAC with the modulus": confused(KEY.public_document["n"].encode()),
    "HMAC with the EC key's PEM": confused(
        public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo, key=EC_KEY), key=EC_KEY
    ),
    "HMAC with the EC key's DER": confused(
        public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo, key=EC_KEY), key=EC_KEY
    ),
    "HMAC with the EC key's point": confused(
        public_bytes(Encoding.X962, PublicFormat.UncompressedPoint, key=EC_KEY), key=EC_KEY
    ),
    "HMAC with nothing": confused(b""),
    "HMAC with the key id": confused(KEY.key_id.encode()),
}

_SIGNATURES: dict[str, str | tuple[str, str]] = {
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "another signature": f"{HEADER}.{PAYLOAD}.{encode(b'x' * 256)}",
    "signature of zeros": f"{HEADER}.{PAYLOAD}.{encode(bytes(256))}",
    "signature with a byte more": f"{HEADER}.{PAYLOAD}.{encode(bytes(1) + signature(f'{HEADER}.{PAYLOAD}'.encode()))}",
    "signature of another key": forge(header(), claims(), key=THEIR_KEY),
    "signature of another token": f"{HEADER}.{PAYLOAD}.{KEY.sign(claims()).split('.')[2]}",
    "signature with SHA-512": f"{HEADER}.{PAYLOAD}."
    + encode(_private().sign(f"{HEADER}.{PAYLOAD}".encode(), padding.PKCS1v15(), SHA512())),
    "signature with PSS": f"{HEADER}.{PAYLOAD}."
    + encode(_private().sign(f"{HEADER}.{PAYLOAD}".encode(), padding.PSS(padding.MGF1(SHA256()), 32), SHA256())),
    "changed payload": f"{HEADER}.{encode(json.dumps(claims(sub='admin')).encode())}.{SIGNATURE}",
    "changed header": f"{encode(json.dumps(header(), indent=1).encode())}.{PAYLOAD}.{SIGNATURE}",
    "EC signature of zeros": EC_GOOD.rsplit(".", 1)[0] + "." + encode(bytes(64)),
    "EC signature in DER": _der_signature(),
    "EC signature with a byte more": EC_GOOD.rsplit(".", 1)[0] + "." + encode(b"x" * 65),
    "EC signature empty": EC_GOOD.rsplit(".", 1)[0] + ".",
    "EC key, RSA signature": forge(header(EC_KEY), claims(), key=KEY),
    "RSA key, EC signature": forge(header(KEY), claims(), key=EC_KEY),
}

_KEY_IDS: dict[str, str | tuple[str, str]] = {
    "kid missing": forge({"alg": "RS256", "typ": "at+jwt"}, claims()),
    "kid unknown": forge(header(kid="other"), claims()),
    "kid empty": forge(header(kid=""), claims()),
    "kid a path": forge(header(kid="../../dev/null"), claims()),
    "kid an empty file": confused(b"").replace(HEADER, encode(json.dumps(header(kid="/dev/null")).encode())),
    "kid SQL": forge(header(kid="' UNION SELECT 'secret' --"), claims()),
    "kid a command": forge(header(kid="| touch /tmp/x"), claims()),
    "kid a URL": forge(header(kid="http://127.0.0.1/keys"), claims()),
    "kid null": forge(header(kid=None), claims()),
    "kid a number": forge(header(kid=0), claims()),
    "kid a list": forge(header(kid=[KEY.key_id]), claims()),
    "kid a map": forge(header(kid={KEY.key_id: 1}), claims()),
    "kid long": forge(header(kid="k" * 5000), claims()),
    "kid with NUL": forge(header(kid=KEY.key_id + "\x00"), claims()),
    "kid in another case": forge(header(kid=KEY.key_id.swapcase()), claims()),
    "kid of the other key": forge(header(kid=EC_KEY.key_id), claims()),
    "kid of our key, signature of theirs": forge(header(), claims(sub="admin"), key=THEIR_KEY),
}

_HEADERS: dict[str, str | tuple[str, str]] = {
    "typ JWT": forge(header(typ="JWT"), claims()),
    "typ missing": forge({"alg": "RS256", "kid": KEY.key_id}, claims()),
    "typ empty": forge(header(typ=""), claims()),
    "typ a list": forge(header(typ=["at+jwt"]), claims()),
    "typ of an ID token": forge(header(typ="id+jwt"), claims()),
    "typ of a logout token": forge(header(typ="logout+jwt"), claims()),
    "typ with a media type": (forge(header(typ="application/at+jwt"), claims()), ONE_TYPE),
    "typ in another case": (forge(header(typ="AT+JWT"), claims()), ONE_TYPE),
    "crit of a claim": forge(header(crit=["exp"]), claims()),
    "crit of a claim in the header": forge(header(crit=["exp"], exp=NOW + 60), claims()),
    "crit empty": (forge(header(crit=[]), claims()), THREE_MEMBERS),
    "crit a text": forge(header(crit="exp"), claims()),
    "crit of b64": (forge(header(b64=True, crit=["b64"]), claims()), THREE_MEMBERS),
    "b64 false, payload encoded": forge(header(b64=False, crit=["b64"]), claims()),
    "b64 false, not critical": forge(header(b64=False), claims()),
    "jku": (forge(header(jku="http://127.0.0.1/keys"), claims()), THREE_MEMBERS),
    "jku of theirs": forge(header(THEIR_KEY, jku="http://127.0.0.1/keys"), claims(), key=THEIR_KEY),
    "jwk": (forge(header(jwk={"kty": "RSA"}), claims()), THREE_MEMBERS),
    "jwk of theirs": forge(header(THEIR_KEY, jwk=THEIR_KEY.public_document), claims(), key=THEIR_KEY),
    "jwk of theirs, kid of ours": forge(header(jwk=THEIR_KEY.public_document), claims(), key=THEIR_KEY),
    "x5u": (forge(header(x5u="http://127.0.0.1/keys"), claims()), THREE_MEMBERS),
    "x5c": (forge(header(x5c=["AA=="]), claims()), THREE_MEMBERS),
    "x5t": (forge(header(x5t="AA"), claims()), THREE_MEMBERS),
    "zip": forge(header(zip="DEF"), claims()),
    "cty": (forge(header(cty="JWT"), claims()), THREE_MEMBERS),
    "unknown member": forge(header(admin=True), claims()),
    "claims in the header": forge(header(sub="admin"), claims()),
}

_CLAIMS: dict[str, str | tuple[str, str]] = {
    "no claims": forge(header(), {}),
    **{
        f"{name} missing": forge(header(), claims(**{name: None})) for name in ("iss", "aud", "sub", "jti", "client_id")
    },
    **{f"{name} null": forge(header(), claims() | {name: None}) for name in ("iss", "aud", "sub", "jti", "scope")},
    **{f"{name} a number": forge(header(), claims(**{name: 1})) for name in ("iss", "aud", "sub", "jti", "client_id")},
    **{f"{name} empty": forge(header(), claims(**{name: ""})) for name in ("iss", "aud", "sub", "jti", "client_id")},
    "aud another": forge(header(), claims(aud="other")),
    "aud contains ours": forge(header(), claims(aud=f"{AUDIENCE}2")),
    "aud in another case": forge(header(), claims(aud=AUDIENCE.upper())),
    "aud a map": forge(header(), claims(aud={AUDIENCE: 1})),
    "aud a list of lists": forge(header(), claims(aud=[[AUDIENCE]])),
    "aud an empty list": forge(header(), claims(aud=[])),
    "iss another": forge(header(), claims(iss="http://evil.example")),
    "iss with a slash": forge(header(), claims(iss=f"{ISSUER}/")),
    "iss with a user": forge(header(), claims(iss=f"{ISSUER}@evil.example")),
    "iss a list": forge(header(), claims(iss=[ISSUER])),
    "sub a list": forge(header(), claims(sub=["someone"])),
    "scope missing": forge(header(), claims(scope=None)),
    "scope a list": forge(header(), claims(scope=["users:write"])),
    "scope a map": forge(header(), claims(scope={"users:write": True})),
    "scope with a tab": (forge(header(), claims(scope="profile\tusers:write")), SCOPE_GRAMMAR),
    "scope with two spaces": (forge(header(), claims(scope="profile  users:write")), SCOPE_GRAMMAR),
    "scope with a quote": (forge(header(), claims(scope='profile"')), SCOPE_GRAMMAR),
    "sid a number": forge(header(), claims(sid=1)),
    "sid empty": forge(header(), claims(sid="")),
}


def _with_exp(text: str) -> str:
    return forge(header(), json.dumps(claims(exp=1)).replace('"exp": 1', f'"exp": {text}'))


_TIMES: dict[str, str | tuple[str, str]] = {
    "exp missing": forge(header(), claims(exp=None)),
    "exp null": forge(header(), claims() | {"exp": None}),
    "exp passed long ago": forge(header(), claims(exp=NOW - 3600)),
    "exp a string": forge(header(), claims(exp=str(NOW + 3600))),
    "exp a fraction": (forge(header(), claims(exp=NOW + 3600.5)), WHOLE_SECONDS),
    "exp true": forge(header(), claims(exp=True)),
    "exp a list": forge(header(), claims(exp=[NOW + 3600])),
    "exp huge": (forge(header(), claims(exp=10**400)), WHOLE_SECONDS),
    "exp after the last year": (forge(header(), claims(exp=2**53)), WHOLE_SECONDS),
    "exp in milliseconds": (forge(header(), claims(exp=NOW * 1000)), WHOLE_SECONDS),
    "exp NaN": _with_exp("NaN"),
    "exp infinite": _with_exp("Infinity"),
    "exp a number that becomes infinite": _with_exp("1e999"),
    "exp in powers of ten": (_with_exp("1e12"), WHOLE_SECONDS),
    "exp minus nothing": _with_exp("-0"),
    "exp negative": forge(header(), claims(exp=-1)),
    "iat missing": forge(header(), claims(iat=None)),
    "iat a string": forge(header(), claims(iat="0")),
    "iat ahead": forge(header(), claims(iat=NOW + 3600)),
    "nbf ahead": forge(header(), claims(nbf=NOW + 3600)),
    "nbf a string": forge(header(), claims(nbf="0")),
    "nbf null": forge(header(), claims() | {"nbf": None}),
}

HOSTILE = all_hostile()


def valid() -> dict[str, dict[str, Any]]:
    """Return claims that are to be taken, by name."""
    return {
        "plain": claims(),
        "in a session": claims(sid="s1"),
        "one of several audiences": claims(aud=[AUDIENCE, "other"]),
        "no scope": claims(scope=""),
        "a clock that is a little ahead": claims(iat=NOW + 5, nbf=NOW + 5),
        "a claim that nobody knows": claims(act={"sub": "other"}),
        "a name in another script": claims(sub="Ада"),
    }
