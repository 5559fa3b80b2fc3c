"""The process that runs in a container, and its end."""

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from inference_service.oip import protocol_pb2 as pb

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


def not_ready(client: httpx.Client, server: Server) -> bool:
    """Tell whether a connection that was kept alive says so: with 503, or by being closed."""
    try:
        return client.get(f"{server.url}/readyz").status_code == 503
    except httpx.TransportError:
        return True


def environment_of(issuer: Issuer, grpc_port: int) -> dict[str, str]:
    return {
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        "INFERENCE_CACHE_MAX_BYTES": "0",
        "INFERENCE_MODE": "eager",
        "INFERENCE_COMPUTE_THREADS": "1",
        "INFERENCE_REQUEST_TIMEOUT_SECONDS": "60",
        "INFERENCE_GRPC_PORT": str(grpc_port),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def health_methods(channel: grpc.Channel) -> tuple[Any, Any]:
    """Return `Check` and `Watch`."""
    coding: dict[str, Any] = {
        "request_serializer": health_pb2.HealthCheckRequest.SerializeToString,
        "response_deserializer": health_pb2.HealthCheckResponse.FromString,
    }
    service = "/grpc.health.v1.Health"
    return channel.unary_unary(f"{service}/Check", **coding), channel.unary_stream(f"{service}/Watch", **coding)


def infer_over_grpc(channel: grpc.Channel, bearer: Mapping[str, str]) -> None:
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    call(pb.ModelInferRequest(), metadata=(("authorization", bearer["Authorization"]),), timeout=30)


def test_at_the_signal_to_end_it_answers_what_is_queued_takes_no_more_and_ends_well(
    issuer: Issuer, bearer: Mapping[str, str]
) -> None:
    grpc_port = free_port()
    environment = {
        **environment_of(issuer, grpc_port),
        "INFERENCE_MAX_BATCH_SIZE": "1",
        "GRACEFUL_TIMEOUT_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }
    health = health_pb2.HealthCheckResponse
    request = head(bearer, "Content-Type: image/png", f"Content-Length: {len(RED)}", "Connection: close") + RED
    callers: list[socket.socket] = []
    with (
        serving("inference_service.main:create_app()", environment) as server,
        httpx.Client() as client,
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
    ):
        server.wait_until_ready()
        check, watch = health_methods(channel)
        watched = watch(health_pb2.HealthCheckRequest(), timeout=120)
        assert next(watched).status == health.SERVING
        try:
            callers += [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(REQUESTS)]
            for caller in callers:
                caller.sendall(request)
            while sum(counted(client, server)) < REQUESTS:
                pass
            in_flight, _ = counted(client, server)
            server.process.terminate()
            while check(health_pb2.HealthCheckRequest(), timeout=30).status == health.SERVING:
                pass
            assert not_ready(client, server)
            with pytest.raises(grpc.RpcError) as refused:
                infer_over_grpc(channel, bearer)
            told = [found.status for found in watched]
            answers = [read_to_end(caller) for caller in callers]
            assert server.process.wait(60) == 0
        finally:
            for caller in callers:
                caller.close()
    assert in_flight > 10
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * REQUESTS
    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "the service is shutting down",
    )
    assert told == [health.NOT_SERVING], "and the watch ends: it would hold up the end"


def test_a_stream_that_stays_open_is_cut_in_time_for_the_process_to_end_by_itself(
    issuer: Issuer, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    grpc_port = free_port()
    environment = {**environment_of(issuer, grpc_port), "GRACEFUL_TIMEOUT_SECONDS": "6", "LOG_LEVEL": "INFO"}
    silent = threading.Event()
    with (
        serving("inference_service.main:create_app()", environment, folder=tmp_path) as server,
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
    ):
        server.wait_until_ready()
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )

        def requests() -> Iterator[pb.ModelInferRequest]:
            yield pb.ModelInferRequest(id="first")
            silent.wait(60)

        answers: Any = stream(requests(), metadata=(("authorization", bearer["Authorization"]),), timeout=60)
        assert next(answers).infer_response.id == "first"
        server.process.terminate()
        _, log = server.process.communicate(timeout=60)
        silent.set()
    assert server.process.returncode == 0
    assert "Finished server process" in log, "gunicorn has not killed it"


def test_a_grpc_port_that_is_taken_is_named_in_a_sentence(issuer: Issuer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {**environment_of(issuer, port), "LOG_LEVEL": "WARNING"}
        with serving("inference_service.main:create_app()", environment, folder=tmp_path) as server:
            _, logged = server.process.communicate(timeout=60)
    assert server.process.returncode == 3
    assert f'"INFERENCE_GRPC_PORT: 127.0.0.1:{port} is in use"' in logged
    assert all(line.startswith("{") for line in logged.splitlines()), "and gRPC says nothing of its own"
    assert "Traceback" not in logged


def test_an_address_that_is_not_of_this_machine_is_named_too(issuer: Issuer, tmp_path: Path) -> None:
    environment = {**environment_of(issuer, 8004), "INFERENCE_GRPC_HOST": "192.0.2.1", "LOG_LEVEL": "WARNING"}
    with serving("inference_service.main:create_app()", environment, folder=tmp_path) as server:
        _, logged = server.process.communicate(timeout=60)
    assert server.process.returncode == 3
    assert "INFERENCE_GRPC_HOST, INFERENCE_GRPC_PORT: cannot listen on 192.0.2.1:8004: Cannot assign" in logged
    assert "Traceback" not in logged


def test_threads_of_a_computation_that_wait_leave_their_cores_to_others(issuer: Issuer, tmp_path: Path) -> None:
    """OpenMP says what it was told when it is loaded."""
    environment = {**environment_of(issuer, free_port()), "OMP_DISPLAY_ENV": "verbose"}
    with serving("inference_service.main:create_app()", environment, folder=tmp_path) as server:
        assert server.process.stderr is not None
        spins = next(line for line in server.process.stderr if "GOMP_SPINCOUNT" in line)
    assert "'0'" in spins
