"""Fused attention of int8 operands in integers, in one pass over blocks of keys, as the vector engine computes it.

Ranks are those of :mod:`.attention`: P queries and M keys of E elements, M values of F elements, H heads. A score is
taken as a logarithm to the base 2 with 8 fraction bits, and maxima are whole numbers there, so that going from one
maximum to a greater one is a shift (the running maximum and sum are those of Milakov and Gimelshein 2018). Each block
of keys has numerators of 8 bits, or of 16, against its own maximum: against a running maximum, all that lies 8 bits
below the greatest score would vanish, however much of it there is.

Errors against float64, in steps of the values and before the last rounding, are at most 3, and 0.7 as a root of the
mean square, for the distributions of scores in ``tests/golden/test_fused_attention.py``; with numerators of 16 bits 0.2
and 0.05. Numerators of 8 bits are not rounded to nearest, since those of many keys of little weight would then all be
nothing, or too much, together: a number that differs from key to key is added before they are cut off, so that the sum
of equal ones is right. Each is wrong by less than 1 / 255 of the greatest of its block.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .attention_masks import HIDDEN, MASK_BIAS, mask_bias, mask_of_heads
from .quantise import checked_scale
from .requantise import onnx
from .tensors import Array, exact_matmul, integer, wrap

__all__ = [
    "EMPTY", "HIDDEN", "LARGEST_SHIFT", "MASK_BIAS", "MOST_ELEMENTS", "MOST_KEYS", "NUDGES", "NUMERATORS",
    "SoftmaxState", "attention_sums", "fused_attention", "key_bounds", "mask_bias", "mask_of_heads", "output_factor",
    "quotient", "rshift", "score_scale", "scores_in_octaves", "softmax_block",
]

#: Numerators of scores r / 256 below a whole number, of 16 bits: that of the maximum itself is 255 times 256.
NUMERATORS: Array = np.rint(65280 * np.exp2(-np.arange(256) / 256)).astype(np.int64)

#: What is added to the numerators of 32 consecutive keys before eight bits are cut off: each odd multiple of 4
#: below 256 once, neighbours far apart. Numerators of many keys of little weight are so right on average, where
#: rounding each to nearest would make all of them nothing.
NUDGES: Array = np.array([int(f"{j:05b}"[::-1], 2) * 8 + 4 for j in range(32)], np.int64)

#: Maximum of a row none of whose keys has been seen: less than that of any score.
EMPTY = -(1 << 17)

#: Greatest shift of outputs and sums, which leaves nothing of them.
LARGEST_SHIFT = 31

#: Elements of a key for which no score, with a mask or without, is taken for the other.
MOST_ELEMENTS = (1 << 15) - 1

#: Keys for which no output can leave 32 bits: each adds at most 255 * 128, and what rounding adds is much less than
#: the rest.
MOST_KEYS = 1 << 16

#: Fraction bits of scores, greatest score, and bits of a sum of numerators, which counts 1 / 4096 of 1 / 255.
_FRACTION, _GREATEST, _SUM_BITS = 8, (1 << 24) - 1, 40

#: Bits of a significand of float32.
_SIGNIFICAND = 24


def rshift(x: npt.ArrayLike, amount: npt.ArrayLike) -> Array:
    """Divide integers by a power of two and round to nearest, halves upwards.

    Parameters
    ----------
    x : integer array_like
        Dividends, of at most 63 bits.
    amount : integer array_like
        Exponents of 0 to 62; shapes broadcast.

    Returns
    -------
    int64 array
        ``x >> amount``, plus the last bit that is shifted out.
    """
    values, bits = np.asarray(x, np.int64), np.asarray(amount, np.int64)
    return np.asarray((values >> bits) + np.where(bits > 0, values >> np.maximum(bits - 1, 0) & 1, 0))


def quotient(factor: float | np.floating[Any], total: npt.ArrayLike) -> Array:
    """Divide a float32 number by sums of numerators, and cut off what float32 does not hold.

    Parameters
    ----------
    factor : float
        Positive float32 number in 2**-40 .. 2**60.
    total : integer array_like
        Sums, of at most 40 bits.

    Returns
    -------
    float32 array of the shape of `total`
        The 24 leading bits of the quotient of the significand of `factor` and the 24 leading bits of each sum; 0 for a
        sum of 0. The error is less than 2**-22 of the quotient.

    Raises
    ------
    ValueError
        If `factor` is out of range.
    """
    number = np.float32(factor)
    if not 2.0 ** -40 <= number <= 2.0 ** 60:
        raise ValueError(f"factor must be in 2**-40..2**60, not {factor!r}")
    fraction, exponent = math.frexp(number)
    sums = np.asarray(total, np.int64)
    # float64 holds 40 bits, so that the number of bits is exact.
    length = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    # A sum of nothing is divided as if it were 1.
    leading = np.where(sums == 0, 1 << _SIGNIFICAND - 1,
                       np.where(length > _SIGNIFICAND, sums >> np.maximum(length - _SIGNIFICAND, 0),
                                sums << np.maximum(_SIGNIFICAND - length, 0)))
    bits = (int(fraction * (1 << _SIGNIFICAND)) << _SIGNIFICAND) // leading
    over = (bits >> _SIGNIFICAND).astype(np.int64)
    significand = (bits >> over).astype(np.float32)
    found = np.ldexp(significand, (exponent - length - _SIGNIFICAND + over).astype(np.int32))
    return np.asarray(np.where(sums == 0, np.float32(0), found).astype(np.float32))


@dataclass(frozen=True)
class SoftmaxState:
    """What is known of rows of scores after some blocks of keys.

    Parameters
    ----------
    maximum : int64 array
        Greatest score of each row in whole octaves, rounded up; :data:`EMPTY` if no key has been seen.
    total : int64 array of the same shape
        Sum of the numerators, against this maximum, in 1 / 4096 of 1 / 255.
    """

    maximum: Array
    total: Array

    @classmethod
    def empty(cls, shape: int | tuple[int, ...]) -> "SoftmaxState":
        """State of rows of which no key has been seen."""
        return cls(np.full(shape, EMPTY, np.int64), np.zeros(shape, np.int64))


def score_scale(scale: float, q_scale: float, k_scale: float) -> np.float32:
    """Factor from sums of products of queries and keys to scores in 1 / 256 of an octave.

    Raises
    ------
    ValueError
        If float32 cannot hold it.
    """
    factor = scale * q_scale * k_scale * math.log2(math.e) * (1 << _FRACTION)
    if not abs(factor) <= np.finfo(np.float32).max:
        raise ValueError(f"scale * q_scale * k_scale must be at most 9e35, not {scale * q_scale * k_scale:g}")
    return np.float32(factor)


def output_factor(v_scale: float, y_scale: float) -> np.float32:
    """Number whose quotient by the sum of a row's numerators is the scale of its outputs; see :func:`quotient`."""
    return np.float32(v_scale / y_scale * 4096)


def scores_in_octaves(total: Array, scale: npt.ArrayLike) -> Array:
    """Scale int32 scores to 1 / 256 of an octave: ``clip(rint(float32(total) * scale))`` to 25 bits.

    So scores beyond +-45,425 (to the base e) count as that.

    Parameters
    ----------
    total : integer array
        Sums of products, masks included.
    scale : float32 array_like
        Factors, whose shape broadcasts; see :func:`score_scale`.

    Returns
    -------
    int64 array of the shape of `total`
    """
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.rint(np.multiply(total.astype(np.float32), np.asarray(scale, np.float32)))
    return np.asarray(np.clip(scaled, -_GREATEST, _GREATEST).astype(np.int64))


def softmax_block(t: Array, masked: Array, state: SoftmaxState, *,
                  two_bytes: bool = False) -> tuple[Array, Array, SoftmaxState]:
    """Turn one block of scores into numerators, and take it into the state of its rows.

    Parameters
    ----------
    t : (..., M) integer array
        Scores of a block of keys in 1 / 256 of an octave, of 25 bits; see :func:`scores_in_octaves`.
    masked : (..., M) bool array
        Keys that a row does not see.
    state : SoftmaxState of shape (...)
        State after the blocks before.
    two_bytes : bool
        Whether numerators have 16 bits instead of 8.

    Returns
    -------
    numerators : (..., M) int64 array
        ``2**(t / 256)`` against the maximum of each row of this block, of which 255, or 65280, is the greatest; 0 where
        masked.
    shifts : (...) int64 array
        Bits by which the outputs so far must be shifted to the right before those of this block are added, -31 to 31;
        if negative, those of this block must be.
    state : SoftmaxState of shape (...)
        State after this block.
    """
    shown = ~np.asarray(masked, bool)
    octaves = np.where(shown, t + 255 >> _FRACTION, EMPTY)
    block = octaves.max(axis=-1, initial=EMPTY)
    below = np.where(shown, block[..., None] * 256 - t, 0)
    # What is shifted by more is nothing, rounded or not.
    k, n = np.minimum(below >> _FRACTION, LARGEST_SHIFT), NUMERATORS[below & 255]
    nudges = NUDGES[np.arange(below.shape[-1]) % len(NUDGES)]
    n = n + ((1 << k) >> 1) >> k if two_bytes else (n >> k) + nudges >> 8
    numerators = np.where(shown, n, 0)
    maximum = np.maximum(state.maximum, block)
    old, part = (np.minimum(maximum - each, LARGEST_SHIFT) for each in (state.maximum, block))
    added = numerators.sum(axis=-1) << (0 if two_bytes else 8)
    total = rshift(state.total, old) + rshift(added << 4, part)
    return numerators, old - part, SoftmaxState(maximum, total & (1 << _SUM_BITS) - 1)


def _operands(q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Check operands, and give each head of the queries its keys and values: (H, ..., ...) int64 arrays."""
    queries, keys, values = (integer(name, each, 3) for name, each in (("q", q), ("k", k), ("v", v)))
    for name, each in (("q", queries), ("k", keys), ("v", values)):
        if each.dtype != np.int8:
            raise ValueError(f"{name} must be int8, not {each.dtype}")
    heads, (groups, length, elements) = len(queries), keys.shape
    if heads % groups or queries.shape[2] != elements or values.shape[:2] != (groups, length):
        raise ValueError("q, k and v must have shapes (H, P, E), (Hkv, M, E) and (Hkv, M, F), where Hkv divides H, "
                         f"not {queries.shape}, {keys.shape} and {values.shape}")
    if elements > MOST_ELEMENTS or length > MOST_KEYS:
        raise ValueError(f"E must be at most {MOST_ELEMENTS} and M at most {MOST_KEYS}, not {elements} and {length}")
    shared = heads // groups
    return (queries.astype(np.int64), np.repeat(keys.astype(np.int64), shared, 0),
            np.repeat(values.astype(np.int64), shared, 0))


def key_bounds(shape: tuple[int, int], length: int, causal: bool, window: int | None, lengths: npt.ArrayLike | None,
               offset: int) -> tuple[Array, Array]:
    """First key that each query (H, P) sees, and the one behind the last."""
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    ends = np.asarray(length if lengths is None else lengths)
    if ends.shape not in ((), shape[:1]) or ends.dtype.kind not in "iu" or (ends < 0).any() or (ends > length).any():
        raise ValueError(f"lengths must be one number of 0..{length}, or one for each of {shape[0]} heads, "
                         f"not {lengths!r}")
    place = np.arange(shape[1]) + offset
    low = np.full(shape, 0) if window is None else np.broadcast_to(place - window + 1, shape)
    high = np.broadcast_to(np.reshape(ends, (-1, 1)), shape)
    if causal:
        high = np.minimum(high, place + 1)
    elif window is not None:
        high = np.minimum(high, place + window)
    return low, high


def attention_sums(q: Array, k: Array, v: Array, *, q_scale: float, k_scale: float, scale: float | None = None,
                   causal: bool = False, mask: npt.ArrayLike | None = None, window: int | None = None,
                   lengths: npt.ArrayLike | None = None, offset: int = 0, block: int = 32, tile: int | None = None,
                   two_bytes: bool = False) -> tuple[Array, SoftmaxState]:
    """Attend as far as the division: see :func:`fused_attention`.

    Returns
    -------
    sums : (H, P, F) int32 array
        Numerators, of which 255 is the greatest, times values.
    state : SoftmaxState of shape (H, P)
        With the sums of the numerators.
    """
    queries, keys, values = _operands(q, k, v)
    for name, size in (("block", block), ("tile", tile or block)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")
    factor = 1 / math.sqrt(queries.shape[2]) if scale is None else scale
    for name, number in (("scale", factor), ("q_scale", q_scale), ("k_scale", k_scale)):
        checked_scale(name, number)
    (heads, rows, _), length = queries.shape, keys.shape[1]
    low, high = key_bounds((heads, rows), length, causal, window, lengths, offset)
    bias = None if mask is None else np.broadcast_to(
        mask_bias(mask_of_heads(mask, heads), factor * q_scale * k_scale, (low, high)), (heads, rows, length))
    sums, state = np.zeros((heads, rows, values.shape[2]), np.int64), SoftmaxState.empty((heads, rows))
    for start in range(0, length, block):
        part = slice(start, min(start + block, length))
        totals = exact_matmul(queries, keys[:, part].swapaxes(1, 2))
        if bias is not None:
            totals += bias[..., part]
        m = np.arange(part.start, part.stop)
        masked = (m < low[..., None]) | (m >= high[..., None]) | (totals < HIDDEN)
        t = scores_in_octaves(totals, score_scale(factor, q_scale, k_scale))
        numerators, shifts, state = softmax_block(t, masked, state, two_bytes=two_bytes)
        sums = _join(sums, numerators, values[:, part], shifts[..., None], tile or block, two_bytes)
    return sums.astype(np.int32), state


def _join(sums: Array, numerators: Array, values: Array, shifts: Array, tile: int, two_bytes: bool) -> Array:
    """Add the products of a block of numerators (H, P, M) and values (H, M, F) to outputs (H, P, F), `tile` by tile."""
    sums = rshift(sums, np.maximum(shifts, 0))
    for byte in range(2 if two_bytes else 1):
        low, high = 0 if byte or not two_bytes else 8, np.minimum(np.maximum(-shifts, 0) + 8 * byte, LARGEST_SHIFT)
        factors = numerators >> low & 255
        for start, end in pairwise((*range(0, values.shape[1], tile), values.shape[1])):
            sums = wrap(sums + rshift(exact_matmul(factors[..., start:end], values[:, start:end]), high))
    return sums


def fused_attention(q: Array, k: Array, v: Array, *, q_scale: float, k_scale: float, v_scale: float, y_scale: float,
                    scale: float | None = None, causal: bool = False, mask: npt.ArrayLike | None = None,
                    window: int | None = None, lengths: npt.ArrayLike | None = None, offset: int = 0,
                    block: int = 32, tile: int | None = None, two_bytes: bool = False) -> Array:
    """Attend: ``softmax(Q K' scale + mask) V`` of each head, to int8, with the integers of the hardware.

    Zero points are 0. A query that sees no key gives zeros.

    Parameters
    ----------
    q : (H, P, E) int8 array
        Queries. E is at most :data:`MOST_ELEMENTS`.
    k : (Hkv, M, E) int8 array
        Keys, of which each head has those of H / Hkv heads of queries that follow one another. M is at most
        :data:`MOST_KEYS`.
    v : (Hkv, M, F) int8 array
        Values.
    q_scale, k_scale, v_scale, y_scale : float
        Scales; ``v_scale / y_scale`` is in 2**-52 .. 2**48.
    scale : float, optional
        Factor of the scores; ``1 / sqrt(E)`` if not given.
    causal : bool
        Whether query p sees keys up to ``p + offset`` only.
    mask : bool, float or int32 array_like, optional
        Whether a query sees a key, or what is added to its score; its shape broadcasts to (H, P, M), or has a divisor
        of H, so that heads that follow one another share a mask. See :func:`mask_bias`.
    window : int, optional
        Query p sees keys whose distance from ``p + offset`` is less than this only.
    lengths : int array_like of shape () or (H,), optional
        Keys that there are, of M; all if not given.
    offset : int
        Key that stands at the place of the first query.
    block : int
        Keys of a block, which have a maximum of their own: columns of the array.
    tile : int, optional
        Products added from zero before they are shifted and join the outputs: rows of the array; a block of them if
        not given, or if there are more.
    two_bytes : bool
        Whether numerators have 16 bits instead of 8.

    Returns
    -------
    (H, P, F) int8 array

    Raises
    ------
    ValueError
        If types, shapes or numbers do not fit.
    """
    sums, state = attention_sums(q, k, v, q_scale=q_scale, k_scale=k_scale, scale=scale, causal=causal, mask=mask,
                                 window=window, lengths=lengths, offset=offset, block=block, tile=tile,
                                 two_bytes=two_bytes)
    scales = quotient(output_factor(v_scale, y_scale), state.total)
    flat = sums.reshape(-1, sums.shape[-1])
    return onnx(flat, scales.reshape(-1), axis=0).astype(np.int8).reshape(sums.shape)
