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
from .interpolation_runs import at_once, by_runs, runs_of
from .interpolation_stage import Side, Stage, cycles_of, sides_of
from .kernel import Access, Kernel

__all__ = ["interpolate"]

#: Bits of operands.
_BITS = 8

#: Most kernels for runs of outputs, and how many each run has at most, of rows and for each side of columns.
_KERNELS, _EACH = 64, 3


def interpolate(context: Context, node: Node[Interpolate]) -> list[Kernel]:
    """State Interpolate."""
    if context.config.array.operand_bits != _BITS or context.is_fixed_point:
        raise PearrayError(f"{context.graph.where(node)}Interpolate needs an array of integers of array.operand_bits = "
                           f"{_BITS}, not {context.config.array.operand_bits}")
    tensor, operator = context.graph.tensors[node.inputs["x"]], node.operator
    is_unsigned, info = tensor.dtype.kind == "u", np.iinfo(tensor.dtype)
    along = operator.along(tensor)
    parts, runs = along[0].whole * along[1].whole, (runs_of(along[0]), runs_of(along[1]))
    pairs, x = len(runs[0]) * len(runs[1]), Access(context.image(node), {}, 0 if is_unsigned else -128, is_unsigned)
    y = context.result_image(node)
    stage = Stage(context, node, (y.size("n"), y.size("h"), y.size("w"), y.size("c")))
    if operator.round_to == "even":
        zero, low, high = int(operator.zero_point), int(info.min), int(info.max)
        few = pairs <= _KERNELS
        finish = clamped(low, high, point=zero, scale=1 / parts)
        one_by_one = partial(at_once, stage, replace(x, zero=zero), y, runs, finish)
        parity = zero & 1 if parts > 1 else None
        sides = [Side(parts // 2 - 1 + (parity or 0) if parts > 1 else 0, low, high)]
    else:
        sides, parity = sides_of(operator.round_to, is_unsigned, parts), None
        few = min(pairs * len(sides), _EACH * (len(runs[0]) + len(sides) * len(runs[1]))) <= _KERNELS
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
