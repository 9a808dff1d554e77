"""Linear interpolation of images in integers: where each output lies between two elements, and how sums are rounded.

Shares are integers over a power of two. LiteRT's reference kernel of int8 has them in 1024ths, whatever the sizes.
Those of onnxruntime, and of LiteRT for uint8, are float32 numbers; here they are such that float32 holds them exactly,
and all that follows.
"""

from dataclasses import dataclass

import numpy as np

from .resize import coordinates
from .tensors import Array

__all__ = ["ROUNDINGS", "Along", "interpolate", "onnx_along", "tflite_along", "tflite_unsigned_along"]

#: Finest shares of an axis, of which products with those of the other axis and a byte are exact in float32.
_FINEST = 256

#: Places of LiteRT's kernel are in so many parts of an element.
_PARTS = 1024

#: Rules: halves away from zero, towards zero, and halves to the even integer.
ROUNDINGS = ("away", "zero", "even")


@dataclass(frozen=True, eq=False)
class Along:
    """Places of all outputs of an axis, each between two elements, which may be one.

    Parameters
    ----------
    lower, upper : (outputs,) int64 arrays
        The elements.
    share : (outputs,) int64 array
        How much of an output is of the upper one: 0 to `whole` - 1.
    whole : int
        Parts of a whole, a power of two.
    """

    lower: Array
    upper: Array
    share: Array
    whole: int

    @classmethod
    def of(cls, lower: Array, upper: Array, share: Array, whole: int) -> "Along":
        """Places in as few parts of a whole as tell them."""
        share = np.where(lower == upper, 0, share)
        common = int(np.gcd.reduce(share, initial=whole))
        return cls(lower, np.where(share == 0, lower, upper), share // common, whole // common)


def tflite_along(size: int, made: int, align_corners: bool, half_pixel: bool) -> Along:
    """Places as LiteRT's RESIZE_BILINEAR of int8 has them.

    Parameters
    ----------
    size, made : int
        Elements of the input and of the output.
    align_corners, half_pixel : bool
        Whether the last outputs are the last elements, and whether places are those of an element's middle.

    Raises
    ------
    ValueError
        If the kernel would read behind the image, since its steps are rounded.
    """
    if align_corners and made > 1:
        step = (_PARTS * (size - 1) + (made - 1) // 2) // (made - 1)
    else:
        step = (_PARTS * size + made // 2) // made
    places = np.arange(made, dtype=np.int64) * step + (step // 2 - _PARTS // 2 if half_pixel else 0)
    lower = np.maximum(places, 0) // _PARTS
    upper = np.minimum(np.maximum(places + _PARTS - 1, 0) // _PARTS, size - 1)
    if lower.max() >= size:
        raise ValueError(f"size must not be {made} for {size} elements: the kernel's steps of {step} / {_PARTS} lead "
                         f"it to element {lower.max()}, behind the image")
    return Along.of(lower, upper, places - _PARTS * lower, _PARTS)


def tflite_unsigned_along(size: int, made: int, align_corners: bool, half_pixel: bool) -> Along:
    """Places as LiteRT's RESIZE_BILINEAR of uint8 has them, where float32 holds them and what follows exactly.

    Parameters are those of :func:`tflite_along`.

    Raises
    ------
    ValueError
        If shares are no multiples of 1 / 256.
    """
    is_aligned = align_corners and made > 1
    step = np.float32(size - 1) / np.float32(made - 1) if is_aligned else np.float32(size) / np.float32(made)
    outputs, half = np.arange(made, dtype=np.float32), np.float32(0.5)
    return _exact((outputs + half) * step - half if half_pixel else outputs * step, (size, made))


def onnx_along(transformation: str, scale: float, sizes: tuple[int, int]) -> Along:
    """Places as onnxruntime's Resize has them, where float32 holds them and what follows exactly.

    Parameters
    ----------
    transformation, scale, sizes
        As those of :func:`.resize.coordinates`.

    Raises
    ------
    ValueError
        If shares are no multiples of 1 / 256.
    """
    return _exact(np.clip(coordinates(transformation, scale, sizes), 0, sizes[0] - 1), sizes)


def _exact(places: Array, sizes: tuple[int, int]) -> Along:
    """Places in float32, for sizes of the input and the output; those outside have shares beyond a whole, too."""
    parts = places.astype(np.float64) * _FINEST
    wrong = np.flatnonzero(parts != np.rint(parts))
    if wrong.size:
        raise ValueError(f"places of outputs must be multiples of 1 / {_FINEST}, not {places[wrong[0]]} as that of "
                         f"output {wrong[0]} of {sizes[1]} from {sizes[0]} elements: the order in which float32 rounds "
                         "decides of others")
    parts = np.clip(parts.astype(np.int64), 0, (sizes[0] - 1) * _FINEST)
    lower = parts // _FINEST
    return Along.of(lower, np.minimum(lower + 1, sizes[0] - 1), parts % _FINEST, _FINEST)


def interpolate(x: Array, rows: Along, columns: Along, rounding: str, zero_point: int = 0) -> Array:
    """Interpolate images.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Images.
    rows, columns : Along
        Places of outputs.
    rounding : {"away", "zero", "even"}
        One of :data:`ROUNDINGS`.
    zero_point : int
        Stored value from which rounding counts.

    Returns
    -------
    (N, C, P, Q) array of the type of `x`
    """
    sums = np.asarray(x).astype(np.int64) - zero_point
    for axis, along in ((2, rows), (3, columns)):
        share = along.share.reshape((-1,) + (1,) * (3 - axis))
        sums = sums.take(along.lower, axis) * (along.whole - share) + sums.take(along.upper, axis) * share
    whole = rows.whole * columns.whole
    if rounding == "even":
        # Sums of fewer than 53 bits.
        found = np.rint(sums / whole).astype(np.int64)
    else:
        found = np.sign(sums) * ((np.abs(sums) + (whole // 2 if rounding == "away" else 0)) // whole)
    return (found + zero_point).astype(x.dtype)
