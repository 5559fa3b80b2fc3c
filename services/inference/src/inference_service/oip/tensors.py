"""Tensors on the wire: the datatypes of the protocol, as JSON and as bytes."""

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_service.oip.errors import BadRequest

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Numbers are little-endian, row major. BYTES has no fixed size; BF16 has no numpy type."""

_LENGTH = struct.Struct("<I")
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS = 2**40
"""More than any body holds. Sizes of 0 do not count in it: they would hide what the others are."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array: numbers of the datatype, or a list of byte strings where that is BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[bytes]


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a tensor that was sent.

    Raises:
        BadRequest: it has a negative size, too large a one, or too many dimensions.
    """
    if len(shape) > _MAX_DIMENSIONS or any(not 0 <= size <= _MAX_ELEMENTS for size in shape):
        raise BadRequest(
            f"input '{name}': the shape is not valid: expected up to {_MAX_DIMENSIONS} sizes from 0 to {_MAX_ELEMENTS}"
        )
    if math.prod(size for size in shape if size) > _MAX_ELEMENTS:
        raise BadRequest(f"input '{name}': the shape {list(shape)} is not valid: it has too many elements")
    return tuple(shape)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Tensor:
    """Read a tensor from its bytes.

    Raises:
        BadRequest: they are not as many as the shape and the datatype say.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return from_elements(name, shape, _split(name, data))
    dtype = _dtype(name, datatype)
    if len(data) != count * dtype.itemsize:
        raise BadRequest(f"input '{name}': expected {count * dtype.itemsize} bytes, got {len(data)}")
    return Tensor(name, datatype, shape, np.frombuffer(data, dtype).reshape(shape))


def from_elements(name: str, shape: tuple[int, ...], elements: Iterable[bytes]) -> Tensor:
    """Return a BYTES tensor.

    Raises:
        BadRequest: the elements are not as many as the shape says.
    """
    count = math.prod(shape)
    values = list(islice(elements, count + 1))  # a body may have millions of them, each an object
    if len(values) != count:
        raise BadRequest(f"input '{name}': expected {count} elements, got {'more' if values[count:] else len(values)}")
    return Tensor(name, "BYTES", shape, values)


def from_numbers(name: str, datatype: str, shape: tuple[int, ...], numbers: Sequence[Any]) -> Tensor:
    """Read a tensor from its numbers, which may be nested as the shape is or in one row.

    Raises:
        BadRequest: they are no numbers of the datatype, or not as many as the shape says.
    """
    dtype = _dtype(name, datatype)
    values = _converted(numbers, dtype)
    if values is None:
        raise BadRequest(f"input '{name}': the data are not all {datatype}")
    if values.size != math.prod(shape):
        raise BadRequest(f"input '{name}': expected {math.prod(shape)} elements, got {values.size}")
    return Tensor(name, datatype, shape, values.reshape(shape))


def _converted(numbers: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return the numbers as an array, or None where some are none or do not fit."""
    if not len(numbers):
        return np.empty(0, dtype)
    if not _are_numbers(numbers):  # numpy would give each text the room of the longest
        return None
    try:
        given = np.array(numbers)
    except (ValueError, OverflowError):  # lists of different lengths
        return None
    if given.dtype.kind not in "biuf":
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # too large a number becomes infinite
        values = given.astype(dtype)
    # Whole numbers must stay what they are: 1.5 would become 1, and 256 would become 0.
    return values if dtype.kind == "f" or np.array_equal(values, given) else None


def _are_numbers(nested: Sequence[Any], dimensions: int = _MAX_DIMENSIONS) -> bool:
    kinds = set(map(type, nested))
    if list in kinds:
        return dimensions > 1 and len(kinds) == 1 and all(_are_numbers(inner, dimensions - 1) for inner in nested)
    return kinds <= {bool, int, float}


def to_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor."""
    if isinstance(tensor.values, list):
        return b"".join(_LENGTH.pack(len(value)) + value for value in tensor.values)
    return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()


def to_list(tensor: Tensor) -> list[Any]:
    """Return the elements in one row; byte strings as the text that they are."""
    if isinstance(tensor.values, list):
        return [value.decode() for value in tensor.values]
    values: list[Any] = tensor.values.ravel().tolist()
    return values


def flat(nested: Iterable[Any]) -> Iterator[Any]:
    """Go through the elements of a list of lists."""
    for element in nested:
        if isinstance(element, list):
            yield from flat(element)
        else:
            yield element


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    try:
        return DTYPES[datatype]
    except KeyError:
        raise BadRequest(f"input '{name}': the datatype {datatype!r} is not known here") from None


def _split(name: str, data: bytes | memoryview) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor, each after its length in 4 bytes."""
    start = 0
    while start < len(data):
        body = start + _LENGTH.size
        if body > len(data):
            raise BadRequest(f"input '{name}': the data are cut short")
        start = body + _LENGTH.unpack_from(data, start)[0]
        if start > len(data):
            raise BadRequest(f"input '{name}': the data are cut short")
        yield bytes(data[body:start])
