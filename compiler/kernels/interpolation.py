"""Interpolation of images: the cheaper of two ways to state it, both exact to the last bit.

Rounding that is not the same below zero as above is made of two outputs, one for each side, cut off at zero, and added.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Interpolate
from .context import Context
from .elementwise import clamped
from .interpolation_matrices import by_matrices
from .interpolation_runs import at_once, by_runs, kernels_of, runs_of
from .interpolation_stage import BITS, Side, Stage, cycles_of, sides_of
from .kernel import Access, Kernel
from .views import View

__all__ = ["interpolate"]

#: Most kernels for runs of outputs.
_KERNELS = 64


def interpolate(context: Context, node: Node[Interpolate]) -> list[Kernel]:
    """State Interpolate."""
    if context.config.array.operand_bits != BITS or context.is_fixed_point:
        raise PearrayError(f"{context.graph.where(node)}Interpolate needs an array of integers of array.operand_bits = "
                           f"{BITS}, not {context.config.array.operand_bits}")
    tensor, operator = context.graph.tensors[node.inputs["x"]], node.operator
    is_unsigned, info = tensor.dtype.kind == "u", np.iinfo(tensor.dtype)
    along = operator.along(tensor)
    parts, runs = along[0].whole * along[1].whole, (runs_of(along[0]), runs_of(along[1]))
    x = Access(context.image(node), {}, 0 if is_unsigned else -128, is_unsigned)
    n, c, p, q = context.graph.tensors[node.outputs["y"]].shape
    stage = Stage(context, node, (n, p, q, c))
    # A kernel may write several pixels of a row as one.
    y = View.rows(context.result(node, columns=q * c), "nhwc", stage.sizes)
    if operator.round_to == "even":
        zero, low, high = int(operator.zero_point), int(info.min), int(info.max)
        few = len(runs[0]) * len(runs[1]) <= _KERNELS
        finish = clamped(low, high, point=zero, scale=1 / parts)
        one_by_one = partial(at_once, stage, replace(x, zero=zero), y, runs, finish)
        parity = zero & 1 if parts > 1 else None
        sides = [Side(parts // 2 - 1 + (parity or 0) if parts > 1 else 0, low, high)]
    else:
        sides, parity = sides_of(operator.round_to, is_unsigned, parts), None
        few = kernels_of(runs, len(sides)) <= _KERNELS
        one_by_one = partial(by_runs, stage, x, y, sides, runs)
    ways = [partial(by_matrices, stage, x, y, sides, along, parity), *([one_by_one] if few else [])]
    return _cheapest(context, ways)


def _cheapest(context: Context, ways: Sequence[Callable[[], Iterator[Kernel]]]) -> list[Kernel]:
    """Kernels of the way that takes fewest cycles by rule of thumb; only they get room."""
    before = len(context.made)
    found = []
    for way in ways:
        kernels = [*way()]
        found.append((kernels, context.made[before:]))
        del context.made[before:]
    kernels, made = min(found, key=lambda each: cycles_of(each[0], context.config))
    context.made += made
    return [replace(kernel, many=len(kernels)) for kernel in kernels]
