"""Networks in bfloat16, whose last layer has more digits."""

import copy

import torch
from inference_service.compute.precision import to_bfloat16
from torch import nn


def test_all_but_the_last_linear_layer_is_in_bfloat16() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3, bias=False))
    images, expected = torch.rand(5, 3, 2, 2), copy.deepcopy(network)
    narrow = to_bfloat16(network)
    assert [str(tensor.dtype) for tensor in narrow.parameters()] == [*["torch.bfloat16"] * 4, "torch.float32"]
    assert list(narrow.state_dict()) == list(expected.state_dict())
    assert narrow.get_parameter("3.weight").equal(expected.get_parameter("3.weight"))
    logits = narrow(images.bfloat16())
    assert logits.dtype is torch.float32
    assert torch.allclose(logits, expected(images), atol=0.02)


def test_logits_that_bfloat16_takes_for_equal_are_told_apart() -> None:
    linear = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[10.0], [10.01]]))
    network = nn.Sequential(linear)
    assert copy.deepcopy(network).bfloat16()(torch.ones(1, 1).bfloat16()).unique().numel() == 1
    assert to_bfloat16(network)(torch.ones(1, 1).bfloat16()).argmax(1).item() == 1


def test_a_network_without_linear_layers_is_in_bfloat16_altogether() -> None:
    network = to_bfloat16(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}
