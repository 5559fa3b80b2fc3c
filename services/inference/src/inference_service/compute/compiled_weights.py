"""The weights of a compiled network, in a file that several processes map instead of the copy that each makes.

The functions are of `aoti_runtime/interface.h` and `aoti_torch/c/shim.h` of torch.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from inference_service.compute.tensor_handles import taken

_ALIGNMENT = 64
"""Of each weight in bytes, as the library has it."""


class _Entry(ctypes.Structure):
    """A weight that the library is given, or gives."""

    _fields_ = (("name", ctypes.c_char_p), ("handle", ctypes.c_void_p))


class _Weight(NamedTuple):
    name: bytes
    dtype: int
    """As the library counts them."""

    size: int
    """In bytes."""

    tensor: Tensor
    """In the memory of the library, for as long as the library uses it."""

    @property
    def is_packed(self) -> bool:
        """Tell whether it has a layout of oneDNN."""
        return bool(self.tensor.is_mkldnn)

    def read(self) -> bytes:
        """Return its bytes."""
        address = torch.ops.mkldnn.data_ptr(self.tensor) if self.is_packed else self.tensor.data_ptr()
        return ctypes.string_at(address, self.size)


class CompiledWeights:
    """The weights that a library computes with.

    Its methods raise RuntimeError where the library fails.
    """

    def __init__(self, library: ctypes.CDLL, container: ctypes.c_void_p) -> None:
        self._library = library
        self._container = container
        self._mapped: Tensor | None = None
        """What the library computes with, where that is a file: it is to live for as long."""

    def write(self, file: BinaryIO) -> None:
        """Write them one after the other."""
        for weight in self._weights():
            file.write(weight.read().ljust(_aligned(weight.size), b"\0"))

    def map(self, path: Path) -> None:
        """Compute with what was written to `path`, and with no copy of it.

        Raises:
            OSError: it cannot be read, or has another size.
        """
        weights = list(self._weights())
        size = sum(_aligned(weight.size) for weight in weights)
        if path.stat().st_size != size:
            raise OSError(f"{path.name} has {path.stat().st_size} bytes, not {size}")
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        entries, address = (_Entry * len(weights))(), mapped.data_ptr()
        try:
            for entry, weight in zip(entries, weights, strict=True):
                entry.name, entry.handle = weight.name, self._handle_at(address, weight)
                address += _aligned(weight.size)
            self._call("UpdateUserManagedConstantBufferPairs", entries, len(entries), True, True)
        finally:
            for entry in entries:
                if entry.handle:
                    self._torch("delete_tensor_object", ctypes.c_void_p(entry.handle))
        self._call("SwapConstantBuffer")
        self._call("FreeInactiveConstantBuffer")
        self._mapped = mapped

    def _weights(self) -> Iterator[_Weight]:
        entries, number = ctypes.POINTER(_Entry)(), ctypes.c_size_t()
        self._call("ExtractConstantsMapEntries", ctypes.byref(entries), ctypes.byref(number), False)
        tensors = {entry.name: self._tensor_of(entry.handle) for entry in entries[: number.value]}
        for index in range(number.value):
            name, original, dtype, size = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_int32(), ctypes.c_size_t()
            self._call("GetConstantName", index, ctypes.byref(name))
            self._call("GetConstantOriginalFQN", index, ctypes.byref(original))
            self._call("GetConstantDtype", index, ctypes.byref(dtype))
            self._call("GetConstantDataSize", index, ctypes.byref(size))
            yield _Weight(name.value or b"", dtype.value, size.value, tensors[original.value])

    def _tensor_of(self, handle: int) -> Tensor:
        """Return the tensor behind a handle that stays its owner's."""
        own = ctypes.c_void_p()
        self._torch("new_tensor_handle", ctypes.c_void_p(handle), ctypes.byref(own))
        assert own.value is not None
        return taken(own.value)

    def _handle_at(self, address: int, like: _Weight) -> int:
        """Return the handle of a tensor like a weight, whose data are at `address`."""
        tensor, handle = like.tensor, ctypes.c_void_p()
        numbers = ctypes.c_int64 * tensor.dim()
        strides = numbers() if like.is_packed else numbers(*tensor.stride())
        layout = bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(tensor).tolist()) if like.is_packed else b""
        kind = "layout__mkldnn" if like.is_packed else "layout_strided"
        self._torch(
            "create_tensor_from_blob_v2",
            *(ctypes.c_void_p(address), ctypes.c_int64(tensor.dim()), numbers(*tensor.shape), strides),
            *(ctypes.c_int64(0), ctypes.c_int32(like.dtype), self._number("device_type_cpu"), 0, ctypes.byref(handle)),
            *(self._number(kind), layout, ctypes.c_int64(len(layout))),
        )
        assert handle.value is not None
        return handle.value

    def _call(self, name: str, *arguments: Any) -> None:
        whole = [ctypes.c_size_t(each) if type(each) is int else each for each in arguments]
        check(getattr(self._library, f"AOTInductorModelContainer{name}")(self._container, *whole), name)

    def _torch(self, name: str, *arguments: Any) -> None:
        check(self._number(name, *arguments), name)

    def _number(self, name: str, *arguments: Any) -> int:
        """Return what a function of torch does, which is found by way of the library that is linked with it."""
        number: int = getattr(self._library, f"aoti_torch_{name}")(*arguments)
        return number


def check(status: int, what: str) -> None:
    """Raise RuntimeError where a function of the library says that it has failed."""
    if status != 0:
        raise RuntimeError(f"the compiled network does not {what}")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
