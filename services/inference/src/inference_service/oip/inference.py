"""One request for an inference, from its tensors to those of the answer, whatever way it came."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from inference_service.executors import run_by_size
from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import CacheOutcome
from inference_service.oip.inputs import read_pictures
from inference_service.oip.outputs import make_outputs, size_of, wanted_outputs
from inference_service.oip.requests import InferRequest, RequestedOutput
from inference_service.oip.tensors import Tensor
from inference_service.pipeline import Pipeline
from inference_service.timings import StageTimings

_NUMBER_BYTES = 20
"""Of a float as text, about."""


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The outputs of one request, in the order in which they were asked for."""

    model_name: str
    model_version: str
    id: str
    outputs: Sequence[tuple[RequestedOutput, Tensor]]
    cache: CacheOutcome

    @property
    def size_bytes(self) -> int:
        """Return about what its tensors take on the wire, where that is JSON."""
        return sum(math.prod(tensor.shape) for _, tensor in self.outputs) * _NUMBER_BYTES


async def infer(
    request: InferRequest,
    served: ServedModel,
    pipeline: Pipeline,
    *,
    max_items: int,
    timeout_seconds: float | None,
    timings: StageTimings,
) -> InferAnswer:
    """Answer one request. It has an answer for each of its pictures, or none.

    Raises:
        BadRequest: the request does not fit the model.
        InvalidItem: a picture is not valid; it says which one.
        Problem: as `Pipeline.infer` does.
    """
    wanted = wanted_outputs(request)
    pictures = read_pictures(request.inputs, most=max_items)
    labels = served.require().labels
    inferred = await pipeline.infer(
        pictures,
        served,
        timeout_seconds=request.timeout_seconds(timeout_seconds),
        timings=timings,
        priority=request.priority,
    )
    with timings.measure("postprocess"):
        work = size_of(wanted, inferred.logits)
        outputs = await run_by_size(work, make_outputs, wanted, inferred.logits, labels)
    return InferAnswer(served.source.name, served.source.version, request.id, outputs, inferred.cache)
