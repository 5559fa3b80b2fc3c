"""The way of a picture through the service: the one place that knows the order of the stages."""

import asyncio
import time
from concurrent.futures import Executor

from torch import Tensor

from inference_service.batching import DynamicBatcher
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
        batcher: DynamicBatcher,
        max_image_pixels: int,
        timeout_seconds: float,
        metrics: InferenceMetrics,
    ) -> None:
        self._decode_pool = decode_pool
        self._batcher = batcher
        self._max_image_pixels = max_image_pixels
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics

    async def classify(
        self, data: bytes, served: ServedModel, *, top_k: int, timings: StageTimings
    ) -> list[Prediction]:
        """Return the `top_k` classes of the encoded picture `data`, best first.

        When it is cancelled, what has not started by then is not computed.

        Raises:
            NotAnImage: `data` is in none of the formats that are decoded.
            InvalidImage: the picture cannot be decoded.
            ModelNotReady: the model is not loaded.
            Overloaded: too many are waiting; nothing was decoded.
            ShuttingDown: no more pictures are taken.
            InferenceFailed: the model failed on the batch of this picture.
            DeadlineExceeded: there is no result in time.
        """
        model = served.require()
        with self._metrics.request(served.source.name, timings):
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    with self._batcher.take_place() as place:
                        image = await self._prepare(data, model, timings)
                        logits = await place.infer(model, image.unsqueeze(0), timings)
            except TimeoutError:
                raise DeadlineExceeded(f"there was no result within {self._timeout_seconds:g} s") from None
            with timings.measure("postprocess"):
                return top_predictions(logits[0], model.labels, top_k)

    async def _prepare(self, data: bytes, model: Model, timings: StageTimings) -> Tensor:
        """Return the input [3, H, W] of `model`; until a thread is free, the request is waiting."""
        submitted = time.perf_counter()

        def prepare() -> Tensor:
            timings.add("queue", time.perf_counter() - submitted)
            with timings.measure("decode"):
                image = decode(data, max_pixels=self._max_image_pixels)
            with timings.measure("preprocess"):
                return model.preprocessing(image)

        return await asyncio.get_running_loop().run_in_executor(self._decode_pool, prepare)
