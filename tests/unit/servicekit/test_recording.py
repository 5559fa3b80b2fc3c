"""What is said of a request when it is over, to its caller and in the log."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import APIRouter, FastAPI, Request
from servicekit.app import build_app
from servicekit.auth import Principal, Verifications, require_scope
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.logs import configure_logs
from servicekit.metrics import new_registry
from servicekit.problem import ServiceUnavailable
from servicekit.recording import report_stages
from servicekit.settings import ServiceSettings
from servicekit.telemetry import Telemetry
from servicekit.tokens import TokenVerifier
from starlette.responses import StreamingResponse
from starlette.types import Message

from tests.asgi import running
from tests.issuer import AUDIENCE, ISSUER, Issuer


class Settings(ServiceSettings):
    """A service without settings of its own."""

    service = "sample"


def sample_app(issuer: Issuer, *, slow_request_seconds: float = 60.0) -> FastAPI:
    router, registry = APIRouter(), new_registry()
    settings = Settings.model_validate({"slow_request_seconds": slow_request_seconds})
    readiness = Readiness(KEYS_NEED)

    @router.post("/echo")
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    @router.post("/typed")
    async def typed(body: dict[str, str]) -> dict[str, str]:
        return body

    @router.get("/own")
    async def own(caller: Annotated[Principal, require_scope("profile")]) -> str:
        return caller.subject

    @router.get("/staged")
    async def staged(request: Request, fails: bool = False) -> None:
        report_stages(request, lambda: {"decode": 0.25})
        if fails:
            raise ServiceUnavailable("not now")

    @router.get("/breaks")
    async def breaks() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("broken off")

        return StreamingResponse(parts())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            httpx.AsyncClient() as http,
            open_jwks(f"{issuer.url}/.well-known/jwks.json", http, readiness, refresh_seconds=60) as keys,
        ):
            verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
            yield {"verifier": verifier, "verifications": Verifications(registry)}

    return build_app(
        settings,
        title="Sample",
        description="",
        version="1",
        lifespan=lifespan,
        routers=[router],
        readiness=readiness,
        registry=registry,
        telemetry=Telemetry(settings, version="1", registry=registry),
    )


Lines = Callable[[], dict[str, dict[str, Any]]]


@pytest.fixture
def start_logs(capsys: pytest.CaptureFixture[str], restored_logging: None) -> Callable[[], Lines]:
    """Return what a test calls to log as JSON; that returns a function which gives the new lines by event."""

    def start() -> Lines:
        configure_logs("sample", level="INFO", format="json")
        return lambda: {line["event"]: line for line in map(json.loads, capsys.readouterr().err.splitlines())}

    return start


async def test_the_access_log_counts_the_bytes_both_ways(issuer: Issuer, start_logs: Callable[[], Lines]) -> None:
    lines = start_logs()
    async with running(sample_app(issuer)) as client:
        response = await client.post("/echo?token=abc", content=b"hello")
    line = lines()["request"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/echo", 200)
    assert (line["request_bytes"], line["response_bytes"]) == (5, len(response.content))
    assert line["duration_seconds"] > 0
    assert "actor" not in line
    assert "abc" not in json.dumps(line)


@pytest.mark.parametrize("path", ["/echo", "/typed"])
async def test_a_client_that_leaves_within_its_body_is_no_error(
    path: str, issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    lines = start_logs()
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}])
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    async def send(_message: Message) -> None:
        pass

    async with LifespanManager(sample_app(issuer), startup_timeout=60) as manager:
        await manager.app(scope, receive, send)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url="http://testserver") as http:
            metrics = (await http.get("/metrics")).text
    logged = lines()
    assert logged.keys() == {"request"}
    assert (logged["request"]["route"], logged["request"]["status"]) == (path, 499)
    assert f'http_request_method="POST",http_response_status_code="499",http_route="{path}"' in metrics


async def test_an_answer_that_breaks_off_is_left_to_the_server_to_end(
    issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    """A second answer within the first would be taken for the rest of it."""
    lines = start_logs()
    async with running(sample_app(issuer)) as client:
        with pytest.raises(RuntimeError, match="broken off"):
            await client.get("/breaks")
    assert lines()["request_failed"]["route"] == "/breaks"


async def test_log_lines_say_who_acts_and_the_next_request_is_nobodys(
    issuer: Issuer, start_logs: Callable[[], Lines]
) -> None:
    lines = start_logs()
    async with running(sample_app(issuer)) as client:
        await client.get("/own", headers=issuer.bearer(subject="ada", scope="profile"))
        assert lines()["request"]["actor"] == "ada"
        await client.get("/own")
        assert "actor" not in lines()["request"]


async def test_a_missing_scope_is_in_the_audit_log(issuer: Issuer, start_logs: Callable[[], Lines]) -> None:
    lines = start_logs()
    async with running(sample_app(issuer)) as client:
        response = await client.get("/own", headers=issuer.bearer(subject="ada", scope="users:read"))
    assert response.status_code == 403
    refused = lines()["access_refused"]
    assert (refused["audit"], refused["actor"], refused["missing"]) == (True, "ada", ["profile"])


@pytest.mark.parametrize(("query", "status"), [("", 200), ("?fails=true", 503)])
async def test_every_answer_says_where_the_time_went(issuer: Issuer, query: str, status: int) -> None:
    async with running(sample_app(issuer)) as client:
        response = await client.get(f"/staged{query}")
    assert response.status_code == status
    stage, whole = response.headers["server-timing"].split(", ")
    assert stage == "decode;dur=250.000"
    name, _, milliseconds = whole.partition(";dur=")
    assert name == "sample"
    assert float(milliseconds) > 0


async def test_a_slow_request_is_a_warning_with_its_stages(issuer: Issuer, start_logs: Callable[[], Lines]) -> None:
    lines = start_logs()
    async with running(sample_app(issuer, slow_request_seconds=1e-9)) as client:
        await client.get("/staged")
        await client.get("/livez")
    slow = lines()["slow_request"]
    assert (slow["level"], slow["route"], slow["stages_seconds"]) == ("warning", "/staged", {"decode": 0.25})


async def test_a_fast_request_is_no_warning(issuer: Issuer, start_logs: Callable[[], Lines]) -> None:
    lines = start_logs()
    async with running(sample_app(issuer)) as client:
        await client.get("/staged")
    assert lines().keys() == {"request"}
