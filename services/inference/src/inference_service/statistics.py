"""What each model has done since it was loaded, as the statistics extension of the inference protocol counts it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn

from inference_service.timings import Stage, StageTimings


@dataclass(slots=True)
class Duration:
    """How often something was done, and how long that took in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count once more."""
        self.count += 1
        self.ns += int(seconds * 1e9)


@dataclass(slots=True)
class ModelStatistics:
    """Requests, their parts, and batches by their size."""

    last_inference_ms: int = 0
    """When the last request came, in milliseconds since 1970."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    @property
    def inference_count(self) -> int:
        """Return how many pictures were computed."""
        return sum(size * batch.count for size, batch in self.batches.items())

    @property
    def execution_count(self) -> int:
        """Return how many batches were computed."""
        return sum(batch.count for batch in self.batches.values())

    @contextmanager
    def request(self, timings: StageTimings) -> Iterator[None]:
        """Count one request with what `timings` says of it at its end."""
        started = time.perf_counter()
        self.last_inference_ms = time.time_ns() // 1_000_000
        try:
            yield
        except BaseException:
            self.fail.add(time.perf_counter() - started)
            raise
        self.success.add(time.perf_counter() - started)
        stages = timings.seconds()

        def spent(*names: Stage) -> float:
            return sum(stages.get(name, 0.0) for name in names)

        self.queue.add(spent("queue"))
        if "compute" in stages:
            self.compute_input.add(spent("decode", "preprocess"))
            self.compute_infer.add(spent("compute"))
            self.compute_output.add(spent("postprocess"))

    def batch(self, rows: int, seconds: float) -> None:
        """Count one batch."""
        self.batches.setdefault(rows, Duration()).add(seconds)


class StatisticsBook:
    """The statistics of each network; those of one that is gone go with it."""

    def __init__(self) -> None:
        self._by_network: WeakKeyDictionary[nn.Module, ModelStatistics] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Return how many networks have been asked."""
        return len(self._by_network)

    def of(self, network: nn.Module) -> ModelStatistics:
        """Return what one network has done."""
        return self._by_network.setdefault(network, ModelStatistics())

    def go_on(self, network: nn.Module, successor: nn.Module) -> None:
        """Count what `successor` does with what `network` has done, which is the same model in another mode."""
        self._by_network[successor] = self.of(network)
