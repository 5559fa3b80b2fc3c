"""The methods of `inference.GRPCInferenceService`: what they answer, and who may ask."""

# ruff: noqa: N802 the methods are named as in the protocol

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from importlib.metadata import version

import grpc
from opentelemetry.trace import Tracer
from servicekit.auth import Principal
from servicekit.health import Readiness
from servicekit.problem import Problem
from servicekit.recording import warn_if_slow

from inference_service.dependencies import VERSION_PATTERN, State
from inference_service.errors import DeadlineExceeded
from inference_service.executors import run_by_size
from inference_service.lifecycle.registry import ServedModel
from inference_service.lifecycle.rollout import choose
from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.errors import BadRequest, message
from inference_service.oip.grpc_calls import call_stages, code_of, write
from inference_service.oip.grpc_messages import filled, read_request, write_answer
from inference_service.oip.inference import infer
from inference_service.oip.metadata import (
    loaded_statistics,
    model_config,
    model_metadata,
    named_statistics,
    repository_index,
    server_metadata,
)
from inference_service.receiving import MAX_TIMEOUT_SECONDS
from inference_service.timings import StageTimings

_FINAL_ASKED, _FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""Whether a client of a stream wants to be told which answer is the last to a request: here each one is."""

caller_subject: ContextVar[str] = ContextVar("caller_subject")
"""Who calls, of a method that asks for a token: a call goes on in the context in which it was let in."""

verify_again: ContextVar[Callable[[], Awaitable[Principal]]] = ContextVar("verify_again")
"""Asks whether the token of the call is still good: a stream may stay open for longer."""

Context = grpc.aio.ServicerContext[object, object]


class InferenceService:
    """Answers as the paths of REST do; each method is named as in the protocol."""

    def __init__(self, state: State, readiness: Readiness, stuck: Callable[[], str | None], tracer: Tracer) -> None:
        self._state = state
        self._tracer = tracer
        self._readiness = readiness
        self._stuck = stuck

    async def ServerLive(self, _request: pb.ServerLiveRequest, _context: Context) -> pb.ServerLiveResponse:
        """Tell whether the process runs."""
        return pb.ServerLiveResponse(live=not self._stuck())

    async def ServerReady(self, _request: pb.ServerReadyRequest, _context: Context) -> pb.ServerReadyResponse:
        """Tell whether all models are loaded and answer."""
        return pb.ServerReadyResponse(ready=not self._readiness.missing)

    async def ServerMetadata(self, _request: pb.ServerMetadataRequest, _context: Context) -> pb.ServerMetadataResponse:
        """Name the server and its extensions."""
        return filled(pb.ServerMetadataResponse(), server_metadata(version("pinhole-inference")))

    async def ModelReady(self, request: pb.ModelReadyRequest, _context: Context) -> pb.ModelReadyResponse:
        """Tell whether a model answers."""
        return pb.ModelReadyResponse(ready=self._served(request.name, request.version).model is not None)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, _context: Context) -> pb.ModelMetadataResponse:
        """Describe the inputs and the outputs of a model."""
        served = self._served(request.name, request.version)
        metadata = model_metadata(served, self._state["models"].versions(request.name))
        return filled(pb.ModelMetadataResponse(), metadata)

    async def ModelConfig(self, request: pb.ModelConfigRequest, _context: Context) -> pb.ModelConfigResponse:
        """Describe how a model is served."""
        config = model_config(self._served(request.name, request.version), self._state["settings"])
        return pb.ModelConfigResponse(config=filled(pb.ModelConfig(), config))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, _context: Context
    ) -> pb.ModelStatisticsResponse:
        """Say what models have done since they were loaded."""
        models, book = self._state["models"], self._state["statistics"]
        if not request.name and not request.version:
            return filled(pb.ModelStatisticsResponse(), loaded_statistics(models, book))
        served = self._served(request.name, request.version)
        versions = [served] if request.version else models.versions(request.name)
        return filled(pb.ModelStatisticsResponse(), named_statistics(versions, book))

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, _context: Context
    ) -> pb.RepositoryIndexResponse:
        """List every version of every model."""
        entries = repository_index(self._state["models"], only_ready=request.ready)
        return pb.RepositoryIndexResponse(
            models=[filled(pb.RepositoryIndexResponse.ModelIndex(), entry) for entry in entries]
        )

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, _context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it again."""
        await self._state["control"].load(request.model_name, request.parameters)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, _context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Let go of every version of a model."""
        await self._state["control"].unload(request.model_name, request.parameters)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Ask a model about one picture or several."""
        return await self._infer(request, self._seconds_left(context))

    async def ModelStreamInfer(self, requests: AsyncIterator[pb.ModelInferRequest], context: Context) -> None:
        """Answer each request of a stream, in their order; as many as fill a batch are on their way at once."""
        answers: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(
            self._state["settings"].max_batch_size
        )

        async def read() -> None:
            async for request in requests:
                await verify_again.get()()
                await answers.put(group.create_task(self._answer_in_stream(request, context)))
            await answers.put(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while (answer := await answers.get()) is not None:
                await write(context, await answer)

    async def _answer_in_stream(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelStreamInferResponse:
        """Return the answer or the error: one bad request does not end the stream."""
        started, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            await self._state["rates"].take(caller_subject.get())
            answer = await self._infer(request, self._seconds_left(context))
        except Problem as problem:
            code = code_of(problem)
            return pb.ModelStreamInferResponse(
                error_message=message(problem), infer_response=pb.ModelInferResponse(id=request.id)
            )
        finally:
            seconds, limit = time.perf_counter() - started, self._state["settings"].slow_request_seconds
            warn_if_slow(seconds, limit, call_stages.get(), method="ModelStreamInfer", status=code.name)
        if request.parameters[_FINAL_ASKED].bool_param:
            answer.parameters[_FINAL].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=answer)

    async def _infer(self, message: pb.ModelInferRequest, timeout_seconds: float | None) -> pb.ModelInferResponse:
        state = self._state
        served = self._served(message.model_name, message.model_version)
        state["pipeline"].check(served, timeout_seconds=timeout_seconds)
        with StageTimings(self._tracer) as timings, state["bodies"].hold(0) as count:
            call_stages.set(timings.seconds)
            size = message.ByteSize()
            count(size)
            answer = await infer(
                await run_by_size(size, read_request, message),
                served,
                state["pipeline"],
                max_items=state["settings"].max_queue_size,
                timeout_seconds=timeout_seconds,
                timings=timings,
            )
            raw = bool(message.raw_input_contents)
            return await run_by_size(answer.size_bytes, write_answer, answer, raw=raw)

    def _served(self, name: str, version: str) -> ServedModel:
        if not name:
            raise BadRequest("the request names no model")
        if version and not re.fullmatch(VERSION_PATTERN, version):
            raise BadRequest(f"version: String should match pattern '{VERSION_PATTERN}'")
        return choose(self._state["models"], caller_subject.get(), name, version or None)

    def _seconds_left(self, context: Context) -> float | None:
        """Return the time to the deadline of the call, where it has one."""
        left = context.time_remaining()
        if left is None:
            return None
        if left <= 0:
            raise DeadlineExceeded("the deadline of the call has passed")
        return min(left, MAX_TIMEOUT_SECONDS)
