"""Brings a model into a mode, where this machine can compute it."""

import copy
from dataclasses import replace

import torch

from inference_service.model import Model
from inference_service.modes import Mode, ModeSetting

_OF_ANOTHER_DTYPE = frozenset({Mode.BF16})


def candidates(model: Model, setting: ModeSetting) -> list[Mode]:
    """Return the modes to compare with eager."""
    keeps_dtype = setting == "auto-fp32" or model.dtype is not torch.float32
    modes = [Mode.CHANNELS_LAST, Mode.BF16]
    return [mode for mode in modes if not (keeps_dtype and mode in _OF_ANOTHER_DTYPE)]


def missing_for(mode: Mode, device: str) -> str | None:
    """Return what this machine lacks for a mode to be sound and fast."""
    if mode is Mode.BF16 and not _computes_bf16(device):
        return f"{'this GPU' if device.startswith('cuda') else 'this processor'} does not compute with bfloat16"
    return None


def _computes_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return any(known.get(name) is True for name in ("avx512_bf16", "amx_bf16", "bf16"))


def in_mode(model: Model, mode: Mode, *, keep: bool = False) -> Model:
    """Return an eager model in a mode. With `keep` its network stays as it is, and a copy is changed."""
    if mode is Mode.EAGER:
        return model
    network = copy.deepcopy(model.network) if keep else model.network
    dtype = torch.bfloat16 if mode is Mode.BF16 else model.dtype
    network = network.to(dtype).to(memory_format=torch.channels_last)
    return replace(model, network=network, dtype=dtype, mode=mode, batch_seconds={})
