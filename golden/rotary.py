"""Rotary position embedding: pairs of elements turned by angles that grow with their row's position.

Of integers it is a product with a matrix for each position, whose elements are cosines and sines in bytes: each output
is one sum of two products, rounded once.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .quantise import checked_scale
from .requantise import onnx
from .tensors import Array

__all__ = ["error_bound", "rotary", "rotary_tables", "rotated", "table_scale", "turned",
           "turns"]

#: Greatest element of a table of bytes.
GREATEST = 127


def rotary_tables(positions: int, elements: int, base: float = 10000.0) -> tuple[Array, Array]:
    """Cosines and sines of the angles ``position * base**(-2 i / elements)``, as in the RoFormer paper and LLaMA.

    Parameters
    ----------
    positions : int
        Positions, from 0 on.
    elements : int
        Elements that are turned, two for each angle.
    base : float
        Base.

    Returns
    -------
    two float32 arrays of shape (positions, elements // 2)

    Raises
    ------
    ValueError
        If `elements` is odd, or a number is not above 0.
    """
    if positions < 1 or elements < 2 or elements % 2 or not base > 0:
        raise ValueError(f"positions must be at least 1, elements even and at least 2, and base above 0, not "
                         f"{positions}, {elements} and {base}")
    angles = np.outer(np.arange(positions), base ** (-np.arange(0, elements, 2) / elements))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _pairs(elements: int, turned: int, interleaved: bool) -> tuple[Array, Array]:
    """Places of the first and of the second element of each pair among `elements`, of which the first are turned."""
    if turned > elements or turned % 2:
        raise ValueError(f"cos and sin must have at most a column for each pair of {elements} elements")
    places = np.arange(turned)
    return (places[0::2], places[1::2]) if interleaved else (places[:turned // 2], places[turned // 2:])


def turned(x: Array, cos: Array, sin: Array, interleaved: bool, whole: Any = 1) -> Array:
    """Turn pairs of elements: ``a cos - b sin`` and ``b cos + a sin`` take the places of a and b.

    Parameters
    ----------
    x : array (..., P, E)
        Rows; pairs are elements i and i + R / 2 of the first R, or with `interleaved` 2 i and 2 i + 1.
    cos, sin : array (P, R / 2)
        Tables, a row for each of x.
    whole : number
        What elements behind the first R are multiplied by.

    Returns
    -------
    array of the shape of `x`
    """
    first, second = _pairs(x.shape[-1], 2 * cos.shape[-1], interleaved)
    y = x * whole
    a, b = x[..., first], x[..., second]
    y[..., first] = a * cos - b * sin
    y[..., second] = b * cos + a * sin
    return y


def rotated(x: npt.ArrayLike, cos: Array, sin: Array, interleaved: bool = False) -> Array:
    """Turn rows of float numbers (..., P, E) by tables (P, R / 2), in their type."""
    values = np.asarray(x)
    return turned(values, cos.astype(values.dtype), sin.astype(values.dtype), interleaved)


def table_scale(cos: Array, sin: Array) -> np.float32:
    """Step of cosines and sines in bytes: 1 / 127, or what the greatest element of tables that are scaled asks for."""
    return np.float32(max(1.0, float(np.abs(cos).max()), float(np.abs(sin).max())) / GREATEST)


def byte_table(table: Array, scale: np.float32) -> Array:
    """Cosines or sines in steps of `scale`, int8."""
    return np.rint(table / scale).astype(np.int8)


def whole_turn(scale: np.float32) -> int:
    """What elements that are not turned are multiplied by, in steps of `scale`."""
    return int(np.rint(1 / scale))


def turns(cos: Array, sin: Array, scale: np.float32, elements: int, interleaved: bool) -> Array:
    """Matrices (P, E, E) of int8 of which rows (..., E) times that of their position are the sums of :func:`rotary`."""
    rows = np.broadcast_to(np.eye(elements, dtype=np.int32)[:, None], (elements, len(cos), elements))
    made = turned(rows, byte_table(cos, scale).astype(np.int32), byte_table(sin, scale).astype(np.int32), interleaved,
                  whole_turn(scale))
    return made.transpose(1, 0, 2).astype(np.int8)


def rotary(x: Array, cos: Array, sin: Array, scale: np.float32, factor: npt.ArrayLike, *, x_zero_point: int = 0,
           y_zero_point: int = 0, interleaved: bool = False) -> Array:
    """Turn rows of bytes.

    Parameters
    ----------
    x : int8 or uint8 array (..., P, E)
        Rows.
    cos, sin : float array (P, R / 2)
        Tables, a row for each of x.
    scale : float32
        Step of their bytes, :func:`table_scale` of the whole tables.
    factor : float32
        Factor from sums to outputs, the scale of x times `scale` over that of y.
    x_zero_point, y_zero_point : int
        Zero points.
    interleaved : bool
        See :func:`turned`.

    Returns
    -------
    array of the shape and type of `x`
        At most :func:`error_bound` away from the operator of real numbers, but where it is clamped.
    """
    info = np.iinfo(x.dtype)
    sums = turned(x.astype(np.int32) - x_zero_point, byte_table(cos, scale).astype(np.int32),
                  byte_table(sin, scale).astype(np.int32), interleaved, whole_turn(scale))
    return onnx(sums, factor, y_zero_point, int(info.min), int(info.max), -1).astype(x.dtype)


def error_bound(x: Array, x_scale: float, y_scale: float, scale: np.float32, *, x_zero_point: int = 0,
                interleaved: bool = False, turned_elements: int | None = None) -> Array:
    """Most by which outputs may differ from the operator of real numbers, in steps of y.

    Half a step for their rounding, with what float32 adds to it, and half a step of a cosine or a sine for each of the
    two elements that meet.
    """
    count = x.shape[-1] if turned_elements is None else turned_elements
    first, second = _pairs(x.shape[-1], count, interleaved)
    stored = np.abs(x.astype(np.float64) - x_zero_point)
    met = stored.copy()
    met[..., first] = met[..., second] = stored[..., first] + stored[..., second]
    return 0.5 + 2.0 ** -15 + met * checked_scale("x_scale", x_scale) / checked_scale("y_scale", y_scale) * scale / 2
