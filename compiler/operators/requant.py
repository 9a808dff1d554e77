"""Arithmetic as an operator states it: requantisation by scales or multipliers, or fixed point."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...golden import requantise
from ...hdl.errors import PearrayError, check_choice
from ...hdl.shell.commands import Rounding
from .fields import array, bounds, check_scale, check_zero_point, one_scale, storage_dtype, whole

__all__ = ["FixedPoint", "Requant", "Sums"]


def _integers(name: str, value: Any, low: int, high: int) -> np.ndarray:
    found = array(name, value, "an integer or one per output channel", "iu")
    if found.ndim > 1 or found.size == 0:
        raise PearrayError(f"{name} must be an integer or one per output channel, not {value!r}")
    wrong = (found < low) | (found > high)
    if wrong.any():
        raise PearrayError(f"{name} must be in {low}..{high}, not {found[wrong].flat[0]}")
    found = found.astype(np.int64)
    return found.reshape(()) if found.size == 1 else found


@dataclass(frozen=True)
class FixedPoint:
    """16-bit fixed point as Eyeriss computes: operands, sums and outputs are int16.

    Of each 32-bit product the 16 bits from `shift` up are taken; their sums and the bias, int16 too, wrap at 16 bits.

    Parameters
    ----------
    shift : int
        Lowest bit of the window of a product, 0 to 16: the fraction bits of one operand, if the output is to have
        those of the other.
    """

    shift: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", whole(0, 16)("shift", self.shift))


@dataclass(frozen=True)
class Sums:
    """Sums are the outputs as they are, of operands whose zero points are taken away first.

    Parameters
    ----------
    x_zero_point, w_zero_point : int
        Zero points of the activations and the weights.
    """

    x_zero_point: int = 0
    w_zero_point: int = 0

    def __post_init__(self) -> None:
        for name in ("x_zero_point", "w_zero_point"):
            object.__setattr__(self, name, check_zero_point(name, getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Requant:
    """How sums become quantised outputs. Made by :meth:`onnx` or :meth:`tflite`.

    Parameters
    ----------
    rounding : Rounding
        Rule.
    x_zero_point, w_zero_point, y_zero_point : int
        Zero points of the activations, the weights and the output.
    scale : ndarray of shape () or (channels,), float32, or None
        Factor of the ONNX rule.
    multiplier, shift : ndarray of shape () or (channels,), int64, or None
        Q31 multiplier and left shift of the TFLite rules.
    clamp : (int, int) or None
        Bounds of the output; None for those of its type.
    dtype : numpy.dtype or None
        Type of the output; None for that of the activations.
    y_scale : float or None
        Scale of the output, which activations by table and clipping need.
    is_int32 : bool
        Whether sums of 16-bit operands, which must fit 32 bits, are rounded by the TFLite rule of 32 bits.
    """

    rounding: Rounding
    x_zero_point: int = 0
    w_zero_point: int = 0
    y_zero_point: int = 0
    scale: np.ndarray | None = None
    multiplier: np.ndarray | None = None
    shift: np.ndarray | None = None
    clamp: tuple[int, int] | None = None
    dtype: np.dtype | None = None
    y_scale: float | None = None
    is_int32: bool = False

    @classmethod
    def onnx(cls, x_scale: Any, x_zero_point: Any, w_scale: Any, w_zero_point: Any, y_scale: Any,
             y_zero_point: Any, *, clamp: tuple[int, int] | None = None) -> "Requant":
        """Requantise as onnxruntime: ``rint(float32(sum) * (x_scale * w_scale / y_scale)) + zero point``.

        Parameters
        ----------
        x_scale, y_scale : float
            Scales of the activations and of the output.
        w_scale : float or sequence of float
            Scale of the weights, or one per output channel.
        x_zero_point, w_zero_point, y_zero_point : int
            Zero points. The output has the type of `y_zero_point` if that is a NumPy integer, else
            the type of the activations.
        clamp : (int, int), optional
            Narrower bounds of the output, for operands of fewer than 8 bits.

        Raises
        ------
        PearrayError
            If a scale is not finite and positive, or a zero point out of range.
        """
        x, y = (np.float32(one_scale(name, value)) for name, value in (("x_scale", x_scale), ("y_scale", y_scale)))
        w = check_scale("w_scale", w_scale)
        # A subnormal or infinite quotient is as useless as a bad scale, and hides a mistake in one.
        with np.errstate(over="ignore", under="ignore"):
            scale = check_scale("x_scale * w_scale / y_scale", (x * w) / y)
        return cls(Rounding.ONNX, *_zero_points(x_zero_point, w_zero_point, y_zero_point), scale=scale,
                   clamp=None if clamp is None else bounds("clamp", clamp), dtype=storage_dtype(y_zero_point),
                   y_scale=float(y))

    @classmethod
    def tflite(cls, multiplier: Any, shift: Any, x_zero_point: Any = 0, w_zero_point: Any = 0,
               y_zero_point: Any = 0, rounding: str = "double",
               clamp: tuple[int, int] = (-128, 127)) -> "Requant":
        """Requantise as TFLite's reference kernels.

        Parameters
        ----------
        multiplier : int or sequence of int
            Q31 multiplier in 0..2**31 - 1, or one per output channel.
        shift : int or sequence of int
            Left shift in -31..30 (negative shifts right), or one per output channel.
        x_zero_point, w_zero_point, y_zero_point : int
            Zero points.
        rounding : {"double", "single", "int32"}
            ``double`` as CONV_2D, ``single`` as FULLY_CONNECTED. With 16-bit operands ``double`` is the rule that
            TensorFlow Lite has for sums of 64 bits: one rounding of a product with the multiplier's upper 15 bits,
            for shifts up to 7. ``int32`` is ``double`` whatever the operands, as of kernels that add these in 32 bits,
            such as MEAN and SVDF; sums beyond are cut off.
        clamp : (int, int)
            Bounds of the output, which also choose its type: int8, uint8 or int16.
        """
        modes = {"double": Rounding.TFLITE_DOUBLE, "single": Rounding.TFLITE_SINGLE, "int32": Rounding.TFLITE_DOUBLE}
        check_choice("rounding", rounding, modes)
        limits, dtype = bounds("clamp", clamp), storage_dtype(y_zero_point)
        if dtype is None:
            dtype = next(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16, np.uint16)
                         if np.iinfo(kind).min <= limits[0] and limits[1] <= np.iinfo(kind).max)
        return cls(modes[rounding], *_zero_points(x_zero_point, w_zero_point, y_zero_point),
                   multiplier=_integers("multiplier", multiplier, 0, (1 << 31) - 1),
                   shift=_integers("shift", shift, -31, 30), clamp=limits, dtype=dtype, is_int32=rounding == "int32")

    @property
    def channels(self) -> int | None:
        """Output channels that have a factor of their own, or None if one factor serves all."""
        counts = {value.size for value in (self.scale, self.multiplier, self.shift)
                  if value is not None and value.ndim}
        if len(counts) > 1:
            raise PearrayError(f"multiplier and shift must have the same length, not {sorted(counts)}")
        return counts.pop() if counts else None

    def tflite_rule(self, x_dtype: Any) -> tuple[Rounding, np.ndarray]:
        """Rounding and multipliers of the TFLite rules for activations of `x_dtype`.

        Raises
        ------
        PearrayError
            If TensorFlow Lite does not define the shift for 16-bit operands.
        """
        assert self.multiplier is not None
        assert self.shift is not None
        if self.rounding is Rounding.TFLITE_SINGLE or self.is_int32 or np.dtype(x_dtype).itemsize == 1:
            return self.rounding, self.multiplier
        if self.shift.max() > 7:
            raise PearrayError(f"shift must be in -31..7 with 16-bit operands and double rounding, not "
                               f"{self.shift.max()}")
        return Rounding.TFLITE_SINGLE, requantise.tflite_int64_multiplier(self.multiplier)

    def apply(self, sums: np.ndarray, low: int, high: int, x_dtype: Any) -> np.ndarray:
        """Outputs of sums (N, channels, ...) of activations of `x_dtype`, clamped to low..high."""
        if self.scale is not None:
            outputs = requantise.onnx(sums, self.scale, self.y_zero_point, low, high, 1)
        else:
            assert self.shift is not None
            rule, multiplier = self.tflite_rule(x_dtype)
            if self.is_int32:
                sums = np.clip(sums, -(1 << 31), (1 << 31) - 1)
            outputs = requantise.tflite(sums, multiplier, self.shift, self.y_zero_point, low, high, 1,
                                        "double" if rule is Rounding.TFLITE_DOUBLE else "single")
        return outputs.astype(self.output_dtype(x_dtype))

    def output_dtype(self, x_dtype: Any) -> np.dtype:
        """Type of the output for activations of `x_dtype`."""
        return np.dtype(x_dtype) if self.dtype is None else self.dtype

    def bounds(self, x_dtype: Any) -> tuple[int, int]:
        """Bounds of the output for activations of `x_dtype`: `clamp`, or those of its type."""
        info = np.iinfo(self.output_dtype(x_dtype))
        if self.clamp is None:
            return int(info.min), int(info.max)
        return max(self.clamp[0], int(info.min)), min(self.clamp[1], int(info.max))


def _zero_points(x: Any, w: Any, y: Any) -> tuple[int, int, int]:
    return (check_zero_point("x_zero_point", x), check_zero_point("w_zero_point", w),
            check_zero_point("y_zero_point", y))
