"""What happens on the wire: the real server, and callers who send too much or leave."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import httpx
import pytest
import uvicorn
from inference_service.main import create_app
from inference_service.model import ModelSource
from inference_service.settings import InferenceSettings
from PIL import Image

from tests.unit.inference.networks import Gate, tiny_model, tiny_source
from tests.unit.inference.pictures import encoded

RED = encoded(Image.new("RGB", (20, 20), (250, 10, 5)), "PNG")
MIB = 2**20


@contextlib.contextmanager
def served(settings: InferenceSettings, source: ModelSource, http: str = "auto") -> Iterator[int]:
    """Run the service on a free port; return the port."""
    config = uvicorn.Config(create_app(settings, sources=[source]), http=http, ws="none", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until_ready(listener.getsockname()[1])
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()


def wait_until_ready(port: int) -> None:
    for _ in range(3000):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
    raise TimeoutError("the service is not ready")


def head(bearer: Mapping[str, str], *headers: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: localhost", f"Authorization: {bearer['Authorization']}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def read_to_end(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


@pytest.fixture(params=["h11", "httptools"])
def port(request: pytest.FixtureRequest, settings: InferenceSettings) -> Iterator[int]:
    with served(settings, tiny_source(), http=request.param) as port:
        yield port


def test_a_declared_length_over_the_limit_is_413_before_any_of_it(port: int, bearer: Mapping[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head(bearer, "Content-Type: image/png", f"Content-Length: {2**40}"))
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()


def test_who_asks_before_sending_is_told_not_to(port: int, bearer: Mapping[str, str]) -> None:
    length = f"Content-Length: {11 * MIB}"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head(bearer, "Content-Type: image/png", length, "Expect: 100-continue"))
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=b"])
def test_an_endless_body_is_413_and_the_rest_is_not_read(
    port: int, bearer: Mapping[str, str], content_type: str
) -> None:
    sent = 0
    chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head(bearer, f"Content-Type: {content_type}", "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n" % len(start) + start + b"\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 100 * MIB:
                connection.sendall(chunk)
                sent += MIB
        answer = read_to_end(connection)
    # The limit, and what the kernel holds between the two.
    assert 10 * MIB <= sent < 30 * MIB
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_an_ordinary_client_gets_the_413_too(port: int, bearer: Mapping[str, str]) -> None:
    response = httpx.post(
        f"http://127.0.0.1:{port}/predict",
        content=bytes(40 * MIB),
        headers={**bearer, "Content-Type": "image/png"},
        trust_env=False,
    )
    assert response.status_code == 413
    assert response.json()["type"] == "urn:pinhole:problem:content-too-large"


def test_of_a_hundred_who_wait_and_99_who_leave_one_is_computed(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    request = head(bearer, "Content-Type: image/png", f"Content-Length: {len(RED)}") + RED
    roomy = settings.model_copy(update={"max_queue_size": 100})
    with served(roomy, tiny_source(load=lambda: tiny_model(gate))) as port:
        address = ("127.0.0.1", port)
        with (
            socket.create_connection(address, timeout=30) as first,
            socket.create_connection(address, timeout=30) as patient,
        ):
            first.sendall(request)
            assert gate.entered.wait(30)
            patient.sendall(request)
            wait_for_metric(port, "inference_queue_size 1.0")
            leaving = [socket.create_connection(address, timeout=30) for _ in range(99)]
            for connection in leaving:
                connection.sendall(request)
            wait_for_metric(port, "inference_queue_size 100.0")
            for connection in leaving:
                connection.close()
            wait_for_metric(port, 'inference_requests_total{model="tiny",outcome="cancelled"} 99.0')
            gate.opened.set()
            assert patient.recv(65536).startswith(b"HTTP/1.1 200 ")
            wait_for_metric(port, "inference_batch_size_sum 2.0")  # the first, and the one who waited


def test_who_leaves_in_the_middle_of_the_body_is_no_error_of_ours(
    settings: InferenceSettings, bearer: Mapping[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with served(settings, tiny_source()) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head(bearer, "Content-Type: image/png", "Content-Length: 1000") + RED[:20])
            wait_for_metric(port, "http_server_active_requests 2.0")
        wait_for_metric(port, 'http_response_status_code="499",http_route="/predict"')
    assert "Traceback" not in "".join(capfd.readouterr())


def wait_for_metric(port: int, line: str) -> None:
    text = ""
    for _ in range(3000):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        if line in text:
            return
    raise TimeoutError(f"{line} is not in\n{text}")
