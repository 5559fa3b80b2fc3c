"""Networks that torchvision builds otherwise when it loads the weights itself."""

import re

import pytest
import torch
from inference_service.torchvision_models import build_classifier, published_weights
from torch import Tensor
from torchvision.models import densenet121, get_model_weights, googlenet


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
