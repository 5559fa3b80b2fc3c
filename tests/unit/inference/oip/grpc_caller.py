"""A service that also answers over gRPC, and one who calls it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from inference_service.model import ModelSource
from inference_service.oip import protocol_pb2 as pb
from inference_service.settings import InferenceSettings
from prometheus_client.parser import text_string_to_metric_families

from tests.issuer import Issuer
from tests.unit.inference.conftest import serving
from tests.unit.inference.oip.messages import binary_elements

Metadata = tuple[tuple[str, str], ...]


class Caller:
    """Calls the methods by their names."""

    def __init__(self, channel: grpc.aio.Channel, http: httpx.AsyncClient, metadata: Metadata, target: str) -> None:
        self.channel = channel
        self.http = http
        self.metadata = metadata
        self.target = target

    async def __call__(
        self, method: str, request: Any, *, seconds: float | None = 30, metadata: Metadata | None = None
    ) -> Any:
        sent = self.metadata if metadata is None else metadata
        return await self.start(method, request, seconds=seconds, metadata=sent)

    def start(self, method: str, request: Any, *, seconds: float | None = 30, metadata: Metadata) -> Any:
        response = getattr(pb, type(request).__name__.replace("Request", "Response"))
        call = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=seconds, metadata=metadata)

    async def until_queued(self, rows: int) -> None:
        """Wait until so many pictures are in the queue."""
        async with asyncio.timeout(30):
            while f"inference_queue_size {rows}.0" not in (await self.http.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def stream(self, requests: Iterator[Message] | AsyncIterator[Message], *, seconds: float = 30) -> Any:
        """Return the answers to some requests in one stream."""
        return stream_of(self)(requests, timeout=seconds, metadata=self.metadata)

    async def measured(self) -> dict[tuple[str, str], float]:
        """Return how many calls are over, by method and status."""
        metrics = (await self.http.get("/metrics")).text
        return {
            (sample.labels["rpc_method"], sample.labels["rpc_response_status_code"]): sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "rpc_server_call_duration_seconds_count"
        }


@asynccontextmanager
async def calling(settings: InferenceSettings, issuer: Issuer, *sources: ModelSource) -> AsyncIterator[Caller]:
    """Yield a caller of a service that also answers over gRPC."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = (("authorization", f"Bearer {issuer.token(scope='inference:predict inference:admin')}"),)
    async with (
        serving(settings.model_copy(update={"grpc_port": port}), *sources) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Caller(channel, http, token, f"127.0.0.1:{port}")


def raw_request(*files: bytes, **fields: Any) -> pb.ModelInferRequest:
    """Return a request about files, their data raw."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[len(files), 1])
    return pb.ModelInferRequest(
        model_name="tiny", inputs=[tensor], raw_input_contents=[binary_elements(*files)], **fields
    )


async def refused(answer: Any, code: grpc.StatusCode, *words: str) -> grpc.aio.AioRpcError:
    """Check how a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    assert caught.value.code() == code, caught.value
    for word in words:
        assert word in (caught.value.details() or "")
    return caught.value


def stream_of(call: Caller) -> Any:
    """Return the method that answers a stream of requests."""
    return call.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
