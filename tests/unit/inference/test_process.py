"""The process that runs in a container, and its end."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

import httpx

from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.unit.inference.test_connections import head, read_to_end
from tests.unit.inference.test_predict import RED

REQUESTS = 60


def wait_for_start(port: int) -> None:
    """Wait for a process that has torch to import, on a machine that may be busy."""
    gives_up_at = time.monotonic() + 90
    while time.monotonic() < gives_up_at:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the service is not ready")


def counted(port: int) -> tuple[int, int]:
    """Return how many requests are in flight, and how many were answered."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    in_flight = re.search(r"^inference_requests_in_flight (\S+)", text, re.M)
    answered = re.search(r"^inference_requests_total\{.*outcome=\"ok\"\} (\S+)", text, re.M)
    return int(float(in_flight[1])) if in_flight else 0, int(float(answered[1])) if answered else 0


def test_at_the_signal_to_end_it_answers_what_is_queued_takes_no_more_and_ends_well(
    issuer: Issuer, bearer: Mapping[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        "INFERENCE_CACHE_MAX_BYTES": "0",
        "INFERENCE_MODE": "eager",
        "INFERENCE_MAX_BATCH_SIZE": "1",
        "INFERENCE_COMPUTE_THREADS": "1",
        "INFERENCE_REQUEST_TIMEOUT_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "inference_service", "--port", str(port)]
    request = head(bearer, "Content-Type: image/png", f"Content-Length: {len(RED)}", "Connection: close") + RED
    callers: list[socket.socket] = []
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait_for_start(port)
            callers += [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(REQUESTS)]
            for caller in callers:
                caller.sendall(request)
            while sum(counted(port)) < REQUESTS:
                pass
            in_flight, _ = counted(port)
            process.send_signal(signal.SIGTERM)
            answers = [read_to_end(caller) for caller in callers]
            assert process.wait(30) == 0
        finally:
            process.kill()
            for caller in callers:
                caller.close()
    assert in_flight > 10
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * REQUESTS
