"""Elements of rows that are sums of two tensors, as two table entries that the bytes of both choose.

An element is what is left of a sum of two entries without its fraction, so that the hardware needs no scale between the
addition and the normalisation. Two more things must fit. The array puts the bytes side by side in a word whose low byte
may not be negative, so the first tensor is read without a sign, or from its least value on. And columns that have no
element give a word of zeros, for which the second tensor's zero point is chosen: a pair whose element is zero.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...golden.quantised import first_is_spread
from ..graph.graph import Tensor
from ..operators.channelwise import every_value
from ..operators.normed_sum import NormedSum
from ..operators.operator import Typed
from .pairs import find_elements

__all__ = ["RowPair", "find_row_pair"]


@dataclass(frozen=True, eq=False)
class RowPair:
    """How the array reads two tensors, and what the bytes of its sums stand for.

    Parameters
    ----------
    roles : (str, str)
        Roles of the tensor in the low byte, and of that in the byte above.
    zeros : (int, int)
        Zero points of both.
    is_unsigned : (bool, bool)
        Whether their bytes are read without a sign.
    tables : ndarray of shape (2, 256), int32
        Entries of the low byte of a sum, and of the byte above.
    """

    roles: tuple[str, str]
    zeros: tuple[int, int]
    is_unsigned: tuple[bool, bool]
    tables: np.ndarray


def find_row_pair(operator: NormedSum, a: Typed, b: Typed) -> RowPair | None:
    """Find how elements of the rows of a sum are looked up; None if there is no way."""
    return _found(operator, *(Tensor("", tuple(each.shape), np.dtype(each.dtype)) for each in (a, b)))


# Whoever makes one node of a sum and a norm asks, and whoever states that as a kernel.
@lru_cache(maxsize=64)
def _found(operator: NormedSum, a: Tensor, b: Tensor) -> RowPair | None:
    _, dtype = operator.sum.infer({"a": a, "b": b})["y"]
    middle = 0 if dtype.kind == "i" else 128
    # The mean of a row takes away whatever is added to all of its elements.
    if not operator.norm.centred and operator.norm.x_zero != middle:
        return None
    outputs = operator.sum.on_stored(
        every_value(a.dtype)[:, None], every_value(b.dtype), dtype, fused=operator.sum.is_fused(a=a, b=b),
        spread=first_is_spread(a.shape, b.shape))
    elements = outputs.astype(np.int64) - middle
    for roles, found in (("a", "b"), elements), (("b", "a"), elements.T):
        for start in (0, 128):
            zeros = np.flatnonzero(found[start] == 0)
            if len(zeros):
                return _of(roles, found, start, int(zeros[0]))
    return None


def _of(roles: tuple[str, str], elements: np.ndarray, start: int, zero: int) -> RowPair | None:
    """Pairs whose word is 0 for byte `start` of the first tensor and byte `zero` of the second."""
    tables = find_elements(elements)
    if tables is None:
        return None
    byte = np.arange(256)
    return RowPair(roles, (-start, zero), (start == 0, True),
                   np.stack([tables[0][byte + start & 255], tables[1][zero - byte & 255]]))
