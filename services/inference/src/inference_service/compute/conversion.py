"""Brings a model into a mode, where this machine can compute it."""

import copy
from dataclasses import replace

import torch
from servicekit.logs import get_logger
from torch import nn

from inference_service.compute.compilation import missing_compiler
from inference_service.compute.cuda import RecordedNetwork
from inference_service.compute.folding import fold_batch_norms
from inference_service.compute.modes import Mode, ModeSetting
from inference_service.compute.packing import Batches, pack_convolutions
from inference_service.compute.precision import to_bfloat16
from inference_service.compute.traced_network import TracedNetwork
from inference_service.model import Model, batch_sizes
from inference_service.weights import first_line

log = get_logger(__name__)

REVISION = 4
"""Of what a mode makes of a network, to be counted up with it: what an older one has kept is not loaded."""


def candidates(model: Model, setting: ModeSetting) -> list[Mode]:
    """Return the modes to compare with eager."""
    keeps_dtype = setting == "auto-fp32" or model.dtype is not torch.float32
    return [mode for mode in Mode if mode not in (Mode.EAGER, Mode.INT8) and not (keeps_dtype and mode.is_bf16)]


def missing_for(mode: Mode, device: str) -> str | None:
    """Return what this machine lacks for a mode to be sound and fast."""
    is_gpu = device.startswith("cuda")
    if is_gpu and (mode.is_compiled or mode.is_cascade):
        return "it is for processors"
    if mode.is_bf16 and not _computes_bf16(device):
        return f"{'this GPU' if is_gpu else 'this processor'} does not compute with bfloat16"
    return missing_compiler() if mode.is_compiled else None


def _computes_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return any(known.get(name) is True for name in ("avx512_bf16", "amx_bf16", "bf16"))


def dtype_in(model: Model, mode: Mode) -> torch.dtype:
    """Return the dtype that an eager model has in a mode."""
    return torch.bfloat16 if mode.is_bf16 else model.dtype


def in_mode(
    model: Model, mode: Mode, *, max_batch_size: int, keep: bool = False, shares_weights: bool = False
) -> Model:
    """Return an eager model in a mode of one part, or as it is compiled for it.

    With `keep` a copy of its network is changed. With `shares_weights` they stay tensors that workers can share.
    """
    if mode is Mode.EAGER:
        return model
    network = copy.deepcopy(model.network) if keep else model.network
    fold_batch_norms(network)
    network = to_bfloat16(network) if mode.is_bf16 else network
    network = network.to(memory_format=torch.channels_last)
    if model.is_on_gpu:
        network = RecordedNetwork(network, batch_sizes(max_batch_size))
    elif not mode.is_compiled:
        if not shares_weights:
            _pack(network, model, dtype_in(model, mode), max_batch_size)
        network = TracedNetwork(network)
    return replace(model, network=network, dtype=dtype_in(model, mode), mode=mode, batch_seconds={})


def _pack(network: nn.Module, model: Model, dtype: torch.dtype, max_batch_size: int) -> None:
    side = model.preprocessing.input_size
    image = torch.zeros(1, 3, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    try:
        pack_convolutions(network, image, Batches(batch_sizes(max_batch_size), range(1, torch.get_num_threads() + 1)))
    except Exception as error:  # it runs the network's own Python, which may raise anything
        log.info("convolutions_not_packed", reason=first_line(error))
