"""The load: a process of its own, so that it can say what it took from the servers' cores.

Reads a `Load` as JSON from standard input, and writes what came of it to standard output.
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import uvloop

_BOUNDARY = "pinhole-benchmark"
_RECOVERY_LIMIT_SECONDS = 10.0
_BROKEN, _LATE = 0, 504
_WORK_STAGES = ("decode", "preprocess", "compute")
"""What is done with a picture, among the stages that a server names in `Server-Timing`."""


@dataclass(frozen=True)
class Load:
    """What to send."""

    port: int
    path: str
    pictures: list[str]
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 5.0
    warm_seconds: float = 0.0
    concurrency: int | None = None
    """A closed loop: so many callers, each of whom sends again when answered."""

    rate: float | None = None
    """An open loop: so many requests a second at even times, whatever is answered."""

    deadline_seconds: float = 60.0
    """When a caller hangs up."""

    recovered_seconds: float | None = None
    """After the load, send one request after the other until one is answered in this time."""


@dataclass
class Outcome:
    """What came back: in a closed loop within the time that is measured, in an open loop to all that was sent."""

    seconds: float = 0.0
    sent: int = 0
    in_time: int = 0
    """Answers with 200 before the caller hung up, and before the load ended.

    What a server still had in its queue then is left out: it would make the load longer than it was.
    """

    latencies: list[float] = field(default_factory=list)
    """Of all who were let in, in seconds: in an open loop from when the request was due.

    Who is late counts with the time that was waited: without them no latency would pass the deadline.
    """

    beside_work: list[float] = field(default_factory=list)
    """What remains of the latencies of answers with 200 that say how long the work on the picture took."""

    refused: int = 0
    """Answers with 503 or 429."""

    late: int = 0
    """Callers who hung up at their deadline, or were told that it has passed (504)."""

    failed: int = 0
    """Other answers, and connections that broke."""

    recovery_seconds: float | None = None
    cpu_seconds: float = 0.0
    """What this process itself used."""


class Answer(NamedTuple):
    """What is looked at of an answer."""

    status: int
    work_seconds: float | None = None
    """What the server says that it took to decode, preprocess and compute."""


class Connections:
    """Kept-alive connections to one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, request: bytes) -> Answer:
        """Send a request on a connection that is free, and return its answer."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                break
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        whole = False
        try:
            writer.write(request)
            answer, whole = await _read_answer(reader)
        finally:
            if whole:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return answer

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """Read one answer (RFC 9112) to its end; return it, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(headers.get("content-length", "0")))
    answer = Answer(int(first.split()[1]), _work_seconds(headers.get("server-timing", "")))
    return answer, headers.get("connection", "").lower() != "close"


def _work_seconds(server_timing: str) -> float | None:
    """Return the time of the work on a picture by a `Server-Timing` header (W3C), whose times are milliseconds."""
    stages = dict(stage.strip().split(";dur=") for stage in server_timing.split(",") if ";dur=" in stage)
    if not stages.keys() >= set(_WORK_STAGES):
        return None
    return sum(float(stages[stage]) for stage in _WORK_STAGES) / 1000


def requests_of(load: Load) -> list[bytes]:
    """Return the bytes of the requests: forms with one picture each."""
    requests = []
    for name in load.pictures:
        body = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="picture.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        body += Path(name).read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {
            "Host": f"127.0.0.1:{load.port}",
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(len(body)),
            **load.headers,
        }
        lines = [f"POST {load.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        requests.append("\r\n".join([*lines, "", ""]).encode() + body)
    return requests


class Caller:
    """Sends requests and counts what comes back."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = requests_of(load)
        self._connections = Connections(load.port)
        self.outcome = Outcome()

    async def send(self, number: int, due: float) -> Answer:
        """Send one request that was due at `due`, and return its answer; one with 504 where none came in time."""
        request = self._requests[number % len(self._requests)]
        try:
            async with asyncio.timeout_at(due + self._load.deadline_seconds):
                return await self._connections.post(request)
        except TimeoutError:
            return Answer(_LATE)
        except (OSError, EOFError, ValueError):
            return Answer(_BROKEN)

    def count(self, answer: Answer, due: float, ends: float) -> None:
        """Count what came just now of a request that was due at `due`, in a load that ends at `ends`."""
        status, now = answer.status, _now()
        self.outcome.sent += 1
        if status in (200, _LATE):
            self.outcome.latencies.append(now - due)
        if status == 200:
            self.outcome.in_time += now <= ends
            if answer.work_seconds is not None:
                self.outcome.beside_work.append(now - due - answer.work_seconds)
        elif status == _LATE:
            self.outcome.late += 1
        elif status in (503, 429):
            self.outcome.refused += 1
        else:
            self.outcome.failed += 1

    async def closed_loop(self, concurrency: int) -> None:
        """Keep `concurrency` requests on their way. Counted is what is answered from the warm-up to the end.

        That is whenever it was sent: a server that answers 32 at once after 2 s would else lose the first 32.
        """
        begins = _now() + self._load.warm_seconds
        ends = begins + self._load.seconds

        async def call(number: int) -> None:
            while (due := _now()) < ends:
                answer = await self.send(number, due)
                if begins <= _now() <= ends:
                    self.count(answer, due, ends)
                number += concurrency
                if _now() - due < 0.001:
                    await asyncio.sleep(0.001)  # a server that is gone must not be hammered

        await asyncio.gather(*(call(number) for number in range(concurrency)))
        self.outcome.seconds = self._load.seconds

    async def open_loop(self, rate: float) -> None:
        """Send at even times. Each request is a task, so that slow answers hold up nobody."""
        begins = _now()
        tasks = []

        async def call(number: int, due: float) -> None:
            self.count(await self.send(number, due), due, begins + self._load.seconds)

        for number in range(int(rate * self._load.seconds)):
            due = begins + number / rate
            if (wait := due - _now()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(call(number, due)))
        self.outcome.seconds = self._load.seconds
        if self._load.recovered_seconds is not None:
            self.outcome.recovery_seconds = await self._recovery(self._load.recovered_seconds)
        await asyncio.gather(*tasks)

    async def _recovery(self, recovered_seconds: float) -> float | None:
        """Return how long after the load a request is answered as fast as without it."""
        ended = _now()
        while _now() - ended < _RECOVERY_LIMIT_SECONDS:
            sent = _now()
            try:
                async with asyncio.timeout(self._load.deadline_seconds):
                    answer = await self._connections.post(self._requests[0])
            except (TimeoutError, OSError, EOFError, ValueError):
                answer = Answer(_BROKEN)
            if answer.status == 200 and _now() - sent <= recovered_seconds:
                return _now() - ended
            await asyncio.sleep(0.05)
        return None

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def run(load: Load) -> Outcome:
    """Send the load, and return what came of it."""
    caller = Caller(load)
    started = time.process_time()
    if load.rate is not None:
        await caller.open_loop(load.rate)
    else:
        await caller.closed_loop(load.concurrency or 1)
    caller.close()
    caller.outcome.cpu_seconds = time.process_time() - started
    return caller.outcome


def main() -> None:
    """Do what standard input says."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, max(files, 8192)), most))
    outcome = uvloop.run(run(Load(**json.load(sys.stdin))))
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
