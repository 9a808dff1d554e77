"""Fused attention of floats in one pass over blocks of keys, as arrays of floats compute it.

It is :mod:`.fused_attention` with operands of a short format of floating point and float32 sums. Scores become
logarithms to the base 2 with 8 fraction bits, and maxima whole numbers there, so that going from one maximum to a
greater one changes exponents only, which is exact. Numerators are numbers of the operands' format: none is lost that
is more than 2**-32 of the greatest of its block, unless the format has none so small. Sums of a row's numerators count
2**-23 of the greatest one, of numerators as they have been rounded, so that weights add up to one.

Ranks are those of :mod:`.attention`: P queries and M keys of E elements, M values of F elements, H heads.
"""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .attention_masks import mask_of_heads
from .floating import matmul, rounded
from .fused_attention import (
    EMPTY,
    LARGEST_SHIFT,
    MOST_KEYS,
    SoftmaxState,
    key_bounds,
    quotient,
    rshift,
    scores_in_octaves,
)
from .tensors import Array, floating

__all__ = ["FRACTION", "float_attention", "float_score_scale", "float_softmax_block", "greatest_numerator",
           "quotient_dividend", "rescaled", "score_addends"]

#: Fraction bits of sums of numerators, of which the greatest is 1.
FRACTION = 23

#: Fraction bits of scores.
_SCORE_FRACTION = 8


@cache
def greatest_numerator(dtype: np.dtype[Any]) -> int:
    """Exponent of the greatest numerator, a power of two: 0, or of formats with few exponents one among the greatest.

    It is that whose reciprocal is half of the least normal number.
    """
    least = int(ml_dtypes.finfo(dtype).minexp)
    return 0 if least < -LARGEST_SHIFT - 1 else 1 - least


@cache
def _numerators(dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Numerators of scores r / 256 below a whole number, and by how many octaves more others may be lower."""
    least, greatest = int(ml_dtypes.finfo(dtype).minexp), greatest_numerator(dtype)
    table = np.exp2(-np.arange(256) / 256).astype(dtype).astype(np.float64)
    # Half of the greatest is a normal number still.
    return table, min(LARGEST_SHIFT, greatest - 1 - least)


def float_score_scale(factor: float) -> np.float32:
    """Factor from sums of products of queries and keys to scores in 1 / 256 of an octave.

    Raises
    ------
    ValueError
        If it is not above zero, or float32 cannot hold it.
    """
    scale = factor * math.log2(math.e) * (1 << _SCORE_FRACTION)
    if not np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max:
        raise ValueError(f"scale must be above 0 and at most 9e35, not {factor!r}")
    return np.float32(scale)


def quotient_dividend(dtype: npt.DTypeLike) -> np.float32:
    """Number whose quotient by the sum of a row's numerators scales its outputs."""
    return np.float32(2.0 ** (FRACTION - greatest_numerator(np.dtype(dtype))))


def score_addends(mask: npt.ArrayLike, factor: float) -> Array:
    """Turn a mask into float32 numbers that are added to sums of products; minus infinity hides a key.

    Parameters
    ----------
    mask : bool or float array_like
        Whether a query sees a key, or what is added to its score.
    factor : float
        Score that a sum of 1 stands for.

    Raises
    ------
    ValueError
        If `mask` is neither, or has a NaN.
    """
    values = np.asarray(mask)
    if values.dtype == bool:
        return np.where(values, np.float32(0), np.float32(-np.inf))
    if values.dtype.kind != "f" or np.isnan(values).any():
        raise ValueError(f"mask must be bool, or float without NaN, not {values.dtype}")
    # A mask of great numbers stays finite: only infinity hides a key.
    most = float(np.finfo(np.float32).max)
    added = values.astype(np.float64) / factor
    return np.where(np.isinf(values), values, np.clip(added, -most, most)).astype(np.float32)


def float_softmax_block(total: Array, scale: npt.ArrayLike, masked: Array, state: SoftmaxState,
                        dtype: npt.DTypeLike) -> tuple[Array, Array, SoftmaxState]:
    """Turn one block of float32 scores into numerators, and take it into the state of its rows.

    Parameters
    ----------
    total : (..., M) float32 array
        Sums of products, masks included. Minus infinity hides a key; plus infinity, and what is no number, make a
        numerator that is none, and so outputs that are none.
    scale : float32 array_like
        Factor; see :func:`float_score_scale`.
    masked : (..., M) bool array
        Keys that a row does not see, whatever stands there.
    state : SoftmaxState of shape (...)
        State after the blocks before, whose sums count 2**-23.
    dtype : data type
        Format of the numerators.

    Returns
    -------
    numerators : (..., M) array of `dtype`
        Against the maximum of each row of this block; see :func:`greatest_numerator`. 0 where masked, or hidden.
    shifts : (...) int64 array
        As of :func:`.fused_attention.softmax_block`, of exponents.
    state : SoftmaxState of shape (...)
        State after this block.
    """
    kind = np.dtype(dtype)
    table, most = _numerators(kind)
    seen = ~np.asarray(masked, bool) & ~np.isneginf(total)
    wrong = seen & ~np.isfinite(total)
    shown = seen & ~wrong
    t = scores_in_octaves(np.where(shown, total, np.float32(0)), scale)
    octaves = np.where(shown, t + 255 >> _SCORE_FRACTION, EMPTY)
    block = octaves.max(axis=-1, initial=EMPTY)
    below = np.where(shown, block[..., None] * 256 - t, 0)
    k, n = below >> _SCORE_FRACTION, table[below & 255]
    counts = shown & (k <= most)
    k = np.where(counts, k, 0)
    numerators = np.where(counts, np.ldexp(n, (greatest_numerator(kind) - k).astype(np.int32)), 0)
    numerators = np.where(wrong, np.nan, numerators).astype(kind)
    maximum = np.maximum(state.maximum, block)
    old, part = (np.minimum(maximum - each, LARGEST_SHIFT) for each in (state.maximum, block))
    added = np.where(counts, rshift((n * (1 << FRACTION)).astype(np.int64), k), 0).sum(axis=-1)
    return numerators, old - part, SoftmaxState(maximum, rshift(state.total, old) + rshift(added, part))


def rescaled(sums: Array, amount: npt.ArrayLike) -> Array:
    """Divide float32 numbers by a power of two, as accumulators do: by a subtraction from the exponent.

    Parameters
    ----------
    sums : float32 array
        Numbers.
    amount : integer array_like
        Exponents of 0 to 31; the shape broadcasts to that of `sums`.

    Returns
    -------
    float32 array
        The quotients; zero, without a sign, where they would be less than the least normal number. So no sum is a zero
        with a sign, and a block of keys that are all hidden changes none. Infinities, what is no number, and what is
        divided by 1, stay as they are.
    """
    bits, by = np.ascontiguousarray(sums, np.float32).view(np.uint32), np.asarray(amount).astype(np.uint32)
    exponent = bits >> 23 & 255
    changed = np.where(exponent <= by, np.uint32(0), bits - (by << 23).astype(np.uint32))
    return np.where((by == 0) | (exponent == 255), bits, changed).astype(np.uint32).view(np.float32)


def _operands(q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Check operands, and give each head of the queries its keys and values: (H, ..., ...) float32 arrays."""
    queries, keys, values = (floating(name, each, 3) for name, each in (("q", q), ("k", k), ("v", v)))
    kinds = {np.asarray(each).dtype for each in (q, k, v)}
    if len(kinds) > 1 or kinds == {np.dtype(np.float32)}:
        raise ValueError("q, k and v must have one type, float16, bfloat16 or float8, "
                         f"not {', '.join(sorted(map(str, kinds)))}")
    heads, (groups, length, elements) = len(queries), keys.shape
    if heads % groups or queries.shape[2] != elements or values.shape[:2] != (groups, length):
        raise ValueError("q, k and v must have shapes (H, P, E), (Hkv, M, E) and (Hkv, M, F), where Hkv divides H, "
                         f"not {queries.shape}, {keys.shape} and {values.shape}")
    if length > MOST_KEYS:
        raise ValueError(f"M must be at most {MOST_KEYS}, not {length}")
    return queries, np.repeat(keys, heads // groups, 0), np.repeat(values, heads // groups, 0)


def float_attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False,
                    mask: npt.ArrayLike | None = None, window: int | None = None,
                    lengths: npt.ArrayLike | None = None, offset: int = 0, block: int = 32,
                    tile: int | None = None) -> Array:
    """Attend: ``softmax(Q K' scale + mask) V`` of each head, with the bits of the hardware.

    A query that sees no key gives zeros. A score that is infinite above, or no number, makes its query's outputs no
    numbers. So does a value that is infinite or no number, also of a key that is hidden, since its numerator is 0;
    arrays, which leave out blocks of keys that no query sees, need not meet it.

    Parameters
    ----------
    q : (H, P, E) array of float16, bfloat16, float8_e4m3fn or float8_e5m2
        Queries.
    k : (Hkv, M, E) array of the same type
        Keys, of which each head has those of H / Hkv heads of queries that follow one another. M is at most
        :data:`.fused_attention.MOST_KEYS`.
    v : (Hkv, M, F) array of the same type
        Values.
    scale, causal, window, lengths, offset
        As of :func:`.fused_attention.fused_attention`.
    mask : bool or float array_like, optional
        Whether a query sees a key, or what is added to its score (:func:`score_addends`); shapes are those of
        :func:`.fused_attention.fused_attention`.
    block : int
        Keys of a block, which have a maximum of their own: columns of the array.
    tile : int, optional
        Products added from zero before they join scores or outputs: rows of the array; a block of them, and all
        elements of a key, if not given.

    Returns
    -------
    (H, P, F) array of the operands' type
    """
    if block < 1 or (tile or block) < 1:
        raise ValueError(f"block and tile must be at least 1, not {block} and {tile}")
    kind, (queries, keys, values) = np.asarray(q).dtype, _operands(q, k, v)
    (heads, rows, elements), length = queries.shape, keys.shape[1]
    factor = 1 / math.sqrt(elements) if scale is None else scale
    unit = float_score_scale(factor)
    low, high = key_bounds((heads, rows), length, causal, window, lengths, offset)
    addends = None if mask is None else np.broadcast_to(
        score_addends(mask_of_heads(mask, heads), factor), (heads, rows, length))
    sums, state = None, SoftmaxState.empty((heads, rows))
    for start in range(0, length, block):
        part = slice(start, min(start + block, length))
        total = matmul(queries, keys[:, part].swapaxes(1, 2), tile=tile)
        if addends is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                total = total + addends[..., part]
        m = np.arange(part.start, part.stop)
        masked = (m < low[..., None]) | (m >= high[..., None])
        numerators, shifts, state = float_softmax_block(total, unit, masked, state, kind)
        sums = _join(sums, numerators.astype(np.float32), values[:, part], shifts[..., None], tile or block)
    assert sums is not None
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return rounded(sums * quotient(quotient_dividend(kind), state.total)[..., None], kind)


def _join(sums: Array | None, numerators: Array, values: Array, shifts: Array, tile: int) -> Array:
    """Add the products of a block of numerators (H, P, M) and values (H, M, F) to outputs (H, P, F), tile by tile."""
    total = None if sums is None else rescaled(sums, np.maximum(shifts, 0))
    for start, end in pairwise((*range(0, values.shape[1], tile), values.shape[1])):
        found = rescaled(matmul(numerators[..., start:end], values[:, start:end]), np.maximum(-shifts, 0))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            total = found if total is None else total + found
    assert total is not None
    return total
