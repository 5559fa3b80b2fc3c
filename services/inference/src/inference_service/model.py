"""A network and what goes with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from inference_service.preprocessing import Preprocessing


class ModelUnavailable(Exception):
    """A model cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Model:
    """A network in evaluation mode, with its preprocessing and the names of its classes."""

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    device: str
    dtype: torch.dtype
    digest: str = ""
    """SHA-256 of the weights, in hexadecimal digits."""

    @property
    def dtype_name(self) -> str:
        """Return the dtype as in `float32`."""
        return str(self.dtype).removeprefix("torch.")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 [N, classes], of preprocessed pictures, float32 [N, 3, H, W]."""
        with torch.inference_mode():
            logits: Tensor = self.network(images.to(self.device, self.dtype))
            return logits.float().cpu()

    def warm_up(self) -> None:
        """Run one picture through, so that the first request finds everything allocated.

        Raises:
            ModelUnavailable: the network fails, or does not give one finite logit for each label.
        """
        side = self.preprocessing.input_size
        image = self.preprocessing(Image.new("RGB", (side, side), "gray"))
        try:
            logits = self.forward(image.unsqueeze(0))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelUnavailable(f"the network fails on an input of {list(image.shape)}: {reason}") from error
        if logits.shape != (1, len(self.labels)):
            raise ModelUnavailable(f"expected {len(self.labels)} logits for a picture, got {list(logits.shape)}")
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
