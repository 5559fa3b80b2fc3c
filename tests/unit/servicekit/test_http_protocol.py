"""What becomes of the rest of a body that was answered before it had come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from servicekit import http_protocol
from servicekit.http_protocol import ServiceProtocol
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server

MIB = 1024 * 1024
CHUNK = b"x" * 65536

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without a look at the body."""
    await PlainTextResponse("no", 401)(scope, receive, send)


@asynccontextmanager
async def connected(*, keep_alive_seconds: int = 60) -> AsyncIterator[Connection]:
    config = Config(
        refusing,
        port=0,
        http=ServiceProtocol,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=1,
    )
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.shutdown()


async def begin(connection: Connection, *, body_bytes: int) -> None:
    """Send a request as far as its body, and read the answer."""
    reader, writer = connection
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % body_bytes)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 401 ")
    assert await reader.readexactly(2) == b"no"


async def send(writer: asyncio.StreamWriter, body_bytes: int) -> int:
    """Send so much of a body, or as much as is taken; return how much that was."""
    sent = 0
    try:
        while sent < body_bytes:
            writer.write(CHUNK)
            await writer.drain()
            sent += len(CHUNK)
    except ConnectionError:
        pass
    return sent


async def test_a_body_of_the_largest_size_may_come_to_its_end_and_the_next_request_is_answered() -> None:
    async with connected() as connection:
        await begin(connection, body_bytes=32 * MIB)
        assert await send(connection[1], 32 * MIB) == 32 * MIB
        await begin(connection, body_bytes=0)


async def test_a_body_that_goes_on_is_cut_off() -> None:
    async with connected() as connection:
        await begin(connection, body_bytes=1024 * MIB)
        # What is on its way between the two sockets counts as sent.
        assert 32 * MIB <= await send(connection[1], 1024 * MIB) < 64 * MIB


async def test_each_body_has_the_whole_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MAX_REST_BYTES", 3 * MIB)
    async with connected() as connection:
        for _ in range(4):
            await begin(connection, body_bytes=2 * MIB)
            assert await send(connection[1], 2 * MIB) == 2 * MIB


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REST_SECONDS", 0.2)
    async with connected() as connection:
        reader, writer = connection
        await begin(connection, body_bytes=1024)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_body_that_has_come_is_no_reason_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REST_SECONDS", 0.2)
    async with connected() as connection:
        await begin(connection, body_bytes=1024)
        connection[1].write(b"x" * 1024)
        await asyncio.sleep(0.4)
        await begin(connection, body_bytes=0)


async def test_a_connection_is_idle_after_the_rest_as_after_any_body() -> None:
    async with connected(keep_alive_seconds=1) as connection:
        await begin(connection, body_bytes=1024)
        connection[1].write(b"x" * 1024)
        assert await asyncio.wait_for(connection[0].read(), 10) == b""
