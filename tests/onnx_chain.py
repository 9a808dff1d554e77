"""Chains of float operators under construction: stored tensors, products whose float sums are exact, comparisons."""

import numpy as np
from onnx_models import draw, load, qdq_reference

__all__ = ["MAX", "compared", "dequantised", "powers", "product", "stored"]

MAX = {"kernel_shape": [2, 2], "strides": [2, 2]}


def powers(name, rng, dtype, low=3, high=6):
    """Scale that is a power of two, so that the runtime's float sums are exact, and a zero point."""
    info = np.iinfo(dtype)
    return {f"{name}_s": np.float32(2.0 ** -int(rng.integers(low, high))),
            f"{name}_z": np.array(rng.integers(info.min + 90, info.max - 90), dtype)}


def dequantised(name, **attributes):
    return "DequantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_d"], attributes


def stored(name, output):
    return "QuantizeLinear", [name, f"{output}_s", f"{output}_z"], [output], {}


def compared(model, inputs, folder, kinds=None):
    """Compare the golden model of a graph with onnxruntime; return the graph."""
    graph = load(model, folder).graph_for(inputs)
    if kinds is not None:
        assert [node.operator.kind for node in graph.nodes] == kinds
    got, expected = graph.golden(inputs)[graph.outputs[0]], qdq_reference(model, inputs)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(got, expected)
    return graph


def product(rng, kind, dtype=np.int8, bias=None):
    """Nodes from a stored tensor to "f", with constants and the stored tensor; float sums of it are exact."""
    shapes = {"Conv": ((2, 3, 7, 6), (4, 3, 3, 2)), "Gemm": ((5, 9), (9, 4)), "MatMul": ((2, 3, 9), (9, 4))}
    x_shape, w_shape = shapes[kind]
    x, constants = draw(rng, x_shape, dtype), powers("x", rng, dtype)
    axis = 0 if kind == "Conv" else 1
    constants |= {"w": rng.integers(-127, 128, w_shape).astype(np.int8), "w_z": np.zeros(4, np.int8),
                  "w_s": (2.0 ** -rng.integers(4, 7, 4)).astype(np.float32)}
    sources = ["x_d", "w_d"]
    if bias is not None:
        constants["b"] = bias
        sources.append("b")
    return [dequantised("x"), dequantised("w", axis=axis), (kind, sources, ["f"], {})], constants, x
