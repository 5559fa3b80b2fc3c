"""What is recorded of calls over gRPC: metrics, the log and traces."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.grpc_calls import PROBES
from inference_service.settings import InferenceSettings
from servicekit.logs import configure_logs

from tests.eventually import eventually
from tests.issuer import Issuer
from tests.otlp import receiving
from tests.unit.inference.networks import tiny_source, wide_model
from tests.unit.inference.oip.grpc_caller import Caller, calling, raw_request, refused, stream_of
from tests.unit.inference.oip.messages import BLUE, RED

TRACE, PARENT = "c" * 32, "d" * 16
TRACEPARENT = ("traceparent", f"00-{TRACE}-{PARENT}-01")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
async def call(settings: InferenceSettings, issuer: Issuer) -> AsyncIterator[Caller]:
    async with calling(settings, issuer, tiny_source()) as caller:
        yield caller


@pytest.fixture
def start_logs(capsys: pytest.CaptureFixture[str], restored_logging: None) -> Callable[[], Lines]:
    """Return what a test calls to log as JSON; that returns a function which gives the new lines."""

    def start() -> Lines:
        configure_logs("inference", level="INFO", format="json")
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return start


async def test_refused_calls_are_measured_and_logged(
    settings: InferenceSettings, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    logged = start_logs()
    limited = settings.model_copy(update={"requests_per_second": 0.01, "requests_burst": 1})
    stranger = (("authorization", f"Bearer {issuer.token(subject='eve', scope='profile')}"),)
    async with calling(limited, issuer, tiny_source()) as call:
        await refused(call("ModelInfer", raw_request(RED), metadata=()), grpc.StatusCode.UNAUTHENTICATED)
        await refused(call("ModelInfer", raw_request(RED), metadata=stranger), grpc.StatusCode.PERMISSION_DENIED)
        await call("ModelInfer", raw_request(RED))
        await refused(call("ModelInfer", raw_request(RED)), grpc.StatusCode.RESOURCE_EXHAUSTED)
        measured = await call.measured()
    codes = ("UNAUTHENTICATED", "PERMISSION_DENIED", "OK", "RESOURCE_EXHAUSTED")
    assert measured == {("ModelInfer", code): 1 for code in codes}
    lines = [line for line in logged() if line["event"] == "call"]
    assert [(line["method"], line["status"]) for line in lines] == [("ModelInfer", code) for code in codes]
    assert [line.get("actor") for line in lines][:2] == [None, "eve"]


async def test_methods_that_callers_make_up_are_one_label(call: Caller) -> None:
    for method in ("ModelGuess", "ModelGuess2"):
        await refused(call(method, pb.ModelReadyRequest(), metadata=()), grpc.StatusCode.UNAUTHENTICATED)
    assert await call.measured() == {("_OTHER", "UNAUTHENTICATED"): 2}


@pytest.mark.parametrize("seconds", [0.2, 1.001])  # what is sent of the second is 1.01
async def test_a_call_whose_deadline_passes_is_not_one_whose_caller_has_left(call: Caller, seconds: float) -> None:
    ended = asyncio.Event()

    async def nothing() -> AsyncIterator[pb.ModelInferRequest]:
        await ended.wait()
        yield raw_request(RED)

    async def is_over() -> bool:
        return bool(await call.measured())

    await refused(anext(aiter(call.stream(nothing(), seconds=seconds))), grpc.StatusCode.DEADLINE_EXCEEDED)
    await eventually(is_over)
    ended.set()
    assert await call.measured() == {("ModelStreamInfer", "DEADLINE_EXCEEDED"): 1}


async def test_who_leaves_a_stream_without_reading_its_answers_has_cancelled_it(
    settings: InferenceSettings, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    logged = start_logs()
    async with calling(settings, issuer, tiny_source(load=wide_model)) as call:
        stream = stream_of(call)(metadata=call.metadata)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):  # the server waits for its answers to be read, and reads no more
                while True:
                    await stream.write(raw_request(RED))
        stream.cancel()

        async def is_over() -> bool:
            return bool(await call.measured())

        await eventually(is_over)
        assert await call.measured() == {("ModelStreamInfer", "CANCELLED"): 1}
    assert not [line for line in logged() if line["level"] == "error"]


async def test_slow_requests_are_warnings_with_their_stages(
    settings: InferenceSettings, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    logged = start_logs()
    impatient = settings.model_copy(update={"slow_request_seconds": 1e-9})
    async with calling(impatient, issuer, tiny_source()) as call:
        await call("ModelInfer", raw_request(RED))
        await call("ModelMetadata", pb.ModelMetadataRequest(name="tiny"))
        answers = [answer async for answer in call.stream(iter([raw_request(RED), raw_request(RED[:60])]))]
        await call("ServerLive", pb.ServerLiveRequest())
    assert len(answers) == 2
    slow = [line for line in logged() if line["event"] == "slow_request" and "route" not in line]
    assert {line["level"] for line in slow} == {"warning"}
    found = sorted((line["method"], line["status"], sorted(line["stages_seconds"])) for line in slow)
    stages = ["compute", "decode", "postprocess", "preprocess", "queue"]
    assert found == [
        ("ModelInfer", "OK", stages),
        ("ModelMetadata", "OK", []),
        ("ModelStreamInfer", "INVALID_ARGUMENT", ["decode", "queue"]),
        ("ModelStreamInfer", "OK", stages),
    ]


async def test_fast_calls_are_no_warnings(call: Caller, start_logs: Callable[[], Lines]) -> None:
    logged = start_logs()
    await call("ModelMetadata", pb.ModelMetadataRequest(name="tiny"))
    assert [line["event"] for line in logged() if line["event"] in {"call", "slow_request"}] == ["call"]


async def test_a_call_is_one_tree_of_spans(
    settings: InferenceSettings, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    logged = start_logs()
    with receiving() as receiver:
        traced = settings.model_copy(update={"otlp_endpoint": receiver.http_url})
        async with calling(traced, issuer, tiny_source()) as call:
            await call("ModelInfer", raw_request(RED, BLUE), metadata=(*call.metadata, TRACEPARENT))
            openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
            metrics = (await call.http.get("/metrics", headers=openmetrics)).text
    spans = [span for span in receiver.spans() if span.trace_id == TRACE]
    [rpc] = [span for span in spans if span.parent_id == PARENT]
    assert rpc.name == "inference.GRPCInferenceService/ModelInfer"
    assert rpc.attributes["rpc.response.status_code"] == "OK"
    below = [span for span in spans if span is not rpc]
    assert {span.parent_id for span in below} == {rpc.span_id}
    names = {span.name for span in below}
    assert names == {"authenticate", "batch", "compute", "decode", "postprocess", "preprocess", "queue"}
    batches = {span.span_id for span in below if span.name == "batch"}
    assert {link for span in below if span.name == "compute" for link in span.links} == batches
    assert {span.links for span in below if span.name == "batch"} == {(rpc.span_id,)}
    exemplars = [line for line in metrics.splitlines() if f'trace_id="{TRACE}"' in line]
    assert [line for line in exemplars if line.startswith("rpc_server_call_duration_seconds_bucket")]
    assert [line["event"] for line in logged() if line.get("span_id") == rpc.span_id] == ["call"]


async def test_a_refused_call_is_traced(settings: InferenceSettings, issuer: Issuer) -> None:
    with receiving() as receiver:
        traced = settings.model_copy(update={"otlp_endpoint": receiver.grpc_url, "otlp_protocol": "grpc"})
        async with calling(traced, issuer, tiny_source()) as call:
            await refused(
                call("ModelInfer", raw_request(RED), metadata=(TRACEPARENT,)), grpc.StatusCode.UNAUTHENTICATED
            )
    [rpc] = [span for span in receiver.spans() if span.trace_id == TRACE]
    assert rpc.attributes["rpc.system.name"] == "grpc"
    assert rpc.attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert not rpc.is_error, "what a caller did wrong is no failure of the service, as with 4xx"


async def test_a_call_that_the_service_has_failed_is_an_error_in_its_trace(
    settings: InferenceSettings, issuer: Issuer
) -> None:
    ended = asyncio.Event()

    async def nothing() -> AsyncIterator[pb.ModelInferRequest]:
        await ended.wait()
        yield raw_request(RED)

    with receiving() as receiver:
        traced = settings.model_copy(update={"otlp_endpoint": receiver.http_url})
        async with calling(traced, issuer, tiny_source()) as call:
            await refused(anext(aiter(call.stream(nothing(), seconds=0.2))), grpc.StatusCode.DEADLINE_EXCEEDED)
            ended.set()
    [rpc] = [span for span in receiver.spans() if "rpc.method" in span.attributes]
    assert rpc.is_error
    assert rpc.attributes["error.type"] == rpc.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_a_call_whose_token_is_refused_says_how_long_that_took(
    settings: InferenceSettings, issuer: Issuer
) -> None:
    metadata = (("authorization", "Bearer nonsense"), TRACEPARENT)
    with receiving() as receiver:
        traced = settings.model_copy(update={"otlp_endpoint": receiver.http_url})
        async with calling(traced, issuer, tiny_source()) as call:
            await refused(call("ModelInfer", raw_request(RED), metadata=metadata), grpc.StatusCode.UNAUTHENTICATED)
    spans = {span.name: span for span in receiver.spans() if span.trace_id == TRACE}
    assert set(spans) == {"authenticate", "inference.GRPCInferenceService/ModelInfer"}
    assert spans["authenticate"].parent_id == spans["inference.GRPCInferenceService/ModelInfer"].span_id


async def test_probes_are_measured_but_neither_traced_nor_logged(
    settings: InferenceSettings, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    logged = start_logs()
    with receiving() as receiver:
        traced = settings.model_copy(update={"otlp_endpoint": receiver.http_url})
        async with calling(traced, issuer, tiny_source()) as call:
            for request in (pb.ServerLiveRequest(), pb.ServerReadyRequest(), pb.ModelReadyRequest(name="tiny")):
                await call(type(request).__name__.removesuffix("Request"), request)
            await call("ServerMetadata", pb.ServerMetadataRequest())
            measured = await call.measured()
    assert measured == {(method, "OK"): 1 for method in (*PROBES, "ServerMetadata")}
    assert [span.name for span in receiver.spans() if "rpc.method" in span.attributes] == [
        "inference.GRPCInferenceService/ServerMetadata"
    ]
    assert [line["method"] for line in logged() if line["event"] == "call"] == ["ServerMetadata"]
