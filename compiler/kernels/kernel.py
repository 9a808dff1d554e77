"""Kernels: what an array is asked to do, as loops over named ranks.

A kernel computes each element of its output view by sums of products (:class:`Contraction`), or by a sum or the
greatest of elements of a window, which may be one element as it is, or of a pair of elements (:class:`Chain`); then
post-processing finishes it.
Every operand is a view, whose indices are affine in the ranks: ``Index({"p": 2, "r": 1}, -1)`` is ``2 p + r - 1``.
Ranks have the names of the operators' formulas: n, p, q, g, m are those of outputs (image, row, column, group,
channel), r, s, c those of sums, i, j those of a window of outputs of which only the greatest is made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ...hdl.shell.config import Config
from .views import Buffer, View

__all__ = [
    "PIXELS", "Access", "Chain", "Constant", "Contraction", "Finish", "Index", "Kernel", "Product", "Scaled", "windows",
]


@dataclass(frozen=True)
class Index:
    """Affine index: an offset, and a factor for each rank."""

    factors: Mapping[str, int]
    offset: int = 0

    def factor(self, rank: str) -> int:
        """How far the index goes when a rank goes up by one."""
        return self.factors.get(rank, 0)

    def span(self, ranks: Mapping[str, int]) -> tuple[int, int]:
        """Least and greatest value over ranks of these sizes."""
        ends = [factor * (ranks[rank] - 1) for rank, factor in self.factors.items()]
        return self.offset + sum(min(end, 0) for end in ends), self.offset + sum(max(end, 0) for end in ends)

    def __str__(self) -> str:
        terms = [rank if factor == 1 else f"{factor} {rank}" for rank, factor in self.factors.items()]
        if self.offset or not terms:
            terms.append(str(self.offset))
        return " + ".join(terms).replace("+ -", "- ")


#: Indices of the pixels that a convolution makes.
PIXELS: Mapping[str, Index] = {"n": Index({"n": 1}), "h": Index({"p": 1}), "w": Index({"q": 1})}


def windows(stride: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int],
            pool: tuple[int, int] = (1, 1)) -> dict[str, Index]:
    """Indices of what these pixels see, `padding` at the top and at the left.

    Each pixel may be made of a window of `pool` rows and columns, ranks i and j, each of which sees its own part.
    """
    def index(pixel: str, tap: str, inner: str, axis: int) -> Index:
        inside = {inner: stride[axis]} if pool[axis] > 1 else {}
        return Index({pixel: stride[axis] * pool[axis], **inside, tap: dilation[axis]}, -padding[axis])

    return {"n": Index({"n": 1}), "h": index("p", "r", "i", 0), "w": index("q", "s", "j", 1)}


@dataclass(frozen=True)
class Access:
    """A view, and the index of each of its axes.

    Parameters
    ----------
    view : View
        Elements.
    indices : mapping of str to Index
        By axis; axes that are left out have index 0.
    zero : int
        Zero point that is subtracted from each element.
    is_unsigned : bool
        How elements are stored.
    """

    view: View
    indices: Mapping[str, Index]
    zero: int = 0
    is_unsigned: bool = False

    @property
    def ranks(self) -> set[str]:
        """Ranks that the indices depend on."""
        return {rank for index in self.indices.values() for rank in index.factors}

    def __str__(self) -> str:
        at = ", ".join(str(index) for index in self.indices.values())
        return f"({self.view.name}[{at}] - {self.zero})" if self.zero else f"{self.view.name}[{at}]"


@dataclass(frozen=True, eq=False)
class Constant:
    """Weights that are known: integers, with a rank for each axis."""

    values: np.ndarray
    ranks: tuple[str, ...] = ("g", "r", "s", "c", "m")
    zero: int = 0
    is_unsigned: bool = False

    def __str__(self) -> str:
        at = ", ".join(self.ranks)
        return f"(w[{at}] - {self.zero})" if self.zero else f"w[{at}]"


@dataclass(frozen=True)
class Product:
    """Products that are added up: activations times weights, which may be activations, too."""

    a: Access
    w: Access | Constant

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return (self.a,) if isinstance(self.w, Constant) else (self.a, self.w)

    def __str__(self) -> str:
        return f"{self.a} {self.w}"


@dataclass(frozen=True)
class Scaled:
    """Elements that are added up or compared, each times an integer.

    Parameters
    ----------
    a : Access
        Elements.
    factor : int
        The integer; beyond an operand it is a sum of several weights.
    largest : int
        As many weights as this factor has, so that kernels which differ in factors alone are mapped once.
    """

    a: Access
    factor: int = 1
    largest: int = 0

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return (self.a,)

    def __str__(self) -> str:
        return str(self.a) if self.factor == 1 else f"{self.factor} {self.a}"


@dataclass
class Finish:
    """Post-processing of the sums of a kernel.

    Parameters
    ----------
    rounding : Rounding
        Rule; with ``Rounding.NONE`` the other fields but `bias` and `relu` are ignored.
    zero_point, low, high : int
        Of the output.
    entries : ndarray of shape (1,) or (channels,), uint64, or None
        Entries of the scale memory.
    bias : ndarray of shape (channels,), View, or None
        Constant biases; or a view with one row of biases, or one for each pixel (axes ``w`` and ``c``).
    table : ndarray of shape (256,) or (channels, 256), or None
        Table.
    relu : bool
        Whether negative sums become zero, with ``Rounding.NONE``.
    shift : int
        Lowest bit of the window of a product, in fixed point.
    pair : ndarray of shape (2, 256), int32, or None
        What the stored byte of each element of a pair adds to the sum.
    product : (int, int, int) or None
        What is subtracted from the bytes of a pair before they are multiplied, and what is added to the product.
    terms : ndarray of shape (256,), float32, or None
        What each stored byte is in a sum of float32 numbers, which are added in the order of the window; None for sums
        of integers.
    steps : ndarray of shape (255,), int32, or None
        Rising sums; the number of those that a sum has reached takes its place. With `terms` they are float32 numbers,
        as :func:`.average.float_order` has them.
    pool : (int, int)
        Rows and columns of the window of outputs of which only the greatest is made.
    is_unsigned : bool
        Whether these are compared as unsigned values.
    """

    rounding: Rounding = Rounding.NONE
    zero_point: int = 0
    low: int = 0
    high: int = 0
    entries: np.ndarray | None = None
    bias: np.ndarray | View | None = None
    table: np.ndarray | None = None
    relu: bool = False
    shift: int = 0
    pair: np.ndarray | None = None
    product: tuple[int, int, int] | None = None
    terms: np.ndarray | None = None
    steps: np.ndarray | None = None
    pool: tuple[int, int] = (1, 1)
    is_unsigned: bool = False

    @property
    def sums(self) -> int:
        """Sums of which an output is made."""
        return self.pool[0] * self.pool[1]

    def item(self, config: Config) -> int:
        """Bytes of an output."""
        return config.sum_bytes if self.rounding is Rounding.NONE else config.operand_bytes

    @property
    def is_plain(self) -> bool:
        """Whether sums are outputs as they are."""
        return self.rounding is Rounding.NONE and self.bias is None and not self.relu

    @property
    def bias_rows(self) -> View | None:
        """Biases that differ from pixel to pixel, or None."""
        return self.bias if isinstance(self.bias, View) and self.bias.size("w") > 1 else None

    def __str__(self) -> str:
        if self.rounding is Rounding.NONE:
            steps = ["relu"] * self.relu
        else:
            steps = [f"requantise {self.rounding.name.lower()} + {self.zero_point}", f"clamp {self.low}..{self.high}"]
            steps += ["table"] * (self.table is not None)
            if self.steps is not None:
                steps.insert(0, "steps")
            steps += [f"greatest of {self.pool[0]} x {self.pool[1]}"] * (self.sums > 1)
        return "; ".join((["bias"] if self.bias is not None else []) + steps)


@dataclass(kw_only=True, eq=False)
class Kernel:
    """What all kernels have.

    Parameters
    ----------
    name : str
        Name of the node it belongs to.
    ranks : dict of str to int
        Size of each rank.
    y : Access
        Output.
    terms : tuple of Product or tuple of Scaled
        What is combined over all ranks that the output does not have; several terms are combined, too.
    combine : {"sum", "max", "pair", "product", "terms"}
        How: "pair" adds what the stored bytes of two elements stand for in the tables of `finish`, "product"
        multiplies two elements, which are bytes without a sign, less their zero points in `finish`, and "terms" adds
        what the bytes of one element stand for, in float32.
    finish : Finish
        What follows.
    many : int
        About how many kernels its node has, if these share the time in which ways to map them are searched.
    """

    name: str
    ranks: dict[str, int]
    y: Access
    terms: tuple[Product | Scaled, ...]
    combine: str = "sum"
    finish: Finish = field(default_factory=Finish)
    many: int = 1

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return tuple(access for term in self.terms for access in term.accesses)

    @property
    def buffers(self) -> Iterator[Buffer]:
        """Buffers that are read, biases included."""
        for access in self.accesses:
            yield access.view.buffer
        if isinstance(self.finish.bias, View):
            yield self.finish.bias.buffer

    @property
    def made(self) -> Iterator[Buffer]:
        """Buffers that are written."""
        yield self.y.view.buffer

    def check(self) -> None:
        """Raise an error unless every view stays inside its buffer, and every index inside its view.

        Only the index of a window, which is one of two ranks, may leave the view that it reads: there is padding.
        """
        for access in (self.y, *self.accesses):
            missing = access.ranks - self.ranks.keys()
            if missing:
                raise PearrayError(f"{self.name}: {access} has no rank {', '.join(sorted(missing))}")
            for corner in product((0, 1), repeat=len(access.view.axes)):
                at = access.view.element(**{axis.name: side * (axis.size - 1)
                                            for axis, side in zip(access.view.axes, corner, strict=True)})
                size = access.view.buffer.size * access.view.parts
                if not 0 <= at < size:
                    raise PearrayError(f"{self.name}: view {access.view} leaves its buffer of {size} elements")
            for axis in access.view.axes:
                index = access.indices.get(axis.name, Index({}))
                first, last = index.span(self.ranks)
                if (first < 0 or last >= axis.size) and (access is self.y or len(index.factors) < 2):
                    raise PearrayError(f"{self.name}: {access} leaves axis {axis.name} of {axis.size} elements")
        for term in self.terms:
            weights = term.w if isinstance(term, Product) else None
            if isinstance(weights, Constant):
                sizes = tuple(self.ranks.get(rank, 1) for rank in weights.ranks)
                if weights.values.shape != sizes:
                    raise PearrayError(f"{self.name}: {weights} must have shape {sizes}, not {weights.values.shape}")

    def __str__(self) -> str:
        marked = {"pair": "table({})", "terms": "table({})", "product": "factor({})"}.get(self.combine, "{}")
        body = (" * " if self.combine == "product" else " + ").join(map(marked.format, self.terms))
        found = {rank for access in self.accesses for rank in access.ranks}
        over = [f"{rank} < {size}" for rank, size in self.ranks.items() if rank in found - self.y.ranks - {"i", "j"}]
        if over:
            body = f"{self.combine}({', '.join(over)}) {body}"
        return f"{self.name}: {self.y} = {body}; {self.finish}".rstrip("; ")


@dataclass(kw_only=True, eq=False)
class Contraction(Kernel):
    """Sums of products.

    Parameters
    ----------
    numbers : ndarray or None
        Numbers that the operator gives the elements of rank c, where they stand in another order.
    """

    terms: tuple[Product, ...]
    numbers: np.ndarray | None = None


@dataclass(kw_only=True, eq=False)
class Chain(Kernel):
    """A step for each element, then post-processing: a sum or the greatest of scaled elements over a window, a pair."""

    terms: tuple[Scaled, ...]
