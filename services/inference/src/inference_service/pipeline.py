"""The way of a picture through the service: the one place that knows the order of the stages."""

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from inference_service.admission import Admission
from inference_service.batching import Place, Priority
from inference_service.cache import PredictionCache, cache_key
from inference_service.decoding import decode_picture
from inference_service.errors import DeadlineExceeded
from inference_service.metrics import CacheOutcome, InferenceMetrics
from inference_service.model import Model
from inference_service.postprocessing import Prediction, top_predictions
from inference_service.registry import ServedModel
from inference_service.single_flight import SingleFlight
from inference_service.timings import StageTimings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Classified:
    """What a picture shows, best first, and where that came from."""

    predictions: list[Prediction]
    cache: CacheOutcome


class Pipeline:
    """Classifies pictures: decode and preprocess on a pool of threads, compute in batches."""

    def __init__(
        self,
        *,
        decode_pool: Executor,
        admission: Admission,
        cache: PredictionCache | None,
        max_image_pixels: int,
        metrics: InferenceMetrics,
    ) -> None:
        self._decode_pool = decode_pool
        self._admission = admission
        self._cache = cache
        self._flights: SingleFlight[list[Prediction]] = SingleFlight()
        self._max_image_pixels = max_image_pixels
        self._metrics = metrics

    def check(self, served: ServedModel, *, timeout_seconds: float, priority: Priority = Priority.INTERACTIVE) -> None:
        """Turn a request away before its body is read, where no body could change that.

        Raises:
            ModelNotReady: the model is not loaded.
            Overloaded: the answer would not come within `timeout_seconds`.
        """
        model = served.require()
        if self._cache is None:  # else the answer may be there, and cost nothing
            self._admission.check(model, priority=priority, timeout_seconds=timeout_seconds)

    def silent_seconds(self, model: Model) -> float:
        """Return how long ago a batch of `model` was computed; infinite where none was."""
        return self._admission.silent_seconds(model)

    async def probe(self, data: bytes, served: ServedModel, *, timeout_seconds: float) -> None:
        """Take a picture through all stages, in no cache and no count of requests; raises as `classify` does."""
        task = _Task(data, served, served.require(), 1, StageTimings(), Priority.INTERACTIVE, timeout_seconds)
        with self._admit(task) as place:
            await _in_time(self._compute(task, place), timeout_seconds)

    async def classify(
        self,
        data: bytes,
        served: ServedModel,
        *,
        top_k: int,
        timeout_seconds: float,
        timings: StageTimings,
        priority: Priority = Priority.INTERACTIVE,
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
            InferenceFailed: the model failed on the batch of this picture.
            DeadlineExceeded: there is no result within `timeout_seconds`.
        """
        model = served.require()
        with self._metrics.request(served.source.name, timings):
            task = _Task(data, served, model, top_k, timings, priority, timeout_seconds)
            classified = await _in_time(self._classify(task), timeout_seconds)
        self._metrics.answered(classified.cache)
        return classified

    async def _classify(self, task: "_Task") -> Classified:
        if self._cache is None:
            with self._admit(task) as place:
                return Classified(await self._compute(task, place), "off")
        source = task.served.source
        key = await cache_key(task.data, source.name, source.version, source.uri, task.model.digest, str(task.top_k))
        if self._flights.get(key) is None and (found := await self._cache.get(key)) is not None:
            return Classified(found, "hit")
        if flight := self._flights.get(key):
            with task.timings.measure("queue"):
                return Classified(await flight.join(), "shared")
        place = self._admit(task)
        return Classified(await self._flights.start(key, self._compute_and_keep(key, task, place)).join(), "miss")

    def _admit(self, task: "_Task") -> Place:
        return self._admission.admit(task.model, priority=task.priority, timeout_seconds=task.timeout_seconds)

    async def _compute_and_keep(self, key: str, task: "_Task", place: Place) -> list[Prediction]:
        assert self._cache is not None
        with place:
            predictions = await self._compute(task, place)
        await self._cache.put(key, predictions)
        return predictions

    async def _compute(self, task: "_Task", place: Place) -> list[Prediction]:
        image = await self._prepare(task.data, task.model, task.timings)
        logits = await place.infer(image.unsqueeze(0), task.timings)
        with task.timings.measure("postprocess"):
            return top_predictions(logits[0], task.model.labels, task.top_k)

    async def _prepare(self, data: bytes, model: Model, timings: StageTimings) -> Tensor:
        """Return the input [3, H, W] of `model`; until a thread is free, the request is waiting."""
        submitted = time.perf_counter()

        def prepare() -> tuple[Tensor, float]:
            started = time.perf_counter()
            timings.add("queue", started - submitted)
            with timings.measure("decode"):
                picture = decode_picture(data, max_pixels=self._max_image_pixels, min_side=model.preprocessing.min_side)
            with timings.measure("preprocess"):
                prepared = model.preprocessing(picture)
            return prepared, time.perf_counter() - started

        prepared, seconds = await asyncio.get_running_loop().run_in_executor(self._decode_pool, prepare)
        self._admission.decoded(seconds)
        return prepared


@dataclass(frozen=True, slots=True)
class _Task:
    """One picture on its way."""

    data: bytes
    served: ServedModel
    model: Model
    top_k: int
    timings: StageTimings
    priority: Priority
    timeout_seconds: float


async def _in_time(work: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(f"there was no result within {timeout_seconds:g} s") from None
