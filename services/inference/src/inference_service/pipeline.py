"""The way of a picture through the service: the one place that knows the order of the stages."""

import asyncio
import time
from concurrent.futures import Executor

from torch import Tensor

from inference_service.admission import Admission
from inference_service.batching import Priority
from inference_service.decoding import decode
from inference_service.errors import DeadlineExceeded
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.postprocessing import Prediction, top_predictions
from inference_service.registry import ServedModel
from inference_service.timings import StageTimings


class Pipeline:
    """Classifies pictures: decode and preprocess on a pool of threads, compute in batches."""

    def __init__(
        self,
        *,
        decode_pool: Executor,
        admission: Admission,
        max_image_pixels: int,
        metrics: InferenceMetrics,
    ) -> None:
        self._decode_pool = decode_pool
        self._admission = admission
        self._max_image_pixels = max_image_pixels
        self._metrics = metrics

    def check(self, served: ServedModel, *, timeout_seconds: float, priority: Priority = Priority.INTERACTIVE) -> None:
        """Turn a request away before its body is read.

        Raises:
            ModelNotReady: the model is not loaded.
            Overloaded: the answer would not come within `timeout_seconds`.
        """
        self._admission.check(served.require(), priority=priority, timeout_seconds=timeout_seconds)

    async def classify(
        self,
        data: bytes,
        served: ServedModel,
        *,
        top_k: int,
        timeout_seconds: float,
        timings: StageTimings,
        priority: Priority = Priority.INTERACTIVE,
    ) -> list[Prediction]:
        """Return the `top_k` classes of the encoded picture `data`, best first.

        When it is cancelled, what has not started by then is not computed.

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
            try:
                async with asyncio.timeout(timeout_seconds):
                    with self._admission.admit(model, priority=priority, timeout_seconds=timeout_seconds) as place:
                        image = await self._prepare(data, model, timings)
                        logits = await place.infer(image.unsqueeze(0), timings)
            except TimeoutError:
                raise DeadlineExceeded(f"there was no result within {timeout_seconds:g} s") from None
            with timings.measure("postprocess"):
                return top_predictions(logits[0], model.labels, top_k)

    async def _prepare(self, data: bytes, model: Model, timings: StageTimings) -> Tensor:
        """Return the input [3, H, W] of `model`; until a thread is free, the request is waiting."""
        submitted = time.perf_counter()

        def prepare() -> tuple[Tensor, float]:
            started = time.perf_counter()
            timings.add("queue", started - submitted)
            with timings.measure("decode"):
                image = decode(data, max_pixels=self._max_image_pixels)
            with timings.measure("preprocess"):
                prepared = model.preprocessing(image)
            return prepared, time.perf_counter() - started

        prepared, seconds = await asyncio.get_running_loop().run_in_executor(self._decode_pool, prepare)
        self._admission.decoded(seconds)
        return prepared
