"""Which part of a picture speaks for a class: against computations of our own, and against the eye."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from inference_service.compute.cuda import RecordedNetwork
from inference_service.compute.modes import Mode
from inference_service.decoding import decode
from inference_service.explanations.saliency import (
    CELLS,
    WINDOWS,
    grad_cam,
    has_feature_map,
    occluded,
    open_network,
    read_grad_cam,
    read_occlusion,
)
from inference_service.model import Model
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from tests.unit.inference.compute.test_cuda import Recorder
from tests.unit.inference.networks import tiny_model
from tests.unit.inference.pictures import DATA

CHELSEA = DATA / "chelsea.png"
FACE = (slice(1, 7), slice(0, 6))
"""The cells of a 7 by 7 map where the cat's face is: all but the edges at the right, the top and the bottom."""


class InPlace(nn.Module):
    """Writes to its feature maps in place, and calls one module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.last(images).mul_(0.5).mean((2, 3)))
        return logits

    def last(self, images: Tensor) -> Tensor:
        features: Tensor = self.relu(self.second(self.relu(self.first(images))))
        return features


def reference(features: Tensor, logits: Tensor, target: int) -> Tensor:
    """Grad-CAM by its definition (Selvaraju et al., equations 1 and 2), over the graph of the whole network."""
    [gradient] = torch.autograd.grad(logits[0, target], features)
    weights = [gradient[0, channel].sum() / gradient[0, channel].numel() for channel in range(gradient.shape[1])]
    heat = sum(weight * features[0, channel] for channel, weight in enumerate(weights))
    assert isinstance(heat, Tensor)
    heat = heat.detach().clamp(min=0)
    return heat / heat.max()


@pytest.mark.parametrize("target", [0, 1, 2])
def test_grad_cam_is_that_of_plain_autograd(target: int) -> None:
    torch.manual_seed(1)
    network = InPlace().eval()
    image = torch.randn(1, 3, 8, 8)
    features = network.last(image)
    expected = reference(features, network.classify((features * 0.5).mean((2, 3))), target)

    [row] = grad_cam(image, tiny_model(network), network, target)
    found = read_grad_cam(row, 3, target)
    assert found.index == target
    torch.testing.assert_close(found.map, expected)
    torch.testing.assert_close(row[:3], network(image)[0].detach())
    assert network(image).grad_fn is not None, "the network computes as before"
    assert all(parameter.grad is None for parameter in network.parameters())


def test_grad_cam_of_the_built_in_model_is_that_of_plain_autograd_and_shows_the_cat(efficientnet: Model) -> None:
    image = efficientnet.preprocessing(decode(CHELSEA.read_bytes(), max_pixels=10**6)).unsqueeze(0)
    [row] = grad_cam(image, efficientnet, efficientnet.network, None)
    found = read_grad_cam(row, 1000, None)
    assert found.index in range(281, 286)

    network: Any = efficientnet.network
    features = network.extract_features(image)
    logits = network._fc(adaptive_avg_pool2d(features, 1).flatten(1))
    torch.testing.assert_close(found.map, reference(features, logits, found.index), atol=1e-4, rtol=1e-3)
    assert found.map.max() == 1
    assert found.map[FACE].mean() > 1.3 * background(found.map, FACE)


def test_occlusion_shows_the_cat_too(efficientnet: Model) -> None:
    image = efficientnet.preprocessing(decode(CHELSEA.read_bytes(), max_pixels=10**6))
    whole = efficientnet.forward(image.unsqueeze(0))[0]
    parts = torch.cat([efficientnet.forward(occluded(image, range(n, n + 7))) for n in range(0, WINDOWS, 7)])
    found = read_occlusion(whole, parts, None)
    assert found.map.shape == (CELLS, CELLS)
    assert found.map[3:, :6].mean() > 1.3 * found.map[:3].mean()


def test_a_model_whose_batches_are_recorded_is_looked_into_as_it_was_before() -> None:
    torch.manual_seed(1)
    network, image = InPlace().eval(), torch.randn(1, 3, 8, 8)
    expected = grad_cam(image, tiny_model(network), network, None)
    recorded = replace(tiny_model(RecordedNetwork(network, (1,), record=Recorder())), mode=Mode.CHANNELS_LAST)
    recorded.forward(image)
    assert has_feature_map(open_network(recorded))
    torch.testing.assert_close(grad_cam(image, recorded, open_network(recorded), None), expected)


def test_what_a_closed_model_was_made_of_has_its_own_dtype() -> None:
    torch.manual_seed(1)
    network, image = InPlace().eval(), torch.randn(1, 3, 8, 8)
    [expected] = grad_cam(image, tiny_model(network), network, 1)
    closed = replace(tiny_model(InPlace().bfloat16().eval()), dtype=torch.bfloat16, mode=Mode.COMPILE_BF16)
    [found] = grad_cam(image, closed, network, 1)
    torch.testing.assert_close(found[3:], expected[3:])
    torch.testing.assert_close(found[:3], closed.forward(image)[0])


def later(model: Model) -> Model:
    """Return a model that normalizes its inputs itself, as on a GPU."""
    return replace(model, preprocessing=replace(model.preprocessing, normalizes=False))


def test_levels_that_are_normalized_with_the_batch_have_the_map_of_the_normalized_picture(efficientnet: Model) -> None:
    picture = decode(CHELSEA.read_bytes(), max_pixels=10**6)
    images = efficientnet.preprocessing(picture).unsqueeze(0)
    levels = later(efficientnet).preprocessing(picture).unsqueeze(0)
    assert levels.dtype == torch.uint8
    network = efficientnet.network
    found = grad_cam(levels, later(efficientnet), network, None)
    assert found.equal(grad_cam(images, efficientnet, network, None))


def test_occlusion_finds_the_one_place_that_counts() -> None:
    image = torch.zeros(3, 16, 16)
    image[0, 4:6, 10:12] = 1.0  # the cell of row 2 and column 5
    red = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    logits = red(torch.cat([image.unsqueeze(0), occluded(image, range(WINDOWS))]))
    found = read_occlusion(logits[0], logits[1:], 0)
    assert found.map[2, 5] == 1
    assert found.map.argmax() == 2 * CELLS + 5
    assert found.map[:, :4].max() == 0


def test_what_makes_no_difference_is_nowhere_warm() -> None:
    logits = torch.zeros(3)
    assert read_occlusion(logits, logits.expand(WINDOWS, -1), None).map.max() == 0


def test_only_networks_that_convolve_to_the_end_have_a_feature_map() -> None:
    assert has_feature_map(InPlace())
    assert not has_feature_map(nn.Linear(3, 3))
    attention = nn.MultiheadAttention(8, 1)
    assert not has_feature_map(nn.Sequential(nn.Conv2d(3, 8, 4), attention))


def test_a_network_whose_maps_are_single_points_gives_its_logits_alone() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten()).eval()
    image = torch.rand(1, 3, 8, 8)
    assert has_feature_map(network)
    torch.testing.assert_close(grad_cam(image, tiny_model(network), network, None), network(image).detach())


def background(heat: Tensor, region: tuple[slice, slice]) -> float:
    outside = torch.ones_like(heat, dtype=torch.bool)
    outside[region] = False
    return float(heat[outside].mean())
