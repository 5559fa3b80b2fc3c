"""int8: the ranges of a network's values are learnt from pictures, and its layers then compute in 8 bits.

Made with torch's FX graph mode quantization, which needs no compiler to be fast. torch has declared it
deprecated in favour of a way that does.
"""

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
import torch.fx.config
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.fx import GraphModule

from inference_service.compute.modes import Mode
from inference_service.compute.torch_warnings import settle_warning
from inference_service.compute.traced_network import TracedNetwork
from inference_service.compute.tracing import OneThreadTracer
from inference_service.model import Model, ModelUnavailable
from inference_service.weights import first_line

_FORMAT = "pinhole-int8-1"
_ENGINE = "x86"
_OBSERVER = "activation_post_process"


def calibrate(model: Model, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the ranges that the values in an eager float32 model have over batches of inputs, [N, 3, H, W].

    Raises:
        ModelUnavailable: the network cannot be computed in 8 bits.
    """
    network = _observed(model)
    with torch.inference_mode():
        for batch in batches:
            network(batch)
    # Layers may share what follows a value; a file of tensors holds each apart.
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if _OBSERVER in name}


def save_ranges(path: Path, ranges: dict[str, Tensor], *, digest: str) -> None:
    """Write ranges, bound to the weights with this digest.

    Raises:
        OSError: they cannot be written.
    """
    path.write_bytes(save(ranges, metadata={"format": _FORMAT, "weights_sha256": digest}))


def read_ranges(path: Path, *, digest: str) -> dict[str, Tensor]:
    """Return the ranges of a file.

    Raises:
        ModelUnavailable: it cannot be read, or is of other weights than those with this digest.
    """
    try:
        path.open("rb").close()  # where it cannot be, safetensors repeats the path and gives no reason apart from it
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            ranges = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except OSError as error:
        raise ModelUnavailable(f"cannot read the calibration {path}: {error.strerror or first_line(error)}") from None
    except SafetensorError as error:
        raise ModelUnavailable(f"cannot read the calibration {path}: {first_line(error)}") from None
    if metadata.get("format") != _FORMAT:
        raise ModelUnavailable(f"{path} is no calibration: `pinhole-models calibrate` makes one")
    if metadata.get("weights_sha256") != digest:
        raise ModelUnavailable(f"{path} is the calibration of other weights: of {metadata.get('weights_sha256')}")
    return ranges


def quantized(model: Model, ranges: dict[str, Tensor]) -> Model:
    """Return an eager float32 model computed in 8 bits; its inputs and logits stay float32.

    Raises:
        ModelUnavailable: the ranges are of another network, or this one cannot be computed in 8 bits.
    """
    network = _observed(model)
    expected = {name for name in network.state_dict() if _OBSERVER in name}
    if expected != ranges.keys():
        raise ModelUnavailable("the calibration is of another network")
    try:
        network.load_state_dict(ranges, strict=False)
        # Its scales are tensors that become numbers: the same for all pictures.
        in_int8 = TracedNetwork(_quantize_fx().convert_fx(network), may_decide=True)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelUnavailable(f"the network cannot be computed in 8 bits: {first_line(error)}") from error
    return replace(model, network=in_int8, mode=Mode.INT8, calibration=hashlib.sha256(save(ranges)).hexdigest())


def _observed(model: Model) -> GraphModule:
    """Return a copy of the network that follows the range of each value."""
    from torch.ao.quantization import get_default_qconfig_mapping

    if model.device != "cpu" or model.dtype is not torch.float32 or model.mode is not Mode.EAGER:
        raise ModelUnavailable("mode: int8 is made of a float32 model on the CPU")
    if _ENGINE not in torch.backends.quantized.supported_engines:
        raise ModelUnavailable("mode: int8 cannot be had: this torch has no 8-bit engine for x86 processors")
    torch.backends.quantized.engine = _ENGINE
    side = model.preprocessing.input_size
    settle_warning("ignore", DeprecationWarning, "torch.ao.quantization is deprecated")
    settle_warning("ignore", UserWarning, "Please use quant_min")
    settle_warning("ignore", UserWarning, "torch.quantize_per_tensor")
    try:
        network = copy.deepcopy(model.network)
        example = (torch.zeros(1, 3, side, side),)
        return _quantize_fx().prepare_fx(network, get_default_qconfig_mapping(_ENGINE), example)  # type: ignore[no-any-return]
    except Exception as error:  # tracing runs the network's own Python, which may raise anything
        raise ModelUnavailable(f"the network cannot be computed in 8 bits: {first_line(error)}") from error


@cache
def _quantize_fx() -> ModuleType:
    """Return torch's module of that name, changed where it takes no parameter."""
    from torch.ao.quantization import quantize_fx
    from torch.ao.quantization.fx.tracer import QuantizationTracer

    class Tracer(OneThreadTracer, QuantizationTracer):
        """Lets other models be computed meanwhile."""

    quantize_fx.QuantizationTracer = Tracer  # type: ignore[attr-defined]
    # What an operator came from is for who debugs, and takes torch's compiler along: 2 s and 150 MB.
    torch.fx.config.do_not_emit_stack_traces = True
    return quantize_fx
