"""What the servers with batches share: the network, and torchvision's transforms of its weights."""

import os
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import ResNet50_Weights, resnet50


class Classifier:
    """A ResNet-50 that computes with one thread: each server runs one process a core."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._network = resnet50(weights=None)
        self._network.load_state_dict(load_file(os.environ["BENCH_WEIGHTS"]))
        self._network.eval()
        self._transforms = ResNet50_Weights.DEFAULT.transforms()

    def prepare(self, data: bytes) -> Tensor:
        """Return the input [3, 224, 224] of an encoded picture."""
        with Image.open(BytesIO(data)) as image:
            prepared: Tensor = self._transforms(image.convert("RGB"))
        return prepared

    def classify(self, inputs: Sequence[Tensor]) -> list[int]:
        """Return the class of each input."""
        with torch.inference_mode():
            classes: list[int] = self._network(torch.stack(list(inputs))).argmax(1).tolist()
        return classes
