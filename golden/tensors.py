"""What the golden models share: checked operands, windows, wrapped sums and exact products."""

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = [
    "Array", "Padding", "centre", "convolved_size", "exact_matmul", "exact_type", "float_type", "floating",
    "four_sides", "integer", "is_float", "output_size", "pair", "patch", "rank", "shaped", "wrap",
]

#: Array of any numeric type; functions state and check which types they take.
Array: TypeAlias = npt.NDArray[Any]

#: One number for all sides, (height, width), or (top, left, bottom, right).
Padding: TypeAlias = int | tuple[int, ...]

_OPERANDS = tuple(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16, np.uint16))


def integer(name: str, tensor: npt.ArrayLike, dimensions: int | None = None) -> Array:
    """Check an integer operand: 8 or 16 bits, of a given rank.

    Narrower operands are held in the next wider type.

    Raises
    ------
    ValueError
        If the type or the rank is another.
    """
    array = np.asarray(tensor)
    if array.dtype not in _OPERANDS:
        raise ValueError(f"{name} must be int8, uint8, int16 or uint16, not {array.dtype}")
    if dimensions is not None:
        rank(name, array, dimensions)
    return array


def is_float(dtype: npt.DTypeLike) -> bool:
    """Whether a type is one of floating point, of NumPy or of ``ml_dtypes``."""
    kind = np.dtype(dtype)
    return kind.kind == "f" or kind.name.startswith(("bfloat", "float8"))


def float_type(name: str) -> np.dtype[Any]:
    """Type of floating point of a name, of NumPy or of ``ml_dtypes``."""
    return np.dtype(getattr(ml_dtypes, name, name))


def floating(name: str, tensor: npt.ArrayLike, dimensions: int | None = None) -> Array:
    """Check a floating-point operand and widen it to float32, which is exact.

    float32, float16 and the types of ``ml_dtypes`` (bfloat16, float8) are taken.

    Raises
    ------
    ValueError
        If the type or the rank is another.
    """
    array = np.asarray(tensor)
    if not is_float(array.dtype) or array.dtype.itemsize > 4:
        raise ValueError(f"{name} must be float32, float16, bfloat16 or float8, not {array.dtype}")
    if dimensions is not None:
        rank(name, array, dimensions)
    return array.astype(np.float32)


def shaped(name: str, tensor: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Check a floating-point operand of one shape and widen it, as :func:`floating` does.

    Raises
    ------
    ValueError
        If the type or the shape is another.
    """
    values = floating(name, tensor)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    return values


def rank(name: str, array: Array, dimensions: int) -> None:
    """Check the number of dimensions of a tensor, none of which may be empty."""
    if array.ndim != dimensions or 0 in array.shape:
        raise ValueError(f"{name} must have {dimensions} dimensions, none of them 0, not shape {array.shape}")


def pair(name: str, value: int | tuple[int, ...], least: int = 1) -> tuple[int, int]:
    """Expand a number for both image axes, or a (height, width) pair, and check its range."""
    values = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != 2 or not all(isinstance(v, (int, np.integer)) and v >= least for v in values):
        raise ValueError(f"{name} must be one or two integers of at least {least}, not {value!r}")
    return int(values[0]), int(values[1])


def four_sides(padding: Padding) -> tuple[int, int, int, int]:
    """Expand a padding to (top, left, bottom, right)."""
    values = (padding,) if isinstance(padding, (int, np.integer)) else tuple(padding)
    if len(values) not in (1, 2, 4) or not all(isinstance(v, (int, np.integer)) and v >= 0 for v in values):
        raise ValueError(f"padding must be one, two or four integers of at least 0, not {padding!r}")
    top, left, bottom, right = (int(v) for v in (values * (4 // len(values))))
    return top, left, bottom, right


def output_size(axis: str, size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1,
                ceil_mode: bool = False) -> int:
    """Count the positions of a window along one axis.

    Parameters
    ----------
    axis : str
        Name of the axis, for the message.
    size, kernel, stride, before, after, dilation : int
        Elements of the input, taps of the window, step, padding on both sides, distance of taps.
    ceil_mode : bool
        Also count a last window that hangs over the end, if it starts before the end.

    Raises
    ------
    ValueError
        If the window is larger than the padded input.
    """
    span = size + before + after - (dilation * (kernel - 1) + 1)
    if span < 0:
        raise ValueError(f"kernel {axis} must span at most {size + before + after} elements of padded input, "
                         f"not {dilation * (kernel - 1) + 1}")
    count = span // stride + 1
    if ceil_mode and span % stride and count * stride < size + before:
        count += 1
    return count


def convolved_size(x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int, int, int],
                   dilation: tuple[int, int], groups: int) -> tuple[int, int]:
    """Check the operands of a convolution against one another, and count its output's rows and columns.

    Parameters
    ----------
    x, w : (N, C, H, W) array, (M, C / G, R, S) array
        Operands.
    stride, padding, dilation : tuple of int
        By height and width; padding as (top, left, bottom, right).
    groups : int
        Number of groups G.

    Raises
    ------
    ValueError
        If channels, groups and window do not fit.
    """
    (_, c, height, width), (m, channels, r, s) = x.shape, w.shape
    if groups < 1 or c % groups or m % groups:
        raise ValueError(f"groups must divide the {c} input and {m} output channels, not {groups!r}")
    if channels != c // groups:
        raise ValueError(f"w must have {c // groups} channels a group, not {channels}")
    top, left, bottom, right = padding
    return (output_size("height", height, r, stride[0], top, bottom, dilation[0]),
            output_size("width", width, s, stride[1], left, right, dilation[1]))


def patch(padded: Array, row: int, column: int, rows: int, columns: int, stride: tuple[int, int]) -> Array:
    """Take from (..., H, W) what one tap of a window meets: (..., rows, columns), a view."""
    return padded[..., row:row + (rows - 1) * stride[0] + 1:stride[0],
                  column:column + (columns - 1) * stride[1] + 1:stride[1]]


def wrap(sums: Array, bits: int = 32) -> Array:
    """Wrap sums to the width of an accumulator, as two's-complement hardware does.

    Parameters
    ----------
    sums : int64 array of any shape
        Exact sums.
    bits : int
        Width of the accumulator, 16 to 64.

    Returns
    -------
    int32 array, or int64 array for more than 32 bits
        The sums modulo ``2**bits``, in the signed range.
    """
    if not 16 <= bits <= 64:
        raise ValueError(f"acc_bits must be in 16..64, not {bits}")
    unused = np.int64(64 - bits)
    wrapped: Array = (sums.astype(np.int64) << unused) >> unused
    return wrapped.astype(np.int32) if bits <= 32 else wrapped


def centre(name: str, tensor: Array, zero_point: npt.ArrayLike, axis: int = 0) -> Array:
    """Subtract a zero point, or one for each channel, in int64."""
    points = np.asarray(zero_point)
    if points.dtype.kind not in "iu":
        raise ValueError(f"{name}_zero_point must be an integer, not {points.dtype}")
    bounds = np.iinfo(tensor.dtype)
    if points.size and (points.min() < bounds.min or points.max() > bounds.max):
        raise ValueError(f"{name}_zero_point must be in {bounds.min}..{bounds.max}, not {zero_point!r}")
    if points.size != 1:
        if points.shape != (tensor.shape[axis],):
            raise ValueError(f"{name}_zero_point must be a scalar or have shape ({tensor.shape[axis]},), "
                             f"not {points.shape}")
        shape = [1] * tensor.ndim
        shape[axis] = -1
        points = points.reshape(shape)
    else:
        points = points.reshape(())
    return tensor.astype(np.int64) - points.astype(np.int64)


def exact_type(a: Array, b: Array, depth: int) -> type[np.float64] | type[np.int64]:
    """Choose the type in which sums of a number of integer products are exact.

    float64 holds every integer up to 2**53, so its fast products are exact while no sum of absolute
    products can exceed that; beyond it the slow int64 products are needed.
    """
    largest = [max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0 for x in (a, b)]
    return np.float64 if largest[0] * largest[1] * depth <= 1 << 53 else np.int64


def exact_matmul(a: Array, b: Array) -> Array:
    """Multiply integer matrices exactly.

    Parameters
    ----------
    a : int64 array of shape (..., M, K)
    b : int64 array of shape (..., K, N)

    Returns
    -------
    int64 array of shape (..., M, N)
    """
    kind = exact_type(a, b, a.shape[-1])
    return np.asarray(a.astype(kind) @ b.astype(kind)).astype(np.int64)
