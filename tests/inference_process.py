"""The inference service as a process of its own, with its built-in model, and a token for it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.issuer import AUDIENCE, ISSUER, serve_issuer
from tests.servers import Server, serving

MODEL = "efficientnet-lite0"
START_SECONDS = 300
"""On a machine that is busy."""


@dataclass(frozen=True)
class InferenceServer:
    """Where a server of the inference protocol is, and what it takes to ask it."""

    url: str
    model: str
    token: str | None = None
    grpc: str | None = None
    """Host and port."""


@contextmanager
def serve_inference() -> Iterator[InferenceServer]:
    """Start the service, and yield when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        grpc_port = free.getsockname()[1]
    with serve_issuer() as issuer:
        environment = {
            "INFERENCE_AUTH_URL": issuer.url,
            "INFERENCE_ISSUER": ISSUER,
            "INFERENCE_AUDIENCE": AUDIENCE,
            "INFERENCE_GRPC_PORT": str(grpc_port),
            "INFERENCE_MODE": "eager",
            "INFERENCE_MODEL_CONTROL": "true",
            "LOG_LEVEL": "WARNING",
        }
        with serving("inference_service.main:create_app()", environment) as server:
            _wait_until_ready(server)
            token = issuer.token(scope="inference:predict inference:admin", exp=int(time.time()) + 3600)
            yield InferenceServer(server.url, MODEL, token, f"127.0.0.1:{grpc_port}")


def _wait_until_ready(server: Server) -> None:
    gives_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < gives_up_at:
        assert server.process.poll() is None, "the inference service has stopped"
        with contextlib.suppress(httpx.TransportError):  # it does not listen yet
            if httpx.get(f"{server.url}/v2/health/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the inference service does not get ready")
