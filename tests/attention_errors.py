"""Errors of fused attention against softmax in floating point, over distributions of scores that show its faults."""

from dataclasses import dataclass

import numpy as np

from pearray.golden import fused_attention as golden

__all__ = ["DIRECTED", "DISTRIBUTIONS", "LENGTHS", "Errors", "directed", "distribution", "draw", "measured_errors",
           "normal", "quotients", "reference", "scores_of"]

#: Keys: one, about a block, and many.
LENGTHS = (1, 31, 32, 33, 512, 4096)

#: Distributions of scores alone.
DIRECTED = ("sink first", "sink last", "flat", "ramp", "one-hot", "all equal", "very large", "very negative")

DISTRIBUTIONS = ("N(0, 1)", *DIRECTED, "masked", "sink first, level values")

#: Queries of a distribution, and elements of each.
_ROWS, _ELEMENTS = 16, 64


def draw(rng, shape):
    """Operands over the whole range of int8."""
    return rng.integers(-128, 128, shape).astype(np.int8)


def normal(rng, shape, scale=1 / 32):
    """Numbers of N(0, 1), quantised with a scale."""
    return np.clip(np.rint(rng.standard_normal(shape) / scale), -128, 127).astype(np.int8)


def reference(q, k, v, unit, mask=None):
    """Softmax attention by its definition in float64: scores are products times `unit`; `mask` is added to them."""
    shared = len(q) // len(k)
    keys, values = (np.repeat(each.astype(np.float64), shared, 0) for each in (k, v))
    scores = q.astype(np.float64) @ keys.swapaxes(1, 2) * unit
    if mask is not None:
        scores = scores + mask
    greatest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(greatest), 0, greatest))
    total = weights.sum(axis=-1, keepdims=True)
    return weights @ values / np.where(total == 0, 1, total)


def quotients(sums, state):
    """Outputs before they are rounded, in steps of the values."""
    return sums / (np.maximum(state.total, 1)[..., None] / 4096)


def directed(rng, along, rows, elements):
    """Queries (rows, elements) that meet keys in one element only, with scores (keys,), in nats.

    Returns
    -------
    (rows, elements) int8, (keys, elements) int8, float
        Queries, keys, and the score of a product of 1.
    """
    q, k = np.zeros((rows, elements), np.int8), np.zeros((len(along), elements), np.int8)
    q[:, 0] = 127
    unit = max(float(np.abs(along).max()), 1e-6) / 127 ** 2
    k[:, 0] = np.rint(along / unit / 127)
    if elements > 1:
        # Rows differ a little.
        q[:, 1], k[:, 1] = rng.integers(-3, 4, rows), rng.integers(-3, 4, len(along))
    return q, k, unit


def scores_of(name, length, rng):
    """Scores of a distribution of :data:`DIRECTED`, in nats."""
    place = np.arange(length)
    return {
        "sink first": np.where(place == 0, 8.0, 0.0), "sink last": np.where(place == length - 1, 8.0, 0.0),
        "flat": rng.uniform(-1e-3, 1e-3, length), "ramp": np.linspace(-10.0, 10.0, length),
        "one-hot": np.where(place == length // 2, 60.0, 0.0), "all equal": np.full(length, 3.0),
        "very large": np.full(length, 4e3), "very negative": np.full(length, -4e3),
    }[name]


def distribution(name, length, rng):
    """Operands of a distribution of scores, and the score of a product of 1."""
    v = normal(rng, (1, length, _ELEMENTS))
    if name in ("N(0, 1)", "masked"):
        # Products of 64 elements, divided by 8, are of N(0, 1) again.
        return (normal(rng, (1, _ROWS, _ELEMENTS)), normal(rng, (1, length, _ELEMENTS)), v,
                1 / 32 / 32 / _ELEMENTS ** 0.5)
    if name == "sink first, level values":
        name, v = "sink first", draw(rng, (1, length, _ELEMENTS))
    q, k, unit = directed(rng, scores_of(name, length, rng), _ROWS, _ELEMENTS)
    return q[None], k[None], v, unit


@dataclass(frozen=True)
class Errors:
    """Errors against float64 in steps of the values: the greatest, and the root of the mean square.

    `before` is before outputs are rounded to int8, `after` behind that.
    """

    before: tuple[float, float]
    after: tuple[float, float]


def measured_errors(name, length, rng, two_bytes):
    """Errors of a distribution of scores of some keys, with numerators of one byte or two."""
    q, k, v, unit = distribution(name, length, rng)
    scores = {"q_scale": unit, "k_scale": 1.0, "scale": 1.0, "two_bytes": two_bytes}
    if name == "masked":
        # Of one row everything.
        scores["mask"] = np.where(rng.random((_ROWS, length)) < np.arange(_ROWS)[:, None] / (_ROWS - 1), 0, -np.inf)
    exact = reference(q, k, v, unit, scores.get("mask"))
    before = quotients(*golden.attention_sums(q, k, v, **scores))
    after = golden.fused_attention(q, k, v, v_scale=1.0, y_scale=1.0, **scores)
    return Errors(*((float(np.abs(found - exact).max()), float(np.sqrt(np.square(found - exact).mean())))
                    for found in (before, after)))
