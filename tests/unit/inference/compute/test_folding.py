"""Batch normalisation in the weights: fewer layers, and the same answers."""

import torch
from inference_service.compute.folding import fold_batch_norms
from inference_service.explanations.saliency import grad_cam
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.unit.inference.networks import tiny_model


class Padded(nn.Conv2d):
    """Does more than a convolution does."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu() + 1


class Several(nn.Module):
    """Has a normalisation that can be folded, and all sorts that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 3, 3)
        self.shared = nn.Conv2d(3, 3, 3)
        self.seen = nn.Conv2d(3, 3, 3)
        self.padded = Padded(3, 3, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(6)])
        self.by_batch = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        images = self.norms[0](self.plain(images))
        images = self.norms[2](self.shared(self.norms[1](self.shared(images))))
        seen = self.seen(images)
        images = self.norms[3](seen) + seen
        images = self.norms[4](self.padded(images))
        images = self.norms[5](images.relu())
        normalized: Tensor = self.by_batch(images)
        return normalized.mean((2, 3))


class Choosing(nn.Module):
    """Cannot be traced: what it does depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return (self.norm(self.convolution(images)) if images.sum() > 0 else images).mean((2, 3))


def trained(network: nn.Module) -> nn.Module:
    """Give the normalisations of a network something to do."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            if module.running_mean is not None and module.running_var is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def test_all_of_a_resnet_are_folded_and_its_answers_and_explanations_stay() -> None:
    network = trained(resnet18())
    images = torch.rand(2, 3, 64, 64)
    expected = network(images)
    model = tiny_model(network, labels=("",) * 1000)
    explained = grad_cam(images[:1], model, network, 7)
    fold_batch_norms(network)
    assert norms(network) == []
    assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(grad_cam(images[:1], model, network, 7), explained, rtol=1e-3, atol=1e-3)


def test_a_normalisation_with_anything_between_or_beside_it_stays() -> None:
    network = trained(Several())
    images = torch.rand(2, 3, 16, 16)
    expected = network(images)
    fold_batch_norms(network)
    assert norms(network) == [*(f"norms.{number}" for number in range(1, 6)), "by_batch"]
    assert torch.allclose(network(images), expected, atol=1e-5)


def test_a_network_that_cannot_be_traced_stays_as_it_is() -> None:
    network = trained(Choosing())
    before = dict(network.named_modules())
    fold_batch_norms(network)
    assert dict(network.named_modules()) == before
