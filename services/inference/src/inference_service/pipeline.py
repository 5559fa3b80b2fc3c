"""The way of a picture through the service: the one place that knows the order of the stages."""

import asyncio
import time
from collections.abc import Coroutine, Sequence, Set
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from inference_service.admission import Admission
from inference_service.batching import Place, Priority
from inference_service.cache import LogitsCache, cache_key
from inference_service.errors import DeadlineExceeded, InvalidImage, InvalidItem, NotAnImage, Overloaded
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.registry import ServedModel
from inference_service.lifecycle.shadowing import Shadows
from inference_service.metrics import CacheOutcome, InferenceMetrics
from inference_service.model import Model
from inference_service.pictures import EncodedPicture, Picture, PreparedPicture
from inference_service.postprocessing import Prediction, finite, top_predictions
from inference_service.single_flight import SingleFlight
from inference_service.timings import StageTimings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Classified:
    """What a picture shows, best first, and where that came from."""

    predictions: list[Prediction]
    cache: CacheOutcome


class Inferred(NamedTuple):
    """Logits, float32 [classes] of one picture or [N, classes] of several, and where they came from."""

    logits: Tensor
    cache: CacheOutcome


class Pipeline:
    """Classifies pictures: decode and preprocess on a pool of threads, compute in batches."""

    def __init__(
        self,
        *,
        decode_pool: Executor,
        admission: Admission,
        cache: LogitsCache | None,
        max_image_pixels: int,
        metrics: InferenceMetrics,
        watch: FailureWatch,
        shadows: Shadows,
    ) -> None:
        self._decode_pool = decode_pool
        self._admission = admission
        self._cache = cache
        self._flights: SingleFlight[Tensor] = SingleFlight()
        self._max_image_pixels = max_image_pixels
        self._metrics = metrics
        self._watch = watch
        self._shadows = shadows

    def check(
        self, served: ServedModel, *, timeout_seconds: float | None, priority: Priority = Priority.INTERACTIVE
    ) -> None:
        """Turn a request away before its body is read, where no body could change that.

        Raises:
            ModelNotReady: the model is not loaded.
            Overloaded: the answer would not come within `timeout_seconds`, or while callers wait who say none.
        """
        model = served.require()
        if self._cache is None:  # else the answer may be there, and cost nothing
            self._admission.check(model, priority=priority, timeout_seconds=timeout_seconds)

    def silent_seconds(self, model: Model | None = None) -> float:
        """Return how long ago a batch of `model`, or of any, was computed; infinite where none was."""
        return self._admission.batcher.silent_seconds(model)

    async def probe(self, data: bytes, served: ServedModel, *, timeout_seconds: float) -> None:
        """Take a picture through all stages, in no cache and no count of requests; raises as `classify` does."""
        picture = EncodedPicture(data)
        task = _Task(picture, served, served.require(), StageTimings(), Priority.INTERACTIVE, timeout_seconds)
        with self._admit(task) as place:
            await in_time(self._compute(task, place), timeout_seconds)

    async def compute_when_idle(self, picture: Picture, served: ServedModel, *, timeout_seconds: float) -> Tensor:
        """Return the logits [classes] of a picture where there is nothing else to do; in no cache and no count.

        Raises:
            Overloaded: there is something else to do.
            Problem: as `classify` does.
        """
        task = _Task(picture, served, served.require(), StageTimings(), Priority.LOW, timeout_seconds)
        return await in_time(self._compute_when_idle(task), timeout_seconds)

    async def _compute_when_idle(self, task: "_Task") -> Tensor:
        self._require_idle()
        # No place is taken yet: a batch of callers would wait for it to be filled.
        image = await self.prepare(task.picture, task.model, task.timings)
        self._require_idle()
        with self._admit(task) as place:
            return await self._forward(image, task, place)

    def _require_idle(self) -> None:
        if not self._admission.batcher.is_idle:
            raise Overloaded("there is other work")

    async def classify(
        self,
        data: bytes,
        served: ServedModel,
        *,
        top_k: int,
        timeout_seconds: float | None,
        timings: StageTimings,
    ) -> Classified:
        """Return the `top_k` classes of the encoded picture `data`, best first.

        Equal requests at the same time are computed once. When it is cancelled, what has not started
        by then is not computed, unless an equal request waits for it.

        Raises:
            NotAnImage: `data` is in none of the formats that are decoded.
            InvalidImage: the picture cannot be decoded.
            ModelNotReady: the model is not loaded.
            Overloaded: the queue is full, or the answer would come too late; nothing was decoded.
            ShuttingDown: no more pictures are taken.
            InferenceFailed: the model failed on the batch of this picture, or gives no finite numbers for it.
            DeadlineExceeded: there is no result within `timeout_seconds`, or the default where none are given.
        """
        model = served.require()
        task = _Task(EncodedPicture(data), served, model, timings, Priority.INTERACTIVE, timeout_seconds)
        waiting = self._admission.waiting(priority=task.priority, timeout_seconds=timeout_seconds)
        with self._metrics.statistics.of(model.network).request(timings), self._counted(task), waiting:
            found = await self._logits_in_time(task)
            with timings.measure("postprocess"):
                predictions = top_predictions(found.logits, model.labels, top_k)
        self._shadows.follow(served, model.labels, task.picture, found.logits)
        return Classified(predictions, found.cache)

    async def infer(
        self,
        pictures: Sequence[Picture],
        served: ServedModel,
        *,
        timeout_seconds: float | None,
        timings: StageTimings,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Inferred:
        """Return the logits, float32 [N, classes], of N pictures in their order.

        They go to the batches one by one. The first that fails ends the others. Of each stage `timings`
        gets what the slowest picture took.

        Raises:
            InvalidItem: one of the pictures is not valid; it says which one.
            Problem: as `classify` does.
        """
        model = served.require()
        if self._cache is None:  # at once or not at all: what is turned away halfway was decoded in vain
            self._admission.admit(model, rows=len(pictures), priority=priority, timeout_seconds=timeout_seconds).leave()
        tasks = [
            _Task(picture, served, model, timings if index == 0 else timings.beside(), priority, timeout_seconds)
            for index, picture in enumerate(pictures)
        ]
        waiting = self._admission.waiting(priority=priority, timeout_seconds=timeout_seconds)
        with self._metrics.statistics.of(model.network).request(timings), waiting:
            try:
                async with asyncio.TaskGroup() as group:
                    items = [group.create_task(self._item(index, task)) for index, task in enumerate(tasks)]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            finally:
                timings.take_longest(*(task.timings for task in tasks[1:]))
        found = [item.result() for item in items]
        for picture, one in zip(pictures, found, strict=True):
            self._shadows.follow(served, model.labels, picture, one.logits)
        return Inferred(torch.stack([one.logits for one in found]), _least({one.cache for one in found}))

    async def _item(self, index: int, task: "_Task") -> Inferred:
        try:
            with self._counted(task):
                return await self._logits_in_time(task)
        except (NotAnImage, InvalidImage) as problem:
            raise InvalidItem(index, str(problem)) from problem

    def _counted(self, task: "_Task") -> AbstractContextManager[None]:
        return self._metrics.classification(task.served.source.name, task.timings)

    async def _logits_in_time(self, task: "_Task") -> Inferred:
        found = await in_time(self._logits(task), self._admission.seconds_for(task.timeout_seconds))
        self._metrics.answered(found.cache)
        return found

    async def _logits(self, task: "_Task") -> Inferred:
        if self._cache is None:
            with self._admit(task) as place:
                return Inferred(await self._compute(task, place), "off")
        statistics = self._metrics.statistics.of(task.model.network)
        started = time.perf_counter()
        source = task.served.source
        kind = task.picture.kind
        named = kind, source.name, source.version, source.uri
        key = await cache_key(task.picture.data, *named, *task.model.identity)
        flight_key = f"{task.priority:d} {key}"  # nobody waits for what comes behind them
        if self._flights.get(flight_key) is None:
            found = await self._cache.get(key, len(task.model.labels))
            if found is not None:
                statistics.cache_hit.add(time.perf_counter() - started)
                return Inferred(found, "hit")
        if flight := self._flights.get(flight_key):
            with task.timings.measure("queue"):
                return Inferred(await flight.join(), "shared")
        statistics.cache_miss.add(time.perf_counter() - started)
        place = self._admit(task)
        return Inferred(await self._flights.start(flight_key, self._compute_and_keep(key, task, place)).join(), "miss")

    def _admit(self, task: "_Task") -> Place:
        return self._admission.admit(task.model, priority=task.priority, timeout_seconds=task.timeout_seconds)

    async def _compute_and_keep(self, key: str, task: "_Task", place: Place) -> Tensor:
        assert self._cache is not None
        with place:
            logits = await self._compute(task, place)
        await self._cache.put(key, logits)
        return logits

    async def _compute(self, task: "_Task", place: Place) -> Tensor:
        image = await self.prepare(task.picture, task.model, task.timings)
        return await self._forward(image, task, place)

    async def _forward(self, image: Tensor, task: "_Task", place: Place) -> Tensor:
        with self._watch.judging(task.served, task.model):
            logits = (await place.infer(image.unsqueeze(0), task.timings))[0]
            # What a caller has prepared may be too much for any model, and is no failure of this one.
            return logits if isinstance(task.picture, PreparedPicture) else finite(logits)

    async def prepare(self, picture: Picture, model: Model, timings: StageTimings) -> Tensor:
        """Return the input [3, H, W] of `model`; until a thread is free, the request is waiting."""
        submitted = time.perf_counter()

        def prepare() -> tuple[Tensor, float]:
            started = time.perf_counter()
            timings.add("queue", started - submitted)
            prepared = picture.prepare(model.preprocessing, timings, max_pixels=self._max_image_pixels)
            return prepared, time.perf_counter() - started

        prepared, seconds = await asyncio.get_running_loop().run_in_executor(self._decode_pool, prepare)
        self._admission.decoded(seconds)
        return prepared


@dataclass(frozen=True, slots=True)
class _Task:
    """One picture on its way."""

    picture: Picture
    served: ServedModel
    model: Model
    timings: StageTimings
    priority: Priority
    timeout_seconds: float | None


def _least(outcomes: Set[CacheOutcome]) -> CacheOutcome:
    """Return what several pictures together count as: computed, where one was."""
    ranked: tuple[CacheOutcome, ...] = ("off", "miss", "shared", "hit")
    return next(outcome for outcome in ranked if outcome in outcomes)


async def in_time(work: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
    """Return what `work` does.

    Raises:
        DeadlineExceeded: it took longer than `timeout_seconds`, and was cancelled.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(f"there was no result within {timeout_seconds:g} s") from None
