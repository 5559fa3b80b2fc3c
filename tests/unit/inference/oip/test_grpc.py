"""The inference protocol over gRPC: the same answers, and statuses for the same errors."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import inference_service
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from inference_service.lifecycle.rollout import percentile
from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.grpc_server import LEAST_CALLS, most_calls
from inference_service.settings import InferenceSettings

from tests.issuer import Issuer
from tests.unit.inference.networks import Failing, Gate, tiny_source, wide_model
from tests.unit.inference.oip.grpc_caller import Caller, Metadata, calling, raw_request, refused, stream_of
from tests.unit.inference.oip.messages import BLUE, GREEN, RED
from tests.unit.inference.threads import recorded_threads


@pytest.fixture
async def call(settings: InferenceSettings, issuer: Issuer) -> AsyncIterator[Caller]:
    async with calling(settings, issuer, tiny_source()) as caller:
        yield caller


def wanted(name: str, classification: int = 0) -> pb.ModelInferRequest.InferRequestedOutputTensor:
    parameters = {"classification": pb.InferParameter(int64_param=classification)} if classification else {}
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=parameters)


def test_the_generated_code_is_that_of_the_protocol(tmp_path: Path) -> None:
    source = Path(inference_service.__file__).parents[1]
    proto = "inference_service/oip/protocol.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(source), f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", proto], check=True, cwd=source, timeout=60)
    for suffix in (".py", ".pyi"):
        name = f"inference_service/oip/protocol_pb2{suffix}"
        assert (source / name).read_text() == (tmp_path / name).read_text(), f"run: protoc {proto}"


async def test_raw_data_get_raw_data(call: Caller) -> None:
    answer = await call("ModelInfer", raw_request(RED, BLUE, id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "mine")
    assert [(output.name, list(output.shape)) for output in answer.outputs] == [
        ("logits", [2, 3]),
        ("probabilities", [2, 3]),
    ]
    logits = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(2, 3)
    assert logits.argmax(1).tolist() == [0, 2]
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize(
    ("datatype", "shape", "contents"),
    [
        ("BYTES", [1], {"bytes_contents": [GREEN]}),
        ("UINT8", [1, 1, 1, 3], {"uint_contents": [0, 255, 0]}),
        ("FP32", [1, 3, 8, 8], {"fp32_contents": [0.0] * 64 + [1.0] * 64 + [0.0] * 64}),
    ],
)
async def test_contents_get_contents(
    call: Caller, datatype: str, shape: list[int], contents: dict[str, list[Any]]
) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents)
    )
    outputs = [wanted("logits"), wanted("probabilities", 1)]
    answer = await call("ModelInfer", pb.ModelInferRequest(model_name="tiny", inputs=[tensor], outputs=outputs))
    assert np.argmax(answer.outputs[0].contents.fp32_contents) == 1
    [named] = answer.outputs[1].contents.bytes_contents
    assert named.endswith(b":1:green")
    assert not answer.raw_output_contents


async def test_each_message_of_a_stream_counts_against_the_rate_of_its_caller(
    settings: InferenceSettings, issuer: Issuer
) -> None:
    limited = settings.model_copy(update={"requests_per_second": 0.01, "requests_burst": 3})
    async with calling(limited, issuer, tiny_source()) as call:
        await call("ModelInfer", raw_request(RED))
        stream = stream_of(call)(
            iter([raw_request(RED, id=str(number)) for number in range(4)]), metadata=call.metadata
        )
        async with asyncio.timeout(30):
            answers = [answer async for answer in stream]
        await refused(call("ModelInfer", raw_request(RED)), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3"]
    assert [bool(answer.error_message) for answer in answers] == [False, False, True, True]


async def test_calls_beyond_those_that_may_go_on_at_once_are_refused(
    settings: InferenceSettings, issuer: Issuer
) -> None:
    small = settings.model_copy(update={"max_queue_size": 8})
    assert (most_calls(8), most_calls(64), most_calls(500)) == (LEAST_CALLS, 128, 1000)
    async with calling(small, issuer, tiny_source()) as call:
        streams = [stream_of(call)(metadata=call.metadata) for _ in range(LEAST_CALLS)]
        for each in streams:
            await each.write(raw_request(RED))
            assert (await each.read()).error_message == ""
        await refused(call("ServerLive", pb.ServerLiveRequest()), grpc.StatusCode.RESOURCE_EXHAUSTED)
        for each in streams:
            await each.done_writing()
            assert await each.read() is grpc.aio.EOF
        assert (await call("ServerLive", pb.ServerLiveRequest())).live


async def test_large_messages_do_not_hold_up_the_event_loop(settings: InferenceSettings, issuer: Issuer) -> None:
    contents = pb.InferTensorContents(uint_contents=[200] * 270_000)
    pixels = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="UINT8", shape=[1, 300, 300, 3], contents=contents
    )
    async with calling(settings, issuer, tiny_source(), tiny_source(name="wide", load=wide_model)) as call:
        threads = recorded_threads()
        await call("ModelInfer", raw_request(RED))
        assert threads == []
        await call("ModelInfer", pb.ModelInferRequest(model_name="tiny", inputs=[pixels]))
        assert threads == ["read_request"]
        request = raw_request(RED)
        request.model_name = "wide"
        await call("ModelInfer", request)
        assert threads == ["read_request", "write_answer"]
        request.outputs.append(wanted("logits", classification=2000))
        await call("ModelInfer", request)
        assert threads == ["read_request", "write_answer", "make_outputs"]


@pytest.mark.parametrize("name", ["m" * 100_000, "\N{CAT FACE}" * 10_000])
async def test_what_is_wrong_is_told_by_its_status_however_long_the_name_is(call: Caller, name: str) -> None:
    await refused(call("ModelReady", pb.ModelReadyRequest(name=name)), grpc.StatusCode.NOT_FOUND, "no model named")


async def test_a_stream_ends_when_its_token_does(settings: InferenceSettings, issuer: Issuer) -> None:
    async with calling(settings, issuer, tiny_source()) as call, asyncio.timeout(30):
        token = issuer.token(scope="inference:predict", exp=int(time.time()) + 3)
        stream = stream_of(call)(metadata=(("authorization", f"Bearer {token}"),))

        async def ask() -> Any:
            await stream.write(raw_request(RED))
            return await stream.read()

        assert not (await ask()).error_message
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await ask() is not grpc.aio.EOF:  # noqa: ASYNC110 only an answer tells
                await asyncio.sleep(0.05)
        assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "expired" in await stream.details()


async def test_a_stream_is_answered_in_order_and_goes_on_after_an_error(call: Caller) -> None:
    stream = stream_of(call)
    final = {"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}
    requests = [raw_request(RED[:60] if number == 7 else RED, id=str(number), parameters=final) for number in range(20)]

    async def send() -> AsyncIterator[pb.ModelInferRequest]:
        for request in requests:
            yield request

    async with asyncio.timeout(30):
        answers = [answer async for answer in stream(send(), metadata=call.metadata)]
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(20)]
    assert [bool(answer.error_message) for answer in answers] == [number == 7 for number in range(20)]
    assert "item 0" in answers[7].error_message
    assert answers[0].infer_response.parameters["triton_final_response"].bool_param


async def test_the_server_and_its_models_are_described(call: Caller) -> None:
    nobody: Metadata = ()
    assert (await call("ServerLive", pb.ServerLiveRequest(), metadata=nobody)).live
    assert (await call("ServerReady", pb.ServerReadyRequest(), metadata=nobody)).ready
    assert "statistics" in (await call("ServerMetadata", pb.ServerMetadataRequest(), metadata=nobody)).extensions
    assert (await call("ModelReady", pb.ModelReadyRequest(name="tiny"))).ready
    metadata = await call("ModelMetadata", pb.ModelMetadataRequest(name="tiny", version="1"))
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("image", "BYTES", [-1, 1])
    ]
    config = (await call("ModelConfig", pb.ModelConfigRequest(name="tiny"))).config
    assert (config.max_batch_size, config.input[0].data_type, list(config.output[0].dims)) == (64, pb.TYPE_STRING, [3])
    index = await call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    assert [(model.name, model.state) for model in index.models] == [("tiny", "READY")]


async def test_what_models_have_done_is_counted(call: Caller) -> None:
    await call("ModelInfer", raw_request(RED, BLUE))
    for request in (
        pb.ModelStatisticsRequest(),
        pb.ModelStatisticsRequest(name="tiny"),
        pb.ModelStatisticsRequest(name="tiny", version="1"),
    ):
        [found] = (await call("ModelStatistics", request)).model_stats
        assert (found.inference_count, found.inference_stats.success.count) == (2, 1)


async def test_health_is_told_to_everybody(call: Caller) -> None:
    check = call.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    watch = call.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    for service in ("", "inference.GRPCInferenceService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert (await check(request, timeout=30)).status == health_pb2.HealthCheckResponse.SERVING
        told = await anext(aiter(watch(request, timeout=30)))
        assert told.status == health_pb2.HealthCheckResponse.SERVING
    await refused(check(health_pb2.HealthCheckRequest(service="other"), timeout=30), grpc.StatusCode.NOT_FOUND)


async def test_a_token_with_a_scope_is_needed(call: Caller, issuer: Issuer) -> None:
    request = raw_request(RED)
    stranger = (("authorization", f"Bearer {issuer.token(scope='profile')}"),)
    forged = (("authorization", f"Bearer {issuer.token()}x"),)
    other = (("authorization", "Basic eDp5"),)
    for metadata in ((), other):
        await refused(
            call("ModelInfer", request, metadata=metadata),
            grpc.StatusCode.UNAUTHENTICATED,
            "a bearer token is required",
        )
    await refused(call("ModelInfer", request, metadata=forged), grpc.StatusCode.UNAUTHENTICATED, "not valid")
    await refused(
        call("ModelInfer", request, metadata=stranger), grpc.StatusCode.PERMISSION_DENIED, "inference:predict"
    )
    metadata = (("authorization", f"Bearer {issuer.token(scope='inference:predict')}"),)
    await refused(
        call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="tiny"), metadata=metadata),
        grpc.StatusCode.PERMISSION_DENIED,
        "inference:admin",
    )


async def test_errors_have_their_statuses(call: Caller) -> None:
    invalid, unknown = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    await refused(call("ModelInfer", raw_request(RED, RED[:60])), invalid, "item 1: ")
    await refused(call("ModelInfer", raw_request(RED, outputs=[wanted("x")])), invalid, "'x'")
    await refused(call("ModelInfer", pb.ModelInferRequest()), invalid, "names no model")
    await refused(call("ModelInfer", pb.ModelInferRequest(model_name="tiny")), invalid, "expected 1 input")
    bad = raw_request(RED)
    bad.inputs[0].contents.bytes_contents.append(RED)
    await refused(call("ModelInfer", bad), invalid, "contents")
    await refused(call("ModelInfer", raw_request(RED, outputs=[wanted("logits")] * 17)), invalid, "up to 16 inputs")
    bad = raw_request(RED)
    bad.inputs.extend([bad.inputs[0]] * 16)
    await refused(call("ModelInfer", bad), invalid, "up to 16 inputs")
    bad = raw_request(RED)
    bad.raw_input_contents.append(b"")
    await refused(call("ModelInfer", bad), invalid, "raw_input_contents")
    bad = raw_request(RED)
    bad.parameters["priority"].SetInParent()
    await refused(call("ModelInfer", bad), invalid, "priority")
    await refused(call("ModelReady", pb.ModelReadyRequest(name="other")), unknown, "other")
    await refused(call("ModelMetadata", pb.ModelMetadataRequest(name="tiny", version="7")), unknown, "version 7")
    await refused(
        call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="tiny")),
        grpc.StatusCode.PERMISSION_DENIED,
        "INFERENCE_MODEL_CONTROL",
    )


@pytest.mark.parametrize("version", ["0", "one", "-1", "1\n"])
async def test_a_version_that_is_no_number_is_refused_in_the_words_of_rest(call: Caller, version: str) -> None:
    invalid, words = grpc.StatusCode.INVALID_ARGUMENT, "version: String should match pattern '^[1-9]"
    await refused(call("ModelReady", pb.ModelReadyRequest(name="tiny", version=version)), invalid, words)
    await refused(call("ModelInfer", raw_request(RED, model_version=version)), invalid, words)


async def test_a_message_over_the_limit_is_refused(settings: InferenceSettings, issuer: Issuer) -> None:
    async with calling(settings.model_copy(update={"max_infer_bytes": 5000}), issuer, tiny_source()) as call:
        await refused(call("ModelInfer", raw_request(bytes(6000))), grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_an_overload_says_when_to_come_back(settings: InferenceSettings, issuer: Issuer) -> None:
    gate = Gate()
    small = settings.model_copy(update={"max_queue_size": 8})
    async with calling(small, issuer, tiny_source(gate)) as call:
        waiting = call.start("ModelInfer", raw_request(RED), metadata=call.metadata)
        assert await asyncio.to_thread(gate.entered.wait, 30)
        others = call.start("ModelInfer", raw_request(*[RED] * 8), metadata=call.metadata)
        await call.until_queued(8)
        error = await refused(call("ModelInfer", raw_request(RED)), grpc.StatusCode.UNAVAILABLE, "queue is full")
        gate.opened.set()
        assert [(await each).model_name for each in (waiting, others)] == ["tiny", "tiny"]
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000


async def test_the_deadline_of_a_call_holds(settings: InferenceSettings, issuer: Issuer) -> None:
    gate = Gate()
    async with calling(settings, issuer, tiny_source(gate)) as call:
        running = call.start("ModelInfer", raw_request(RED), metadata=call.metadata)
        assert await asyncio.to_thread(gate.entered.wait, 30)
        await refused(call("ModelInfer", raw_request(RED), seconds=0.2), grpc.StatusCode.DEADLINE_EXCEEDED)
        timeout = {"timeout": pb.InferParameter(int64_param=200_000)}
        await refused(
            call("ModelInfer", raw_request(RED, parameters=timeout)),
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "no result within",
        )
        await call.until_queued(0)
        gate.opened.set()
        await running
    assert gate.computed == 2  # the warm-up, and the one that waited


async def test_who_cancels_is_taken_out_of_the_queue(settings: InferenceSettings, issuer: Issuer) -> None:
    gate = Gate()
    async with calling(settings, issuer, tiny_source(gate)) as call:
        running = call.start("ModelInfer", raw_request(RED), metadata=call.metadata)
        assert await asyncio.to_thread(gate.entered.wait, 30)
        leaving = call.start("ModelInfer", raw_request(RED, GREEN), metadata=call.metadata)
        await call.until_queued(2)
        leaving.cancel()
        await call.until_queued(0)
        gate.opened.set()
        await running
        measured = await call.measured()
    assert gate.computed == 2
    assert measured == {("ModelInfer", "OK"): 1, ("ModelInfer", "CANCELLED"): 1}


async def test_calls_that_go_on_are_answered_when_the_service_ends(settings: InferenceSettings, issuer: Issuer) -> None:
    gate = Gate()

    async def open_when_closed(call: Caller) -> None:
        """Let the network go on as soon as no more calls are taken."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await call("ServerLive", pb.ServerLiveRequest(), seconds=1)
        gate.opened.set()

    async with AsyncExitStack() as channels:
        async with calling(settings, issuer, tiny_source(gate)) as call:
            channel = await channels.enter_async_context(grpc.aio.insecure_channel(call.target))
            other = Caller(channel, call.http, call.metadata, call.target)
            running = other.start("ModelInfer", raw_request(RED), metadata=call.metadata)
            assert await asyncio.to_thread(gate.entered.wait, 30)
            closed = asyncio.create_task(open_when_closed(other))
        await asyncio.wait_for(closed, 30)
        assert (await running).model_name == "tiny"


async def test_what_fails_inside_is_not_told(settings: InferenceSettings, issuer: Issuer) -> None:
    async with calling(settings, issuer, tiny_source(Failing())) as call:
        error = await refused(call("ModelInfer", raw_request(RED)), grpc.StatusCode.INTERNAL, "the model failed")
    assert "secret" not in (error.details() or "")


async def test_a_canary_answers_the_same_callers_as_over_rest(settings: InferenceSettings, issuer: Issuer) -> None:
    few, many = (
        next(name for number in range(100) if (percentile("tiny", name := f"subject-{number}") < 50) is early)
        for early in (True, False)
    )
    async with calling(settings, issuer, tiny_source(), tiny_source(version="2", weight=50)) as call:
        answers = []
        for subject in (few, many, few):
            token = (("authorization", f"Bearer {issuer.token(subject=subject, scope='inference:predict')}"),)
            stream = stream_of(call)
            alone = await call("ModelInfer", raw_request(RED), metadata=token)
            named = await call("ModelInfer", raw_request(RED, model_version="1"), metadata=token)
            [streamed] = [answer async for answer in stream(iter([raw_request(RED)]), metadata=token)]
            answers.append((alone.model_version, streamed.infer_response.model_version, named.model_version))
    assert answers == [("2", "2", "1"), ("1", "1", "1"), ("2", "2", "1")]
