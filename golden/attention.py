"""Softmax and attention in float32, in one pass over the keys and in two.

Ranks are the lecture's: P queries and M keys of E elements, M values of F elements, H heads. All
sums run in order. The exponential is a parameter, so that hardware with its own can be modelled; it is that of
:mod:`.float_functions` if no other is given.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from . import float_functions
from .float_steps import evaluate
from .floating import matmul, sequential_sum
from .tensors import Array, floating

__all__ = [
    "Exponential", "attention", "attention_online", "attention_statistics", "exponential", "multi_head_attention",
    "scores", "softmax",
]

#: Exponential function of a float32 array.
Exponential: TypeAlias = Callable[[Array], Array]


def exponential(x: Array) -> Array:
    """Exponential function of a float array, :func:`.float_functions.exp`."""
    return evaluate(float_functions.exp, x)


def softmax(x: Array, axis: int = -1, *, exp: Exponential = exponential) -> Array:
    """Normalise one axis: ``exp(x - max) / sum(exp(x - max))``, the sum in order.

    Parameters
    ----------
    x : float array of any shape
        Scores; a score of minus infinity has no weight.
    axis : int
        Axis that adds up to one.
    exp : callable
        Exponential function of a float32 array.

    Returns
    -------
    float32 array of the shape of `x`

    Raises
    ------
    ValueError
        If the type does not fit or there is no such axis.
    """
    values = floating("x", x)
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis must be in {-values.ndim}..{values.ndim - 1}, not {axis}")
    rows = np.moveaxis(values, axis, -1)
    numerators = exp(rows - rows.max(axis=-1, keepdims=True))
    return np.moveaxis(numerators / sequential_sum(numerators)[..., None], -1, axis)


def scores(q: Array, k: Array, scale: float | None = None, causal: bool = False, *,
           tile: int | None = None) -> Array:
    """Score queries against keys: ``QK[...,p,m] = Q[...,p,e] * K[...,m,e] * scale``.

    Parameters
    ----------
    q : (..., P, E) float array
        Queries.
    k : (..., M, E) float array
        Keys.
    scale : float, optional
        Factor, taken as float32; ``1 / sqrt(E)`` if not given.
    causal : bool
        Whether query p sees keys 0 ... p only: the scores of others are minus infinity.
    tile : int, optional
        As for :func:`.floating.matmul`.

    Returns
    -------
    (..., P, M) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    queries, keys = floating("q", q), floating("k", k)
    if queries.ndim < 2 or keys.ndim < 2 or queries.shape[-1] != keys.shape[-1]:
        raise ValueError("q and k must have shapes (..., P, E) and (..., M, E), "
                         f"not {queries.shape} and {keys.shape}")
    factor = np.float32(1 / math.sqrt(queries.shape[-1]) if scale is None else scale)
    weights = matmul(queries, keys.swapaxes(-1, -2), tile=tile) * factor
    if causal:
        hidden = np.arange(keys.shape[-2]) > np.arange(queries.shape[-2])[:, None]
        weights = np.where(hidden, np.float32(-np.inf), weights)
    return weights


def _values(v: Array, k: Array) -> Array:
    values = floating("v", v)
    if values.ndim < 2 or values.shape[-2] != np.shape(k)[-2]:
        raise ValueError(f"v must have shape (..., {np.shape(k)[-2]}, F), not {values.shape}")
    return values


def attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False,
              tile: int | None = None, exp: Exponential = exponential) -> Array:
    """Attend in two passes: ``AV[...,p,f] = softmax_m(QK)[...,p,m] * V[...,m,f]``.

    Parameters
    ----------
    q : (..., P, E) float array
        Queries.
    k : (..., M, E) float array
        Keys.
    v : (..., M, F) float array
        Values.
    scale, causal, tile
        As for :func:`scores`.
    exp : callable
        Exponential function of a float32 array.

    Returns
    -------
    (..., P, F) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    values = _values(v, k)
    return matmul(softmax(scores(q, k, scale, causal, tile=tile), exp=exp), values, tile=tile)


def attention_online(q: Array, k: Array, v: Array, *, block: int = 1, scale: float | None = None,
                     causal: bool = False, tile: int | None = None, exp: Exponential = exponential) -> Array:
    """Attend in one pass over blocks of keys: the output of :func:`attention_statistics`."""
    return attention_statistics(q, k, v, block=block, scale=scale, causal=causal, tile=tile, exp=exp)[0]


def attention_statistics(q: Array, k: Array, v: Array, *, block: int | None = None, scale: float | None = None,
                         causal: bool = False, tile: int | None = None,
                         exp: Exponential = exponential) -> tuple[Array, Array, Array]:
    """Attend in one pass over blocks of keys, with a running maximum, sum and output.

    For each block of scores, ``m' = max(m, block)``; with ``r = exp(m - m')`` and
    ``e = exp(block - m')``, ``l' = l * r + sum(e)`` and ``o' = o * r + e V``; the result is
    ``o / l``. What is kept does not grow with the number of keys. (Milakov and Gimelshein 2018 for
    softmax; FlashAttention and FuseMax for attention.)

    Parameters
    ----------
    q, k, v, scale, causal, tile, exp
        As for :func:`attention`.
    block : int, optional
        Keys met at a time; all if not given.

    Returns
    -------
    y : (..., P, F) float32 array
        Output.
    maximum, total : (..., P) float32 arrays
        Greatest score of each query, and the sum of the exponentials of what scores are below it: what gradients need
        besides the operands.

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    values = _values(v, k)
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    weights = scores(q, k, scale, causal, tile=tile)
    length = block or weights.shape[-1]
    greatest = np.full((*weights.shape[:-1], 1), -np.inf, np.float32)
    total = np.zeros_like(greatest)
    output = np.zeros((*weights.shape[:-1], values.shape[-1]), np.float32)
    for start in range(0, weights.shape[-1], length):
        part = weights[..., start:start + length]
        risen = np.maximum(greatest, part.max(axis=-1, keepdims=True))
        # A query that has seen no key yet has a maximum of minus infinity, which can't be subtracted.
        base = np.where(np.isneginf(risen), np.float32(0), risen)
        rescale, terms = exp(greatest - base), exp(part - base)
        total = total * rescale + sequential_sum(terms)[..., None]
        output = output * rescale + matmul(terms, values[..., start:start + length, :], tile=tile)
        greatest = risen
    return np.asarray(output / total), greatest[..., 0], total[..., 0]


def multi_head_attention(q: Array, k: Array, v: Array, heads: int, *, scale: float | None = None,
                         causal: bool = False, tile: int | None = None, exp: Exponential = exponential) -> Array:
    """Attend by H heads side by side: head h sees elements ``h * E ... (h + 1) * E - 1`` of its operands.

    The projections before and after are :func:`.floating.linear`.

    Parameters
    ----------
    q : (..., P, H * E) float array
        Queries of all heads.
    k : (..., M, H * E) float array
        Keys of all heads.
    v : (..., M, H * F) float array
        Values of all heads.
    heads : int
        Number of heads H.
    scale, causal, tile, exp
        As for :func:`attention`, E being the elements of one head.

    Returns
    -------
    (..., P, H * F) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    split = []
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        operand = floating(name, tensor)
        if operand.ndim < 2 or heads < 1 or operand.shape[-1] % heads:
            raise ValueError(f"heads must divide the last dimension of {name} {operand.shape}, not {heads!r}")
        split.append(operand.reshape(*operand.shape[:-1], heads, -1).swapaxes(-2, -3))
    y = attention(*split, scale=scale, causal=causal, tile=tile, exp=exp).swapaxes(-2, -3)
    return y.reshape(*y.shape[:-2], -1)
