"""Drawn cases of multi-head attention with its projections."""

import numpy as np
from random_workloads import operands

import pearray as pe

__all__ = ["drawn_multi_head"]


def drawn_multi_head(rng, config, most=20):
    """Operator and tensors: heads of any width, groups of heads that share keys, and now and then keys of another."""
    cols = config.array.cols
    groups, shared = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    heads, p, d = groups * shared, int(rng.integers(1, most)), int(rng.integers(1, 3 * cols))
    e, f, made = (int(rng.choice([1, cols, rng.integers(1, 2 * cols)])) for _ in range(3))
    x, m, c = operands(rng, (p, d)), p, d
    tensors = {"x": x}
    if rng.integers(3) == 0:
        m, c = int(rng.integers(1, most)), int(rng.integers(1, 3 * cols))
        tensors["memory"] = operands(rng, (m, c))
    for name, rows, columns in (("q", heads * e, d), ("k", groups * e, c), ("v", groups * f, c),
                                ("z", made, heads * f)):
        tensors[f"w_{name}"] = operands(rng, (rows, columns))
        if rng.integers(2):
            tensors[f"b_{name}"] = rng.integers(-3000, 3000, rows).astype(np.int32)
    if rng.integers(4) == 0:
        tensors["mask"] = rng.integers(0, 3, (p, m)) > 0
    point = int(rng.integers(-20, 20))
    requants = {f"requant_{name}": pe.Requant.onnx(0.02, point, 0.03 / columns ** 0.5, 0, 0.025, 0)
                for name, columns in (("q", d), ("k", c), ("v", c))}
    requants["requant_z"] = pe.Requant.onnx(0.01, 0, 0.02 / (heads * f) ** 0.5, int(rng.integers(-3, 4)), 0.015,
                                            np.int8(rng.integers(-9, 9)))
    operator = pe.MultiHeadAttention(
        heads=heads, kv_heads=groups, **requants, av_scale=0.01, causal=bool(rng.integers(2)),
        two_bytes=bool(rng.integers(3) == 0), window=int(rng.integers(1, m + 3)) if rng.integers(4) == 0 else None)
    return operator, tensors
