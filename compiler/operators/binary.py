"""Sum, difference and product of two tensors, element by element."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import elementwise, integer, quantised
from ...hdl.errors import PearrayError
from .channelwise import every_value, integer_type
from .fields import Scale, ZeroPoint, check_stored
from .operator import Spec, Typed, sum_bits, sum_dtype
from .scaled import Scaled

__all__ = ["Add", "Binary", "Mul", "Sub"]


@dataclass(frozen=True, eq=False)
class Binary(Scaled):
    """Base of the operators of two quantised tensors, a and b, which broadcast to y.

    With `rounding` "tflite" they compute what TensorFlow Lite's integer kernels do, for tensors of one type, which may
    be int16 if all zero points are 0. Without scales a and b are floats, and their result is rounded once.

    Parameters
    ----------
    A_scale, A_zero_point, B_scale, B_zero_point, C_scale, C_zero_point
        How a, b and y are stored; see :class:`Scaled`.
    rounding : {"onnx", "float", "tflite"}
        Rule.
    """

    stated: ClassVar = {"a": ("A_scale", "A_zero_point"), "b": ("B_scale", "B_zero_point"),
                        "y": ("C_scale", "C_zero_point")}
    roundings: ClassVar = ("onnx", "float", "tflite")

    A_scale: Scale = None
    A_zero_point: ZeroPoint = 0
    B_scale: Scale = None
    B_zero_point: ZeroPoint = 0
    C_scale: Scale = None
    C_zero_point: ZeroPoint = 0
    rounding: str = "onnx"

    required = ("a", "b")

    #: What it is of floats.
    of_floats: ClassVar[np.ufunc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_scaled:
            if self.rounding == "tflite":
                raise PearrayError("rounding 'tflite' needs A_scale, B_scale and C_scale")
            return
        try:
            self._check_scales()
        except ValueError as error:
            text = str(error)
            for role, (name, _) in self.stated.items():
                text = text.replace(f"{role}_scale", name)
            raise PearrayError(text) from None

    def _check_scales(self) -> None:
        """Raise a ValueError if scales are beyond what the rule takes."""

    def _check_words(self) -> None:
        """Raise a ValueError if scales are beyond what the rule takes of 16 bits."""

    @property
    def _stored_types(self) -> tuple[type[np.integer], ...]:
        return (np.int8, np.uint8, np.int16) if self.rounding == "tflite" else (np.int8, np.uint8)

    def on_stored(self, a: np.ndarray, b: np.ndarray, dtype: Any, *, spread: bool | None = None,
                  fused: bool | None = None) -> np.ndarray:
        """Outputs of stored values.

        Parameters
        ----------
        a, b : int8 or uint8 arrays
            Operands, whose shapes broadcast.
        dtype : type
            Type of y.
        spread : bool or None
            Whether a run of numbers of b meets one of a, if the shapes do not tell.
        fused : bool or None
            Whether the rule is that of the fused kernel, if the types do not tell.
        """
        raise NotImplementedError

    def _types(self, a: Typed, b: Typed) -> list[Spec]:
        shape = self._broadcast(a, b)
        if not self.is_scaled:
            if not np.dtype(a.dtype).kind == np.dtype(b.dtype).kind == "f":
                raise PearrayError(f"A_scale, B_scale and C_scale must be given for {self.kind} of {a.dtype} and "
                                   f"{b.dtype}, as for all but floats")
            return [(shape, np.dtype(a.dtype))]
        dtype = self._output_dtype(a=a, b=b)
        if self.rounding == "tflite" and len({np.dtype(a.dtype), np.dtype(b.dtype), dtype}) > 1:
            raise PearrayError(f"a, b and y must be of one type with rounding 'tflite', not {np.dtype(a.dtype)}, "
                               f"{np.dtype(b.dtype)} and {dtype}")
        if dtype.itemsize > 1:
            self._check_scale_of_words()
        return [(shape, dtype)]

    def _check_scale_of_words(self) -> None:
        """Check what the rule asks for of 16 bits: no zero points, and scales that it takes."""
        names = [name for _, name in self.stated.values()]
        if any(int(getattr(self, name)) for name in names):
            raise PearrayError(f"{', '.join(names)} must be 0 of int16, not "
                               f"{', '.join(str(getattr(self, name)) for name in names)}")
        try:
            self._check_words()
        except ValueError as error:
            raise PearrayError(str(error).replace("y_scale", "C_scale")) from None

    @staticmethod
    def _broadcast(a: Typed, b: Typed) -> tuple[int, ...]:
        try:
            return np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        except ValueError:
            raise PearrayError(f"b must broadcast with a of shape {tuple(a.shape)}, "
                               f"not have shape {tuple(b.shape)}") from None

    def _compute(self, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        if not self.is_scaled:
            return [np.asarray(type(self).of_floats(a, b))]
        return [self.on_stored(a, b, self._output_dtype(a=a, b=b), fused=self.is_fused(a=a, b=b))]

    @staticmethod
    def is_tabled(value: np.ndarray, other: Typed) -> bool:
        """Tell whether a constant operand is one number or one for each channel of the operand `other`.

        Channels are axis 1 of matrices and of images, which stand last in memory: tables are those of columns, and of
        bytes.
        """
        shape = tuple(other.shape)
        if np.dtype(other.dtype).itemsize > 1:
            return False
        padded = (1,) * (len(shape) - value.ndim) + value.shape
        channels = shape[1:2] if len(shape) in (2, 4) else ()
        return len(padded) == len(shape) and (
            value.size == 1 or (value.size in channels and value.size == np.prod(padded[1:2])))

    def constant_table(self, role: str, value: np.ndarray, other: Typed) -> np.ndarray:
        """Tabulate outputs over all that the operand `other` can store where `role`, the other operand, is constant.

        The table is (256,), or (channels, 256) if there is one value for each channel (axis 1).

        Raises
        ------
        PearrayError
            If the constant has another shape, or scales are not given.
        """
        shape = tuple(other.shape)
        if not self.is_tabled(value, other):
            channels = f"one for each of the {shape[1]} channels of" if len(shape) in (2, 4) else "nothing else for"
            raise PearrayError(f"the constant must be one value, or {channels} an input of shape {shape}, not of shape "
                               f"{value.shape}")
        if not self.is_scaled:
            raise PearrayError("C_scale must be given where an operand is constant, not None")
        operands = {"a": other, "b": other, role: value}
        dtype = self._output_dtype(**operands)
        # The order of the runtime's additions depends on whether it meets a run of one number.
        spread = quantised.first_is_spread(*(tuple(tensor.shape) for tensor in operands.values()))
        a, b = (value.reshape(-1, 1) if name == role else every_value(other.dtype) for name in operands)
        table = self.on_stored(a, b, dtype, spread=spread, fused=self.is_fused(**operands))
        return table[0] if len(table) == 1 else table

    @property
    def _stored(self) -> tuple[Any, ...]:
        """Scales and zero points of a, b and y, as golden models take them."""
        return *self.stored("a"), *self.stored("b"), *self.stored("y")

    def _apply(self, rule: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, **settings: Any) -> np.ndarray:
        (a_scale, a_zero), (b_scale, b_zero) = self.stored("a"), self.stored("b")
        return rule(a, a_scale, a_zero, b, b_scale, b_zero, *self.stored("y"), **settings)


@dataclass(frozen=True, eq=False)
class Add(Binary):
    """Sum of two quantised tensors as onnxruntime adds them between DequantizeLinear and QuantizeLinear.

    The fused kernel is QLinearAdd, and ``tflite`` is TensorFlow Lite's ADD. Without scales a and b are added as they
    are. See :class:`Binary`.
    """

    of_floats = np.add

    def _check_scales(self) -> None:
        if self.rounding == "tflite":
            self.integer_rule()

    def _check_words(self) -> None:
        self.integer_rule(2)

    def integer_rule(self, item: int = 1) -> elementwise.IntegerSum:
        """TensorFlow Lite's rule for these scales, of operands of so many bytes."""
        return elementwise.IntegerSum(*self._stored, item=item)

    def on_stored(self, a: np.ndarray, b: np.ndarray, dtype: Any, *, spread: bool | None = None,
                  fused: bool | None = None) -> np.ndarray:
        """Outputs of stored values; see :meth:`Binary.on_stored`."""
        if self.rounding == "tflite":
            return self._apply(elementwise.tflite_sum, a, b)
        return self._apply(quantised.add, a, b, dtype=dtype, spread=spread, fused=fused)

    def _types(self, a: Typed, b: Typed) -> list[Spec]:
        if self.is_scaled or np.dtype(a.dtype).kind == np.dtype(b.dtype).kind == "f":
            return super()._types(a, b)
        shape = self._broadcast(a, b)
        kinds = integer_type("a", a), integer_type("b", b)
        for name, kind in zip(("A_zero_point", "B_zero_point"), kinds, strict=True):
            check_stored(name, getattr(self, name), kind)
        return [(shape, sum_dtype(*kinds))]

    def _compute(self, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        if self.is_scaled or a.dtype.kind == "f":
            return super()._compute(a, b)
        return [integer.add(a, b, a_zero_point=int(self.A_zero_point), b_zero_point=int(self.B_zero_point),
                            acc_bits=sum_bits(a.dtype, b.dtype))]


@dataclass(frozen=True, eq=False)
class Sub(Binary):
    """Difference of two quantised tensors, a - b, as onnxruntime has it between DequantizeLinear and QuantizeLinear.

    There is no fused kernel, so "onnx" and "float" are one rule; ``tflite`` is TensorFlow Lite's SUB. See
    :class:`Binary`.
    """

    of_floats = np.subtract

    def is_fused(self, **tensors: Typed) -> bool:
        """Whether the rule for these inputs is that of a fused kernel: never."""
        return False

    def _check_scales(self) -> None:
        if self.rounding == "tflite":
            self.integer_rule()

    def _check_words(self) -> None:
        self.integer_rule(2)

    def integer_rule(self, item: int = 1) -> elementwise.IntegerSum:
        """TensorFlow Lite's rule for these scales, of operands of so many bytes."""
        return elementwise.IntegerSum(*self._stored, negative=True, item=item)

    def on_stored(self, a: np.ndarray, b: np.ndarray, dtype: Any, *, spread: bool | None = None,
                  fused: bool | None = None) -> np.ndarray:
        """Outputs of stored values; see :meth:`Binary.on_stored`."""
        if self.rounding == "tflite":
            return self._apply(elementwise.tflite_sum, a, b, negative=True)
        return self._apply(elementwise.subtract, a, b, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Mul(Binary):
    """Product of two quantised tensors as onnxruntime has it between DequantizeLinear and QuantizeLinear.

    The fused kernel is QLinearMul, and ``tflite`` is TensorFlow Lite's MUL. See :class:`Binary`.
    """

    of_floats = np.multiply

    def _check_scales(self) -> None:
        scales = [scale for scale, _ in map(self.stored, "aby")]
        elementwise.product_ratio(*scales)
        if self.rounding == "tflite":
            elementwise.product_multiplier(*scales)

    def on_stored(self, a: np.ndarray, b: np.ndarray, dtype: Any, *, spread: bool | None = None,
                  fused: bool | None = None) -> np.ndarray:
        """Outputs of stored values; see :meth:`Binary.on_stored`."""
        if self.rounding == "tflite":
            return self._apply(elementwise.tflite_multiply, a, b)
        return self._apply(elementwise.multiply, a, b, dtype=dtype, fused=fused)
