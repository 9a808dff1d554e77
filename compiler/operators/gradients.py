"""Gradients of matrix products and convolutions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...golden import gradients, integer_gradients
from ...golden.tensors import is_float
from ...hdl.errors import PearrayError
from .contractions import Contraction, Conv2d, Linear, Windowed
from .fields import Orders
from .operator import Operator, Spec, Typed, one_order, sum_bits
from .requant import Sums

__all__ = ["Conv2dGrad", "LinearGrad"]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Gradient(Operator):
    """Gradients of an operator with inputs x and w, from its inputs and the gradient dy of its output.

    They are sums: int32 for 8-bit operands, int64 for wider integers, float32 for floats.

    Parameters
    ----------
    order : mapping of str to Any, optional
        For each gradient, the order in which an array of floats adds its products; see :attr:`.Contraction.order`.
    """

    order: Orders = field(default=None, repr=False)

    required = ("x", "w", "dy")
    outputs = ("dx", "dw", "db")
    constants = ("w",)

    @property
    def forward(self) -> Contraction:
        """The operator whose gradients these are."""
        raise NotImplementedError

    def _types(self, x: Typed, w: Typed, dy: Typed) -> list[Spec]:
        shape, dtype = self.forward.infer({"x": x, "w": w})["y"]
        kind, own = np.dtype(x.dtype), np.dtype(dy.dtype)
        if is_float(own) and is_float(kind) and own != kind:
            raise PearrayError(f"dy must be of the type of x ({kind}), not {own}")
        if is_float(own) != is_float(kind) or (own.kind not in "iu" and not is_float(own)) or (
                own.itemsize != kind.itemsize):
            raise PearrayError(f"dy must be as wide as x ({kind}), not {own}")
        if tuple(dy.shape) != shape:
            raise PearrayError(f"dy must have shape {shape}, as the output has, not {tuple(dy.shape)}")
        return [(tuple(x.shape), dtype), (tuple(w.shape), dtype), ((shape[1],), dtype)]

    def in_order(self, orders: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> Operator:
        """The same whose products are added in an order: one for each gradient, of dx one for each kernel."""
        return replace(self, order={role: [*each] if role == "dx" and len(each) > 1 else one_order(self, each)
                                    for role, each in orders.items()})

    def _arithmetic(self, dtype: np.dtype) -> tuple[Any, dict[str, Any]]:
        """Golden models for operands of a type, and what those take besides tensors."""
        return (gradients, {"tile": self.order}) if is_float(dtype) else (
            integer_gradients, {"acc_bits": sum_bits(dtype)})

    def _macs(self, x: Typed, w: Typed, dy: Typed) -> int:
        return 2 * self.forward.macs({"x": x, "w": w})


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearGrad(_Gradient):
    """Gradients of :class:`Linear`: x (N, in), w (out, in), dy (N, out) give dx, dw and db (out,)."""

    @property
    def forward(self) -> Linear:
        """Do as :attr:`_Gradient.forward`."""
        return Linear(requant=Sums())

    def _compute(self, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        model, given = self._arithmetic(x.dtype)
        return [*model.linear_grad(x, w, dy, **given)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2dGrad(Windowed, _Gradient):
    """Gradients of :class:`Conv2d`: x (N, C, H, W), w (M, C / groups, R, S), dy (N, M, P, Q) give dx, dw, db (M,).

    Parameters are those of :class:`Conv2d`.
    """

    @property
    def forward(self) -> Conv2d:
        """Do as :attr:`_Gradient.forward`."""
        return Conv2d(requant=Sums(), **self.window)

    def _compute(self, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        model, given = self._arithmetic(x.dtype)
        return [*model.conv2d_grad(x, w, dy, **self.window, **given)]
