"""The process that runs in a container, and its end."""

import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.servers import Server, serving
from tests.unit.inference.test_connections import head, read_to_end
from tests.unit.inference.test_predict import RED

REQUESTS = 60


def counted(client: httpx.Client, server: Server) -> tuple[int, int]:
    """Return how many requests are in flight, and how many were answered."""
    text = client.get(f"{server.url}/metrics").text
    in_flight = re.search(r"^inference_requests_in_flight (\S+)", text, re.M)
    answered = re.search(r"^inference_requests_total\{.*outcome=\"ok\"\} (\S+)", text, re.M)
    return int(float(in_flight[1])) if in_flight else 0, int(float(answered[1])) if answered else 0


def told(issuer: Issuer) -> dict[str, str]:
    """Return the environment of a process that is given time to end."""
    return {
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        "INFERENCE_CACHE_MAX_BYTES": "0",
        "GRACEFUL_TIMEOUT_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }


def test_at_the_signal_to_end_it_answers_what_is_queued_takes_no_more_and_ends_well(
    issuer: Issuer, bearer: Mapping[str, str]
) -> None:
    environment = {
        **told(issuer),
        "INFERENCE_MODE": "eager",
        "INFERENCE_MAX_BATCH_SIZE": "1",
        "INFERENCE_COMPUTE_THREADS": "1",
        "INFERENCE_REQUEST_TIMEOUT_SECONDS": "60",
    }
    request = head(bearer, "Content-Type: image/png", f"Content-Length: {len(RED)}", "Connection: close") + RED
    callers: list[socket.socket] = []
    with serving("inference_service.main:create_app()", environment) as server, httpx.Client() as client:
        server.wait_until_ready()
        try:
            callers += [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(REQUESTS)]
            for caller in callers:
                caller.sendall(request)
            while sum(counted(client, server)) < REQUESTS:
                pass
            in_flight, _ = counted(client, server)
            server.process.terminate()
            answers = [read_to_end(caller) for caller in callers]
            assert server.process.wait(60) == 0
        finally:
            for caller in callers:
                caller.close()
    assert in_flight > 10
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * REQUESTS


def test_threads_of_a_computation_that_wait_leave_their_cores_to_others(issuer: Issuer, tmp_path: Path) -> None:
    """OpenMP says what it was told when it is loaded."""
    environment = {**told(issuer), "OMP_DISPLAY_ENV": "verbose"}
    with serving("inference_service.main:create_app()", environment, folder=tmp_path) as server:
        assert server.process.stderr is not None
        spins = next(line for line in server.process.stderr if "GOMP_SPINCOUNT" in line)
    assert "'0'" in spins


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["auto", "compile"])
def test_at_the_signal_to_end_a_compilation_is_given_up(issuer: Issuer, tmp_path: Path, mode: str) -> None:
    """The first is served meanwhile, the second is loading."""
    environment = {**told(issuer), "INFERENCE_MODE": mode, "INFERENCE_MODES_DIR": str(tmp_path)}
    with serving("inference_service.main:create_app()", environment) as server:
        compiling = until_one_compiles(tmp_path)
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert not list(tmp_path.iterdir()), "it was waited for"
    assert not [process for process in processes() if session_of(process) == compiling]


def until_one_compiles(modes_dir: Path) -> int:
    """Return the session of the process that compiles into a folder."""
    gives_up_at = time.monotonic() + 200
    while time.monotonic() < gives_up_at:
        for process in processes():
            if str(modes_dir) in read(process / "cmdline"):
                return session_of(process)
        time.sleep(0.05)
    raise TimeoutError("nothing is compiled")


def processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def session_of(process: Path) -> int:
    """Return the session of a process, 0 where it has ended."""
    fields = read(process / "stat").rpartition(")")[2].split()
    return int(fields[3]) if fields and fields[0] != "Z" else 0


def read(path: Path) -> str:
    """Return what a file of a process says, nothing where the process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
