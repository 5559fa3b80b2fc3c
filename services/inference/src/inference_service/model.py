"""A network and what goes with it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from inference_service.compute.cuda import ends_process
from inference_service.compute.modes import Measurement, Mode, ModeSetting
from inference_service.preprocessing import Preprocessing


class ModelUnavailable(Exception):
    """A model cannot be served; the message says why."""


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Return the sizes that a model is tried with before it is served: the powers of two, and the largest."""
    return (*(1 << power for power in range((max_batch_size - 1).bit_length())), max_batch_size)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """A network in evaluation mode, with its preprocessing and the names of its classes."""

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    device: str
    dtype: torch.dtype
    digest: str = ""
    """SHA-256 of the weights, in hexadecimal digits."""

    architecture: str = ""
    """What the weights are put into, where their source leaves it open."""

    mode: Mode = Mode.EAGER
    measurements: tuple[Measurement, ...] = ()
    """Of each mode that it was compared in; none where the mode was set."""

    calibration: str = ""
    """SHA-256 of the ranges that it is computed in 8 bits with."""

    batch_seconds: Mapping[int, float] = field(default_factory=dict)
    """What batches of the smallest and of the largest size have taken in the warm-up, by their size."""

    @property
    def dtype_name(self) -> str:
        """Return the dtype that it is computed in, as in `float32`."""
        if self.mode is Mode.INT8:
            return "int8"
        return str(self.dtype).removeprefix("torch.")

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what decides its answers to a picture: the same at each start, and in each process."""
        return (
            self.digest,
            self.architecture,
            repr(self.preprocessing),
            self.dtype_name,
            self.mode,
            self.calibration,
        )

    @property
    def is_on_gpu(self) -> bool:
        """Tell whether it is computed on a GPU."""
        return self.device.startswith("cuda")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 [N, classes], of preprocessed pictures, [N, 3, H, W].

        They are float32, or uint8 where `preprocessing` leaves it to this to normalize them.
        """
        with torch.inference_mode():
            logits: Tensor = self.network(self.inputs(images))
            return logits.float().cpu()

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the network takes of preprocessed pictures, as `forward` does: normalized, on its device."""
        layout = torch.contiguous_format if self.mode is Mode.EAGER else torch.channels_last
        if self.is_on_gpu:
            images = images.pin_memory().to(self.device, non_blocking=True)
        return self.normalized(images).to(self.device, self.dtype, memory_format=layout)

    def normalized(self, images: Tensor) -> Tensor:
        """Return the float32 of preprocessed pictures, also where `preprocessing` has left that to be done."""
        return self.preprocessing.normalize(images) if images.dtype is torch.uint8 else images

    def warm_up(self, max_batch_size: int = 1) -> Mapping[int, float]:
        """Compute a grey picture in batches of each of `batch_sizes`, and time the smallest and the largest.

        Whatever is allocated or chosen at the first batch of a size is there for the first request.

        Raises:
            ModelUnavailable: the network fails, or does not give one finite logit for each label.
        """
        side = self.preprocessing.input_size
        image = self.preprocessing(Image.new("RGB", (side, side), "gray"))
        batches = [image.expand(rows, -1, -1, -1).contiguous() for rows in batch_sizes(max_batch_size)]
        for images in batches:
            self._check(images)
        return {len(images): self._seconds(images) for images in (batches[0], batches[-1])}

    def _seconds(self, images: Tensor) -> float:
        started = time.perf_counter()
        self.forward(images)
        return time.perf_counter() - started

    def _check(self, images: Tensor) -> None:
        try:
            logits = self.forward(images)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            if ends_process(error):  # which is no fault of the network
                raise
            reason = str(error).strip().partition("\n")[0]
            raise ModelUnavailable(f"the network fails on an input of {list(images.shape)}: {reason}") from error
        expected = [len(images), len(self.labels)]
        if list(logits.shape) != expected:
            raise ModelUnavailable(f"expected logits of {expected}, and the network gives {list(logits.shape)}")
        if not torch.isfinite(logits).all():
            raise ModelUnavailable("the logits of a picture are not finite")


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """A file, and the label that must come first for it."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from. `load` may take minutes and raises `ModelUnavailable`."""

    name: str
    version: str
    """A whole number: the highest is the newest."""

    uri: str
    load: Callable[[], Model] = field(compare=False)
    golden: tuple[GoldenPicture, ...] = ()
    fingerprint: str = ""
    """Of all that `load` reads: a source with another one is loaded again."""

    mode: ModeSetting | None = None
    """How to compute it; by default as the service is told."""

    calibration: Path | None = None
    """Ranges for computing it in 8 bits."""

    weight: float | None = field(default=None, compare=False)
    """Percent of the callers that a canary answers. A source with another one is not loaded again."""

    shadow: float | None = field(default=None, compare=False)
    """Percent of the requests that a shadow goes along with."""

    @property
    def is_stable(self) -> bool:
        """Tell whether it is neither a canary nor a shadow."""
        return self.weight is None and self.shadow is None
