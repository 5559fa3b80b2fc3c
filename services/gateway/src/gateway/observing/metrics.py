"""The main metrics of all services over the last minutes: what is drawn, from what `/metrics` says."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel
from servicekit.recording import QUIET_PATHS

SLOW = 0.95
"""This share of the requests is faster than the time that is drawn."""

STAGES = ("receive", "decode", "preprocess", "queue", "compute", "postprocess")

Key = tuple[str, ...]
Line = list[float | None]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What all services have counted until a time, in seconds since 1970, by what it is of."""

    at: float
    numbers: Mapping[Key, float]


class Chart(BaseModel):
    """One drawing: a line for each name. A value is None where nothing happened."""

    title: str
    unit: str
    lines: dict[str, Line]


class Charts(BaseModel):
    """All drawings, over the same times, in seconds since 1970."""

    times: list[float]
    charts: list[Chart]


class MetricBook:
    """Asks each of `services` for its metrics again and again, and keeps the last `kept` answers."""

    def __init__(self, http: httpx.AsyncClient, services: Mapping[str, str], *, kept: int) -> None:
        self._http = http
        self._services = services
        self._scrapes: deque[Scrape] = deque(maxlen=kept)

    async def follow(self, seconds: float) -> None:
        """Ask every so many seconds, until this is cancelled."""
        while True:
            await self.scrape()
            await asyncio.sleep(seconds)

    async def scrape(self) -> None:
        """Ask all services once; one that does not answer has counted nothing."""
        numbers: defaultdict[Key, float] = defaultdict(float)
        for service, url in self._services.items():
            try:
                response = await self._http.get(f"{url}/metrics")
            except httpx.HTTPError:
                continue
            for family in text_string_to_metric_families(response.text):
                for sample in family.samples:
                    if key := _key(service, sample):
                        numbers[key] += sample.value
        self._scrapes.append(Scrape(time.time(), numbers))

    def charts(self) -> Charts:
        """Return what is to be drawn: rates and means between one answer and the next."""
        steps = [_Step(before, after) for before, after in pairwise(self._scrapes)]

        def lines(names: Sequence[str], value: Callable[["_Step", str], float | None]) -> dict[str, Line]:
            return {name: [value(step, name) for step in steps] for name in names}

        services = list(self._services)
        return Charts(
            times=[step.after.at for step in steps],
            charts=[
                Chart(title="Requests", unit="1/s", lines=lines(services, _Step.requests)),
                Chart(title="95 % within", unit="ms", lines=lines(services, _Step.slow_milliseconds)),
                Chart(title="Failures", unit="1/s", lines=lines(services, lambda s, n: s.rate("failures", n))),
                Chart(
                    title="Pictures",
                    unit="1/s",
                    lines=lines(("ok", "rejected", "error"), lambda s, n: s.rate("pictures", n)),
                ),
                Chart(title="Stages, mean", unit="ms", lines=lines(STAGES, _Step.stage_milliseconds)),
                Chart(
                    title="Inside now",
                    unit="",
                    lines=lines(("in flight", "queued"), lambda s, n: s.after.numbers.get((n,))),
                ),
            ],
        )


class _Step:
    """What happened between two scrapes."""

    def __init__(self, before: Scrape, after: Scrape) -> None:
        self.before = before
        self.after = after

    def grown(self, *key: str) -> float:
        """Return by how much a count has grown; a service that was started anew begins at zero."""
        grown = self.after.numbers.get(key, 0.0) - self.before.numbers.get(key, 0.0)
        return grown if grown >= 0 else self.after.numbers.get(key, 0.0)

    def rate(self, *key: str) -> float:
        """Return what was counted in a second."""
        return self.grown(*key) / (self.after.at - self.before.at)

    def requests(self, service: str) -> float:
        """Return the requests of a second, whatever came of them."""
        return self.rate("requests", service) + self.rate("failures", service)

    def stage_milliseconds(self, stage: str) -> float | None:
        """Return how long a stage took on average."""
        count = self.grown("stage_count", stage)
        return 1000 * self.grown("stage_sum", stage) / count if count else None

    def slow_milliseconds(self, service: str) -> float | None:
        """Return the time within which `SLOW` of the requests were answered, between two bounds in proportion."""
        bounds = sorted(self._buckets(service))
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

    def _buckets(self, service: str) -> Iterator[tuple[float, float]]:
        for key in self.after.numbers:
            if key[:2] == ("bucket", service):
                yield float(key[2]), self.grown(*key)


def _key(service: str, sample: Sample) -> Key | None:
    """Return what a sample is added to, None where it is not drawn."""
    labels = sample.labels
    match sample.name:
        case "http_server_request_duration_seconds_bucket" if labels["http_route"] not in QUIET_PATHS:
            return "bucket", service, labels["le"]
        case "http_server_request_duration_seconds_count" if labels["http_route"] not in QUIET_PATHS:
            failed = labels["http_response_status_code"].startswith("5")
            return ("failures" if failed else "requests"), service
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
