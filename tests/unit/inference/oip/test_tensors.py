"""Tensors as they are on the wire."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from inference_service.oip.errors import BadRequest
from inference_service.oip.tensors import DTYPES, check_shape, flat, from_bytes, from_elements, from_numbers, to_bytes


@pytest.mark.parametrize("datatype", list(DTYPES))
def test_numbers_come_back_as_they_were(datatype: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]], DTYPES[datatype])
    read = from_bytes("x", datatype, (2, 3), values.tobytes())
    assert np.array_equal(read.values, values)
    assert to_bytes(read) == values.tobytes()
    assert np.array_equal(from_numbers("x", datatype, (2, 3), values.tolist()).values, values)
    assert np.array_equal(from_numbers("x", datatype, (2, 3), values.ravel().tolist()).values, values)


@given(arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=False)))
def test_any_numbers_come_back(values: Any) -> None:
    assert np.array_equal(from_bytes("x", "FP32", values.shape, values.tobytes()).values, values)
    assert np.array_equal(from_numbers("x", "FP32", values.shape, values.tolist()).values, values)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_byte_strings_come_back(elements: list[bytes]) -> None:
    sent = to_bytes(from_elements("x", (len(elements),), elements))
    assert from_bytes("x", "BYTES", (len(elements),), sent).values == elements


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (2,), bytes(7)),
        ("FP32", (2,), bytes(12)),
        ("BYTES", (1,), b"\1\0\0"),
        ("BYTES", (1,), b"\5\0\0\0abc"),
        ("BYTES", (2,), b"\1\0\0\0a"),
        ("BYTES", (1,), b"\xff\xff\xff\xffa"),
        ("STRING", (1,), b"a"),
        ("FP32", (2**40, 2**40), b""),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(BadRequest, match="input 'x'"):
        from_bytes("x", datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "numbers"),
    [
        ("UINT8", [1, 256]),
        ("UINT8", [1, -1]),
        ("UINT8", [1.5, 1]),
        ("FP32", [1, "2"]),
        ("FP32", ["x" * 1_000_000, *[""] * 100_000]),  # which numpy would make 373 GiB of
        ("FP32", [[[[[[[[[1]]]]]]]], 2]),
        ("FP32", [1, None]),
        ("FP32", [[1], [1, 2]]),
        ("FP32", [1, 2, 3]),
        ("FP32", []),
        ("FP32", [{}, []]),
        ("INT64", [2**70, 0]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(datatype: str, numbers: list[Any]) -> None:
    with pytest.raises(BadRequest, match="input 'x'"):
        from_numbers("x", datatype, (2,), numbers)


@pytest.mark.parametrize("shape", [[-1], [1] * 9, [2**63, 0], [2**40, 2**40, 0], [10**4000, 1]])
def test_a_shape_that_cannot_be_is_refused(shape: list[int]) -> None:
    with pytest.raises(BadRequest, match="shape"):
        check_shape("x", shape)


def test_elements_that_nobody_asked_for_are_not_read() -> None:
    def endless() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise AssertionError("one more was read")

    with pytest.raises(BadRequest, match="expected 1 elements, got more"):
        from_elements("x", (1,), endless())
    with pytest.raises(BadRequest, match="expected 1 elements, got more"):
        from_bytes("x", "BYTES", (1,), bytes(8) + b"cut short")


def test_nested_lists_are_read_in_order() -> None:
    assert list(flat([["a"], [["b", "c"]], "d"])) == ["a", "b", "c", "d"]
