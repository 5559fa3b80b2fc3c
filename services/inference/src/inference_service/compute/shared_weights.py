"""One copy of the weights in memory for all workers: the same file, mapped by each."""

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from servicekit.logs import get_logger
from servicekit.whole_files import partial_folder
from torch import nn

from inference_service.compute.compiled_network import CompiledNetwork
from inference_service.compute.modes import Mode
from inference_service.model import Model
from inference_service.weights import first_line

log = get_logger(__name__)


def share_weights(model: Model, folder: Path) -> None:
    """Put the weights of a network on the CPU into a file in `folder`, and map it in their place.

    The file is ours alone: the one that the weights came from may be overwritten while it is served. It goes with the
    network: those who have mapped it keep it, and who comes later writes it anew. Without room for it the weights stay
    as they are.
    """
    if model.device != "cpu" or not model.digest or model.mode is Mode.INT8:
        return  # what is computed in 8 bits is packed, and no tensor of a state dict
    compiled = [part for part in model.network.modules() if isinstance(part, CompiledNetwork)]
    try:
        for part in compiled:
            _map(part, folder / part.library_id, part.weights.write, part.weights.map)
        if not compiled:
            network = model.network
            path = folder / f"{model.digest}-{model.dtype_name}-{model.mode}.pt"
            _map(network, path, lambda file: torch.save(network.state_dict(), file), partial(_assign, network))
    except (OSError, RuntimeError) as error:  # torch has its own words for a disk that is full
        log.warning("weights_not_shared", reason=first_line(error))


def _map(network: nn.Module, path: Path, write: Callable[[BinaryIO], None], use: Callable[[Path], None]) -> None:
    """Have a network use the file at `path`, which is written where it is not there."""
    if not path.exists():
        _write(path, write)
    use(path)
    # Not at the end of this process: the others go on.
    weakref.finalize(network, path.unlink, missing_ok=True).atexit = False


def _assign(network: nn.Module, path: Path) -> None:
    network.load_state_dict(torch.load(path, mmap=True, weights_only=True), assign=True)


def _write(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write whole or not at all. Of two who do it at once the first wins: only one file is mapped by all."""
    with partial_folder(path.parent) as folder, suppress(FileExistsError):
        whole = folder / "weights"
        with whole.open("wb") as file:
            write(file)
        path.hardlink_to(whole)
