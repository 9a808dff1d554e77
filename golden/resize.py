"""Which elements Resize takes, as the standard's text and onnxruntime's float32 have it.

Output i of an axis stands at a coordinate x of the input, by one of several transformations; ``nearest`` takes the
element that a rule of rounding names, within the axis. Everything is computed in float32, in onnxruntime's order of
operations, since a product that is rounded otherwise names another element.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

__all__ = ["COORDINATES", "NEAREST", "SIMPLE", "coordinates", "nearest_indices"]

_HALF = np.float32(0.5)

#: Coordinates so near half-way between two elements count as half-way.
_TOLERANCE = 1e-6


def _half_pixel(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    return (x + _HALF) / scale - _HALF


def _symmetric(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    # The output may be a part of what the scale makes: it lies in the middle of that. The last sum is of float64.
    adjustment = np.float32(sizes[1]) / (scale * np.float32(sizes[0]))
    offset = np.float32(sizes[0]) / np.float32(2) * (np.float32(1) - adjustment)
    return np.float64(offset) + (x + np.float64(0.5)) / np.float64(scale) - 0.5


def _pytorch(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    return _half_pixel(x, scale, sizes) if sizes[1] > 1 else np.zeros_like(x)


def _corners(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    return x * np.float32(sizes[0] - 1) / np.float32(sizes[1] - 1) if sizes[1] > 1 else np.zeros_like(x)


def _asymmetric(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    return x / scale


def _tf_half_pixel(x: np.ndarray, scale: np.float32, sizes: tuple[int, int]) -> np.ndarray:
    return (x + _HALF) / scale


#: Coordinates of the input, of outputs x, float32, for a scale, and sizes of the input and of the output.
COORDINATES: Mapping[str, Callable[[np.ndarray, np.float32, tuple[int, int]], np.ndarray]] = {
    "half_pixel": _half_pixel, "half_pixel_symmetric": _symmetric, "pytorch_half_pixel": _pytorch,
    "align_corners": _corners, "asymmetric": _asymmetric, "tf_half_pixel_for_nn": _tf_half_pixel,
}


def _rounded(x: np.ndarray, prefer_ceil: bool) -> np.ndarray:
    # What is as good as half-way counts as half-way.
    below = np.floor(x)
    rest = (x - below).astype(np.float64)
    is_up = np.where(np.abs(rest - 0.5) <= _TOLERANCE, prefer_ceil, rest > 0.5)
    return below + is_up


#: Rules of rounding to an element.
NEAREST: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": partial(_rounded, prefer_ceil=False),
    "round_prefer_ceil": partial(_rounded, prefer_ceil=True), "floor": np.floor, "ceil": np.ceil,
}


#: Rule of operator sets before 11, which depends on the scale: ``floor`` of an axis that grows, ``ceil`` of another.
SIMPLE = "simple"


def coordinates(transformation: str, scale: float, sizes: tuple[int, int]) -> np.ndarray:
    """Coordinates in the input of all outputs of an axis.

    Parameters
    ----------
    transformation : str
        One of :data:`COORDINATES`.
    scale : float
        Outputs for each input; the nearest float32 counts.
    sizes : (int, int)
        Elements of the input and of the output.

    Returns
    -------
    ndarray of shape (outputs,), float32
    """
    outputs = np.arange(sizes[1], dtype=np.float32)
    # The runtime leaves an axis of scale 1 as it is.
    if np.float32(scale) == 1:
        return outputs
    return COORDINATES[transformation](outputs, np.float32(scale), sizes).astype(np.float32)


def nearest_indices(transformation: str, rule: str, scale: float, sizes: tuple[int, int]) -> np.ndarray:
    """Element of the input that each output of an axis is; see :func:`coordinates`.

    Returns
    -------
    ndarray of shape (outputs,), int64
    """
    if rule == SIMPLE:
        rule = "floor" if np.float32(scale) >= 1 else "ceil"
    found = NEAREST[rule](coordinates(transformation, scale, sizes)).astype(np.int64)
    return np.clip(found, 0, sizes[0] - 1)
