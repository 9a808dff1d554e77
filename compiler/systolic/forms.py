"""Forms of a layer that fill the systolic array: groups side by side, and sums of whole images as matrix products."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.views import Axis, Buffer, View
from ..placement import MemoryPlan

__all__ = ["forms"]


def forms(problem: Nest, config: SystolicConfig, plan: MemoryPlan) -> Iterator[Nest]:
    """Layers to lower in the place of one, which together make its outputs."""
    if problem.sums_images:
        yield from _whole_images(problem, config, plan)
    else:
        # What is not finite times the weights of no other group is no number.
        yield problem if config.has_floats else _joined(problem, config)


def _whole_images(problem: Nest, config: SystolicConfig, plan: MemoryPlan) -> Iterator[Nest]:
    """Sums of whole images: ones times the matrix of an image's pixels and channels, which fills the array."""
    count, item, x = problem.height * problem.width, config.operand_bytes, problem.x
    ones = Buffer(f"{problem.name}:ones", 1, count, item)
    row = config.arithmetic.to_memory(np.full(count, config.arithmetic.one), item)
    ones.address = plan.constant(problem.name, count * item, row.tobytes, key=("ones", count, item))
    for image in range(problem.images):
        pixels = View(x.buffer, (Axis("c", count, x.stride("w")), Axis("m", problem.ng, 1)), x.element(n=image))
        yield Nest(
            name=problem.name, x=View.rows(ones, "nhwc", (1, 1, 1, count)), y=problem.y.part("n", image, 1), cg=count,
            ng=problem.ng, finish=problem.finish, weights=pixels, w_zero=problem.a_zero, w_unsigned=problem.a_unsigned)


def _joined(problem: Nest, config: SystolicConfig) -> Nest:
    """Compute as many groups together, as one block-diagonal matrix, as the array has columns and rows for."""
    if problem.channelwise or isinstance(problem.weights, View):
        return problem
    cols, rows, cg, ng, groups = config.array.cols, config.array.rows, problem.cg, problem.ng, problem.groups
    joined = max(count for count in range(1, groups + 1) if count == 1 or (
        groups % count == 0 and count * ng <= cols and count * cg <= max(rows, cg)))
    if joined == 1:
        return problem
    parts = problem.weights.reshape(groups // joined, joined, problem.r, problem.s, cg, ng)
    full = np.full((groups // joined, problem.r, problem.s, joined, cg, joined, ng), problem.w_zero, np.int64)
    for index in range(joined):
        full[:, :, :, index, :, index, :] = parts[:, index]
    weights = full.reshape(groups // joined, problem.r * problem.s * joined * cg, joined * ng)
    return replace(problem, groups=groups // joined, cg=cg * joined, ng=ng * joined, weights=weights)
