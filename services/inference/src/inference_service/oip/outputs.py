"""The outputs of every model: numbers for each class, or the names of the best."""

from collections.abc import Sequence

import torch
from servicekit.problem import Problem

from inference_service.oip.errors import BadRequest
from inference_service.oip.requests import InferRequest, RequestedOutput
from inference_service.oip.tensors import Tensor

OUTPUTS = ("logits", "probabilities")
"""Both FP32 [N, classes]; the second is the softmax of the first."""


class NotFinite(Problem):
    """The model gives no finite number for an input."""

    status, title, slug = 400, "Not finite", "not-finite"


def wanted_outputs(request: InferRequest) -> Sequence[RequestedOutput]:
    """Return the outputs that a request names, or all.

    Raises:
        BadRequest: there is no such output, or one is named twice.
    """
    if not request.outputs:
        return [RequestedOutput(name, binary=request.binary) for name in OUTPUTS]
    names = [output.name for output in request.outputs]
    for name in names:
        if name not in OUTPUTS:
            raise BadRequest(f"unexpected inference output '{name}': the outputs are {' and '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise BadRequest("an output is named twice")
    return request.outputs


_NAME_BYTES = 250
"""Of what takes as long as to write the name of a class, about."""


def size_of(wanted: Sequence[RequestedOutput], logits: torch.Tensor) -> int:
    """Return the size of what `make_outputs` has to do for the outputs of `logits`, about, in bytes."""
    rows, classes = logits.shape
    names = sum(min(output.classification, classes) for output in wanted)
    return rows * (names * _NAME_BYTES + classes * torch.float32.itemsize * len(wanted))


def make_outputs(
    wanted: Sequence[RequestedOutput], logits: torch.Tensor, labels: Sequence[str]
) -> list[tuple[RequestedOutput, Tensor]]:
    """Return each wanted output of logits, float32 [N, classes].

    Raises:
        NotFinite: a logit is infinite or not a number.
    """
    if not torch.isfinite(logits).all():
        index = int(torch.isfinite(logits).all(1).logical_not().nonzero()[0])
        raise NotFinite(f"item {index}: the model gives no finite numbers for it")
    return [(output, _make_output(output, logits, labels)) for output in wanted]


def _make_output(wanted: RequestedOutput, logits: torch.Tensor, labels: Sequence[str]) -> Tensor:
    values = logits if wanted.name == "logits" else logits.softmax(1)
    if not wanted.classification:
        return Tensor(wanted.name, "FP32", tuple(values.shape), values.numpy())
    best = values.topk(min(wanted.classification, len(labels)), 1)
    named = [
        f"{value:f}:{index}:{labels[index]}".encode()
        for value, index in zip(best.values.flatten().tolist(), best.indices.flatten().tolist(), strict=True)
    ]
    return Tensor(wanted.name, "BYTES", tuple(best.values.shape), named)
