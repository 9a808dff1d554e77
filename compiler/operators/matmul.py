"""Matrix products of tensors of any rank, whose batches broadcast."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from .activation import Activation
from .contractions import Contraction, Shape
from .edges import Reshape
from .operator import Operator, Part, Quantisation, Spec, Typed
from .requant import FixedPoint, Requant, Sums

__all__ = ["MatMul", "Products"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Products(Contraction):
    """Products of matrices of two stacks, a (A, M, K) and b (B, K, N), with an optional c (N,); only MatMul makes it.

    Parameters
    ----------
    pairs : tuple of (int, int)
        For each matrix of y (len(pairs), M, N) the numbers of those that are multiplied.
    """

    pairs: tuple[tuple[int, int], ...]

    rank = 3
    channel_axis = 2
    required = ("a", "b")
    optional = ("c",)
    constants = ()

    def _shape(self, x: Shape, w: Shape) -> Shape:
        if x[2] != w[1]:
            raise PearrayError(f"b must have {x[2]} rows to match a, not {w[1]}")
        return len(self.pairs), x[1], w[2]

    def _sums(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        model, given = self._arithmetic(x.dtype, "ab")
        return np.concatenate([model.gemm(x[left], w[right], b, **given) for left, right in self.pairs])

    def _compute(self, **tensors: Any) -> list[np.ndarray]:
        [y] = super()._compute(**tensors)
        return [y.reshape(self._shape(tensors["a"].shape, tensors["b"].shape))]

    def _macs(self, a: Typed, b: Typed, c: Typed | None = None) -> int:
        return len(self.pairs) * prod(a.shape[1:]) * b.shape[2]


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(Operator):
    """``y = a b + c`` as ``numpy.matmul`` takes a (..., M, K) and b (..., K, N), whose other axes broadcast.

    One axis alone is a row of a, or a column of b, which y has not. Tensors: `a`, `b`, and an optional `c` (N,), int32.

    Parameters
    ----------
    requant, activation
        See :class:`.contractions.Contraction`.
    """

    requant: Requant | Sums | FixedPoint | None = None
    activation: Activation = None

    required = ("a", "b")
    optional = ("c",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._products(())

    def _products(self, pairs: tuple[tuple[int, int], ...]) -> Products:
        return Products(requant=self.requant, activation=self.activation, pairs=pairs)

    def quantisation(self, role: str) -> Quantisation | None:
        """How the requantisation says that the output is stored."""
        return self._products(()).quantisation(role)

    def _stated(self, a: Shape, b: Shape) -> tuple[Products, Shape, Shape, Shape]:
        """The product of two stacks of matrices, the shapes of these, and that of y."""
        for role, shape in (("a", a), ("b", b)):
            if not shape or 0 in shape:
                raise PearrayError(f"{role} must have a dimension, and all of at least 1, not shape {shape}")
        (*outer, m, k), (*others, depth, n) = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
        if k != depth:
            raise PearrayError(f"b must have {k} rows to match a of shape {a}, not shape {b}")
        try:
            batches = np.broadcast_shapes(tuple(outer), tuple(others))
        except ValueError:
            raise PearrayError(f"axes of a and b but for the last two must broadcast, not be {tuple(outer)} and "
                               f"{tuple(others)}") from None
        left, right = (np.broadcast_to(np.arange(prod(each)).reshape(each), batches).reshape(-1).tolist()
                       for each in (outer, others))
        whole = (*batches, *([m] if len(a) > 1 else []), *([n] if len(b) > 1 else []))
        return (self._products(tuple(zip(left, right, strict=True))), (prod(outer), m, k), (prod(others), k, n), whole)

    def _types(self, a: Typed, b: Typed, c: Typed | None = None) -> list[Spec]:
        operator, left, right, shape = self._stated(tuple(a.shape), tuple(b.shape))
        given = {} if c is None else {"c": c}
        _, dtype = operator.infer({"a": _Like(left, a.dtype), "b": _Like(right, b.dtype), **given})["y"]
        return [(shape, dtype)]

    def _compute(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> list[np.ndarray]:
        operator, left, right, shape = self._stated(a.shape, b.shape)
        given = {} if c is None else {"c": c}
        return [operator.golden({"a": a.reshape(left), "b": b.reshape(right), **given})["y"].reshape(shape)]

    def _macs(self, a: Typed, b: Typed, c: Typed | None = None) -> int:
        operator, left, right, _ = self._stated(tuple(a.shape), tuple(b.shape))
        return operator.macs({"a": _Like(left, a.dtype), "b": _Like(right, b.dtype)})

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """A product of stacks between views."""
        operator, left, right, shape = self._stated(*(tuple(tensors[role].shape) for role in "ab"))
        return [Part("left", Reshape(left), {"x": "a"}), Part("right", Reshape(right), {"x": "b"}),
                Part("products", operator, {"a": "left", "b": "right"} | ({"c": "c"} if "c" in tensors else {})),
                Part("y", Reshape(shape), {"x": "products"})]


@dataclass(frozen=True)
class _Like:
    """Shape and type of an operand."""

    shape: Shape
    dtype: Any
