"""Which part of a picture speaks for a class, by the network itself.

Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017) where the last feature map of a convolutional network can be seen; else
occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014).
"""

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from inference_service.compute.cuda import RecordedNetwork
from inference_service.compute.modes import Mode
from inference_service.compute.packing import PackedConvolution
from inference_service.compute.traced_network import TracedNetwork
from inference_service.model import Model

CELLS = 8
"""Occlusion looks at so many cells across and down, through windows of two by two of them."""

WINDOWS = (CELLS - 1) ** 2


@dataclass(frozen=True, slots=True)
class Saliency:
    """What speaks for one class."""

    index: int
    score: float
    """Of the class, by softmax over all."""

    map: Tensor
    """Float32 [h, w] over the input of the model, from 0 to 1, 1 where most speaks for the class."""


def has_feature_map(network: nn.Module) -> bool:
    """Tell whether Grad-CAM suits a network: it convolves, and what is then known of a place stays there.

    Attention mixes the places; and the programs of `torch.export` have no modules to look into.
    """
    modules = list(network.modules())
    convolves = any(isinstance(module, nn.Conv2d | PackedConvolution) for module in modules)
    return convolves and not any(isinstance(module, nn.MultiheadAttention) for module in modules)


def is_closed(model: Model) -> bool:
    """Tell whether the layers of a model cannot be looked into, whatever network it was made of."""
    return model.mode.is_compiled or model.mode.is_cascade or model.mode is Mode.INT8


def open_network(model: Model) -> nn.Module:
    """Return the layers of a model that is not closed."""
    if isinstance(model.network, RecordedNetwork | TracedNetwork):
        return model.network.network
    return model.network


def grad_cam(images: Tensor, model: Model, network: nn.Module, target: int | None) -> Tensor:
    """Return float32 [1, classes + h * w] for one input [1, 3, H, W]: the logits, and the map row by row.

    `network` is the open one of `model`, or where that is closed what it was made of.

    The map is the sum of the channels of the last feature map, each weighted by the mean of the gradient
    of the logit of `target` (by default the highest) with respect to it; what is below 0 is cut off.
    Without the map, [1, classes], where no feature map of two by two or more leads to the logit.
    """
    answer = model.forward(images) if is_closed(model) else None  # that of its own, which callers get
    last: list[Tensor] = []
    thread = threading.get_ident()

    def cut(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if threading.get_ident() != thread:
            return None  # another network, or this one while it is compared with faster modes of itself
        if not isinstance(output, Tensor) or output.ndim != 4 or min(output.shape[2:]) < 2:
            return None
        # Nothing before the last map needs a gradient. Each may be the last, so the network is cut at each.
        torch.set_grad_enabled(True)
        last[:] = [output.detach().requires_grad_()]
        return last[0].clone()  # modules that follow may write to what they are given

    # A hook of the modules themselves would be copied with them, when a faster mode is tried meanwhile.
    handle = register_module_forward_hook(cut)  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            inputs = model.inputs(images)
            inputs = inputs.to(next(network.parameters(), inputs).dtype)  # which that of a closed one may not be
            logits: Tensor = network(inputs)
            shown = logits.detach().float() if answer is None else answer.to(logits.device)
            index = int(shown[0].argmax()) if target is None else target
            [gradient] = torch.autograd.grad(logits[0, index], last, allow_unused=True) if last else [None]
    finally:
        handle.remove()
    if gradient is None:
        return shown.cpu()
    features = last[0].detach()
    heat = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()
    return torch.cat([shown, heat.float().flatten(1)], 1).cpu()


def read_grad_cam(row: Tensor, classes: int, target: int | None) -> Saliency:
    """Return what one row of `grad_cam` says. The map of a square input is square."""
    logits, heat = row[:classes], row[classes:]
    side = math.isqrt(len(heat))
    return _saliency(logits, target, heat.view(side, side))


def occluded(image: Tensor, windows: range) -> Tensor:
    """Return inputs [N, 3, H, W]: the normalized `image` [3, H, W] with one of `windows` each in the mean colour."""
    images = image.expand(len(windows), -1, -1, -1).clone()
    for row, window in zip(images, windows, strict=True):
        top, left = divmod(window, CELLS - 1)
        height, width = image.shape[1:]
        row[
            :,
            top * height // CELLS : (top + 2) * height // CELLS,
            left * width // CELLS : (left + 2) * width // CELLS,
        ] = 0.0
    return images


def read_occlusion(whole: Tensor, parts: Tensor, target: int | None) -> Saliency:
    """Return what is lost without each part: from the logits [classes] of the whole and [WINDOWS, classes]."""
    index = int(whole.argmax()) if target is None else target
    lost = (whole.softmax(0)[index] - parts.softmax(1)[:, index]).relu().view(CELLS - 1, CELLS - 1)
    heat, windows = torch.zeros(2, CELLS, CELLS)
    for down in (0, 1):
        for across in (0, 1):
            cells = (slice(down, down + CELLS - 1), slice(across, across + CELLS - 1))
            heat[cells] += lost
            windows[cells] += 1
    return _saliency(whole, target, heat / windows)


def _saliency(logits: Tensor, target: int | None, heat: Tensor) -> Saliency:
    index = int(logits.argmax()) if target is None else target
    highest = heat.max()
    return Saliency(index, float(logits.softmax(0)[index]), heat / highest if highest > 0 else heat)
