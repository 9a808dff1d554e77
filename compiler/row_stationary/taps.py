"""Contractions over pixels as matrix products, whose rows are the channels of a pixel as each tap sees it.

Channels of the input are outputs that stand side by side in memory, and there is a row of them for each tap. Pixels are
what is contracted, row by row and image by image. So what they meet is loaded once for several taps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ...hdl.errors import PearrayError
from ..kernels.nest import Nest
from ..kernels.views import Axis, Buffer, View
from ..transfers import blocks, fill, ranges

__all__ = ["PixelProduct", "as_product"]


@dataclass(kw_only=True, eq=False)
class PixelProduct(Nest):
    """A contraction over pixels as a product: rows of its output are taps, their columns channels of the input.

    Parameters
    ----------
    pixels : Nest
        The contraction, as a convolution whose images are channels and whose taps are pixels.
    """

    pixels: Nest

    @property
    def columns(self) -> bool:
        """Do as :attr:`Nest.columns`."""
        return True

    def loads(self, first: int, count: int, rows: Sequence[tuple[int, int, int]], width: int,
              item: int) -> tuple[list[dict[str, int]], list[tuple[Buffer, int, int]]]:
        """LOADs of a tile [pixel][output] of some pixels.

        Parameters
        ----------
        first, count : int
            Pixels.
        rows : sequence of (int, int, int)
            For each part of the outputs the tap, the first channel, and how many.
        width : int
            Outputs of a pixel in the tile, where parts follow one another.
        item : int
            Bytes of an element.

        Returns
        -------
        list, list
            LOADs, and the elements that they read: buffer, first and end.
        """
        over, loads, sources = self.pixels, list[dict[str, int]](), list[tuple[Buffer, int, int]]()
        at, left = 0, count * width
        for tap, channel, channels in rows:
            for number, _, dims in ranges([(over.s, 0), (over.r, 0), (over.cg, 0)], first, first + count):
                place, element, seen = self._seen(tap, number, [size for size, _ in dims])
                element += channel * over.x.stride("n")
                if prod(size for size, _, _ in seen):
                    left -= channels * prod(size for size, _, _ in seen)
                    loads += blocks(
                        over.x.buffer.address + element * item, ((number - first + place) * width + at) * item,
                        channels * item, [(size, far * item, near * width * item) for size, far, near in seen])
                    reach = sum((size - 1) * far for size, far, _ in seen)
                    sources.append((over.x.buffer, element, element + reach + channels))
            at += channels
        if left:
            # Padding, and outputs and pixels beyond the last.
            loads[:0] = fill(over.x.outside, item, address=0, length=count * width, dims=[])
        return loads, sources

    def _seen(self, tap: int, number: int, sizes: Sequence[int]) -> tuple[int, int, list[tuple[int, int, int]]]:
        """What a tap sees of `sizes` columns, rows and images of pixels from one of a number on.

        Returns
        -------
        int, int, list of (int, int, int)
            The first that lies in the image: how many pixels it comes later, and its element; for columns, rows and
            images how many there are, and their distances in elements and in pixels.
        """
        over, x = self.pixels, self.pixels.x
        place, element, seen, near = 0, x.offset + number // (over.s * over.r) * x.stride("c"), [], 1
        for axis, edge, count, start, size, first, step in (
                ("w", over.width, over.s, number % over.s, sizes[0], over.stride[1] * (tap % over.q) - over.left,
                 over.dilation[1]),
                ("h", over.height, over.r, number // over.s % over.r, sizes[1],
                 over.stride[0] * (tap // over.q) - over.top, over.dilation[0])):
            row = first + step * start
            low = min(max(-(row // step), 0), size)
            high = max(min(-((row - edge) // step), size), low)
            element += (row + low * step) * x.stride(axis)
            place += low * near
            seen.append((high - low, step * x.stride(axis), near))
            near *= count
        return place, element, [*seen, (sizes[2], x.stride("c"), near)]


def _summed(problem: Nest) -> Nest:
    """Sums of an image's channels as the product of its pixels, whose channels are outputs, and ones."""
    x, y, count = problem.x, problem.y, problem.r * problem.s
    one, row = (Axis("n", 1, 0), Axis("h", 1, 0)), replace(x.axis("c"), name="w")
    return replace(
        problem, channelwise=False, q=problem.ng, ng=1, cg=count, r=1, s=1, weights=np.ones((1, count, 1), np.int64),
        x=replace(x, axes=(*one, row, Axis("c", count, x.stride("w")))),
        y=replace(y, axes=(*one, replace(y.axis("c"), name="w"), Axis("c", 1, 1))))


def as_product(problem: Nest) -> Nest:
    """A contraction over pixels, or a sum of them, as a product, and any other problem as it is.

    Raises
    ------
    PearrayError
        If it is a convolution by filters that are no constants.
    """
    weights, x, y, taps = problem.weights, problem.x, problem.y, problem.p * problem.q
    if problem.sums_images and problem.images == 1 and problem.finish.is_plain:
        return _summed(problem)
    if not isinstance(weights, View) or problem.r * problem.s * problem.p * problem.images == 1:
        return problem
    if problem.images > 1 and x.stride("n") != 1:
        raise PearrayError(f"{problem.name}: w must be constant on this accelerator")
    channels, count = problem.images, problem.r * problem.s * problem.cg
    step = y.stride("w") if problem.q > 1 else y.stride("h")
    rows = replace(y, axes=(Axis("n", 1, 0), Axis("h", taps, step), Axis("w", channels, y.stride("n")), y.axis("c")))
    inputs = replace(x, axes=(Axis("n", 1, 0), Axis("h", taps, 0), Axis("w", channels, 1), Axis("c", count, 0)))
    return PixelProduct(**vars(problem) | {
        "x": inputs, "y": rows, "images": 1, "p": taps, "q": channels, "r": 1, "s": 1, "cg": count, "stride": (1, 1),
        "dilation": (1, 1), "top": 0, "left": 0, "pixels": problem,
        "weights": weights.renamed(*({"s": "c", "r": "s", "c": "r"}.get(axis.name, axis.name)
                                     for axis in weights.axes))})
