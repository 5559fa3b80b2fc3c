"""One request, followed from the gateway to the batch that computed it, by a real receiver of OTLP."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import DATA, Pinhole, started
from tests.exposition import Exposition
from tests.otlp import ReceivedSpan, Receiver, receiving
from tests.redis_server import serve_redis

QUIET_SECONDS = 0.5
"""Longer than a process keeps its spans."""

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}

Branch = tuple[str, str, tuple["Branch", ...]]
"""A span as service, name and what is below it, in the order of names."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """A product with a Redis, whose processes send their spans, once a tenth of a second."""
    with (
        serve_redis(tmp_path_factory.mktemp("redis")) as (redis_url, _),
        started(
            tmp_path_factory.mktemp("traced"),
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            LOG_FORMAT="json",
            INFERENCE_CACHE_REDIS_URL=redis_url,
            AUTH_RATE_LIMIT_REDIS_URL=redis_url,
        ) as running,
    ):
        yield running


def spans_of(receiver: Receiver, trace_id: str) -> list[ReceivedSpan]:
    """Return the spans of a trace, when all have come: for each call what answered it, and then no more for a while."""
    deadline = time.monotonic() + 20
    before: list[ReceivedSpan] = []
    while True:
        spans = [span for span in receiver.spans() if span.trace_id == trace_id]
        parents = {span.parent_id for span in spans}
        calls = {
            span.span_id for span in spans if span.name in {"GET", "POST"} and "http.request.method" in span.attributes
        }
        is_whole = "b" * 16 in parents <= {"b" * 16} | {span.span_id for span in spans} and calls <= parents
        if is_whole and len(spans) == len(before):
            return spans
        before = spans
        assert time.monotonic() < deadline, [(span.service, span.name) for span in spans]
        time.sleep(QUIET_SECONDS)


def tree(spans: list[ReceivedSpan], parent_id: str = "") -> tuple[Branch, ...]:
    branches = [(s.service, named(s), tree(spans, s.span_id)) for s in spans if s.parent_id == parent_id]
    return tuple(sorted(branches))


def named(span: ReceivedSpan) -> str:
    """Return the name of a span, without the path of the database that a statement was sent to."""
    return span.name.split()[0] if "db.query.text" in span.attributes else span.name


def leaves(service: str, *names: str) -> tuple[Branch, ...]:
    return tuple((service, name, ()) for name in names)


def parent(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{'b' * 16}-01"}


def test_a_prediction_is_one_tree_down_to_its_batch(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a1" * 16
    with traced.admin() as admin:
        picture = (DATA / "coffee.png").read_bytes()
        response = admin.post("/predict", content=picture, headers={"content-type": "image/png", **parent(trace_id)})
    assert response.status_code == 200
    spans = spans_of(receiver, trace_id)

    stages = ("authenticate", "batch", "compute", "decode", "postprocess", "preprocess", "queue", "queue", "receive")
    inference = ("inference", "POST /predict", leaves("inference", "GET", "SET", *stages))
    assert tree(spans, "b" * 16) == (("gateway", "POST /predict", (("gateway", "POST", (inference,)),)),)

    by_name = {span.name: span for span in spans if span.service == "inference"}
    assert by_name["compute"].links == (by_name["batch"].span_id,)
    assert by_name["batch"].links == (by_name["POST /predict"].span_id,)
    assert by_name["batch"].attributes["inference.batch_size"] == 1


def test_log_lines_and_the_exemplar_name_the_trace(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a2" * 16
    with traced.admin() as admin:
        picture = (DATA / "coffee.png").read_bytes()
        admin.post("/predict", content=picture, headers={"content-type": "image/png", **parent(trace_id)})
    spans_of(receiver, trace_id)
    metrics = httpx.get(f"{traced.service_url('inference')}/metrics", headers=OPENMETRICS).text
    buckets = [line for line in metrics.splitlines() if 'http_route="/predict"' in line and "# {" in line]
    assert [bucket for bucket in buckets if f'trace_id="{trace_id}"' in bucket]
    lines = [json.loads(line[line.index("{") :]) for line in traced.output if trace_id in line]
    assert {line["service"] for line in lines if line["event"] == "request"} == {"gateway", "inference"}


def test_the_durations_of_a_prediction_name_its_trace(traced: Pinhole) -> None:
    trace_id = "a7" * 16
    with traced.admin() as admin:
        picture = (DATA / "coffee.png").read_bytes()
        answer = admin.post("/predict", content=picture, headers={"content-type": "image/png", **parent(trace_id)})
    assert answer.status_code == 200
    metrics = httpx.get(f"{traced.service_url('inference')}/metrics", headers=OPENMETRICS).text
    named = {line.partition("{")[0] for line in metrics.splitlines() if f'trace_id="{trace_id}"' in line}
    assert named == {
        f"{name}_seconds_bucket"
        for name in ("http_server_request_duration", "inference_request_duration", "inference_stage_duration")
    }


def test_a_picture_that_was_seen_before_is_fetched_and_not_computed(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a4" * 16
    picture = (DATA / "chelsea.png").read_bytes()
    with traced.admin() as admin:
        admin.headers["content-type"] = "image/png"
        first = admin.post("/predict", content=picture)
        assert (first.status_code, first.headers.get("x-cache")) == (200, "miss"), first.text
        assert admin.post("/predict", content=picture, headers=parent(trace_id)).headers["x-cache"] == "hit"
    spans = spans_of(receiver, trace_id)
    inference = ("inference", "POST /predict", leaves("inference", "GET", "authenticate", "postprocess", "receive"))
    assert tree(spans, "b" * 16) == (("gateway", "POST /predict", (("gateway", "POST", (inference,)),)),)


def test_a_login_is_one_tree_through_auth_and_users(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a3" * 16
    form = {"grant_type": "password", "username": "admin", "password": traced.admin_password}
    traced.token("admin", traced.admin_password)  # once, so that the address is known, and to Redis its scripts
    response = httpx.post(f"{traced.url}/token", data=form, headers=parent(trace_id), timeout=30)
    assert response.status_code == 200
    spans = spans_of(receiver, trace_id)

    # Two of the SELECTs ask the database for its clock, by which attempts are counted.
    verifying = ("BEGIN", "BEGIN", "BEGIN", "DELETE", "INSERT", *["SELECT"] * 4, "UPDATE", "authenticate")
    users = ("users", "POST /internal/credentials/verify", leaves("users", *verifying))
    statements = leaves("auth", "BEGIN", "DELETE", "EVALSHA", "INSERT", "INSERT", *["SELECT"] * 3)
    auth = ("auth", "POST /token", tuple(sorted((*statements, ("auth", "POST", (users,))))))
    assert tree(spans, "b" * 16) == (("gateway", "POST /token", (("gateway", "POST", (auth,)),)),)

    secrets = (traced.admin_password, "admin@example.com", response.json()["access_token"])
    assert not [span for span in spans if any(secret in str(span) for secret in secrets)]
    lines = [json.loads(line[line.index("{") :]) for line in traced.output if trace_id in line]
    assert {line["service"] for line in lines if line["event"] == "request"} == {"gateway", "auth", "users"}
    metrics = httpx.get(f"{traced.service_url('auth')}/metrics", headers=OPENMETRICS).text
    buckets = [line for line in metrics.splitlines() if 'http_route="/token"' in line and "# {" in line]
    assert [bucket for bucket in buckets if f'trace_id="{trace_id}"' in bucket]


POLLS = {
    "auth": "auth_account_events_reads_total",
    "users": "revocations_reads_total",
    "inference": "revocations_reads_total",
}


def polls(traced: Pinhole) -> dict[str, float]:
    """Return how often each service has asked another one by itself."""
    return {
        service: Exposition(httpx.get(f"{traced.service_url(service)}/metrics").text).value(name, outcome="ok")
        for service, name in POLLS.items()
    }


def test_nothing_is_traced_that_nobody_asked_for(traced: Pinhole, receiver: Receiver) -> None:
    before = polls(traced)
    for service in ("auth", "users", "inference"):
        for path in ("/livez", "/readyz", "/metrics"):
            httpx.get(traced.service_url(service) + path)
    for url in (traced.url, traced.service_url("inference")):
        httpx.get(f"{url}/v2/health/ready")
    deadline = time.monotonic() + 20
    while any(count < before[service] + 2 for service, count in polls(traced).items()):
        assert time.monotonic() < deadline, "the services do not poll"
        time.sleep(0.1)
    # Whatever else a process has traced until now is sent before the spans of these.
    login, prediction = "a5" * 16, "a6" * 16
    form = {"grant_type": "password", "username": "admin", "password": traced.admin_password}
    token = httpx.post(f"{traced.url}/token", data=form, headers=parent(login), timeout=30).json()["access_token"]
    headers = {"authorization": f"Bearer {token}", "content-type": "image/png", **parent(prediction)}
    picture = (DATA / "coffee.png").read_bytes()
    httpx.post(f"{traced.url}/predict", content=picture, headers=headers, timeout=30).raise_for_status()
    for trace_id in (login, prediction):
        spans_of(receiver, trace_id)
    started_here = {(span.service, span.name) for span in receiver.spans() if not span.parent_id}
    assert started_here <= {("gateway", "POST /token"), ("gateway", "POST /predict")}, (
        "what is no request of this file was traced"
    )


def test_a_product_without_a_receiver_says_so_once_and_works(tmp_path: Path) -> None:
    with started(
        tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1", LOG_FORMAT="json"
    ) as running:
        with running.admin() as admin:
            for _ in range(3):
                assert admin.get("/users/me").status_code == 200
        deadline = time.monotonic() + 20
        while sum("traces_lost" in line for line in running.output) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
    for service in ("auth", "users"):
        assert sum('"traces_lost"' in line and f'"{service}"' in line for line in running.output) == 1
