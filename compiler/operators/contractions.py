"""Operators that contract: matrix products and convolutions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from . import reference
from .contraction import Contraction
from .operator import Spec, Typed, padding4, pair
from .requant import FixedPoint

__all__ = ["Conv2d", "ConvTranspose2d", "Gemm", "Linear"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gemm(Contraction):
    """``y = a' b' + c`` with a' (M, K) and b' (K, N), either transposed in memory.

    Tensors: `a` (M, K), or (K, M) with `trans_a`; `b` (K, N), or (N, K) with `trans_b`; optional
    `c` (N,) or (M, N), int32; output `y` (M, N).
    """

    trans_a: bool = False
    trans_b: bool = False

    required = ("a", "b")
    optional = ("c",)
    roles = ("a", "b", "c")

    def sizes(self, tensors: Mapping[str, Typed]) -> tuple[int, int, int]:
        """M, K and N."""
        a, b = tensors["a"].shape, tensors["b"].shape
        m, k = (a[1], a[0]) if self.trans_a else (a[0], a[1])
        depth, n = (b[1], b[0]) if self.trans_b else (b[0], b[1])
        if k != depth:
            raise PearrayError(f"b must have {k} rows to match a of shape {tuple(a)}, not shape {tuple(b)}"
                               if not self.trans_b else
                               f"b must have {k} columns to match a of shape {tuple(a)}, not shape {tuple(b)}")
        return m, k, n

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self._operands(tensors, (2, 2))
        m, _, n = self.sizes(tensors)
        c = tensors.get("c")
        if c is not None and tuple(c.shape) not in ((n,), (1, n), (m, n)):
            raise PearrayError(f"c must have shape ({n},) or ({m}, {n}), not {tuple(c.shape)}")
        return self._result(tensors, (m, n), n)

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        a, b = tensors["a"], tensors["b"]
        sums = reference.gemm_sums(a.T if self.trans_a else a, b.T if self.trans_b else b, tensors.get("c"),
                                   self.requant)
        return self._finish(sums, a.dtype, 1)

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        return int(np.prod(self.sizes(tensors), dtype=np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Contraction):
    """``y = x w' + b`` with x (N, in), w (out, in), optional b (out,); output y (N, out)."""

    required = ("x", "w")
    optional = ("b",)
    constants = ("w", "b")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self._operands(tensors, (2, 2))
        x, w = tensors["x"].shape, tensors["w"].shape
        if x[1] != w[1]:
            raise PearrayError(f"w must have shape (out, {x[1]}) to match x of shape {tuple(x)}, not {tuple(w)}")
        b = tensors.get("b")
        if b is not None and tuple(b.shape) != (w[0],):
            raise PearrayError(f"b must have shape ({w[0]},), not {tuple(b.shape)}")
        return self._result(tensors, (x[0], w[0]), w[0])

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        x = tensors["x"]
        sums = reference.gemm_sums(x, tensors["w"].T, tensors.get("b"), self.requant)
        return self._finish(sums, x.dtype, 1)

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        return int(np.prod(tensors["x"].shape, dtype=np.int64)) * tensors["w"].shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Contraction):
    """``y[n,m,p,q] = x[n,c,Up+Dr-top,Uq+Ds-left] * w[m,c,r,s] + b[m]``.

    Tensors: x (N, C, H, W), w (M, C / groups, R, S), optional b (M,); output y (N, M, P, Q).

    Parameters
    ----------
    stride, dilation : int or (int, int)
        Vertical and horizontal.
    padding : int, (h, w) or (top, left, bottom, right)
        Elements added on each side; they stand for zero.
    groups : int
        Groups of channels that do not meet.
    """

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    required = ("x", "w")
    optional = ("b",)
    constants = ("w", "b")

    def __post_init__(self) -> None:
        super().__post_init__()
        pair("stride", self.stride)
        pair("dilation", self.dilation)
        padding4(self.padding)
        if not isinstance(self.groups, (int, np.integer)) or self.groups < 1:
            raise PearrayError(f"groups must be an integer of at least 1, not {self.groups!r}")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self._operands(tensors, (4, 4))
        n, c, h, width = tensors["x"].shape
        m, per_group, r, s = tensors["w"].shape
        if c != per_group * self.groups:
            raise PearrayError(f"w must have {c // self.groups if c % self.groups == 0 else 'C / groups'} channels "
                               f"for x of shape {tuple(tensors['x'].shape)} and groups={self.groups}, "
                               f"not shape {tuple(tensors['w'].shape)}")
        if m % self.groups:
            raise PearrayError(f"groups must divide the {m} output channels, not {self.groups}")
        b = tensors.get("b")
        if b is not None and tuple(b.shape) != (m,):
            raise PearrayError(f"b must have shape ({m},), not {tuple(b.shape)}")
        (u, v), (dr, ds) = pair("stride", self.stride), pair("dilation", self.dilation)
        top, left, bottom, right = padding4(self.padding)
        p = (h + top + bottom - dr * (r - 1) - 1) // u + 1
        q = (width + left + right - ds * (s - 1) - 1) // v + 1
        if p < 1 or q < 1:
            raise PearrayError(f"w of shape {tuple(tensors['w'].shape)} is larger than padded x of shape "
                               f"{tuple(tensors['x'].shape)}; the filter must fit")
        return self._result(tensors, (n, m, p, q), m)

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        x = tensors["x"]
        sums = reference.conv_sums(x, tensors["w"], tensors.get("b"), pair("stride", self.stride),
                                   padding4(self.padding), pair("dilation", self.dilation), self.groups,
                                   self.requant)
        return self._finish(sums, x.dtype, 1)

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        (n, _, p, q), _ = self.infer(tensors)["y"]
        return n * p * q * int(np.prod(tensors["w"].shape, dtype=np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvTranspose2d(Contraction):
    """Transposed convolution: x (N, C, H, W), w (C, M / groups, R, S), optional b (M,); y (N, M, P, Q).

    Parameters are those of :class:`Conv2d` as ONNX's ConvTranspose, with `output_padding`
    (h, w) added at the bottom and right.
    """

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    output_padding: Any = 0

    required = ("x", "w")
    optional = ("b",)
    constants = ("w", "b")

    def __post_init__(self) -> None:
        super().__post_init__()
        pair("stride", self.stride)
        pair("dilation", self.dilation)
        pair("output_padding", self.output_padding, 0)
        padding4(self.padding)
        if not isinstance(self.groups, (int, np.integer)) or self.groups < 1:
            raise PearrayError(f"groups must be an integer of at least 1, not {self.groups!r}")
        if isinstance(self.requant, FixedPoint):
            raise PearrayError("requant must be None or a Requant for ConvTranspose2d, not a FixedPoint")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self._operands(tensors, (4, 4))
        n, c, h, width = tensors["x"].shape
        depth, per_group, r, s = tensors["w"].shape
        if c != depth or c % self.groups:
            raise PearrayError(f"w must have shape ({c}, M / groups, R, S) and groups must divide {c}, "
                               f"not shape {tuple(tensors['w'].shape)} and groups={self.groups}")
        m = per_group * self.groups
        b = tensors.get("b")
        if b is not None and tuple(b.shape) != (m,):
            raise PearrayError(f"b must have shape ({m},), not {tuple(b.shape)}")
        (u, v), (dr, ds) = pair("stride", self.stride), pair("dilation", self.dilation)
        extra = pair("output_padding", self.output_padding, 0)
        top, left, bottom, right = padding4(self.padding)
        p = (h - 1) * u - top - bottom + dr * (r - 1) + 1 + extra[0]
        q = (width - 1) * v - left - right + ds * (s - 1) + 1 + extra[1]
        if p < 1 or q < 1:
            raise PearrayError(f"padding must leave an output, not {padding4(self.padding)} "
                               f"for x of shape {tuple(tensors['x'].shape)}")
        return self._result(tensors, (n, m, p, q), m)

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        x = tensors["x"]
        sums = reference.conv_transpose_sums(
            x, tensors["w"], tensors.get("b"), pair("stride", self.stride), padding4(self.padding),
            pair("dilation", self.dilation), pair("output_padding", self.output_padding, 0), self.groups,
            *self.zero_points)
        return self._finish(sums, x.dtype, 1)

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        return int(np.prod(tensors["x"].shape, dtype=np.int64)) * int(np.prod(tensors["w"].shape[1:]))
