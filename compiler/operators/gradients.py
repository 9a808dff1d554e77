"""Gradients of matrix products and convolutions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from . import reference
from .contraction import Contraction
from .contractions import Conv2d, Linear
from .operator import Operator, Spec, Typed, padding4, pair

__all__ = ["Conv2dGrad", "LinearGrad"]


class _Gradient(Operator):
    """Gradients of an operator with inputs x and w, from its inputs and the gradient dy of its output.

    Those of integers are sums, int32 for 8-bit operands and int64 for wider ones.
    """

    required = ("x", "w", "dy")
    outputs = ("dx", "dw", "db")
    constants = ("w",)

    @property
    def forward(self) -> Contraction:
        """The operator whose gradients these are."""
        raise NotImplementedError

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x, w, dy = (tensors[role] for role in self.required)
        shape, dtype = self.forward.infer({"x": x, "w": w})["y"]
        kind, own = np.dtype(x.dtype), np.dtype(dy.dtype)
        if (own.kind == "f") != (kind.kind == "f") or own.kind not in "iuf" or own.itemsize != kind.itemsize:
            raise PearrayError(f"dy must be as wide as x ({kind}), not {own}")
        if tuple(dy.shape) != shape:
            raise PearrayError(f"dy must have shape {shape}, as the output has, not {tuple(dy.shape)}")
        return {"dx": (tuple(x.shape), dtype), "dw": (tuple(w.shape), dtype), "db": ((shape[1],), dtype)}

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        return 2 * self.forward.macs({"x": tensors["x"], "w": tensors["w"]})


@dataclass(frozen=True, eq=False)
class LinearGrad(_Gradient):
    """Gradients of :class:`Linear`: x (N, in), w (out, in), dy (N, out) give dx, dw and db (out,)."""

    @property
    def forward(self) -> Linear:
        """Do as :attr:`_Gradient.forward`."""
        return Linear()

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return dict(zip(self.outputs, reference.linear_grad(*(tensors[role] for role in self.required)), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2dGrad(_Gradient):
    """Gradients of :class:`Conv2d`: x (N, C, H, W), w (M, C / groups, R, S), dy (N, M, P, Q) give dx, dw, db (M,).

    Parameters are those of :class:`Conv2d`.
    """

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def __post_init__(self) -> None:
        # Parameters are checked where those of the convolution are.
        _ = self.forward

    @property
    def forward(self) -> Conv2d:
        """Do as :attr:`_Gradient.forward`."""
        return Conv2d(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        made = reference.conv_grad(*(tensors[role] for role in self.required), stride=pair("stride", self.stride),
                                   padding=padding4(self.padding), dilation=pair("dilation", self.dilation),
                                   groups=self.groups)
        return dict(zip(self.outputs, made, strict=True))
