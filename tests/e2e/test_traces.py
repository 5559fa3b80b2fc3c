"""One request, followed from the gateway to the batch that computed it, by a real receiver of OTLP."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import DATA, Pinhole, started
from tests.otlp import ReceivedSpan, Receiver, receiving

Branch = tuple[str, str, tuple["Branch", ...]]
"""A span as service, name and what is below it, in the order of names."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """A product whose processes send their spans, once a tenth of a second."""
    with started(
        tmp_path_factory.mktemp("traced"),
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_url,
        OTEL_BSP_SCHEDULE_DELAY="100",
        LOG_FORMAT="json",
    ) as running:
        yield running


def spans_of(receiver: Receiver, trace_id: str) -> list[ReceivedSpan]:
    """Return the spans of a trace, when all have come: what ends last, and for each call what answered it."""
    deadline = time.monotonic() + 20
    while True:
        spans = [span for span in receiver.spans() if span.trace_id == trace_id]
        parents = {span.parent_id for span in spans}
        calls = {span.span_id for span in spans if span.name in {"GET", "POST"}}
        if "b" * 16 in parents <= {"b" * 16} | {span.span_id for span in spans} and calls <= parents:
            return spans
        assert time.monotonic() < deadline, [(span.service, span.name) for span in spans]
        time.sleep(0.05)


def tree(spans: list[ReceivedSpan], parent_id: str = "") -> tuple[Branch, ...]:
    branches = [(s.service, s.name, tree(spans, s.span_id)) for s in spans if s.parent_id == parent_id]
    return tuple(sorted(branches))


def parent(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{'b' * 16}-01"}


def test_a_prediction_is_one_tree_down_to_its_batch(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a1" * 16
    with traced.admin() as admin:
        picture = (DATA / "coffee.png").read_bytes()
        response = admin.post("/predict", content=picture, headers={"content-type": "image/png", **parent(trace_id)})
    assert response.status_code == 200
    spans = spans_of(receiver, trace_id)

    leaves = tuple(
        ("inference", name, ())
        for name in (
            "authenticate",
            "batch",
            "compute",
            "decode",
            "postprocess",
            "preprocess",
            "queue",
            "queue",
            "receive",
        )
    )
    inference = ("inference", "POST /predict", leaves)
    assert tree(spans, "b" * 16) == (("gateway", "POST /predict", (("gateway", "POST", (inference,)),)),)

    by_name = {span.name: span for span in spans if span.service == "inference"}
    assert by_name["compute"].links == (by_name["batch"].span_id,)
    assert by_name["batch"].links == (by_name["POST /predict"].span_id,)
    assert by_name["batch"].attributes["inference.batch_size"] == 1


def test_log_lines_and_the_exemplar_name_the_trace(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a2" * 16
    with traced.admin() as admin:
        admin.get("/models", headers=parent(trace_id))
    spans_of(receiver, trace_id)
    openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
    metrics = httpx.get(f"{traced.service_url('inference')}/metrics", headers=openmetrics).text
    (bucket,) = [line for line in metrics.splitlines() if 'http_route="/models"' in line and "# {" in line]
    assert f'trace_id="{trace_id}"' in bucket
    lines = [json.loads(line[line.index("{") :]) for line in traced.output if trace_id in line]
    assert {line["service"] for line in lines if line["event"] == "request"} == {"gateway", "inference"}


def test_the_durations_of_a_prediction_name_its_trace(traced: Pinhole) -> None:
    trace_id = "a4" * 16
    with traced.admin() as admin:
        picture = (DATA / "chelsea.png").read_bytes()
        answer = admin.post("/predict", content=picture, headers={"content-type": "image/png", **parent(trace_id)})
    assert answer.status_code == 200
    openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
    metrics = httpx.get(f"{traced.service_url('inference')}/metrics", headers=openmetrics).text
    named = {line.partition("{")[0] for line in metrics.splitlines() if f'trace_id="{trace_id}"' in line}
    assert named == {
        f"{name}_seconds_bucket"
        for name in ("http_server_request_duration", "inference_request_duration", "inference_stage_duration")
    }


def test_a_login_is_one_tree_through_auth_and_users(traced: Pinhole, receiver: Receiver) -> None:
    trace_id = "a3" * 16
    form = {"grant_type": "password", "username": "admin", "password": traced.admin_password}
    response = httpx.post(f"{traced.url}/token", data=form, headers=parent(trace_id), timeout=30)
    assert response.status_code == 200
    spans = spans_of(receiver, trace_id)
    named = {(span.service, span.name): span for span in spans}
    way = [
        ("gateway", "POST /token"),
        ("gateway", "POST"),
        ("auth", "POST /token"),
        ("auth", "POST"),
        ("users", "POST /internal/credentials/verify"),
    ]
    for above, below in itertools.pairwise(way):
        assert named[below].parent_id == named[above].span_id, (above, below)
    statements = [span for span in spans if "db.query.text" in span.attributes]
    assert {span.service for span in statements} == {"auth", "users"}
    secrets = (traced.admin_password, "admin@example.com")
    assert not [span for span in spans if any(secret in str(span) for secret in secrets)]


def test_nothing_is_traced_that_nobody_asked_for(traced: Pinhole, receiver: Receiver) -> None:
    for service in ("auth", "users", "inference"):
        for path in ("/livez", "/readyz", "/metrics"):
            httpx.get(traced.service_url(service) + path)
    time.sleep(2.5)  # polls and the canary go on meanwhile
    started_here = {(span.service, span.name) for span in receiver.spans() if not span.parent_id}
    assert started_here <= {("gateway", "POST /token")}, "what is no request of this file was traced"


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
