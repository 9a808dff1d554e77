"""Operators that contract, matrix products and convolutions: their operands, sums, and how these become outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from ...golden import fixed_point, floating, integer
from ...golden.tensors import is_float
from ...hdl.errors import PearrayError
from .activation import Activation, activation_bounds, activation_table, check_activation, float_activation
from .channelwise import look_up
from .fields import Count, Flag, Offsets, Order, Pair, Sides, check_size, check_stored
from .operator import Operator, Quantisation, Spec, Typed, one_order, sum_bits, sum_dtype
from .requant import FixedPoint, Requant, Sums

__all__ = ["Contraction", "Conv2d", "ConvTranspose2d", "Gemm", "Linear", "MatrixProduct", "Windowed"]

_INTEGERS = ("int8", "uint8", "int16", "uint16")

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Contraction(Operator):
    """Base of the operators whose sums are requantised: their operands and their last stages are the same.

    One states the shape of its output in ``_shape``, and its sums in ``_sums``, which have channels along axis 1.

    Parameters
    ----------
    requant : Requant, Sums or FixedPoint, optional
        How sums become outputs; without it the sums are the output, int32 for 8-bit operands and
        int64 for wider ones, as they are with Sums, which has zero points of operands. Sums of floats are
        float32, and rounded to the operands' type without it. Fixed point says how products and sums are cut as well,
        for int16 operands.
    activation
        What follows requantisation; None or "relu" for sums and in fixed point.
    order : sequence of ndarray, optional
        Numbers of the products of a sum that an array of floats adds up at a time, in turn; see
        :mod:`.golden.floating`. A compiled graph has that of its accelerator; alone all are added one after another.
    """

    requant: Requant | Sums | FixedPoint | None = None
    activation: Activation = None
    order: Order = field(default=None, repr=False)

    # The activations, the weights and the bias.
    required = ("x", "w")
    optional = ("b",)
    constants: ClassVar[tuple[str, ...]] = ("w", "b")

    #: Dimensions of the activations and the weights.
    rank: ClassVar[int]

    #: Axis of the output's channels.
    channel_axis: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)
        if self.requant is not None and not isinstance(self.requant, (Requant, Sums, FixedPoint)):
            raise PearrayError(f"requant must be None, a Requant or a FixedPoint, not {self.requant!r}")
        if isinstance(self.requant, FixedPoint) and self.activation not in (None, "relu"):
            raise PearrayError(f"activation must be None or 'relu' in fixed point, not {self.activation!r}")

    def quantisation(self, role: str) -> Quantisation | None:
        """How the requantisation says that the output is stored; ONNX's factors alone tell no other scale."""
        requant = self.requant
        if role != "y" or not isinstance(requant, Requant) or requant.y_scale is None:
            return None
        return Quantisation(float(np.float32(requant.y_scale)), requant.y_zero_point)

    def _types(self, **tensors: Any) -> list[Spec]:
        self._check_operands(tensors)
        (x, w), b = (tensors[role] for role in self.required), tensors.get(self.roles[2])
        shape = self._shape(tuple(x.shape), tuple(w.shape))
        allowed = self._bias_shapes(shape)
        if b is not None and tuple(b.shape) not in allowed:
            raise PearrayError(f"{self.roles[2]} must have shape {' or '.join(map(str, allowed))}, "
                               f"not {tuple(b.shape)}")
        return [(shape, self._dtype(np.dtype(x.dtype), np.dtype(w.dtype), shape[self.channel_axis]))]

    def _check_operands(self, tensors: Mapping[str, Typed]) -> None:
        kinds = {role: np.dtype(tensor.dtype) for role, tensor in tensors.items() if tensor is not None}
        a, b, c = self.roles
        for role in (a, b):
            if kinds[role].name not in _INTEGERS and not is_float(kinds[role]):
                raise PearrayError(f"{role} must be of type {', '.join(_INTEGERS)} or float, not {kinds[role]}")
            shape = tuple(tensors[role].shape)
            if len(shape) != self.rank or 0 in shape:
                raise PearrayError(f"{role} must have {self.rank} dimensions of at least 1, not shape {shape}")
        has_floats = is_float(kinds[a])
        if has_floats and kinds[b] != kinds[a]:
            raise PearrayError(f"{b} must be of the type of {a} ({kinds[a]}), not {kinds[b]}")
        if has_floats != is_float(kinds[b]) or kinds[a].itemsize != kinds[b].itemsize:
            raise PearrayError(f"{b} must be as wide as {a} ({kinds[a]}), not {kinds[b]}")
        if isinstance(self.requant, FixedPoint):
            for role, kind in kinds.items():
                if kind != np.int16:
                    raise PearrayError(f"{role} must be of type int16 in fixed point, not {kind}")
        elif has_floats and self.requant not in (None, Sums()):
            raise PearrayError(f"requant must be None, for outputs of the type of {a} ({kinds[a]}), or Sums(), for "
                               f"float32, not {self.requant!r}")
        elif has_floats:
            if c in kinds and not (is_float(kinds[c]) and kinds[c].itemsize <= 4):
                raise PearrayError(f"{c} must be of type float32, or a shorter float, not {kinds[c]}")
        elif c in kinds and kinds[c].name not in ("int32", "int64"):
            raise PearrayError(f"{c} must be of type int32, not {kinds[c]}")

    def _dtype(self, x: np.dtype, w: np.dtype, channels: int) -> np.dtype:
        """Type of the output for operands of types x and w, after checking what follows the sums."""
        requant = self.requant
        if is_float(x):
            return x if self.requant is None else np.dtype(np.float32)
        if isinstance(requant, FixedPoint):
            return np.dtype(np.int16)
        for role, zero_point, kind in zip(self.roles, self.zero_points, (x, w), strict=False):
            check_stored(f"zero point of {role}", zero_point, kind)
        if not isinstance(requant, Requant):
            if self.activation not in (None, "relu"):
                raise PearrayError(f"activation {self.activation!r} needs a requant")
            return sum_dtype(x)
        dtype = requant.output_dtype(x)
        check_stored("y_zero_point", requant.y_zero_point, dtype)
        if requant.channels not in (None, channels):
            raise PearrayError(f"requant must have one factor or one per output channel ({channels}), "
                               f"not {requant.channels}")
        if requant.multiplier is not None:
            requant.tflite_rule(x)
        activation_table(self.activation, requant, x)
        return dtype

    def _shape(self, x: Shape, w: Shape) -> Shape:
        raise NotImplementedError

    def _bias_shapes(self, y: Shape) -> list[Shape]:
        """Shapes that a bias may have."""
        return [(y[self.channel_axis],)]

    def bounds(self, x_dtype: Any) -> tuple[int, int]:
        """Bounds of the stored output before any table."""
        assert isinstance(self.requant, (Requant, FixedPoint))
        if isinstance(self.requant, FixedPoint):
            return 0 if self.activation == "relu" else -(1 << 15), (1 << 15) - 1
        if self.table(x_dtype) is not None:
            return self.requant.bounds(x_dtype)
        return activation_bounds(self.activation, self.requant, x_dtype)

    def table(self, x_dtype: Any) -> np.ndarray | None:
        """Table of the activation over stored outputs, of shape (256,), or None."""
        if not isinstance(self.requant, Requant):
            return None
        return activation_table(self.activation, self.requant, x_dtype)

    @property
    def zero_points(self) -> tuple[int, int]:
        """Zero points of the activations and the weights."""
        if not isinstance(self.requant, (Requant, Sums)):
            return 0, 0
        return self.requant.x_zero_point, self.requant.w_zero_point

    def _compute(self, **tensors: Any) -> list[np.ndarray]:
        x, w = (tensors[role] for role in self.required)
        return [self.outputs_of(self._sums(x, w, tensors.get(self.roles[2])), x.dtype)]

    def outputs_of(self, sums: np.ndarray, x_dtype: Any) -> np.ndarray:
        """Outputs that sums of the products of activations of a type become, biases included."""
        if is_float(sums.dtype):
            y = float_activation(self.activation, sums)
            return y if self.requant is not None else floating.rounded(y, x_dtype)
        if not isinstance(self.requant, Requant):
            sums = np.maximum(sums, 0) if self.activation == "relu" else sums
            return sums if isinstance(self.requant, FixedPoint) else sums.astype(sum_dtype(x_dtype))
        y = self.requant.apply(sums, *self.bounds(x_dtype), x_dtype)
        table = self.table(x_dtype)
        return y if table is None else look_up(y, table)

    def _sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        raise NotImplementedError

    def in_order(self, orders: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> Operator:
        """The same whose products are added in an order, which all its kernels have."""
        return replace(self, order=one_order(self, orders["y"]))

    def _arithmetic(self, dtype: np.dtype, names: str = "xw") -> tuple[Any, dict[str, Any]]:
        """Golden models for operands of a type, and what those take besides tensors: `names` are the operands'."""
        if isinstance(self.requant, FixedPoint):
            return fixed_point, {"shift": self.requant.shift}
        if is_float(dtype):
            return floating, {"tile": self.order}
        zeros = {f"{name}_zero_point": zero for name, zero in zip(names, self.zero_points, strict=True)}
        return integer, {**zeros, "acc_bits": sum_bits(dtype)}


class MatrixProduct(Contraction):
    """Base of matrix products (M, K) times (K, N), either operand of which may stand transposed in memory."""

    trans_a: bool
    trans_b: bool
    rank = 2

    def _sizes(self, a: Shape, b: Shape) -> tuple[int, int, int]:
        m, k = reversed(a) if self.trans_a else a
        depth, n = reversed(b) if self.trans_b else b
        if k != depth:
            raise PearrayError(f"{self.roles[1]} must have {k} {'columns' if self.trans_b else 'rows'} to match "
                               f"{self.roles[0]} of shape {a}, not shape {b}")
        return m, k, n

    def _shape(self, x: Shape, w: Shape) -> Shape:
        m, _, n = self._sizes(x, w)
        return m, n

    def _sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        model, given = self._arithmetic(x.dtype, "ab")
        if model is integer and b is not None and b.shape[0] == 1:
            b = b.reshape(-1)
        sums: np.ndarray = model.gemm(x.T if self.trans_a else x, w.T if self.trans_b else w, b, **given)
        return sums

    def _macs(self, **tensors: Any) -> int:
        return prod(self._sizes(*(tuple(tensors[role].shape) for role in self.required)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Gemm(MatrixProduct):
    """``y = a' b' + c`` with a' (M, K) and b' (K, N), either transposed in memory.

    Tensors: `a` (M, K), or (K, M) with `trans_a`; `b` (K, N), or (N, K) with `trans_b`; optional
    `c` (N,) or (M, N), int32; output `y` (M, N).
    """

    trans_a: Flag = False
    trans_b: Flag = False

    required = ("a", "b")
    optional = ("c",)
    constants = ()

    def _bias_shapes(self, y: Shape) -> list[Shape]:
        return [*dict.fromkeys(((y[1],), (1, y[1]), y))]


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(MatrixProduct):
    """``y = x w' + b`` with x (N, in), w (out, in), optional b (out,); output y (N, out)."""

    trans_a, trans_b = False, True


@dataclass(frozen=True, eq=False, kw_only=True)
class Windowed(Operator):
    """Parameters of convolutions.

    Parameters
    ----------
    stride, dilation : int or (int, int)
        Vertical and horizontal; kept as (int, int).
    padding : int, (h, w) or (top, left, bottom, right)
        Elements added on each side, which stand for zero; kept in the last form.
    groups : int
        Groups of channels that do not meet.
    """

    stride: Pair = 1
    padding: Sides = 0
    dilation: Pair = 1
    groups: Count = 1

    @property
    def window(self) -> dict[str, Any]:
        """All of these by name."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Windowed, Contraction):
    """``y[n,m,p,q] = x[n,c,Up+Dr-top,Uq+Ds-left] * w[m,c,r,s] + b[m]``.

    Tensors: x (N, C, H, W), w (M, C / groups, R, S), optional b (M,); output y (N, M, P, Q). Parameters are those of
    :class:`Windowed`.
    """

    rank = 4

    def _shape(self, x: Shape, w: Shape) -> Shape:
        (n, c, h, width), (m, per_group, r, s) = x, w
        if c != per_group * self.groups:
            raise PearrayError(f"w must have {c // self.groups if c % self.groups == 0 else 'C / groups'} channels "
                               f"for x of shape {x} and groups={self.groups}, not shape {w}")
        if m % self.groups:
            raise PearrayError(f"groups must divide the {m} output channels, not {self.groups}")
        (u, v), (dr, ds), (top, left, bottom, right) = self.stride, self.dilation, self.padding
        check_size("padded x", (n, c, h + top + bottom, width + left + right))
        p = (h + top + bottom - dr * (r - 1) - 1) // u + 1
        q = (width + left + right - ds * (s - 1) - 1) // v + 1
        if p < 1 or q < 1:
            raise PearrayError(f"w of shape {w} is larger than padded x of shape {x}; the filter must fit")
        return n, m, p, q

    def _sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        model, given = self._arithmetic(x.dtype)
        sums: np.ndarray = model.conv2d(x, w, b, **self.window, **given)
        return sums

    def _macs(self, x: Typed, w: Typed, b: Typed | None = None) -> int:
        n, _, p, q = self._shape(tuple(x.shape), tuple(w.shape))
        return n * p * q * prod(w.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvTranspose2d(Windowed, Contraction):
    """Transposed convolution: x (N, C, H, W), w (C, M / groups, R, S), optional b (M,); y (N, M, P, Q).

    Parameters are those of :class:`Windowed` as in ONNX's ConvTranspose, with `output_padding`
    (h, w) added at the bottom and right.
    """

    output_padding: Offsets = 0
    rank = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.requant, FixedPoint):
            raise PearrayError("requant must be None or a Requant for ConvTranspose2d, not a FixedPoint")
        if any(more >= step for more, step in zip(self.output_padding, self.stride, strict=True)):
            raise PearrayError(f"output_padding must be less than stride {self.stride}, not {self.output_padding}")

    def _shape(self, x: Shape, w: Shape) -> Shape:
        (n, c, h, width), (depth, per_group, r, s) = x, w
        if c != depth or c % self.groups:
            raise PearrayError(f"w must have shape ({c}, M / groups, R, S) and groups must divide {c}, "
                               f"not shape {w} and groups={self.groups}")
        top, left, bottom, right = self.padding
        whole = [(size - 1) * step + apart * (taps - 1) + 1 + more for size, step, apart, taps, more in zip(
            (h, width), self.stride, self.dilation, (r, s), self.output_padding, strict=True)]
        check_size("y before padding is cut off", (n, per_group * self.groups, *whole))
        p, q = whole[0] - top - bottom, whole[1] - left - right
        if p < 1 or q < 1:
            raise PearrayError(f"padding must leave an output, not {self.padding} for x of shape {x}")
        return n, per_group * self.groups, p, q

    def _sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        if is_float(x.dtype):
            raise PearrayError(f"x must be of an integer type for ConvTranspose2d, not {x.dtype}")
        _, given = self._arithmetic(x.dtype)
        return integer.conv_transpose2d(x, w, b, output_padding=self.output_padding, **self.window, **given)

    def _macs(self, x: Typed, w: Typed, b: Typed | None = None) -> int:
        return prod(x.shape) * prod(w.shape[1:])
