"""Addition of two quantised tensors as a sum of two table entries, exact by exhaustion.

An operand has 8 bits, so what it adds to a sum is one of 256 integers. Requantisation by a scale is a rising function
of the sum: each output belongs to an interval of sums. So the golden model's outputs of all 65,536 pairs of stored
values say between which bounds each ``A[a] + B[b]`` must lie, saturated outputs included, and which integers do that
is a system of difference constraints: there is a solution if, and only if, Bellman and Ford's relaxation comes to rest
(Cormen et al., *Introduction to Algorithms*, 22.4).

With a scale of ``2**g`` a sum is rounded to float32 and to an integer as in onnxruntime's fused addition. Sums have 32
bits; finer grids tell nearer ties apart, coarser ones leave room for sums that saturate.
"""

from dataclasses import dataclass
from functools import cache
from math import frexp

import numpy as np

from ...hdl.post.pairs import ELEMENT_FRACTION
from .addition import Addition

__all__ = ["Pair", "find_elements", "find_pair", "first_sums", "solve"]

#: Exponents of the scales to try, beyond that of which sums take 32 bits.
_EXPONENTS = (0, 1, 2, -1, 3, 4, 6, 8, 12, 16)

#: Greatest sum.
_MOST = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Pair:
    """Two tables and a scale that add two tensors exactly.

    Parameters
    ----------
    tables : ndarray of shape (2, 256), int32
        What each stored byte of the first and of the second tensor adds; sums wrap at 32 bits.
    scale : float
        Scale of the sum.
    point : int
        What is added to the scaled sum.
    """

    tables: np.ndarray
    scale: float
    point: int


@cache
def find_pair(addition: Addition) -> Pair | None:
    """Find tables that add two 8-bit tensors as the golden model does, for every pair of values.

    Returns
    -------
    Pair or None
        None if there are none for any scale that is tried.
    """
    # Of halves the even output is taken, before the zero point is added or after.
    point = 0 if addition.fused else addition.y_zero
    outputs, (low, high) = addition.outputs() - point, (bound - point for bound in addition.bounds)
    first, second = (ratio * steps for ratio, steps in zip(addition.ratios, addition.operands(), strict=True))
    finest = _finest(first, second + (addition.y_zero - point), low, high)
    scales = [2.0**(finest + exponent) for exponent in _EXPONENTS]
    if not addition.fused:
        # The rule rounds a sum in steps of its own before it divides; a few scales of the output want these.
        reach = max(np.abs(first).max() + np.abs(second).max(), high - low) * addition.y_scale
        step = float(np.float32(1 / np.float32(addition.y_scale))) * 2.0**(frexp(reach)[1] - 31)
        scales += [step, step / 2]
    for scale in scales:
        tables = solve(outputs, first_sums(scale, low, high), low)
        if tables is not None:
            return Pair(tables, scale, point)
    return None


def find_elements(elements: np.ndarray) -> np.ndarray | None:
    """Find tables whose sums, without their fraction, are the elements of rows that two tensors add up to.

    Parameters
    ----------
    elements : ndarray of shape (256, 256), int64
        Element of each pair of stored bytes, -128 to 127.

    Returns
    -------
    ndarray of shape (2, 256), int32, or None
        None if there are no such tables.
    """
    # The least and the greatest element saturate.
    bounds = np.arange(-127, 128) << ELEMENT_FRACTION
    return solve(elements, np.concatenate([[-_MOST - 1], bounds, [_MOST + 1]]), -128)


def _finest(first: np.ndarray, second: np.ndarray, low: int, high: int) -> int:
    """Exponent of the finest grid on which sums of real addends have 32 bits."""
    # Beyond these a sum saturates, whatever is added to it.
    second = second.clip(low - 1 - first.max(), high + 1 - first.min())
    first = first.clip(low - 1 - second.max(), high + 1 - second.min())
    greatest = max(first.max() + second.max(), -(first.min() + second.min()), high - low)
    return max(frexp(greatest)[1], 0) - 31


def solve(outputs: np.ndarray, firsts: np.ndarray, low: int) -> np.ndarray | None:
    """Find tables whose sums make given outputs.

    Parameters
    ----------
    outputs : ndarray of shape (256, 256), int64
        Output of each pair of stored bytes.
    firsts : ndarray of shape (outputs + 1,), int64
        Least sum of each output, the least first, and the first sum that is none's.
    low : int
        Least output.

    Returns
    -------
    ndarray of shape (2, 256), int32, or None
        None if there are no such tables.
    """
    least, most = firsts[outputs - low], firsts[outputs - low + 1] - 1
    # A[a] <= most - B[b], and -B[b] <= A[a] - least, until nothing moves.
    first, second = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for _ in range(first.size + second.size):
        lower = np.minimum(first, (second + most).min(axis=1))
        lower_second = np.minimum(second, (lower[:, None] - least).min(axis=0))
        if np.array_equal(lower, first) and np.array_equal(lower_second, second):
            return (np.stack([first, -second]) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        first, second = lower, lower_second
    return None


def first_sums(scale: float, low: int, high: int) -> np.ndarray:
    """Least sum of each output from `low` to `high`, requantised by onnxruntime's rule, and the first that is none."""
    wanted = np.arange(low + 1, high + 1)
    below, reached = np.full(wanted.shape, -_MOST - 1), np.full(wanted.shape, _MOST + 1)
    while (reached - below > 1).any():
        middle = (below + reached) // 2
        enough = np.rint(middle.astype(np.float32) * np.float32(scale)) >= wanted
        below, reached = np.where(enough, below, middle), np.where(enough, middle, reached)
    return np.concatenate([[-_MOST - 1], reached, [_MOST + 1]])
