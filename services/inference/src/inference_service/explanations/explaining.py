"""Explanations: which part of a picture speaks for its class. Predictions go before them."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from inference_service.admission import Admission
from inference_service.batching import Place, Priority
from inference_service.errors import UnknownClass
from inference_service.explanations.eager_copies import EagerCopies
from inference_service.explanations.overlay import draw_overlay
from inference_service.explanations.saliency import (
    WINDOWS,
    Saliency,
    grad_cam,
    has_feature_map,
    is_closed,
    occluded,
    open_network,
    read_grad_cam,
    read_occlusion,
)
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model, ModelSource
from inference_service.pictures import EncodedPicture
from inference_service.pipeline import Pipeline, in_time
from inference_service.postprocessing import finite
from inference_service.timings import StageTimings

Method = Literal["grad-cam", "occlusion"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which part of a picture speaks for a class; as a PNG where that was asked for."""

    saliency: Saliency
    label: str
    method: Method
    png: bytes | None


class Explainer:
    """Computes explanations where nobody waits for a prediction."""

    def __init__(
        self,
        pipeline: Pipeline,
        admission: Admission,
        decode_pool: Executor,
        copies: EagerCopies,
        *,
        max_image_pixels: int,
        metrics: InferenceMetrics,
        watch: FailureWatch,
    ) -> None:
        self._pipeline = pipeline
        self._admission = admission
        self._decode_pool = decode_pool
        self._copies = copies
        self._max_image_pixels = max_image_pixels
        self._metrics = metrics
        self._watch = watch

    async def explain(
        self,
        data: bytes,
        served: ServedModel,
        *,
        target: int | None,
        draw: bool,
        timeout_seconds: float | None,
        timings: StageTimings,
    ) -> Explanation:
        """Return which part of the encoded picture `data` speaks for the class `target`, or for the likeliest.

        Raises:
            UnknownClass: the model has no class `target`.
            Problem: as `Pipeline.classify` does.
        """
        model = served.require()
        if target is not None and target >= len(model.labels):
            raise UnknownClass(f"the model has the classes 0 to {len(model.labels) - 1}")
        request = _Request(EncodedPicture(data), served.source, model, target, timings, timeout_seconds)
        waiting = self._admission.waiting(priority=Priority.LOW, timeout_seconds=timeout_seconds)
        with self._metrics.request(served.source.name, timings), self._watch.judging(served, model), waiting:
            return await in_time(self._explain(request, draw=draw), self._admission.seconds_for(timeout_seconds))

    async def _explain(self, request: "_Request", *, draw: bool) -> Explanation:
        model, timings = request.model, request.timings
        network = await self._network(request)
        forward = network and partial(grad_cam, model=model, network=network, target=request.target)
        with self._admit(request) as place:
            image = await self._pipeline.prepare(request.picture, model, timings)
            [row] = finite(await place.infer(image.unsqueeze(0), timings, forward))
            method: Method = "grad-cam" if len(row) > len(model.labels) else "occlusion"
            if method == "grad-cam":
                saliency = read_grad_cam(row, len(model.labels), request.target)
            else:
                saliency = read_occlusion(row, await self._without_parts(request, image), request.target)
        with timings.measure("postprocess"):
            png = await self._draw(request, saliency) if draw else None
        return Explanation(saliency, model.labels[saliency.index], method, png)

    async def _network(self, request: "_Request") -> nn.Module | None:
        """Return the layers of the model, where Grad-CAM suits them."""
        if is_closed(request.model):
            return await self._copies.of(request.source, request.model)
        network = open_network(request.model)
        return network if has_feature_map(network) else None

    async def _without_parts(self, request: "_Request", image: Tensor) -> Tensor:
        """Return the logits [WINDOWS, classes] of `image` without each of its windows."""
        image = request.model.normalized(image)  # among its grey levels 0 is black
        logits = []
        at_once = self._admission.batcher.max_batch_size
        for start in range(0, WINDOWS, at_once):
            images = occluded(image, range(start, min(start + at_once, WINDOWS)))
            with self._admit(request, rows=len(images)) as place:
                logits.append(await place.infer(images, request.timings))
        return finite(torch.cat(logits))

    def _admit(self, request: "_Request", rows: int = 1) -> Place:
        return self._admission.admit(
            request.model, rows=rows, priority=Priority.LOW, timeout_seconds=request.timeout_seconds
        )

    async def _draw(self, request: "_Request", saliency: Saliency) -> bytes:
        # Decoded anew: kept while it waited, the pixels of a large picture would take 200 MB.
        draw = partial(
            draw_overlay,
            request.picture.data,
            saliency.map,
            request.model.preprocessing,
            max_pixels=self._max_image_pixels,
        )
        return await asyncio.get_running_loop().run_in_executor(self._decode_pool, draw)


@dataclass(frozen=True, slots=True)
class _Request:
    picture: EncodedPicture
    source: ModelSource
    model: Model
    target: int | None
    timings: StageTimings
    timeout_seconds: float | None
