"""One copy of the weights in memory for all workers: the same file, mapped by each."""

import os
import tempfile
from pathlib import Path

import torch
from servicekit.logs import get_logger

from inference_service.model import Model

log = get_logger(__name__)


def share_weights(model: Model, folder: Path) -> None:
    """Put the weights of a network on the CPU into a file in `folder`, and map it in their place.

    The file is ours alone: the one that the weights came from may be overwritten while it is served.
    Without room for it the weights stay as they are.
    """
    if model.device != "cpu" or not model.digest:
        return
    path = folder / f"{model.digest}-{model.dtype_name}-{model.mode}.pt"
    try:
        if not path.exists():
            _write(model, path)
    except OSError as error:
        log.warning("weights_not_shared", reason=error.strerror)
        return
    weights = torch.load(path, mmap=True, weights_only=True)
    model.network.load_state_dict(weights, assign=True)


def _write(model: Model, path: Path) -> None:
    """Write whole or not at all. Of two who do it at once the first wins: only one file is mapped by all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(model.network.state_dict(), file)
        path.hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
