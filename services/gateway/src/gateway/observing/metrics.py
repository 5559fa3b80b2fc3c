"""The main metrics of all services over the last minutes: what is drawn, from what `/metrics` says."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel
from servicekit.recording import QUIET_PATHS

SLOW = 0.95
"""This share of the requests is faster than the time that is drawn."""

STAGES = ("receive", "decode", "preprocess", "queue", "compute", "postprocess")

MODEL_SERVICE = "inference"
"""The one that counts pictures and stages."""

Key = tuple[str, ...]
Line = list[float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one service has counted until a time, by what it is of. The clock is one that nobody sets."""

    at: float
    numbers: Mapping[Key, float]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What the services answered, those that did, by a time in seconds since 1970."""

    at: float
    answers: Mapping[str, Answer]


class Chart(BaseModel):
    """One drawing: a line for each name. A value is None where nothing happened, or nothing is known."""

    title: str
    unit: str
    lines: dict[str, Line]


class Charts(BaseModel):
    """All drawings, over the same times, in seconds since 1970."""

    times: list[float]
    charts: list[Chart]


class MetricBook:
    """Asks each of `services` for its metrics again and again, and keeps the last `kept` answers."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        services: Mapping[str, str],
        *,
        kept: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._services = services
        self._clock = clock
        self._scrapes: deque[Scrape] = deque(maxlen=kept)

    async def follow(self, seconds: float) -> None:
        """Ask every so many seconds, until this is cancelled."""
        while True:
            await self.scrape()
            await asyncio.sleep(seconds)

    async def scrape(self) -> None:
        """Ask all services once. Of one that gives no answer, or one that cannot be read, nothing is known."""
        answers = {}
        for service, url in self._services.items():
            try:
                response = await self._http.get(f"{url}/metrics")
                numbers = _read(response.raise_for_status().text)
            except (httpx.HTTPError, ValueError, KeyError):
                continue
            answers[service] = Answer(self._clock(), numbers)
        self._scrapes.append(Scrape(time.time(), answers))

    def charts(self) -> Charts:
        """Return what is to be drawn: rates and means between one answer and the next."""
        services = {service: self._steps(service) for service in self._services}
        model = services.get(MODEL_SERVICE, [])

        def of_services(value: Callable[[_Step], float | None]) -> dict[str, Line]:
            return {service: _line(steps, value) for service, steps in services.items()}

        def of_model(names: Sequence[str], value: Callable[[_Step, str], float | None]) -> dict[str, Line]:
            return {name: _line(model, value, name) for name in names}

        return Charts(
            times=[scrape.at for scrape in self._scrapes][1:],
            charts=[
                Chart(title="Requests", unit="1/s", lines=of_services(_Step.requests)),
                Chart(title="95 % within", unit="ms", lines=of_services(_Step.slow_milliseconds)),
                Chart(title="Failures", unit="1/s", lines=of_services(lambda step: step.rate("failures"))),
                Chart(title="Pictures", unit="1/s", lines=of_model(("ok", "rejected", "error"), _Step.pictures)),
                Chart(title="Stages, mean", unit="ms", lines=of_model(STAGES, _Step.stage_milliseconds)),
                Chart(title="Inside now", unit="", lines=of_model(("in flight", "queued"), _Step.now)),
            ],
        )

    def _steps(self, service: str) -> list["_Step | None"]:
        """Return what happened until each scrape but the first, from the last one before that was answered."""
        steps: list[_Step | None] = []
        before: Answer | None = None
        for scrape in self._scrapes:
            after = scrape.answers.get(service)
            steps.append(_Step(before, after) if before and after else None)
            before = after or before
        return steps[1:]


class _Step:
    """What happened between two answers of a service."""

    def __init__(self, before: Answer, after: Answer) -> None:
        self._before = before
        self._after = after

    def grown(self, *key: str) -> float:
        """Return by how much a count has grown; a service that was started anew begins at zero."""
        grown = self._after.numbers.get(key, 0.0) - self._before.numbers.get(key, 0.0)
        return grown if grown >= 0 else self._after.numbers.get(key, 0.0)

    def rate(self, *key: str) -> float:
        """Return what was counted in a second."""
        return self.grown(*key) / (self._after.at - self._before.at)

    def requests(self) -> float:
        """Return the requests of a second, whatever came of them."""
        return self.rate("requests") + self.rate("failures")

    def pictures(self, name: str) -> float:
        """Return the pictures of a second with the outcome `name`."""
        return self.rate("pictures", name)

    def now(self, name: str) -> float | None:
        """Return a number that goes up and down, as it is at the end."""
        return self._after.numbers.get((name,))

    def stage_milliseconds(self, name: str) -> float | None:
        """Return how long a stage took on average."""
        count = self.grown("stage_count", name)
        return 1000 * self.grown("stage_sum", name) / count if count else None

    def slow_milliseconds(self) -> float | None:
        """Return the time within which `SLOW` of the requests were answered, between two bounds in proportion."""
        bounds = sorted(self._buckets())
        if not bounds or not bounds[-1][1]:
            return None
        wanted = SLOW * bounds[-1][1]
        below, count_below = 0.0, 0.0
        for bound, count in bounds:
            if count >= wanted:
                if bound == float("inf"):
                    break
                return 1000 * (below + (bound - below) * (wanted - count_below) / (count - count_below))
            below, count_below = bound, count
        return 1000 * below

    def _buckets(self) -> Iterator[tuple[float, float]]:
        for key in self._after.numbers:
            if key[0] == "bucket":
                yield float(key[1]), self.grown(*key)


def _line(steps: Sequence[_Step | None], value: Callable[..., float | None], *name: str) -> Line:
    return [None if step is None else value(step, *name) for step in steps]


def _read(text: str) -> Mapping[Key, float]:
    """Add up the samples that are drawn.

    Raises:
        ValueError: this is not the text of metrics.
        KeyError: a label is missing.
    """
    numbers: defaultdict[Key, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if key := _key(sample):
                numbers[key] += sample.value
    return numbers


def _key(sample: Sample) -> Key | None:
    """Return what a sample is added to, None where it is not drawn."""
    labels = sample.labels
    match sample.name:
        case "http_server_request_duration_seconds_bucket" if labels["http_route"] not in QUIET_PATHS:
            return "bucket", labels["le"]
        case "http_server_request_duration_seconds_count" if labels["http_route"] not in QUIET_PATHS:
            failed = labels["http_response_status_code"].startswith("5")
            return ("failures" if failed else "requests",)
        case "inference_requests_total":
            outcome = labels["outcome"]
            return "pictures", outcome if outcome in {"ok", "rejected"} else "error"
        case "inference_stage_duration_seconds_sum":
            return "stage_sum", labels["stage"]
        case "inference_stage_duration_seconds_count":
            return "stage_count", labels["stage"]
        case "inference_requests_in_flight":
            return ("in flight",)
        case "inference_queue_size":
            return ("queued",)
        case _:
            return None
