"""The view from the inside: what it takes, what it keeps and what it draws."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from gateway.observing.main import create_app
from gateway.observing.metrics import Line, MetricBook
from gateway.observing.settings import ObserverSettings
from gateway.observing.traces import TraceBook
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from servicekit import background

from tests.asgi import running

SECOND = 1_000_000_000


def message(trace: int, *spans: tuple[int, int, str], failed: bool = False) -> ExportTraceServiceRequest:
    """Return spans of one trace, each by its number, that of its parent and its name; one begins each second."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="auth")))
    for number, parent, name in spans:
        span = resource_spans.scope_spans.add().spans.add()
        span.trace_id, span.span_id = trace.to_bytes(16, "big"), number.to_bytes(8, "big")
        span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
        span.name = name
        span.start_time_unix_nano = number * SECOND
        span.end_time_unix_nano = (number + 2) * SECOND
        span.status.code = Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_OK
        span.attributes.append(KeyValue(key="http.response.status_code", value=AnyValue(int_value=200)))
    return request


def test_a_trace_is_summed_up_by_its_first_span() -> None:
    book = TraceBook(max_traces=2, max_spans=10)
    book.add(message(1, (2, 1, "below")))
    book.add(message(1, (1, 7, "GET /users"), failed=True))
    (line,) = book.summaries()
    assert (line.name, line.service, line.spans, line.failed) == ("GET /users", "auth", 2, True)
    assert (line.started_at, line.duration_seconds) == (1, 3)
    assert [span.name for span in book.spans(line.id)] == ["GET /users", "below"]
    assert book.spans(line.id)[0].attributes == {"http.response.status_code": "200"}


def test_what_is_kept_is_bounded() -> None:
    book = TraceBook(max_traces=2, max_spans=2)
    for trace in (1, 2, 3):
        book.add(message(trace, (1, 0, "a"), (2, 1, "b"), (3, 1, "c")))
    assert [int(line.id, 16) for line in book.summaries()] == [3, 2]
    assert [line.spans for line in book.summaries()] == [2, 2]


def not_gzip(text: str) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(text.encode()), headers={"content-encoding": "gzip"})


async def drawn_from(answers: Sequence[str | httpx.Response | Exception]) -> dict[str, dict[str, Line]]:
    """Return the lines by chart where the inference service gives these answers, two seconds apart."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        page = answers[len(asked)]
        asked.append(request)
        if isinstance(page, Exception):
            raise page
        return httpx.Response(200, text=page) if isinstance(page, str) else page

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        book = MetricBook(http, {"inference": "http://there"}, kept=len(answers), clock=lambda: 2.0 * len(asked))
        for _ in answers:
            await book.scrape()
    charts = book.charts()
    assert len(charts.times) == len(answers) - 1
    return {chart.title: chart.lines for chart in charts.charts}


async def test_rates_means_and_the_slow_end_are_drawn_between_two_scrapes() -> None:
    drawn = await drawn_from(["", METRICS, METRICS])
    assert drawn["Requests"]["inference"] == [5, 0]
    assert drawn["Failures"]["inference"] == [2, 0]
    # 9.5 of 10 are wanted: 8 took up to 0.1 s, all up to 0.2 s.
    assert drawn["95 % within"]["inference"] == [pytest.approx(175), None]
    assert drawn["Stages, mean"]["decode"] == [pytest.approx(250), None]
    assert drawn["Inside now"]["queued"] == [3, 3]


@pytest.mark.parametrize(
    "missed",
    [
        httpx.ConnectError("away"),
        httpx.Response(503, text="starting"),
        "<html>not metrics</html>",
        "# TYPE http_server_request_duration_seconds histogram\nhttp_server_request_duration_seconds_count 1\n",
        not_gzip("not gzip"),
    ],
    ids=["away", "refused", "not metrics", "no labels", "not gzip"],
)
async def test_a_missed_scrape_is_a_gap_and_no_peak_after_it(missed: str | httpx.Response | Exception) -> None:
    drawn = await drawn_from([METRICS, missed, METRICS + series("count", 8, route="/b"), METRICS])
    requests = drawn["Requests"]["inference"]
    assert requests[:2] == [None, 2]
    assert drawn["Inside now"]["queued"] == [None, 3, 3]


async def test_a_service_that_was_started_anew_counts_from_zero() -> None:
    drawn = await drawn_from([METRICS, httpx.ConnectError("away"), series("count", 4)])
    assert drawn["Requests"]["inference"] == [None, 1]


async def test_the_book_goes_on_after_an_answer_that_cannot_be_read() -> None:
    answers = iter(["<html>", METRICS])
    all_asked = asyncio.Event()

    def answer(_request: httpx.Request) -> httpx.Response:
        try:
            return httpx.Response(200, text=next(answers))
        except StopIteration:
            all_asked.set()
            raise httpx.ConnectError("away") from None

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        book = MetricBook(http, {"inference": "http://there"}, kept=3)
        async with background.running(book.follow(0.001), "scrapes"), asyncio.timeout(5):
            await all_asked.wait()


def series(suffix: str, value: int, status: int = 200, route: str = "/a", **more: str) -> str:
    labels = {"http_request_method": "GET", "http_route": route, "http_response_status_code": str(status), **more}
    text = ",".join(f'{name}="{label}"' for name, label in labels.items())
    return f"http_server_request_duration_seconds_{suffix}{{{text}}} {value}\n"


METRICS = (
    "# TYPE http_server_request_duration_seconds histogram\n"
    + "".join(series("bucket", value, le=le) for le, value in (("0.1", 5), ("0.2", 6), ("+Inf", 6)))
    + series("count", 6)
    + "".join(series("bucket", value, 500, le=le) for le, value in (("0.1", 3), ("0.2", 4), ("+Inf", 4)))
    + series("count", 4, 500)
    + series("count", 90, route="/livez")
    + """# TYPE inference_stage_duration_seconds histogram
inference_stage_duration_seconds_sum{stage="decode"} 0.5
inference_stage_duration_seconds_count{stage="decode"} 2
# TYPE inference_queue_size gauge
inference_queue_size 3
"""
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(ObserverSettings())) as client:
        client.base_url = httpx.URL("http://localhost:8005")
        yield client


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_spans_that_come_by_otlp_are_shown(client: httpx.AsyncClient, encoding: str) -> None:
    body = message(1, (1, 0, "GET /users")).SerializeToString()
    body = gzip.compress(body) if encoding == "gzip" else body
    assert (await client.post("/v1/traces", content=body, headers={"content-encoding": encoding})).status_code == 200
    (line,) = (await client.get("/api/traces")).json()
    (span,) = (await client.get(f"/api/traces/{line['id']}")).json()
    assert (line["name"], span["name"]) == ("GET /users", "GET /users")


async def test_what_is_no_message_is_refused(client: httpx.AsyncClient) -> None:
    damaged = bytearray(gzip.compress(bytes(100)))
    damaged[10] ^= 0xFF
    gzipped = {"content-encoding": "gzip"}
    for content, headers in ((b"\xff\xff", {}), (b"\xff\xff", gzipped), (bytes(damaged), gzipped)):
        assert (await client.post("/v1/traces", content=content, headers=headers)).status_code == 400
    assert (await client.get("/api/traces")).json() == []


async def test_the_page_comes_with_its_files_and_nothing_else(client: httpx.AsyncClient) -> None:
    for path in ("/", "/view.css", "/view.js"):
        response = await client.get(path)
        assert response.status_code == 200
        assert "default-src 'self'" in response.headers["content-security-policy"]
    for path in ("/main.py", "/..%2fmain.py", "/api/traces/none"):
        assert (await client.get(path)).status_code == 404


async def test_another_name_for_this_machine_is_not_answered(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api/traces"):
        assert (await client.get(path, headers={"host": "evil.example"})).status_code == 400
