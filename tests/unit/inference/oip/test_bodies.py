"""Bodies that are compressed."""

import asyncio
import gzip
from collections.abc import Iterator

import pytest
from fastapi import Request
from inference_service.oip.bodies import read_body
from servicekit.problem import ContentTooLarge
from starlette.types import Message

MIB = 1024 * 1024


def sent(*chunks: bytes) -> Request:
    """Return a request whose body comes in so many pieces."""
    messages: Iterator[Message] = iter(
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    )

    async def receive() -> Message:
        return next(messages)

    return Request({"type": "http", "headers": [(b"content-encoding", b"gzip")]}, receive)


async def test_others_have_their_turn_while_a_body_is_unpacked() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counted: list[int] = []
    plain, packed = bytes(8 * MIB), gzip.compress(bytes(8 * MIB))
    others = asyncio.create_task(take_turns())
    assert await read_body(sent(packed[:1000], packed[1000:]), max_bytes=8 * MIB, count=counted.append) == plain
    others.cancel()
    assert turns > 20
    assert sum(counted) == 8 * MIB
    assert max(counted) <= MIB


async def test_a_body_that_becomes_too_large_is_not_unpacked_to_its_end() -> None:
    counted: list[int] = []
    with pytest.raises(ContentTooLarge):
        await read_body(sent(gzip.compress(bytes(8 * MIB))), max_bytes=MIB, count=counted.append)
    assert sum(counted) <= MIB
