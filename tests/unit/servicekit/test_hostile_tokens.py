"""Hostile tokens: none is taken, nothing but our own error is raised, and joserfc says the same."""

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from servicekit.tokens import Algorithm, InvalidToken

from tests.unit.servicekit import joserfc_verifier
from tests.unit.servicekit.forging import KEY, KEYS, VERIFIER, claims, encode, forge, header
from tests.unit.servicekit.hostile_tokens import HOSTILE, Hostile, valid

VALID = [KEYS[algorithm].sign(claims(sid="s1")) for algorithm in ("RS256", "ES256") for _ in range(2)]
EXAMPLES = settings(max_examples=300, deadline=None)


async def is_accepted(token: str) -> bool:
    """Tell our verdict. Whatever is raised but `InvalidToken` fails the test."""
    try:
        await VERIFIER.verify(token)
    except InvalidToken:
        return False
    return True


def test_the_corpus_is_large_and_no_token_stands_in_it_twice() -> None:
    assert len(HOSTILE) >= 60
    assert len({hostile.token for hostile in HOSTILE.values()}) == len(HOSTILE)


async def test_a_forged_token_that_says_only_good_things_is_taken() -> None:
    """Were `forge` broken, every token of the corpus would be refused for the wrong reason."""
    for key in KEYS.values():
        assert await is_accepted(forge(header(key), claims(), key=key))


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_token_is_refused_and_not_repeated(hostile: Hostile) -> None:
    with pytest.raises(InvalidToken) as refused:
        await VERIFIER.verify(hostile.token)
    assert len(str(refused.value)) < 60


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_joserfc_refuses_it_too_unless_the_case_says_why_we_are_stricter(hostile: Hostile) -> None:
    assert joserfc_verifier.accepts(hostile.token) is (hostile.stricter is not None)


async def test_a_token_ends_when_it_says_though_joserfc_forgives_a_skew() -> None:
    """Only the clock that starts a token is forgiven. Forged here, for in the corpus it would grow old."""
    ended = forge(header(), claims(exp=int(time.time()) - 1))
    assert not await is_accepted(ended)
    assert joserfc_verifier.accepts(ended)


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("name", valid())
async def test_a_valid_token_is_taken_by_both(algorithm: Algorithm, name: str) -> None:
    token = KEYS[algorithm].sign(valid()[name])
    assert await is_accepted(token)
    assert joserfc_verifier.accepts(token)


@EXAMPLES
@given(st.text(alphabet="abcABC012-_.=é{}\x00", max_size=200))
async def test_random_text_is_refused(token: str) -> None:
    assert not await is_accepted(token)


@EXAMPLES
@given(token=st.sampled_from(VALID), data=st.data())
async def test_a_token_with_changed_bytes_is_refused(token: str, data: st.DataObject) -> None:
    """Characters are replaced, put in, cut out and repeated."""
    start = data.draw(st.integers(0, len(token)), label="start")
    end = data.draw(st.integers(start, min(len(token), start + 40)), label="end")
    inserted = data.draw(
        st.one_of(
            st.text(alphabet="AZaz09-_.=+/ \n", max_size=40),
            st.binary(max_size=8).map(lambda some: some.decode("latin-1")),
            st.just(token[start:end] * 2),
        ),
        label="inserted",
    )
    changed = token[:start] + inserted + token[end:]
    assert await is_accepted(changed) == (changed in VALID)


@EXAMPLES
@given(st.lists(st.sampled_from([part for token in VALID for part in token.split(".")] + [""]), max_size=6))
@example(VALID[0].split("."))
async def test_segments_of_valid_tokens_make_no_other_valid_token(segments: list[str]) -> None:
    token = ".".join(segments)
    assert await is_accepted(token) == (token in VALID)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("none"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "iss", "aud", "sub", "exp", "nbf", "iat", "scope"])
CHANGES = st.dictionaries(NAMES | st.text(max_size=5), JSON_VALUES, max_size=3)
REMOVALS = st.sets(NAMES, max_size=1)


def mutated(segment: str, changes: dict[str, Any], removals: set[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=="))
    return {name: value for name, value in (document | changes).items() if name not in removals}


@EXAMPLES
@given(token=st.sampled_from(VALID), position=st.sampled_from([0, 1]), changes=CHANGES, removals=REMOVALS)
async def test_changed_json_under_an_old_signature_is_refused(
    token: str, position: int, changes: dict[str, Any], removals: set[str]
) -> None:
    segments = token.split(".")
    segments[position] = encode(json.dumps(mutated(segments[position], changes, removals)).encode())
    changed = ".".join(segments)
    assert await is_accepted(changed) == (changed in VALID)


@EXAMPLES
@given(in_header=CHANGES, in_payload=CHANGES, removals=REMOVALS)
async def test_what_is_taken_of_changed_json_with_a_good_signature_is_taken_by_joserfc_too(
    in_header: dict[str, Any], in_payload: dict[str, Any], removals: set[str]
) -> None:
    """As if whoever has our key had written nonsense: strictness is ours, but laxness would be a hole."""
    first, second, _ = VALID[0].split(".")
    token = forge(mutated(first, in_header, removals), mutated(second, in_payload, removals), key=KEY)
    if await is_accepted(token):
        assert joserfc_verifier.accepts(token)
