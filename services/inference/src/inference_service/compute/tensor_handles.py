"""Tensors for libraries with a C interface, which know them by handles."""

import ctypes

import torch
from torch import Tensor

# Of Python's C interface.
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule_of = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


def given(tensor: Tensor) -> int:
    """Return a handle of a tensor, for who frees it."""
    address: int = _pointer_of(torch._C._aoti.unsafe_alloc_void_ptr_from_tensor(tensor), None)
    return address


def taken(handle: int) -> Tensor:
    """Return the tensor behind a handle, which is freed with it."""
    tensor: Tensor = torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(_capsule_of(handle, None, None))
    return tensor
