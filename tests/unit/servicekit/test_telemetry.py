"""What is traced, and where it is sent."""

import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from redis.asyncio import Redis
from servicekit.app import build_app
from servicekit.auth import Principal, Verifications, require_scope
from servicekit.database import open_database
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.logs import configure_logs, get_logger
from servicekit.settings import ResourceSettings
from servicekit.telemetry import Telemetry
from servicekit.tokens import TokenVerifier
from sqlalchemy import text

from tests.asgi import running
from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.otlp import ReceivedSpan, Receiver, receiving
from tests.redis_server import serve_redis


class Settings(ResourceSettings):
    """A service that asks another one, and its database."""

    service = "sample"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def sample_app(settings: Settings, folder: Path, issuer: Issuer, registry: CollectorRegistry | None = None) -> FastAPI:
    registry = registry or CollectorRegistry()
    telemetry = Telemetry(settings, version="1", registry=registry)
    readiness = Readiness(KEYS_NEED)
    router = APIRouter()

    @router.get("/items")
    async def items(request: Request, caller: Annotated[Principal, require_scope("profile")]) -> str:
        await request.state.http.get(f"{issuer.url}/.well-known/jwks.json")
        async with request.state.database.begin() as session:
            await session.execute(text("SELECT :name"), {"name": caller.subject})
        get_logger("sample").info("items_read")
        return caller.subject

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            telemetry.watched(httpx.AsyncClient()) as http,
            open_database(f"sqlite+aiosqlite:///{folder}/sample.db") as database,
            open_jwks(f"{issuer.url}/.well-known/jwks.json", http, readiness, refresh_seconds=60) as keys,
        ):
            telemetry.watch_database(database.engine)
            verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
            yield {"http": http, "database": database, "verifier": verifier, "verifications": Verifications(registry)}

    return build_app(
        settings,
        title="Sample",
        description="",
        version="1",
        lifespan=lifespan,
        routers=[router],
        readiness=readiness,
        registry=registry,
        telemetry=telemetry,
    )


def named(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    (span,) = [span for span in spans if span.name == name]
    return span


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_request_is_one_tree_of_spans(
    receiver: Receiver, issuer: Issuer, tmp_path: Path, protocol: str
) -> None:
    url = receiver.grpc_url if protocol == "grpc" else receiver.http_url
    settings = Settings.model_validate({"otlp_endpoint": url, "otlp_protocol": protocol})
    parent = "00-11111111111111111111111111111111-2222222222222222-01"
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        headers = {**issuer.bearer(subject="ada", scope="profile"), "traceparent": parent}
        assert (await client.get("/items", headers=headers)).status_code == 200
    spans = [span for span in receiver.spans() if span.trace_id == "1" * 32]
    server = named(spans, "GET /items")
    assert server.parent_id == "2" * 16
    assert server.attributes["http.response.status_code"] == 200
    assert {span.parent_id for span in spans if span is not server} == {server.span_id}
    names = sorted(span.name.split()[0] for span in spans if span is not server)
    assert names == ["BEGIN", "GET", "SELECT", "authenticate"]
    assert {span.service for span in spans} == {"sample"}


async def test_a_request_passes_its_trace_on(receiver: Receiver, tmp_path: Path, issuer: Issuer) -> None:
    heard: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers["traceparent"])
        return httpx.Response(200)

    telemetry = Telemetry(
        Settings.model_validate({"otlp_endpoint": receiver.http_url}), version="1", registry=CollectorRegistry()
    )
    async with telemetry.running(), telemetry.watched(httpx.AsyncClient(transport=httpx.MockTransport(answer))) as http:
        with telemetry.tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            await http.get("http://other.example/?key=secret")
    _, trace_id, span_id, _ = heard[0].split("-")
    spans = receiver.wait_for("GET", "outer")
    assert (trace_id, span_id) == (f"{outer.get_span_context().trace_id:032x}", named(spans, "GET").span_id)
    assert named(spans, "GET").attributes["url.full"] == "http://other.example/?key=REDACTED"


async def test_commands_of_redis_are_traced_without_their_keys_and_values(receiver: Receiver, tmp_path: Path) -> None:
    telemetry = Telemetry(
        Settings.model_validate({"otlp_endpoint": receiver.http_url}), version="1", registry=CollectorRegistry()
    )
    with serve_redis(tmp_path) as (url, _):
        async with telemetry.running(), Redis.from_url(url) as redis:
            telemetry.watch_redis(redis)
            with telemetry.tracer.start_as_current_span("outer", kind=SpanKind.SERVER):
                await redis.set("the key", "the value")
    span = named(receiver.spans(), "SET")
    assert span.parent_id == named(receiver.spans(), "outer").span_id
    assert (span.attributes["db.system.name"], span.attributes["db.query.text"]) == ("redis", "SET ? ?")
    assert not [value for value in span.attributes.values() if "the" in str(value)]


async def test_probes_and_metrics_are_not_traced(receiver: Receiver, issuer: Issuer, tmp_path: Path) -> None:
    settings = Settings.model_validate({"otlp_endpoint": receiver.http_url})
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        for path in ("/livez", "/readyz/", "/metrics", "/nothing"):
            await client.get(path)
    assert [span.attributes["url.path"] for span in receiver.spans() if "url.path" in span.attributes] == ["/nothing"]


async def test_the_values_of_a_query_are_hidden(receiver: Receiver, issuer: Issuer, tmp_path: Path) -> None:
    settings = Settings.model_validate({"otlp_endpoint": receiver.http_url})
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        await client.get("/nothing?email=ada@example.com&limit=2")
    (query,) = [span.attributes["url.query"] for span in receiver.spans() if "url.query" in span.attributes]
    assert query == "email=REDACTED&limit=REDACTED"


async def test_log_lines_and_exemplars_carry_the_trace(
    receiver: Receiver,
    issuer: Issuer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    restored_logging: None,
) -> None:
    configure_logs("sample", level="INFO", format="json")
    settings = Settings.model_validate({"otlp_endpoint": receiver.http_url})
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        await client.get("/items", headers=issuer.bearer(scope="profile"))
        metrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    server = named(receiver.spans(), "GET /items")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    ids = {line["event"]: (line["trace_id"], line["span_id"]) for line in lines if "trace_id" in line}
    assert ids["items_read"] == ids["request"] == (server.trace_id, server.span_id)
    (bucket,) = [line for line in metrics.text.splitlines() if 'route="/items"' in line and "# {" in line]
    assert f'trace_id="{server.trace_id}"' in bucket


async def test_without_a_receiver_nothing_is_traced(issuer: Issuer, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with running(sample_app(Settings(), tmp_path, issuer, registry)) as client:
        response = await client.get("/items", headers=issuer.bearer(subject="ada", scope="profile"))
        assert response.json() == "ada"
    assert registry.get_sample_value("telemetry_spans_total", {"outcome": "failed"}) is None


@pytest.mark.parametrize(
    "off", [{"sdk_disabled": "true"}, {"traces_exporter": "none"}, {"traces_sampler": "always_off"}]
)
async def test_tracing_can_be_switched_off(
    receiver: Receiver, issuer: Issuer, tmp_path: Path, off: dict[str, str]
) -> None:
    settings = Settings.model_validate({"otlp_endpoint": receiver.http_url, **off})
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        await client.get("/items", headers=issuer.bearer(scope="profile"))
    assert receiver.spans() == []


@pytest.mark.parametrize(
    ("sampler", "share", "flags", "is_kept"),
    [
        ("traceidratio", "0", "", False),
        ("traceidratio", "0", "01", False),
        ("traceidratio", "1", "", True),
        ("traceidratio", "1", "00", True),
        ("parentbased_traceidratio", "0", "", False),
        ("parentbased_traceidratio", "0", "01", True),
        ("parentbased_traceidratio", "1", "", True),
        ("parentbased_traceidratio", "1", "00", False),
        ("parentbased_always_on", "1", "00", False),
        ("parentbased_always_off", "1", "01", True),
    ],
)
async def test_a_share_is_kept_and_callers_decide_where_the_sampler_lets_them(
    receiver: Receiver, issuer: Issuer, tmp_path: Path, sampler: str, share: str, flags: str, is_kept: bool
) -> None:
    settings = Settings.model_validate(
        {"otlp_endpoint": receiver.http_url, "traces_sampler": sampler, "traces_sampler_arg": share}
    )
    parent = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-{flags}"} if flags else {}
    async with running(sample_app(settings, tmp_path, issuer)) as client:
        await client.get("/items", headers={**issuer.bearer(scope="profile"), **parent})
    assert sorted({span.name.split()[0] for span in receiver.spans()}) == (
        ["BEGIN", "GET", "SELECT", "authenticate"] if is_kept else []
    )


@pytest.mark.parametrize("sampler", ["always_on", "parentbased_always_on"])
async def test_what_a_process_does_by_itself_is_not_traced_nor_is_what_is_below_it(
    receiver: Receiver, sampler: str
) -> None:
    settings = Settings.model_validate({"otlp_endpoint": receiver.http_url, "traces_sampler": sampler})
    telemetry = Telemetry(settings, version="1", registry=CollectorRegistry())
    async with telemetry.running():
        with telemetry.tracer.start_as_current_span("poll"), telemetry.tracer.start_as_current_span("statement"):
            pass
    assert receiver.spans() == []


async def test_a_receiver_that_is_away_is_reported_once(
    issuer: Issuer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    restored_logging: None,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    configure_logs("sample", level="INFO", format="json")
    registry = CollectorRegistry()
    settings = Settings.model_validate({"otlp_endpoint": f"http://127.0.0.1:{free_port}"})
    async with running(sample_app(settings, tmp_path, issuer, registry)) as client:
        for _ in range(3):
            response = await client.get("/items", headers=issuer.bearer(subject="ada", scope="profile"))
            assert response.json() == "ada"
    assert (registry.get_sample_value("telemetry_spans_total", {"outcome": "failed"}) or 0) > 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert [event for event in events if event not in {"items_read", "request"}] == ["traces_lost"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_a_bad_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=variable):
        Settings()


def test_grpc_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert Settings().otlp_protocol == "grpc"
    exporter = "opentelemetry.exporter.otlp.proto.grpc"
    monkeypatch.setitem(sys.modules, exporter, None)
    with pytest.raises(ValidationError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL\n.*expected http/protobuf"):
        Settings()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
