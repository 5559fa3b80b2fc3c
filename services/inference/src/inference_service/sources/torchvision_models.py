"""torchvision's classifiers: their networks, their published weights and the transforms of these.

Only what uses torchvision imports it: the functions here.
"""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from inference_service.model import ModelUnavailable
from inference_service.preprocessing import Preprocessing, grey_levels
from inference_service.weights import first_line

_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """What torchvision says of the weights of one classifier."""

    url: str
    sha256: str
    """How the SHA-256 of the file begins: the publishers put that in its name."""

    labels: tuple[str, ...]
    preprocessing: Preprocessing


def published_weights(name: str, weights: str | None = None) -> PublishedWeights:
    """Return one set of weights of a classifier: by default the set that torchvision recommends.

    Raises:
        ModelUnavailable: there is no such classifier, or no such weights that classify.
    """
    _check_name(name)
    known = _torchvision().models.get_model_weights(name)
    try:
        chosen: Any = known[weights or "DEFAULT"]
    except KeyError:
        raise ModelUnavailable(
            f"torchvision has no weights {weights} of {name}: it has {', '.join(w.name for w in known)}"
        ) from None
    digest = _DIGEST_IN_NAME.search(chosen.url)
    if chosen.meta["categories"] is None or digest is None:
        raise ModelUnavailable(f"the weights {chosen.name} of {name} are not those of a classifier")
    return PublishedWeights(
        url=chosen.url,
        sha256=digest[1],
        labels=tuple(chosen.meta["categories"]),
        preprocessing=preprocessing_of(chosen.transforms()),
    )


def preprocessing_of(transforms: Any) -> Preprocessing:
    """Return what does as torchvision's `ImageClassification` transforms do."""
    return Preprocessing(
        input_size=transforms.crop_size[0],
        resize_size=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        mean=grey_levels(transforms.mean),
        std=grey_levels(transforms.std),
    )


def build_classifier(name: str, tensors: Mapping[str, Tensor], *, classes: int, input_size: int) -> nn.Module:
    """Return a network with these weights, in evaluation mode.

    Raises:
        ModelUnavailable: there is no such network, or the weights are another's.
    """
    _check_name(name)
    try:
        network: nn.Module = _torchvision().models.get_model(
            name, weights=None, **_options(name, tensors, classes, input_size)
        )
        # Copied, and strictly: no random value stays, and safetensors maps a file that somebody may write to.
        network.load_state_dict(_with_new_keys(name, tensors))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelUnavailable(f"the weights are not those of {name} with {classes} classes: {_short(error)}") from None
    return network.eval()


def _torchvision() -> Any:
    """Import torchvision.

    One operator of its detection networks asks torch's compiler at import whether it may be used, and the
    compiler takes 3 s and 150 MB to import. So a module stands in for it meanwhile, that says no.
    """
    name = "torch._dynamo"
    if "torchvision" not in sys.modules and name not in sys.modules:
        compiler, utils = ModuleType(name), ModuleType(f"{name}.utils")
        utils.is_compile_supported = lambda _device: False  # type: ignore[attr-defined]
        with _standing_in(compiler, utils), suppress(ImportError):  # of a release that asks for more
            importlib.import_module("torchvision")
    import torchvision

    return torchvision


@contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """Let imports find these modules for a while."""
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for module in modules:
            sys.modules.pop(module.__name__, None)


def _check_name(name: str) -> None:
    torchvision = _torchvision()
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        near = get_close_matches(name, names, n=3)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise ModelUnavailable(f"torchvision has no classifier {name}{hint}")


def _options(name: str, tensors: Mapping[str, Tensor], classes: int, input_size: int) -> dict[str, Any]:
    """Return what torchvision's own builders set when they are given weights."""
    options: dict[str, Any] = {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        # The heads that only training uses are in published weights, and in others or not.
        has_heads = any(key.lower().startswith("aux") for key in tensors)
        options |= {"transform_input": True, "aux_logits": has_heads, "init_weights": False}
    elif name.startswith("vgg"):
        options["init_weights"] = False
    elif name.startswith("vit_"):
        options["image_size"] = input_size
    elif name.startswith("maxvit"):
        options["input_size"] = (input_size, input_size)
    return options


def _with_new_keys(name: str, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename what DenseNet had named otherwise when its weights were published."""
    if not name.startswith("densenet"):
        return tensors
    return {_OLD_DENSENET_KEY.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}


def _short(error: Exception) -> str:
    """Return the first thing that is wrong: `load_state_dict` lists each tensor, after a heading."""
    _heading, _, rest = str(error).partition("\n")
    return rest.strip().partition("\n")[0][:200] if rest.strip() else first_line(error)
