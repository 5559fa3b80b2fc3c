"""The load generator against a server that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.inference.load import Load, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TOO_LATE = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def answering(
    answer: Callable[[int], bytes | None], *, seconds: float = 0.0
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Yield the port of a server and the bodies it got; `answer` tells from their number, and None says nothing.

    It takes so many `seconds` for each.
    """
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                number = len(bodies) - 1
                await asyncio.sleep(seconds)
                if (found := answer(number)) is not None:
                    writer.write(found)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], bodies


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"pixels")
    return str(path)


@pytest.mark.parametrize("answer", [OK, CHUNKED])
async def test_a_closed_loop_counts_each_answer_once(picture: str, answer: bytes) -> None:
    async with answering(lambda _: answer) as (port, bodies):
        outcome = await run(Load(port=port, path="/predict", pictures=[picture], concurrency=3, seconds=0.3))
    assert 0 < len(outcome.latencies) <= len(bodies) <= len(outcome.latencies) + 3
    assert (outcome.refused, outcome.late, outcome.failed) == (0, 0, 0)
    assert all(b"pixels" in body and b'name="file"' in body for body in bodies)


async def test_what_a_request_took_beside_the_work_that_its_answer_names_is_counted(picture: str) -> None:
    timing = b"Server-Timing: decode;dur=50.0, preprocess;dur=10, queue;dur=40, compute;dur=140.0, inference;dur=240.0"
    answers = {0: OK.replace(b"\r\n\r\n", b"\r\n" + timing + b"\r\n\r\n"), 1: OK}
    async with answering(lambda number: answers[number % 2], seconds=0.25) as (port, bodies):
        outcome = await run(Load(port=port, path="/predict", pictures=[picture], concurrency=1, seconds=0.7))
    assert len(bodies) == 3
    assert len(outcome.beside_work) == 1
    assert outcome.beside_work[0] == pytest.approx(outcome.latencies[0] - 0.2)


async def test_a_closed_loop_counts_what_was_sent_before_its_window_and_is_answered_in_it(picture: str) -> None:
    async with answering(lambda _: OK, seconds=2.0) as (port, bodies):
        load = Load(port=port, path="/predict", pictures=[picture], concurrency=3, seconds=2.5, warm_seconds=1.0)
        outcome = await run(load)
    assert len(bodies) == 6, "sent at 0 s and at 2 s, and the second three are answered too late"
    assert len(outcome.latencies) == outcome.in_time == 3


async def test_an_open_loop_sends_at_its_rate_whatever_is_answered(picture: str) -> None:
    answers = {0: OK, 1: REFUSED, 2: FAILED, 3: None, 4: TOO_LATE}
    async with answering(lambda number: answers[number % 5]) as (port, bodies):
        load = Load(port=port, path="/predict", pictures=[picture], rate=100, seconds=0.4, deadline_seconds=1.0)
        outcome = await run(load)
    assert len(bodies) == outcome.sent == 40
    assert (outcome.sent - outcome.late - outcome.refused - outcome.failed, outcome.refused) == (8, 8)
    assert (outcome.failed, outcome.late) == (8, 16)


async def test_latencies_are_of_all_who_were_let_in_and_who_hung_up_waited_to_the_deadline(picture: str) -> None:
    answers = {0: OK, 1: REFUSED, 2: None}
    async with answering(lambda number: answers[number % 3]) as (port, _):
        load = Load(port=port, path="/predict", pictures=[picture], rate=100, seconds=0.3, deadline_seconds=0.5)
        outcome = await run(load)
    assert len(outcome.latencies) == 20
    assert sum(latency >= load.deadline_seconds for latency in outcome.latencies) == outcome.late == 10


async def test_what_a_queue_holds_at_the_end_of_a_load_was_not_answered_in_it(picture: str) -> None:
    async with answering(lambda _: OK, seconds=0.5) as (port, _):
        load = Load(port=port, path="/predict", pictures=[picture], rate=10, seconds=1.0)
        outcome = await run(load)
    assert len(outcome.latencies) == outcome.sent == 10
    assert 0 < outcome.in_time < 8, "the last five were sent in the last half second"


async def test_recovery_is_when_an_answer_comes_in_time_again(picture: str) -> None:
    async with answering(lambda number: REFUSED if number < 12 else OK) as (port, _):
        load = Load(port=port, path="/predict", pictures=[picture], rate=100, seconds=0.1, recovered_seconds=10)
        outcome = await run(load)
    assert outcome.recovery_seconds is not None
    assert outcome.recovery_seconds > 0
    assert outcome.sent == outcome.refused == 10


async def test_a_server_that_is_gone_is_counted_as_failures(picture: str) -> None:
    async with answering(lambda _: OK) as (port, _):
        pass
    outcome = await run(Load(port=port, path="/predict", pictures=[picture], concurrency=1, seconds=0.1))
    assert outcome.failed == outcome.sent > 0
