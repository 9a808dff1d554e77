"""Kernels as loop nests of a convolution, the form in which arrays of PEs are fed.

A matrix product is a convolution of one row of M pixels by a 1 x 1 filter. What treats each channel by itself (a
depthwise convolution, a window's sum or maximum, a table) is channelwise: channel c of the output meets channel c of
the input only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...hdl.errors import PearrayError
from .kernel import PIXELS, Access, Chain, Constant, Contraction, Finish, Index, Kernel, Product, Scaled, windows
from .views import View

__all__ = ["Nest", "pair_entries"]

_NONE = Index({})


@dataclass(kw_only=True, eq=False)
class Nest:
    """Loops of a kernel as a convolution.

    Parameters
    ----------
    name : str
        Name of the node.
    x, y : View
        Input and output, with axes ``n, h, w, c``.
    images, p, q : int
        Output images, rows and columns.
    groups, cg, ng : int
        Groups of channels, input and output channels of each. With `channelwise` there is one group and
        ``cg == ng``.
    r, s : int
        Filter.
    stride, dilation : (int, int)
        Vertical and horizontal.
    top, left : int
        Padding; the other sides follow from p and q.
    weights : ndarray or View
        (groups, r * s * cg, ng) integers, or a view with axes ``r``, ``s``, ``c`` and ``m``; those that it has not
        have one element. With `channelwise` (r * s, channels), or a view with axis ``m`` alone for one tap, or
        (1, 1) for the same weight everywhere, or (k,) for `repeat` weights that all meet the same element.
    channelwise, maximum : bool
        Whether channels stay apart; and whether products are compared, not added.
    added : tuple of Nest
        Further products of the same loops that are added to the same sums.
    many : int
        Of the kernel; see :class:`.Kernel`.
    finish : Finish
        Post-processing, which may make each output of a window of pixels: p and q are those of the output, and what
        such a pixel sees begins ``pool`` times `stride` behind what the one before does.
    """

    name: str
    x: View
    y: View
    images: int = 1
    p: int = 1
    q: int = 1
    groups: int = 1
    cg: int = 1
    ng: int = 1
    r: int = 1
    s: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    top: int = 0
    left: int = 0
    a_zero: int = 0
    w_zero: int = 0
    a_unsigned: bool = False
    w_unsigned: bool = False
    channelwise: bool = False
    maximum: bool = False
    weights: np.ndarray | View = field(default_factory=lambda: np.ones((1, 1), np.int8))
    added: "tuple[Nest, ...]" = ()
    many: int = 1
    finish: Finish = field(default_factory=Finish)

    @property
    def height(self) -> int:
        """Rows of the input."""
        return self.x.size("h")

    @property
    def width(self) -> int:
        """Columns of the input."""
        return self.x.size("w")

    @property
    def k(self) -> int:
        """Elements contracted for each output."""
        return self.r * self.s * (1 if self.channelwise else self.cg)

    @property
    def repeat(self) -> int:
        """Weights that meet the same element, one after another; 0 for none."""
        return len(self.weights) if isinstance(self.weights, np.ndarray) and self.weights.ndim == 1 else 0

    @property
    def apart(self) -> int:
        """Sums of an output in the accumulators: one, or one for each tap if their order counts."""
        return 1 if self.finish.terms is None else self.r * self.s

    @property
    def columns(self) -> bool:
        """Whether the tensor stands transposed: pixels, or images, side by side, channels rows apart."""
        return self.x.stride("c") != 1 and ((self.cg > 1 and self.x.stride("w") == 1) or self.x.stride("n") == 1)

    @property
    def sums_images(self) -> bool:
        """Whether each output is the sum of one channel of a whole image."""
        weights = self.weights
        return (self.channelwise and not self.maximum and not self.added and self.apart == 1 and self.r * self.s > 1
                and isinstance(weights, np.ndarray) and weights.shape == (1, 1) and self.x.is_dense("h", "w")
                and (self.p, self.q, self.top, self.left) == (1, 1, 0, 0)
                and (self.r, self.s) == (self.height, self.width))

    @property
    def is_row(self) -> bool:
        """Whether it is one row of pixels that see nothing but themselves, so that it may be cut anywhere."""
        return (self.r == self.s == self.images == self.height == self.p == 1 and self.stride == (1, 1)
                and self.width == self.q and self.left == self.top == 0 and self.y.is_dense("w", "c"))

    def alone(self) -> "Nest":
        """The same loops with all that they read in memory from the beginning."""
        weights, bias = self.weights, self.finish.bias
        return replace(
            self, x=self.x.alone(), y=self.y.alone(), weights=weights.alone() if isinstance(weights, View) else weights,
            finish=replace(self.finish, bias=bias.alone()) if isinstance(bias, View) else self.finish,
            added=tuple(nest.alone() for nest in self.added))

    @classmethod
    def of(cls, kernel: Kernel, operand_bits: int) -> "Nest":
        """Loops of a kernel, if it is a convolution; factors beyond an operand are sums of several weights."""
        if isinstance(kernel, Contraction):
            kernel = _exchanged(kernel)
            first, *others = (_contraction(kernel, term) for term in kernel.terms)
        elif isinstance(kernel, Chain) and kernel.combine in ("pair", "product"):
            first, *others = _pair(kernel, operand_bits)
        else:
            assert isinstance(kernel, Chain)
            # The tiling makes room for the first, so that is the one with more weights.
            first, *others = sorted((_chain(kernel, term, operand_bits) for term in kernel.terms),
                                    key=lambda nest: -nest.repeat)
        first.finish, first.added, first.many = kernel.finish, tuple(others), kernel.many
        return first


#: A sum over pixels is a convolution in which each rank has the part of another.
_ROLES = {"n": "c", "c": "n", "p": "r", "r": "p", "q": "s", "s": "q"}


def _exchanged(kernel: Contraction) -> Contraction:
    """A contraction over pixels as a convolution.

    Taps are its pixels and pixels its taps, so that its dilation is the stride; channels of the input are its images,
    and images the channels that it contracts. Others are returned as they are.
    """
    def renamed(access: Access, axes: Mapping[str, str]) -> Access:
        names = [axes.get(axis.name, axis.name) for axis in access.view.axes]
        indices = {axes.get(axis, axis): Index({_ROLES.get(rank, rank): size for rank, size in index.factors.items()},
                                               index.offset) for axis, index in access.indices.items()}
        return replace(access, view=access.view.renamed(*names), indices=indices)

    (term, *others), summed = kernel.terms, {"n", "p", "q"} & kernel.ranks.keys()
    if others or not isinstance(term.w, Access) or not summed or summed & kernel.y.ranks:
        return kernel
    product = Product(renamed(term.a, {"n": "c", "c": "n"}), renamed(term.w, {}))
    return replace(kernel, ranks={_ROLES.get(rank, rank): size for rank, size in kernel.ranks.items()},
                   y=renamed(kernel.y, {}), terms=(product,))


def _loops(kernel: Kernel, a: Access) -> Nest:
    """Loops over pixels and taps."""
    ranks = {rank: kernel.ranks.get(rank, 1) for rank in "npqrs"}
    rows, columns = a.indices.get("h", _NONE), a.indices.get("w", _NONE)
    (u, v), (dr, ds) = ((rows.factor(p), columns.factor(q)) for p, q in ("pq", "rs"))
    pool = kernel.finish.pool
    u, v = u // pool[0], v // pool[1]
    seen = windows((u, v), (dr, ds), (-rows.offset, -columns.offset), pool)
    for access, wanted in ((a, seen), (kernel.y, PIXELS)):
        for name, index in wanted.items():
            _require(_same(access.indices.get(name, _NONE), index, kernel), kernel)
    return Nest(
        name=kernel.name, x=a.view, y=kernel.y.view, images=ranks["n"], p=ranks["p"], q=ranks["q"], r=ranks["r"],
        s=ranks["s"], stride=(u or 1, v or 1), dilation=(dr or 1, ds or 1), top=-rows.offset, left=-columns.offset,
        a_zero=a.zero, a_unsigned=a.is_unsigned)


def _require(fits: bool, kernel: Kernel) -> None:
    if not fits:
        raise PearrayError(f"{kernel.name}: no array of this kind computes {kernel}")


def _same(index: Index, other: Index, kernel: Kernel) -> bool:
    """Whether two indices are the same for all values of the ranks."""
    ranks = {rank for each in (index, other) for rank in each.factors if kernel.ranks.get(rank, 1) > 1}
    return index.offset == other.offset and all(index.factor(rank) == other.factor(rank) for rank in ranks)


def _contraction(kernel: Contraction, term: Product) -> Nest:
    nest, ranks = _loops(kernel, term.a), kernel.ranks
    groups, cg, ng = (ranks.get(rank, 1) for rank in "gcm")
    _require(_same(term.a.indices.get("c", _NONE), Index({"g": cg, "c": 1}), kernel)
             and _same(kernel.y.indices.get("c", _NONE), Index({"g": ng, "m": 1}), kernel), kernel)
    weights: np.ndarray | View
    if isinstance(term.w, Constant):
        values = term.w.values
        _require(term.w.ranks == tuple("grscm"), kernel)
        if cg == ng == 1 and groups > 1:
            nest.channelwise = True
            weights = values.reshape(groups, -1).T
            groups, cg, ng = 1, groups, groups
        else:
            weights = values.reshape(groups, -1, ng)
    elif [*term.w.ranks] == ["g"]:
        # One element for each channel, which stands as a line of weights does.
        [axis] = term.w.view.axes
        _require(term.w.indices[axis.name] == Index({"g": 1}) and axis.stride == cg == ng == nest.r == nest.s == 1,
                 kernel)
        nest.channelwise = True
        weights, groups, cg, ng = term.w.view.renamed("m"), 1, groups, groups
    else:
        ranks_of = [[*term.w.indices.get(axis.name, _NONE).factors.items()] for axis in term.w.view.axes]
        _require(groups == 1 and all(len(each) == 1 and each[0][0] in "rscm" and each[0][1] == 1 for each in ranks_of)
                 and (ng == 1 or kernel.y.view.stride("c") == 1), kernel)
        weights = term.w.view.renamed(*(rank for ((rank, _),) in ranks_of))
    return replace(nest, groups=groups, cg=cg, ng=ng, weights=weights, w_zero=term.w.zero,
                   w_unsigned=term.w.is_unsigned)


def _pair(kernel: Chain, operand_bits: int) -> tuple[Nest, Nest]:
    """Bytes of two elements side by side in a sum: the first in the low bits, and the second's negative above it.

    Elements are bytes without a sign, or are so as soon as the array has taken their zero points away.

    The negative takes one weight, which is a word's least value; 2**bits would be beyond its greatest.
    """
    first, second = (_chain(kernel, term, operand_bits) for term in kernel.terms)
    least = -(1 << operand_bits - 1)
    return first, replace(second, weights=np.array([least]), w_zero=-least, w_unsigned=False)


def pair_entries(tables: np.ndarray) -> np.ndarray:
    """Tables of shape (2, 256) for the two low bytes of such a sum."""
    return np.stack([tables[0], tables[1][-np.arange(256) & 255]])


def _chain(kernel: Chain, term: Scaled, operand_bits: int) -> Nest:
    nest, channels = _loops(kernel, term.a), kernel.ranks.get("c", 1)
    for access in (term.a, kernel.y):
        _require(_same(access.indices.get("c", _NONE), Index({"c": 1}), kernel), kernel)
    nest = replace(nest, cg=channels, ng=channels, channelwise=True, maximum=kernel.combine == "max")
    if len(kernel.terms) > 1 or term.factor != 1:
        sign = 1 if term.factor > 0 else -1
        greatest = (1 << operand_bits) - 1 if sign > 0 else 1 << operand_bits - 1
        whole, rest = divmod(abs(term.factor), greatest)
        weights = [greatest] * whole + [rest] * (rest > 0)
        weights += [0] * (-(-term.largest // greatest) - len(weights))
        return replace(nest, weights=sign * np.array(weights), w_unsigned=sign > 0)
    return nest
