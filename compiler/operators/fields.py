"""Kinds of value that fields of operators have: each checks what a user gave, and returns it in the one form it has.

A field names its kind in its annotation, such as :data:`Flag`; :class:`.operator.Operator` does the rest. A value that
is not a number but one in an array, such as ``np.array(1)`` or ``[1]``, is that number.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Annotated, Any

import numpy as np

from ...golden.tensors import float_type, is_float
from ...hdl.errors import PearrayError

__all__ = [
    "MOST_ELEMENTS", "NARROW", "Bounds", "Check", "Count", "Flag", "Index", "Integers", "Number", "Offsets", "Order",
    "Orders", "Pair", "Scale", "Scales", "Shape", "Sides", "Stored", "ZeroPoint", "ZeroPoints", "array", "bounds",
    "check_scale", "check_size", "check_stored", "check_zero_point", "integers", "is_number", "number", "number_type",
    "one_scale", "storage_dtype", "whole", "whole_bytes",
]

#: Brings a field of a name and a value into its form, or raises a PearrayError.
Check = Callable[[str, Any], Any]

#: Largest integer of a window: commands count in 16 bits.
_LARGEST = (1 << 16) - 1

#: Elements of the largest tensor: as sums of 32 bits it fills the memory that an accelerator can address.
MOST_ELEMENTS = 1 << 30


#: Types of fewer than 8 bits: the type that holds their values, and their range.
NARROW: dict[str, tuple[Any, tuple[int, int]]] = {
    "int4": (np.int8, (-8, 7)), "uint4": (np.uint8, (0, 15)), "int2": (np.int8, (-2, 1)), "uint2": (np.uint8, (0, 3))}


def whole_bytes(values: np.ndarray) -> np.ndarray:
    """Values of fewer than 8 bits as bytes, which hold the same integers."""
    return values.astype(NARROW[values.dtype.name][0]) if values.dtype.name in NARROW else values


def array(name: str, value: Any, allowed: str, kinds: str = "iuf") -> np.ndarray:
    """Return `value` as an array after checking that it holds numbers of some kinds, none of them masked.

    Those of fewer than 8 bits become bytes.
    """
    try:
        # PyTorch gives no array of a parameter unless it stops following it.
        plain = value.detach() if getattr(value, "requires_grad", False) is True else value
        found = None if np.ma.is_masked(value) else whole_bytes(np.asarray(plain))
    except Exception:  # What a user's own object raises when it is asked for its numbers can be anything.
        found = None
    if found is None or not (found.dtype.kind in kinds or ("f" in kinds and is_float(found.dtype))):
        raise PearrayError(f"{name} must be {allowed}, not {value!r}")
    return found


def check_size(name: str, shape: tuple[int, ...]) -> None:
    """Check that a tensor is not beyond all memories."""
    if prod(shape) > MOST_ELEMENTS:
        raise PearrayError(f"{name} must have at most {MOST_ELEMENTS} elements, not shape {shape}")


def integers(value: Any, low: int, high: int = _LARGEST) -> tuple[int, ...]:
    """Return an integer or a sequence of them as a tuple, empty if it holds anything else or one out of range."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(item, bool) or not isinstance(item, (int, np.integer)) or not low <= item <= high
           for item in values):
        return ()
    return tuple(int(item) for item in values)


def whole(low: int, high: int = _LARGEST) -> Check:
    """Make the check of one integer in a range."""
    def check(name: str, value: Any) -> int:
        values = integers(value, low, high)
        if len(values) != 1:
            raise PearrayError(f"{name} must be an integer in {low}..{high}, not {value!r}")
        return values[0]

    return check


def _is_empty(value: Any) -> bool:
    """Whether a value is a sequence or an array without an element."""
    return not value.size if isinstance(value, np.ndarray) else isinstance(value, (tuple, list)) and not value


def _integers(name: str, value: Any) -> tuple[int, ...]:
    # Bounds of slices may be the least and the greatest integer of 64 bits.
    values = integers(value, -(1 << 63), (1 << 63) - 1)
    if not values and not _is_empty(value):
        raise PearrayError(f"{name} must be integers of 64 bits, not {value!r}")
    return values


def _each(check: Check) -> Check:
    """Make the check of one value or several, kept as a tuple."""
    def checked(name: str, value: Any) -> tuple[Any, ...]:
        several = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)
        return tuple(check(f"each of {name}", item) for item in value) if several else (check(name, value),)

    return checked


def _pair(low: int) -> Check:
    def check(name: str, value: Any) -> tuple[int, int]:
        values = integers(value, low)
        if len(values) not in (1, 2):
            raise PearrayError(f"{name} must be one or two integers in {low}..{_LARGEST}, not {value!r}")
        return values[0], values[-1]

    return check


def _sides(name: str, value: Any) -> tuple[int, int, int, int]:
    values = integers(value, 0)
    if len(values) not in (1, 2, 4):
        raise PearrayError(f"{name} must be an integer in 0..{_LARGEST}, (h, w) or (top, left, bottom, right), "
                           f"not {value!r}")
    top, left, bottom, right = values * (4 // len(values))
    return top, left, bottom, right


def _shape(name: str, value: Any) -> tuple[int, ...]:
    values = integers(value, -1, MOST_ELEMENTS)
    if not values and not (isinstance(value, (tuple, list)) and not value):
        raise PearrayError(f"{name} must be integers in -1..{MOST_ELEMENTS}, not {value!r}")
    return values


def _flag(name: str, value: Any) -> bool:
    values = (bool(value),) if isinstance(value, (bool, np.bool_)) else integers(value, 0, 1)
    if len(values) != 1:
        raise PearrayError(f"{name} must be True or False, not {value!r}")
    return bool(values[0])


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and bool(
        -np.inf < value < np.inf)


def number(name: str, value: Any) -> float:
    """Return a finite real number."""
    found = array(name, value, "a number")
    if found.size != 1 or not is_number(found.item()):
        raise PearrayError(f"{name} must be a finite number, not {value!r}")
    return float(found.item())


def check_scale(name: str, value: Any, allowed: str = "a number or one per output channel") -> np.ndarray:
    """Return `value` as float32 of shape () or (channels,), its own, after checking it is finite and positive."""
    found = array(name, value, allowed)
    with np.errstate(over="ignore"):
        scale = found.astype(np.float32)
    if scale.ndim > 1 or scale.size == 0:
        raise PearrayError(f"{name} must be a scalar or a vector, not an array of shape {scale.shape}")
    wrong = ~(np.isfinite(scale) & (scale > 0))
    if wrong.any():
        raise PearrayError(f"{name} must be finite and above 0, not {scale[wrong].flat[0]}")
    return scale.reshape(()) if scale.size == 1 else scale


def one_scale(name: str, value: Any) -> float:
    """Return a scale that must be one value; the nearest float32."""
    scale = check_scale(name, value, "a number")
    if scale.ndim:
        raise PearrayError(f"{name} must be one number, not {scale.size}")
    return float(scale)


def check_zero_point(name: str, value: Any) -> int:
    """Return `value` as int after checking that an 8- or 16-bit tensor can have it."""
    found = array(name, value, "one integer", "iu")
    if found.size > 1 and np.all(found == found.flat[0]):
        found = found.reshape(-1)[:1]
    if found.size != 1:
        raise PearrayError(f"{name} must be one integer, not {value!r}")
    point = int(found.item())
    low, high = -128, 255
    if storage_dtype(value) is not None:
        low, high = int(np.iinfo(found.dtype).min), int(np.iinfo(found.dtype).max)
    if not low <= point <= high:
        raise PearrayError(f"{name} must be an integer in {low}..{high}, not {point}")
    return point


def _zero_point(name: str, value: Any) -> Any:
    point, own = check_zero_point(name, value), storage_dtype(value)
    return point if own is None else own.type(point)


def check_stored(name: str, zero_point: Any, dtype: Any) -> None:
    """Check that a tensor of `dtype` can hold its zero point."""
    info = np.iinfo(dtype)
    if not info.min <= int(zero_point) <= info.max:
        raise PearrayError(f"{name} must be in {info.min}..{info.max} for {np.dtype(dtype)}, not {int(zero_point)}")


def storage_dtype(value: Any) -> np.dtype | None:
    """Type of a zero point that carries one (a NumPy integer of 8 or 16 bits), else None."""
    dtype = getattr(value, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) and dtype.name in ("int8", "uint8", "int16", "uint16") else None


def number_type(name: str, value: Any) -> np.dtype:
    """Return a type of numbers that a user named."""
    try:
        found = np.dtype(np.void) if value is None else float_type(value) if isinstance(value, str) else np.dtype(value)
    except TypeError:
        found = np.dtype(np.void)
    if found.kind not in "iufb" and not is_float(found):
        raise PearrayError(f"{name} must be a type of numbers such as 'int8', not {value!r}")
    return found


def bounds(name: str, value: Any) -> tuple[int, int]:
    """Return bounds of stored values, (low, high), which one type of at most 16 bits must hold."""
    values = integers(value, -(1 << 15), (1 << 16) - 1)
    if len(values) != 2 or values[0] > values[1] or (values[0] < 0 and values[1] >= 1 << 15):
        raise PearrayError(f"{name} must be (low, high), integers within a 16-bit type and low <= high, not {value!r}")
    return values[0], values[1]


def _order(name: str, value: Any) -> tuple[np.ndarray, ...]:
    if not isinstance(value, (tuple, list)) or not value or not all(
            isinstance(tile, np.ndarray) and tile.ndim == 1 and tile.dtype.kind in "iu" for tile in value):
        raise PearrayError(f"{name} must be a sequence of arrays with the numbers of products, not {value!r}")
    return tuple(value)


def _orders(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise PearrayError(f"{name} must be a mapping with the order of each gradient, not {value!r}")
    return {role: [_order(f"{name} of {role}", part) for part in each] if isinstance(each, list)
            else _order(f"{name} of {role}", each) for role, each in value.items()}


#: True or False, or 1 or 0.
Flag = Annotated[bool, _flag]
#: Integer of at least 1.
Count = Annotated[int, whole(1)]
#: Number of an axis, from the end if negative.
Index = Annotated[int, whole(-64, 63)]
#: Finite real number.
Number = Annotated[float, number]
#: int or (int, int) of at least 1, vertical and horizontal; kept as (int, int).
Pair = Annotated[Any, _pair(1)]
#: int or (int, int) of at least 0, vertical and horizontal; kept as (int, int).
Offsets = Annotated[Any, _pair(0)]
#: int, (h, w) or (top, left, bottom, right); kept in the last form.
Sides = Annotated[Any, _sides]
#: Sizes of axes, -1 for one that follows from the rest.
Shape = Annotated[tuple[int, ...], _shape]
#: One scale; kept as the nearest float32.
Scale = Annotated[Any, one_scale]
#: One zero point, an int or a NumPy integer of 8 or 16 bits, which states the tensor's type.
ZeroPoint = Annotated[Any, _zero_point]
#: Any integers of 64 bits; kept as a tuple.
Integers = Annotated[Any, _integers]
#: A scale, or several; kept as a tuple.
Scales = Annotated[Any, _each(one_scale)]
#: A zero point, or several; kept as a tuple.
ZeroPoints = Annotated[Any, _each(_zero_point)]
#: Numbers of the products of each partial sum, in turn.
Order = Annotated[Any, _order]
#: The same for each gradient by its role, or a list of them, one for each kernel.
Orders = Annotated[Any, _orders]
#: (low, high) of stored values.
Bounds = Annotated[tuple[int, int], bounds]
#: A stored value of a type of at most 16 bits.
Stored = Annotated[int, whole(-(1 << 15), (1 << 16) - 1)]
