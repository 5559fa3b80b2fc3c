"""Networks that torchvision builds otherwise when it loads the weights itself."""

import re
from typing import Any

import pytest
import torch
from inference_service.sources.torchvision_models import build_classifier, published_weights
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.models import WeightsEnum, densenet121, get_model, get_model_weights, googlenet


def same(network: torch.nn.Module, built: torch.nn.Module) -> bool:
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected: Tensor = network.eval()(images)
        found: Tensor = built(images)
    return torch.allclose(found, expected, atol=1e-5)


def test_densenet_is_loaded_from_the_names_that_its_published_weights_have() -> None:
    network = densenet121(num_classes=2)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): tensor
        for key, tensor in network.state_dict().items()
    }
    assert old.keys() != network.state_dict().keys()
    assert same(network, build_classifier("densenet121", old, classes=2, input_size=64))


@pytest.mark.parametrize("heads", [True, False])
def test_googlenet_is_loaded_with_its_training_heads_or_without(heads: bool) -> None:
    network = googlenet(num_classes=2, aux_logits=heads, init_weights=False, transform_input=True)
    built = build_classifier("googlenet", network.state_dict(), classes=2, input_size=64)
    assert same(network, built)


def test_published_weights_are_those_that_torchvision_recommends_unless_others_are_named() -> None:
    recommended, other = published_weights("resnet50"), published_weights("resnet50", "IMAGENET1K_V1")
    known = get_model_weights("resnet50")
    assert (recommended.url, other.url) == (known["DEFAULT"].url, known["IMAGENET1K_V1"].url)
    assert recommended.sha256 == "11ad3fa6"
    assert (recommended.preprocessing.resize_size, other.preprocessing.resize_size) == (232, 256)
    assert len(recommended.labels) == 1000


class CountingOnTheProcessor(TorchFunctionMode):
    """Leaves a RegNet the numbers that its layers are counted with."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._counts = name.startswith("regnet")

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if self._counts and function in (torch.arange, torch.tensor):
            options["device"] = "cpu"
        return function(*args, **options)


def as_published(name: str, weights: WeightsEnum) -> torch.nn.Module:
    """Return the network that torchvision's own builders make for weights."""
    options: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    elif name.startswith("maxvit"):
        options["input_size"] = weights.meta["min_size"]
    elif name in ("googlenet", "inception_v3"):
        options |= {"transform_input": True, "init_weights": False}
    network: torch.nn.Module = get_model(name, weights=None, **options)
    return network


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_classifier_is_built_for_each_set_of_its_weights(name: str) -> None:
    """On a device without memory: the shapes alone are computed."""
    sets = [
        weights for weights in get_model_weights(name) if weights.meta["categories"]
    ]  # one VGG's has features alone
    assert sets
    built: set[int] = set()
    for weights in sets:
        published = published_weights(name, weights.name)
        transforms = weights.transforms()
        side, classes = published.preprocessing.input_size, len(published.labels)
        assert published.labels == tuple(weights.meta["categories"])
        assert [side] == transforms.crop_size
        assert published.preprocessing.mean == pytest.approx([255 * value for value in transforms.mean])
        assert published.sha256 in published.url
        if side not in built:
            built.add(side)
            with torch.device("meta"), CountingOnTheProcessor(name), torch.inference_mode():
                tensors = as_published(name, weights).state_dict()
                network = build_classifier(name, tensors, classes=classes, input_size=side)
                assert network(torch.empty(1, 3, side, side)).shape == (1, classes)
