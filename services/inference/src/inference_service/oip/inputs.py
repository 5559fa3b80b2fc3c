"""The input of every model: pictures, as files, as pixels or preprocessed."""

from collections.abc import Sequence

from inference_service.oip.errors import BadRequest
from inference_service.oip.tensors import Tensor
from inference_service.pictures import EncodedPicture, Picture, Pixels, PreparedPicture

INPUT = "image"


def read_pictures(inputs: Sequence[Tensor], *, most: int) -> list[Picture]:
    """Return the pictures in the one input tensor.

    BYTES [N] or [N, 1] are files, UINT8 [N, H, W, 3] pixels, FP32 [N, 3, H, W] what the network takes.

    Raises:
        BadRequest: there is another input, another shape or datatype, no picture or more than `most`.
    """
    if len(inputs) != 1:
        raise BadRequest(f"expected 1 input, got {len(inputs)}")
    [tensor] = inputs
    if tensor.name not in (INPUT, ""):  # a raw request has no name for it
        raise BadRequest(f"unexpected inference input '{tensor.name}': the input is '{INPUT}'")
    if tensor.shape and not 1 <= tensor.shape[0] <= most:  # before there is an object for each
        raise BadRequest(f"the batch size must be 1 to {most}, got {tensor.shape[0]}")
    return _pictures(tensor)


def _pictures(tensor: Tensor) -> list[Picture]:
    match tensor.datatype, tensor.shape, tensor.values:
        case "BYTES", (_,) | (_, 1), list(files):
            return [EncodedPicture(data) for data in files]
        case "UINT8", (_, _, _, 3), values if not isinstance(values, list):
            return [Pixels(levels) for levels in values]
        case "FP32", (_, 3, _, _), values if not isinstance(values, list):
            return [PreparedPicture(image) for image in values]
    raise BadRequest(
        f"unexpected datatype {tensor.datatype} and shape {list(tensor.shape)} for input '{tensor.name}': "
        "expected BYTES [N] or [N,1], UINT8 [N,H,W,3] or FP32 [N,3,H,W]"
    )
