"""Gradients of attention, whose probabilities are computed again from the maximum and the sum of each row.

Nothing of the size of the scores is kept between forward and backward: keys are met block by block, with five products
for each, as FlashAttention's backward pass does (Dao 2022). All sums run in order, those over keys block by block.
"""

import math

import numpy as np

from .attention import Exponential, attention_statistics, exponential, scores
from .floating import matmul, sequential_sum
from .tensors import Array, floating, shaped

__all__ = ["attention_grad", "attention_grad_kept"]


def attention_grad_kept(q: Array, k: Array, v: Array, y: Array, maximum: Array, total: Array, dy: Array, *,
                        block: int | None = None, scale: float | None = None, causal: bool = False,
                        tile: int | None = None, exp: Exponential = exponential) -> tuple[Array, Array, Array]:
    """Differentiate attention from what :func:`.attention.attention_statistics` has made.

    With ``D = sum(dY * Y)`` along rows, for each block of keys ``A = exp(scores - maximum) / total``, ``dV = A' dY``,
    ``dS = A * (dY V' - D) * scale``, ``dQ += dS K`` and ``dK = dS' Q``.

    Parameters
    ----------
    q : (..., P, E) float array
        Queries.
    k : (..., M, E) float array
        Keys.
    v : (..., M, F) float array
        Values.
    y : (..., P, F) float array
        Output.
    maximum, total : (..., P) float arrays
        Greatest score of each query, and its sum of exponentials.
    dy : (..., P, F) float array
        Gradient of the output.
    block : int, optional
        Keys met at a time; all if not given.
    scale, causal, tile, exp
        As for :func:`.attention.attention`.

    Returns
    -------
    dq, dk, dv : float32 arrays of the shapes of `q`, `k` and `v`

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    queries, keys, values = floating("q", q), floating("k", k), floating("v", v)
    weights = scores(queries, keys, scale, causal, tile=tile)
    if values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(f"v must have shape {keys.shape[:-1]} and one more dimension, not {values.shape}")
    shape = *queries.shape[:-1], values.shape[-1]
    output, gradient = shaped("y", y, shape), shaped("dy", dy, shape)
    greatest, sums = (shaped(name, each, shape[:-1])[..., None] for name, each in
                      (("maximum", maximum), ("total", total)))
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    factor = np.float32(1 / math.sqrt(queries.shape[-1]) if scale is None else scale)
    shared = sequential_sum(gradient * output)[..., None]
    dq, dk, dv = np.zeros_like(queries), np.zeros_like(keys), np.zeros_like(values)
    length = block or keys.shape[-2]
    for start in range(0, keys.shape[-2], length):
        part = np.s_[..., start:start + length, :]
        shares = exp(weights[..., start:start + length] - greatest) / sums
        dv[part] = matmul(shares.swapaxes(-1, -2), gradient, tile=tile)
        inner = shares * (matmul(gradient, values[part].swapaxes(-1, -2), tile=tile) - shared) * factor
        dq = dq + matmul(inner, keys[part], tile=tile)
        dk[part] = matmul(inner.swapaxes(-1, -2), queries, tile=tile)
    return dq, dk, dv


def attention_grad(q: Array, k: Array, v: Array, dy: Array, *, block: int | None = None, scale: float | None = None,
                   causal: bool = False, tile: int | None = None,
                   exp: Exponential = exponential) -> tuple[Array, Array, Array]:
    """Differentiate attention, whose forward pass is computed first; see :func:`attention_grad_kept`."""
    made = attention_statistics(q, k, v, block=block, scale=scale, causal=causal, tile=tile, exp=exp)
    return attention_grad_kept(q, k, v, *made, dy, block=block, scale=scale, causal=causal, tile=tile, exp=exp)
