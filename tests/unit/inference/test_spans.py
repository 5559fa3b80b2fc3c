"""The spans of stages and batches."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from types import FrameType
from typing import Any

import pytest
from inference_service.spans import BatchSpan, StageSpans
from inference_service.timings import StageTimings
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, NoOpTracer, SpanContext, StatusCode, TraceFlags, Tracer


class Traced:
    """A tracer, and the spans that have ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("tests")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_the_spans_of_stages_are_made_at_the_end_and_say_when_it_was(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("request") as request:
        with StageTimings(traced.tracer) as timings:
            timings.add("decode", 0.25)
            assert traced.names == []
        [decode] = traced.spans
    assert decode.name == "decode"
    assert decode.parent == request.get_span_context()
    assert decode.start_time is not None
    assert decode.end_time is not None
    assert decode.end_time - decode.start_time == 250_000_000


def test_what_goes_on_after_the_end_is_told_at_once(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("request"):
        with StageTimings(traced.tracer) as timings:
            pass
        timings.add("compute", 0.1)
        assert traced.names == ["compute"]


def test_two_threads_that_end_at_once_make_each_span_once() -> None:
    stages, chance, made, failures = 200, Random(1), Counter[str](), list[IndexError]()
    spans = StageSpans(NoOpTracer(), INVALID_SPAN_CONTEXT)
    spans.end()
    start = threading.Barrier(2)

    def let_the_other_run(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        time.sleep(chance.random() * 1e-4)
        return let_the_other_run

    def pass_stages(stage: str) -> None:
        def links() -> Sequence[Link]:
            made[stage] += 1
            return ()

        start.wait(30)
        sys.settrace(let_the_other_run)  # waits at each line, so that they meet between any two
        try:
            for _ in range(stages):
                spans.add(stage, 0.001, links)
        except IndexError as error:
            failures.append(error)

    threads = [threading.Thread(target=pass_stages, args=(stage,)) for stage in ("queue", "compute")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert made == Counter(queue=stages, compute=stages)


def test_pictures_of_one_request_tell_together(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("request"), StageTimings(traced.tracer) as timings:
        timings.add("decode", 0.1)
        timings.beside().add("decode", 0.2)
    assert traced.names == ["decode", "decode", "request"]


def test_nothing_is_made_of_a_request_that_is_not_sampled() -> None:
    traced = Traced(ALWAYS_OFF)
    with traced.tracer.start_as_current_span("request"), StageTimings(traced.tracer) as timings:
        timings.add("decode", 0.1)
        with BatchSpan([timings.span_context], rows=1, tracer=traced.tracer) as batch:
            pass
        assert batch.links() == ()
    assert traced.names == []


def test_a_caller_that_traces_is_served_where_nothing_is_traced() -> None:
    request = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    spans = StageSpans(NoOpTracer(), request)
    with BatchSpan([request], rows=1, tracer=NoOpTracer()) as batch:
        pass
    spans.add("compute", 0.1, batch.links)
    spans.end()


def test_a_batch_is_one_span_that_is_made_for_the_first_who_names_it(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("one") as one, traced.tracer.start_as_current_span("two") as two:
        requests = [span.get_span_context() for span in (one, two)]
        with BatchSpan(requests, rows=3, tracer=traced.tracer) as batch:
            pass
        assert traced.names == []
        [link] = batch.links()
        assert batch.links() == [link]
        [made] = traced.spans
    assert made.context == link.context
    assert [link.context for link in made.links] == requests
    assert made.parent == requests[0]
    assert made.attributes == {"inference.batch_size": 3}


def test_a_batch_names_a_request_once_that_has_several_pictures_in_it(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("one") as one, traced.tracer.start_as_current_span("two") as two:
        first, second = (span.get_span_context() for span in (one, two))
        with BatchSpan([first, second, first], rows=3, tracer=traced.tracer) as batch:
            pass
        batch.links()
    assert [link.context for link in traced.spans[0].links] == [first, second]


def test_a_batch_that_fails_says_why(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("one") as one:
        batch = BatchSpan([one.get_span_context()], rows=1, tracer=traced.tracer)
        with pytest.raises(ValueError, match="too few"), batch:
            raise ValueError("too few rows")
        [made] = traced.spans
    assert made.status.status_code is StatusCode.ERROR
    [event] = made.events
    assert event.name == "exception"
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "too few rows"
    assert event.attributes["exception.type"] == "ValueError"
