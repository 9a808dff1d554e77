"""In which order the products of a sum are added, which decides the bits of float32 sums.

Down a column of the array products are added one after another, as many as it has rows; these partial sums are added
up in the accumulators. An order is the products of each of them, by their numbers in the kernel: channels innermost,
then columns, then rows of the filter.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from ..kernels.nest import Nest
from ..kernels.regions import Region
from .geometry import Box, Geometry
from .layer import Layer, Tiling

__all__ = ["Order", "order_of", "order_over_pixels", "preferred", "stated"]

#: Times the least cost that ways to cut a layer may cost which add in the natural order.
_WORTH = 1.05

#: Numbers of the products of each partial sum.
Order = tuple[np.ndarray, ...]


def _starts(layer: Layer, a_box: Box, box: Box) -> list[int]:
    """Elements of a part of the contraction at which the array begins another tile, in activations of some box."""
    problem = layer.problem
    region = Region(0, 1, 0, 1, 0, 1)
    _, walk = Geometry.of(problem, region, a_box, layer.banks).walk(problem, a_box, box, layer.banks)
    total, run, rows = walk["k_total"], walk["run"], layer.config.array.rows
    if walk["fold"]:
        return [*range(0, total, rows)]
    return [start for base in range(0, total, run) for start in range(base, min(base + run, total), rows)]


def order_of(layer: Layer, tiling: Tiling) -> Order:
    """Order of a tiling."""
    found: list[np.ndarray] = []
    for a_box, boxes in zip(tiling.a_boxes, tiling.w_boxes, strict=True):
        for box in boxes:
            numbers = _numbers(layer.problem, box)
            if layer.problem.channelwise:
                found += np.split(numbers, len(numbers))
            else:
                starts = _starts(layer, a_box, box)
                found += [numbers[start:end] for start, end in pairwise((*starts, box.size))]
    return tuple(found)


def order_over_pixels(layer: Layer, pixels: tuple[int, int]) -> Order:
    """Order of a contraction over pixels of which so many rows and columns are contracted at a time.

    Products are numbered by image, row and column.
    """
    problem, rows, found = layer.problem, layer.config.array.rows, list[np.ndarray]()
    numbers = np.arange(problem.cg * problem.r * problem.s).reshape(problem.cg, problem.r, problem.s)
    for image in numbers:
        for p in range(0, problem.r, pixels[0]):
            for q in range(0, problem.s, pixels[1]):
                part = image[p:p + pixels[0], q:q + pixels[1]].reshape(-1)
                found += [part[start:start + rows] for start in range(0, part.size, rows)]
    return tuple(found)


def stated(order: Order) -> bytes:
    """What tells an order from others."""
    return np.concatenate([*order, np.cumsum([len(tile) for tile in order])]).astype("<i4").tobytes()


def preferred(costs: Mapping[bytes, float]) -> bytes:
    """Choose one of some orders by what the best way costs to cut a layer that has it.

    It is the one that goes back least often, and has the fewest tiles, but for those that cost more than that is
    worth.
    """
    def disorder(order: bytes) -> tuple[int, int, bytes]:
        numbers = np.frombuffer(order, "<i4")
        return int(np.count_nonzero(np.diff(numbers) < 0)), len(numbers), order

    least = _WORTH * min(costs.values())
    return min((order for order, cost in costs.items() if cost <= least), key=disorder)


def _numbers(problem: Nest, box: Box) -> np.ndarray:
    """Numbers of the products of a part of the contraction, as the array walks it."""
    taps = np.arange(box.r0, box.r1)[:, None] * problem.s + np.arange(box.s0, box.s1)
    if problem.channelwise:
        return taps.reshape(-1)
    return (taps[..., None] * problem.cg + np.arange(box.c0, box.c1)).reshape(-1)
