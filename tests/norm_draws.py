"""Drawn LayerNorms and RMSNorms, and the arrays that they run on."""

from dataclasses import replace

import numpy as np
from random_workloads import configuration

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.operators import Sub

__all__ = ["NORM_ARRAYS", "drawn_norm", "drawn_sum", "norm_array", "norm_rows"]

#: Arrays with small memories, so that rows come whole, with some of their gains only, and part by part.
NORM_ARRAYS = {
    "8x8": {"activation": 4096, "weight": 256, "output": 1024, "channels": 64, "depth": 64, "lanes": 4},
    "4x6": {"rows": 4, "cols": 6, "activation": 256, "weight": 64, "output": 128, "channels": 32, "depth": 16},
    "8x4": {"rows": 8, "cols": 4, "activation": 512, "weight": 64, "output": 256, "channels": 256, "depth": 32,
            "lanes": 1, "data_width": 32},
}


def norm_array(name, **functions):
    """Return the configuration of an array."""
    return configuration(**NORM_ARRAYS[name], norms=1, **functions)


def norm_rows(rng, shape, dtype=np.int8):
    """Draw rows over some part of the range; some are level, or nearly, some all extreme."""
    bounds = np.iinfo(dtype)
    drawn = rng.integers(bounds.min, bounds.max + 1, shape)
    middle = (bounds.min + bounds.max + 1) // 2
    rows = shape[:-1]
    drawn = middle + ((drawn - middle) >> rng.integers(0, 9, rows)[..., None])
    extreme = rng.choice([bounds.min, bounds.max], shape)
    drawn = np.where(rng.random(rows)[..., None] < 0.15, extreme, drawn)
    level = np.where(rng.random(rows)[..., None] < 0.15, drawn[..., :1], drawn)
    return level.astype(dtype)


def drawn_norm(rng, elements=None, rows=None):
    """Draw an operator, its shapes and its tensors."""
    elements = int(rng.choice([1, 2, 3, 5, 7, 16, 31, 64, 100, 157])) if elements is None else elements
    shape = (*(() if rng.random() < 0.1 else (int(rng.integers(1, 40)),)), elements)
    if rows is not None:
        shape = (rows, elements)
    elif rng.random() < 0.2:
        shape = (2, 3, elements)
    dtype, made = rng.choice([np.int8, np.uint8], 2)
    fields = {"x_scale": float(np.exp2(rng.uniform(-8, 0))), "y_scale": float(np.exp2(rng.uniform(-7, -4))),
              "epsilon": float(rng.choice([0.0, 1e-5, 1e-2])),
              "y_zero_point": made(int(rng.integers(-128, 128)) + 128 * (made == np.uint8))}
    gamma = rng.normal(1, 0.5, elements).astype(np.float32)
    tensors = {"x": norm_rows(rng, shape, dtype), "gamma": gamma}
    if rng.integers(2):
        if rng.random() < 0.7:
            tensors["beta"] = rng.normal(0, 1, elements).astype(np.float32)
        return pe.LayerNorm(**fields), tensors
    info = np.iinfo(dtype)
    return pe.RMSNorm(**fields, x_zero_point=int(rng.integers(info.min, info.max + 1))), tensors


def drawn_sum(rng, elements=None, rows=None):
    """Draw a graph of the sum or difference of two tensors and the norm of its rows, and its inputs."""
    norm, tensors = drawn_norm(rng, elements, rows)
    x = tensors.pop("x")
    kind, rounding = (pe.Add, Sub)[rng.integers(2)], str(rng.choice(["onnx", "float", "tflite"]))
    kinds = [x.dtype] * 3 if rounding == "tflite" else [*rng.choice([np.int8, np.uint8], 2), x.dtype]
    middles = [0 if np.dtype(each).kind == "i" else 128 for each in kinds]
    points = [middle + int(rng.integers(-20, 21)) * int(rng.integers(2)) for middle in middles]
    if not norm.centred:
        norm = replace(norm, x_zero_point=middles[2])
    scales = rng.uniform((0.01, 0.01, 0.04), (0.05, 0.05, 0.1)).tolist()
    operator = kind(scales[0], points[0], scales[1], points[1], scales[2], np.dtype(kinds[2]).type(points[2]), rounding)
    inputs = {name: norm_rows(rng, x.shape, np.dtype(each)) for name, each in zip("ab", kinds, strict=False)}
    return Graph(
        nodes=[Node("sum", operator, {"a": "a", "b": "b"}, {"y": "x"}),
               Node("norm", norm, {"x": "x", **{role: role for role in tensors}}, {"y": "y"})],
        tensors={name: Tensor(name, value.shape, value.dtype) for name, value in inputs.items()}, inputs=["a", "b"],
        outputs=["y"], constants=tensors), inputs
