"""Checks of tensors of float32, as operators of training have them."""

import numpy as np

from ...hdl.errors import PearrayError
from .operator import Typed

__all__ = ["FLOAT", "check_float", "check_like"]

#: The type.
FLOAT = np.dtype(np.float32)


def check_float(**tensors: Typed) -> None:
    """Check that tensors are of float32."""
    for role, tensor in tensors.items():
        if np.dtype(tensor.dtype) != FLOAT:
            raise PearrayError(f"{role} must be of type float32, not {tensor.dtype}")


def check_like(name: str, tensor: Typed, shape: tuple[int, ...]) -> None:
    """Check that a tensor is of float32 and of a shape."""
    check_float(**{name: tensor})
    if tuple(tensor.shape) != shape:
        raise PearrayError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}")
