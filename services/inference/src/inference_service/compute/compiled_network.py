"""A network that was compiled ahead of time: the library of torch's AOTInductor, called through its C interface.

torch's own loader keeps Python's lock while a batch is computed (pytorch/pytorch#197516), so that for as long no
request is read and no probe is answered; and it takes the compiler along, 3 s and 130 MB. ctypes gives the lock away.
"""

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from inference_service.compute.compiled_weights import CompiledWeights, check
from inference_service.compute.tensor_handles import given, taken

# Of `aoti_runtime/interface.h` of torch.
_HANDLES = ctypes.POINTER(ctypes.c_void_p)
_RUN_TYPES = (ctypes.c_void_p, _HANDLES, ctypes.c_size_t, _HANDLES, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)


class CompiledNetwork(nn.Module):
    """The network in the library at `path`, for float32 or other inputs of the shape that it was compiled for.

    Up to `streams` threads compute at once, with one copy of the weights; others wait.

    Raises:
        OSError: there is no library at `path` that can be loaded.
        RuntimeError: the library does not start.
    """

    def __init__(self, path: Path, input_shape: Sequence[int], *, streams: int = 1) -> None:
        super().__init__()
        self._input_shape = tuple(input_shape)
        self._file = path.stat()
        library = ctypes.CDLL(os.fspath(path))
        self._container = ctypes.c_void_p()
        create = library.AOTInductorModelContainerCreateWithDevice
        check(create(ctypes.byref(self._container), ctypes.c_size_t(streams), b"cpu", None), "start")
        _release_pages(path)
        self.weights = CompiledWeights(library, self._container)
        self._run = library.AOTInductorModelContainerRun
        self._run.argtypes = _RUN_TYPES
        # The library stays mapped, for the loader unloads none with symbols that are unique in a process, as templates
        # of C++ have. That costs address space alone.
        weakref.finalize(self, library.AOTInductorModelContainerDelete, self._container)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [N, classes], of inputs [N, 3, H, W] with the channels last.

        Raises:
            ValueError: the inputs have another shape: the library itself would read what is not there.
            RuntimeError: the library fails.
        """
        if tuple(images.shape[1:]) != self._input_shape:
            raise ValueError(f"expected inputs of {list(self._input_shape)}, got {list(images.shape[1:])}")
        # The library takes what is behind the first handle, and gives what is behind the second.
        inputs, outputs = _handles(given(images)), _handles(None)
        check(self._run(self._container, inputs, 1, outputs, 1, None, None), "compute")
        return taken(outputs[0])

    @property
    def library_id(self) -> str:
        """Return what is the same for those who have loaded the same library, and for nobody else."""
        return f"{self._file.st_dev}-{self._file.st_ino}-{self._file.st_mtime_ns}"


def _release_pages(path: Path) -> None:
    """Take out of the memory of this process what it has of the library's file: its weights were copied at its start.

    Pages that were written to, by the loader, stay. What is used again is read again.
    """
    if sys.platform != "linux":
        return
    madvise, name, edges = ctypes.CDLL(None).madvise, str(path.resolve()), ""
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if line.endswith(name):
            edges = line.split(maxsplit=1)[0]
        elif edges and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                start, end = (int(edge, 16) for edge in edges.split("-"))
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
            edges = ""


def _handles(handle: int | None) -> Any:
    return (ctypes.c_void_p * 1)(handle)
