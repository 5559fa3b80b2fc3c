"""Small networks for the tests that do not look at scores."""

import threading
from collections.abc import Callable

import torch
from inference_service.model import Model, ModelSource
from inference_service.preprocessing import Preprocessing
from torch import Tensor, nn

LABELS = ("red", "green", "blue")


class Colours(nn.Module):
    """Tells which colour a picture has most of."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def is_warm_up(images: Tensor) -> bool:
    """Tell the grey pictures of a warm-up from those of callers."""
    return bool((images == images.flatten()[0]).all())


class Gate(nn.Module):
    """Computes nothing after its warm-up until it is opened. Counts what it computes, the warm-up as one."""

    def __init__(self) -> None:
        super().__init__()
        self.computed = 0
        self.entered = threading.Event()
        self.opened = threading.Event()

    def forward(self, images: Tensor) -> Tensor:
        if is_warm_up(images):
            self.computed = 1
        else:
            self.computed += 1
            self.entered.set()
            assert self.opened.wait(30)
        return images.mean((2, 3))


def tiny_model(network: nn.Module | None = None, *, labels: tuple[str, ...] = LABELS) -> Model:
    """Return a model with pictures of 8 by 8 pixels."""
    preprocessing = Preprocessing(input_size=8, crop_padding=0, mean=(0.0,) * 3, std=(255.0,) * 3)
    return Model(network or Colours(), preprocessing, labels, device="cpu", dtype=torch.float32)


def tiny_source(
    network: nn.Module | None = None,
    *,
    name: str = "tiny",
    version: str = "1",
    load: Callable[[], Model] | None = None,
    weight: float | None = None,
    shadow: float | None = None,
) -> ModelSource:
    """Return where a tiny model comes from."""
    found = load or (lambda: tiny_model(network))
    return ModelSource(name, version, f"test:{name}", load=found, weight=weight, shadow=shadow)


WIDE = 10_000


class Wide(nn.Module):
    """Has many classes, and the likeliest is the last."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)).unsqueeze(1) + torch.linspace(0, 1, WIDE)


def wide_model() -> Model:
    """Return a model whose answers are large."""
    return tiny_model(Wide(), labels=tuple(map(str, range(WIDE))))


class Overflowing(nn.Module):
    """Gives no finite numbers for the pictures of callers."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * (1 if is_warm_up(images) else torch.inf)


class Failing(nn.Module):
    """Fails on the pictures of callers."""

    def forward(self, images: Tensor) -> Tensor:
        if not is_warm_up(images):
            raise RuntimeError("a secret")
        return images.mean((2, 3))
