"""What every application does, whatever service it is."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, Field
from servicekit.app import BodyDeadline, build_app
from servicekit.health import Readiness
from servicekit.logs import configure_logs, get_logger
from servicekit.metrics import new_registry
from servicekit.problem import Conflict, ServiceUnavailable, problem_responses
from servicekit.settings import LogFormat, ServiceSettings
from servicekit.telemetry import Telemetry
from starlette.types import Message, Receive, Scope, Send

from tests.asgi import running
from tests.unit.gateway.serving import serve


class Settings(ServiceSettings):
    """A service without settings of its own."""

    service = "sample"


class Item(BaseModel):
    """A body with a rule."""

    name: str = Field(max_length=3)
    tags: list[str] = []


def sample_app(readiness: Readiness | None = None, settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    router = APIRouter()

    @router.get("/items")
    async def list_items(limit: Annotated[int, Query(ge=1)] = 1) -> int:
        return limit

    @router.post("/items", responses=problem_responses(Conflict, ServiceUnavailable))
    async def create_item(item: Item) -> Item:
        if item.name == "old":
            raise Conflict("name is taken")
        if item.name == "bad":
            raise RuntimeError("secret detail")
        return item

    @router.get("/items/{item_id}")
    async def read_item(item_id: str) -> str:
        get_logger("sample").info("item_read", password="hunter2")
        return item_id

    @router.post("/things")
    async def create_thing() -> None:
        pass

    @router.get("/broken")
    async def read_broken() -> None:
        raise RuntimeError

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {}

    registry = new_registry()
    return build_app(
        settings,
        title="Sample",
        description="",
        version="1",
        lifespan=lifespan,
        routers=[router],
        readiness=readiness or Readiness(),
        registry=registry,
        telemetry=Telemetry(settings, version="1", registry=registry),
        max_body_bytes=1000,
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(sample_app()) as client:
        yield client


StartLogs = Callable[[], Callable[[], list[dict[str, Any]]]]


@pytest.fixture
def start_logs(capsys: pytest.CaptureFixture[str], restored_logging: None) -> StartLogs:
    """Return what a test calls to log as JSON; that returns a function which gives the lines."""

    def start() -> Callable[[], list[dict[str, Any]]]:
        configure_logs("sample", level="INFO", format="json")
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return start


@pytest.mark.parametrize("path", ["/items", "/items/", "/items/a", "/items/a/", "/livez/"])
async def test_a_path_answers_with_and_without_a_trailing_slash(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.history) == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/items//", 404), ("DELETE", "/items", 405), ("POST", "/items/a", 405)],
)
async def test_an_unknown_path_or_method_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_405_lists_every_method_of_the_path(client: httpx.AsyncClient) -> None:
    response = await client.delete("/items")
    assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/items", "/items/", "/items/a", "/items?limit=0", "/nothing", "/broken", "/livez"])
async def test_head_has_the_status_and_headers_of_get_and_no_body(path: str) -> None:
    app = sample_app()
    with serve(app) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            for name in ("content-type", "content-length"):
                assert head.headers[name] == got.headers[name]
            assert head.headers["content-length"] == str(len(got.content))
            assert (await client.get("/livez")).text == "ok\n", "the connection goes on"
            assert 'http_request_method="HEAD"' in (await client.get("/metrics")).text


async def test_head_is_405_where_there_is_no_get_and_500_where_that_fails(client: httpx.AsyncClient) -> None:
    response = await client.head("/things")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    response = await client.head("/broken")
    assert (response.status_code, response.content) == (500, b"")


async def test_an_invalid_field_is_422_and_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json={"name": "long name"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"] == [{"field": "body.name", "detail": "String should have at most 3 characters"}]
    assert "long name" not in response.text


async def test_of_many_invalid_fields_the_first_are_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json={"name": "abc", "tags": [0] * 300})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [f"body.tags.{n}" for n in range(20)]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient, declared: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    body = b" " * 2000 if declared else chunks()
    response = await client.post("/items", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("pieces", [1, 900])
async def test_a_body_that_does_not_come_whole_in_time_is_408(pieces: int) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield b" "
            await asyncio.sleep(0.01)
        await asyncio.Event().wait()

    async with running(sample_app(settings=Settings(body_timeout_seconds=0.05))) as client:
        response = await client.post("/items", content=slow(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["type"]) == (408, "urn:pinhole:problem:body-too-slow")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"


async def test_who_has_sent_the_whole_body_may_wait_for_the_answer() -> None:
    received: list[Message] = []

    async def receive() -> Message:
        if not received:
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def read(_scope: Scope, receive: Receive, _send: Send) -> None:
        received.append(await receive())
        received.append(await receive())

    async def send(_message: Message) -> None:
        raise AssertionError("there is nothing to say")

    await BodyDeadline(read, timeout_seconds=0.01)({"type": "http"}, receive, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


async def test_a_problem_has_the_members_of_rfc_9457(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json={"name": "old"})
    assert response.status_code == 409
    assert response.json() == {
        "type": "urn:pinhole:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "name is taken",
        "instance": "/items",
    }


async def test_what_nobody_caught_is_500_without_its_message_and_logged_with_the_trace(
    client: httpx.AsyncClient, start_logs: StartLogs
) -> None:
    log_lines = start_logs()
    response = await client.post("/items", json={"name": "bad"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret detail" not in response.text
    failed, request = log_lines()
    assert failed["event"] == "request_failed"
    assert "RuntimeError" in failed["exception"]
    assert failed["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert (request["event"], request["status"], request["route"]) == ("request", 500, "/items")


async def test_a_harmless_request_id_is_kept_and_another_replaced(client: httpx.AsyncClient) -> None:
    kept = await client.get("/items", headers={"X-Request-ID": "abc-1"})
    replaced = await client.get("/items", headers={"X-Request-ID": 'a"b'})
    assert kept.headers["x-request-id"] == "abc-1"
    assert len(replaced.headers["x-request-id"]) == 32


async def test_the_access_log_has_the_template_and_never_the_path(
    client: httpx.AsyncClient, start_logs: StartLogs
) -> None:
    log_lines = start_logs()
    await client.get("/items/ada@example.com?token=abc")
    await client.get("/livez")
    item, request = log_lines()
    assert (request["route"], request["service"]) == ("/items/{item_id}", "sample")
    assert "ada@" not in json.dumps([item, request])
    assert "abc" not in json.dumps(request)


async def test_secrets_do_not_reach_the_log(client: httpx.AsyncClient, start_logs: StartLogs) -> None:
    log_lines = start_logs()
    await client.get("/items/a")
    item, _ = log_lines()
    assert item["password"] == "[hidden]"


@pytest.mark.parametrize("format", ["json", "console"])
def test_logs_of_libraries_have_the_same_form(
    capsys: pytest.CaptureFixture[str], restored_logging: None, format: LogFormat
) -> None:
    configure_logs("sample", level="INFO", format=format)
    logging.getLogger("uvicorn.error").info("hello from %s", "a library")
    logging.getLogger("uvicorn.access").info("GET /secret")
    logged = capsys.readouterr().err
    assert "hello from a library" in logged
    assert "/secret" not in logged


async def test_metrics_label_the_template_and_bound_what_callers_make_up(client: httpx.AsyncClient) -> None:
    for path in ("/items/1", "/items/2", "/made/up", "/made/up/too"):
        await client.get(path)
    await client.request("BREW", "/items")
    text = (await client.get("/metrics")).text
    count = "http_server_request_duration_seconds_count"
    labels = '{{http_request_method="{}",http_response_status_code="{}",http_route="{}"}}'
    assert count + labels.format("GET", 200, "/items/{item_id}") + " 2.0" in text
    assert count + labels.format("GET", 404, "unmatched") + " 2.0" in text
    assert count + labels.format("_OTHER", 405, "/items") + " 1.0" in text


async def test_metrics_are_served_in_the_format_that_is_asked_for(client: httpx.AsyncClient) -> None:
    plain = await client.get("/metrics")
    openmetrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


async def test_ready_follows_what_is_missing() -> None:
    readiness = Readiness("weights")
    async with running(sample_app(readiness)) as client:
        starting = await client.get("/readyz")
        readiness.is_met("weights")
        ready = await client.get("/readyz")
        readiness.is_missing("weights", "gone again")
        gone = await client.get("/readyz")
    assert (starting.status_code, ready.status_code, gone.status_code) == (503, 200, 503)
    assert starting.headers["retry-after"] == "1"
    assert gone.json()["detail"] == "weights: gone again"


async def test_who_is_to_end_is_not_ready_whatever_it_has() -> None:
    readiness = Readiness("weights")
    assert (readiness.is_ending, readiness.seconds_left) == (False, math.inf)
    async with running(sample_app(readiness)) as client:
        readiness.end(within_seconds=30)
        readiness.is_met("weights")
        response = await client.get("/readyz")
        readiness.end(within_seconds=60)
    assert (response.status_code, response.json()["detail"]) == (503, "serving: the service is shutting down")
    assert 0 < readiness.seconds_left <= 30, "a second signal gives no more time"
    readiness.end(within_seconds=-1)
    assert (readiness.is_ending, readiness.seconds_left) == (True, 0)


async def test_the_openapi_document_describes_problems_and_hides_the_probes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi/sample.json")).json()
    responses = document["paths"]["/items"]["post"]["responses"]
    assert sorted(responses) == ["200", "409", "422", "503"]
    for status in ("409", "422", "503"):
        schema = responses[status]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ProblemDetails"}
    assert {"ProblemDetails", "FieldError"} <= document["components"]["schemas"].keys()
    assert "HTTPValidationError" not in json.dumps(document)
    assert not {"/livez", "/readyz", "/metrics"} & document["paths"].keys()
