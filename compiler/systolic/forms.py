"""Forms of a layer that fill the systolic array: groups side by side, and sums of whole images as matrix products."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...hdl.systolic.config import SystolicConfig
from ..kernels.plan import MemoryPlan, Stored, operand_array
from ..kernels.problem import Matrix, Problem

__all__ = ["forms"]


def forms(problem: Problem, config: SystolicConfig, plan: MemoryPlan) -> Iterator[Problem]:
    """Problems to lower in the place of one, which together make its outputs."""
    if _sums_images(problem):
        yield from _whole_images(problem, config, plan)
    else:
        yield _joined(problem, config)


def _sums_images(problem: Problem) -> bool:
    """Whether each output is the sum of one channel of a whole image."""
    return (problem.diagonal and not problem.maximum and problem.also is None and problem.r * problem.s > 1
            and isinstance(problem.weights, np.ndarray) and problem.weights.size == 1 and problem.weights.item() == 1
            and (problem.p, problem.q, problem.top, problem.left) == (1, 1, 0, 0)
            and (problem.r, problem.s) == (problem.height, problem.width) and problem.y_size is None)


class _Image(Stored):
    """Some pixels of a stored tensor."""

    def __init__(self, base: Stored, first: int, pixels: int):
        super().__init__(base.name, base.address + first * base.channels * base.item, pixels, base.channels, base.item)
        self._base, self._first = base, first

    def ready(self, start: int, end: int) -> int | None:
        return self._base.ready(self._first + start, self._first + end)


def _whole_images(problem: Problem, config: SystolicConfig, plan: MemoryPlan) -> Iterator[Problem]:
    """Sums of whole images: ones times the matrix of an image's pixels and channels, which fills the array."""
    count, item = problem.height * problem.width, config.operand_bytes
    address = plan.constant(problem.name, count * item, lambda: operand_array(np.ones(count, int), item).tobytes(),
                            key=("ones", count, item))
    ones = Stored(f"{problem.name}:ones", address, 1, count, item)
    for image in range(problem.images):
        yield Problem(
            name=problem.name, x=ones, y=problem.y, cg=count, ng=problem.ng, finish=problem.finish,
            weights=Matrix(_Image(problem.x, image * count, count)), w_zero=problem.a_zero,
            w_unsigned=problem.a_unsigned, y_size=(problem.images, 1), origin=(image, 0))


def _joined(problem: Problem, config: SystolicConfig) -> Problem:
    """Compute as many groups together, as one block-diagonal matrix, as the array has columns and rows for."""
    if problem.diagonal or isinstance(problem.weights, Matrix):
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
