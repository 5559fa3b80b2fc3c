"""Pictures whose class is known: a model that names another is not served."""

from collections.abc import Sequence

import torch

from inference_service.decoding import decode_picture
from inference_service.errors import InvalidImage, NotAnImage
from inference_service.model import GoldenPicture, Model, ModelUnavailable

_MAX_PIXELS = 64_000_000


def check_golden(model: Model, pictures: Sequence[GoldenPicture]) -> None:
    """Hold a loaded model to what it must say: wrong labels or preprocessing load without an error.

    Raises:
        ModelUnavailable: a picture cannot be read, or another label comes first.
    """
    for picture in pictures:
        try:
            image = decode_picture(
                picture.path.read_bytes(), max_pixels=_MAX_PIXELS, min_side=model.preprocessing.min_side
            )
        except OSError as error:
            raise ModelUnavailable(f"cannot read the golden picture {picture.path}: {error.strerror}") from None
        except (InvalidImage, NotAnImage) as error:
            raise ModelUnavailable(f"the golden picture {picture.path}: {error}") from None
        logits = model.forward(model.preprocessing(image).unsqueeze(0))[0]
        found = model.labels[int(torch.argmax(logits))]
        if found != picture.label:
            raise ModelUnavailable(f"{picture.path.name} is {picture.label}, and the model says {found}")
