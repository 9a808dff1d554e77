"""Contractions over pixels as matrix products: one for each tap, which meets what of the pixels lies in the image.

Channels of the input are rows of outputs that stand side by side in memory, and pixels what is contracted, row by row
and image by image. No pixel of the padding is among them.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from ...hdl.errors import PearrayError
from ..kernels.nest import Nest
from ..kernels.views import Axis, View

__all__ = ["forms"]


def forms(problem: Nest) -> Iterator[Nest]:
    """Layers to lower in the place of one, which together make its outputs.

    Raises
    ------
    PearrayError
        If it is a convolution by filters that are no constants: they can't be gathered tap by tap.
    """
    weights = problem.weights
    if not isinstance(weights, View) or problem.r * problem.s * problem.p * problem.images == 1:
        yield problem
        return
    if problem.images > 1 and problem.x.stride("n") != 1:
        raise PearrayError(f"{problem.name}: w must be constant on this accelerator")
    for r, s in product(range(problem.p), range(problem.q)):
        yield _tap(problem, weights, r, s)


def _inside(taps: int, step: int, first: int, size: int) -> tuple[int, int]:
    """Pixels from one to another, `step` rows apart and the first at row `first`, that lie in `size` rows."""
    low = min(max(-(first // step), 0), taps)
    return low, max(min(-((first - size) // step), taps), low)


def _tap(problem: Nest, weights: View, r: int, s: int) -> Nest:
    """The outputs of one tap: a row of pixels, which are the input's channels."""
    x, (u, v) = problem.x, problem.dilation
    row, column = problem.stride[0] * r - problem.top, problem.stride[1] * s - problem.left
    rows, columns = _inside(problem.r, u, row, problem.height), _inside(problem.s, v, column, problem.width)
    y = problem.y.part("h", r, 1).part("w", s, 1)
    channels = problem.images
    y = replace(y, axes=(Axis("n", 1, 0), Axis("h", 1, 0), Axis("w", channels, y.stride("n")), y.axis("c")))
    one = Axis("n", 1, 0), Axis("h", 1, 0), Axis("w", channels, 1)
    count = (rows[1] - rows[0]) * (columns[1] - columns[0])
    made = replace(problem, y=y, images=1, p=1, q=channels, r=1, s=1, cg=problem.cg * count, stride=(1, 1),
                   dilation=(1, 1), top=0, left=0)
    if not count:
        # No pixel meets this tap: one that weighs nothing makes its zeros.
        return replace(made, x=replace(x, axes=(*one, Axis("c", 1, 1))), cg=1, w_zero=0,
                       weights=np.zeros((1, 1, problem.ng), np.int64))
    sizes = columns[1] - columns[0], rows[1] - rows[0], problem.cg
    sees = zip("csr", sizes, (v * x.stride("w"), u * x.stride("h"), x.stride("c")), strict=True)
    meets = zip("csr", sizes, map(weights.stride, "src"), strict=True)
    first = x.element(h=row + u * rows[0], w=column + v * columns[0])
    return replace(
        made, x=replace(x, axes=(*one, *(Axis(*axis) for axis in sees)), offset=first),
        weights=replace(weights, axes=(weights.axis("m"), *(Axis(*axis) for axis in meets)),
                        offset=weights.element(r=rows[0], s=columns[0])))
