"""Images of another size, whose elements lie between those of x."""

from dataclasses import dataclass

import numpy as np

from ...golden.interpolation import Along, interpolate, onnx_along, tflite_along, tflite_unsigned_along
from ...golden.resize import COORDINATES
from ...hdl.errors import PearrayError, check_choice
from .fields import Pair, Scales, ZeroPoint, check_stored
from .operator import Operator, Spec, Typed

__all__ = ["Interpolate"]

#: Rounding of each rule.
_ROUNDING = {"onnx": "zero", "float": "even", "tflite": "away"}

#: How LiteRT finds places: align_corners and half_pixel_centers.
_TFLITE = {"asymmetric": (False, False), "align_corners": (True, False), "half_pixel": (False, True)}


@dataclass(frozen=True, eq=False)
class Interpolate(Operator):
    """Images x (N, C, H, W) of 8 bits in another size, each output between two rows and two columns.

    Parameters
    ----------
    sizes : int or (int, int)
        Rows and columns of y.
    coordinate_mode : str
        How an output's place in x is found: one of :data:`.golden.resize.COORDINATES`.
    scales : (number, number), optional
        Outputs for each row and column, as float32, which tell places; by default the quotients of the sizes.
    rounding : {"onnx", "float", "tflite"}
        ``onnx`` is what onnxruntime's Resize makes of integers, which it cuts towards zero, ``float`` what it makes
        between DequantizeLinear and QuantizeLinear of one scale of so few significant bits, as a power of two has,
        that float32 holds all sums. Shares of elements are multiples of 1 / 256 then. ``tflite`` is RESIZE_BILINEAR of
        LiteRT, with shares of 1 / 1024 for any size if x is int8, and multiples of 1 / 256 if it is uint8, for the
        modes "asymmetric", "half_pixel" and "align_corners".
    zero_point : int
        Zero point of x and y, for ``float``.
    """

    sizes: Pair
    coordinate_mode: str = "half_pixel"
    scales: Scales = None
    rounding: str = "onnx"
    zero_point: ZeroPoint = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rounding", self.rounding, (*_ROUNDING,))
        is_tflite = self.rounding == "tflite"
        check_choice("coordinate_mode", self.coordinate_mode, (*(_TFLITE if is_tflite else COORDINATES),))
        if self.scales is not None and (is_tflite or len(self.scales) != 2):
            raise PearrayError(f"scales must be two numbers, and absent with rounding 'tflite', not {self.scales}")
        if self.rounding != "float" and self.zero_point:
            raise PearrayError(f"zero_point must be 0 with rounding {self.rounding!r}, not {self.zero_point}")

    def along(self, x: Typed) -> tuple[Along, Along]:
        """Places of rows and columns.

        Raises
        ------
        PearrayError
            If float32 would round, or the runtime would read behind the image.
        """
        shape, sizes = tuple(x.shape), self.sizes
        pairs = [*zip(shape[2:], sizes, strict=True)]
        try:
            if self.rounding == "tflite":
                find = tflite_along if np.dtype(x.dtype).kind == "i" else tflite_unsigned_along
                rows, columns = (find(*pair, *_TFLITE[self.coordinate_mode]) for pair in pairs)
                return rows, columns
            if shape[2:] == sizes:
                # The runtime copies what keeps its shape, whatever the scales.
                return onnx_along("asymmetric", 1, pairs[0]), onnx_along("asymmetric", 1, pairs[1])
            scales = self.scales or [float(np.float32(made) / np.float32(size)) for size, made in pairs]
            rows, columns = (onnx_along(self.coordinate_mode, scale, pair)
                             for scale, pair in zip(scales, pairs, strict=True))
        except ValueError as error:
            raise PearrayError(str(error)) from None
        return rows, columns

    def _types(self, x: Typed) -> list[Spec]:
        dtype = np.dtype(x.dtype)
        if len(x.shape) != 4 or 0 in x.shape or dtype.name not in ("int8", "uint8"):
            raise PearrayError(f"x must be int8 or uint8 of 4 dimensions (N, C, H, W), none of them 0, not {dtype} of "
                               f"shape {tuple(x.shape)}")
        check_stored("zero_point", self.zero_point, dtype)
        self.along(x)
        return [((*x.shape[:2], *self.sizes), dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [interpolate(x, *self.along(x), self.round_to, int(self.zero_point))]

    @property
    def round_to(self) -> str:
        """One of :data:`.golden.interpolation.ROUNDINGS`."""
        return _ROUNDING[self.rounding]
