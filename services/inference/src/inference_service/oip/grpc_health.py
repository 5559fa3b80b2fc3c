"""The health service of gRPC (`grpc.health.v1.Health`), which Kubernetes and load balancers ask."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from servicekit.health import Readiness

SERVICE = "grpc.health.v1.Health"
WATCH_SECONDS = 1.0
"""How often who watches is told, where something has changed."""

_KNOWN = {"", "inference.GRPCInferenceService"}


def health_handler(readiness: Readiness) -> grpc.GenericRpcHandler:
    """Return the service; it is open to everybody."""

    def status() -> health_pb2.HealthCheckResponse:
        response = health_pb2.HealthCheckResponse
        return response(status=response.NOT_SERVING if readiness.missing else response.SERVING)

    async def check(request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if request.service not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return status()

    async def watch(
        request: health_pb2.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        told = None
        while True:
            now = (
                status()
                if request.service in _KNOWN
                else health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            )
            if now != told:
                told = now
                yield now
            if readiness.is_ending:
                return  # the end waits for calls that go on
            await asyncio.sleep(WATCH_SECONDS)

    serializers: dict[str, Any] = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, **serializers),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, **serializers),
        },
    )
