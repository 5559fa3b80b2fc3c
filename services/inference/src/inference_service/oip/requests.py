"""What is asked of a model, whatever way it came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference_service.batching import Priority
from inference_service.oip.errors import BadRequest
from inference_service.oip.tensors import Tensor

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]

MAX_TIMEOUT_MICROSECONDS = 300_000_000
MAX_TENSORS = 16
"""Of the inputs of a request, and of its outputs: no model has so many, and to look at each takes its time."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the caller wants."""

    name: str
    classification: int = 0
    """Of how many classes the names are wanted, in place of the numbers; 0 is for the numbers."""

    binary: bool = False
    """Whether its data come after the JSON object; REST only."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request for an inference."""

    inputs: Sequence[Tensor]
    outputs: Sequence[RequestedOutput] = ()
    """None stand for all, with their numbers."""

    id: str = ""
    parameters: Parameters = field(default_factory=dict)
    binary: bool = False
    """Whether the outputs are binary where the caller names none."""

    @property
    def priority(self) -> Priority:
        """Return the parameter `priority`: 1 is the first to be served, 0 the default, all others are low.

        Raises:
            BadRequest: it is no such number.
        """
        level = _whole(self.parameters, "priority")
        return Priority.INTERACTIVE if level in (0, 1) else Priority.LOW

    def timeout_seconds(self, limit_seconds: float | None) -> float | None:
        """Return the parameter `timeout`, which is in microseconds, or the limit where there is one and it is shorter.

        Raises:
            BadRequest: it is no such number.
        """
        microseconds = _whole(self.parameters, "timeout")
        if microseconds > MAX_TIMEOUT_MICROSECONDS:
            raise BadRequest(f"the parameter 'timeout' must not be over {MAX_TIMEOUT_MICROSECONDS}")
        if not microseconds:
            return limit_seconds
        seconds = microseconds / 1e6
        return seconds if limit_seconds is None else min(limit_seconds, seconds)


def requested_output(name: str, parameters: Parameters, *, binary: bool = False) -> RequestedOutput:
    """Return what the parameters of an output ask for.

    Raises:
        BadRequest: a parameter has another type than it should.
    """
    if any(key.startswith("shared_memory_") for key in parameters):
        raise BadRequest(f"output '{name}': there is no shared memory here")
    wants_binary = parameters.get("binary_data", binary)
    if not isinstance(wants_binary, bool):
        raise BadRequest("the parameter 'binary_data' must be a boolean")
    return RequestedOutput(name, _whole(parameters, "classification"), wants_binary)


def _whole(parameters: Parameters, name: str) -> int:
    value = whole(parameters.get(name, 0))
    if value is None or value < 0:
        raise BadRequest(f"the parameter '{name}' must be a whole number from 0")
    return value


def whole(value: object) -> int | None:
    """Return a whole number, which in JSON may also be written as 2.0, or None where it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
