"""Random operators, and the check of what a compiled one gives against golden: for tests of the compiler."""

from pathlib import Path

import numpy as np

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Lookup, Relu

CONFIG = Path(__file__).parents[1] / "dot-8x8.toml"


def load(**overrides):
    """Load the configuration of the example with some keys changed, ``array__rows`` for ``array.rows``."""
    return pe.load_config(CONFIG, {name.replace("__", "."): value for name, value in overrides.items()}).hardware


def compiled(operator, tensors, config, constants=None):
    """Compile an operator, run it on the functional model, and compare every element of its output with golden."""
    graph = Graph.of(operator, tensors, constants)
    inputs = {name: tensors[name] for name in graph.inputs}
    found = compile_graph(graph, config)
    machine = interpreter(config, found.memory_bytes)
    machine.write([*found.segments, *found.bind(inputs)])
    machine.run(found.program_address)
    for name, expected in graph.golden(inputs).items():
        actual = found.extract(name, machine.read)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(actual, expected, f"{operator} {graph.tensors}")
    return found


def operands(rng, *shape):
    """8-bit operands of either sign over their whole range."""
    return rng.integers(0, 256, shape).astype(np.uint8).view(rng.choice([np.int8, np.uint8]))


def requant(rng, channels, depth, x, w):
    """Requantisation by either rule or none, with a scale for all or for each channel."""
    points = [int(operands(rng)[()].astype(each.dtype)) for each in (x, w)]
    scale, y_point = 1 / (256 * np.sqrt(depth)), operands(rng)[()]
    kind = rng.integers(3)
    if kind == 0:
        return None
    if kind == 1:
        return pe.Requant.tflite(rng.integers(1 << 30, 1 << 31, channels), np.full(channels, int(np.log2(scale))),
                                 *points, int(y_point.astype(np.int8)))
    per = rng.uniform(0.5, 2, channels) if rng.integers(2) else 1.0
    return pe.Requant.onnx(1.0, points[0], scale * per, points[1], 1.0, y_point)


def _bias(rng, name, shape):
    return {name: rng.integers(-1000, 1000, shape).astype(np.int32)} if rng.integers(2) else {}


def _upto(rng, most):
    return int(rng.integers(1, most + 1))


def gemm(rng):
    """Either operand transposed, B constant or not, C a row or a matrix."""
    m, k, n, trans_a, trans_b = _upto(rng, 30), _upto(rng, 40), _upto(rng, 40), *rng.integers(0, 2, 2).astype(bool)
    a, b = operands(rng, *((k, m) if trans_a else (m, k))), operands(rng, *((n, k) if trans_b else (k, n)))
    operator = pe.Gemm(trans_a=bool(trans_a), trans_b=bool(trans_b), requant=requant(rng, n, k, a, b))
    tensors = {"a": a, "b": b} | _bias(rng, "c", (n,) if rng.integers(2) else (m, n))
    return operator, tensors, ["b"] if rng.integers(2) else []


def linear(rng):
    """Constant weights, a bias that is constant or not."""
    m, k, n = _upto(rng, 9), _upto(rng, 70), _upto(rng, 40)
    x, w = operands(rng, m, k), operands(rng, n, k)
    return pe.Linear(requant=requant(rng, n, k, x, w)), {"x": x, "w": w} | _bias(rng, "b", (n,)), ["w"]


def conv(rng):
    """Stride, dilation, padding of each side; a dense one, one in groups, or one channel by channel."""
    (r, s, u, v), (dr, ds) = (_upto(rng, 4) for _ in range(4)), (_upto(rng, 2) for _ in range(2))
    groups, cg, ng = [(1, _upto(rng, 20), _upto(rng, 20)), (3, _upto(rng, 5), _upto(rng, 5)),
                      (_upto(rng, 20), 1, _upto(rng, 2))][rng.integers(3)]
    x = operands(rng, _upto(rng, 2), groups * cg, dr * (r - 1) + _upto(rng, 8), ds * (s - 1) + _upto(rng, 8))
    w = operands(rng, groups * ng, cg, r, s)
    operator = pe.Conv2d(stride=(u, v), dilation=(dr, ds), padding=tuple(rng.integers(0, 3, 4).tolist()), groups=groups,
                         requant=requant(rng, groups * ng, r * s * cg, x, w))
    return operator, {"x": x, "w": w} | _bias(rng, "b", (groups * ng,)), ["w"]


def max_pool(rng):
    """Windows with padding, which is the least value."""
    window = _upto(rng, 3), _upto(rng, 3)
    operator = pe.MaxPool2d(window, (_upto(rng, 3), _upto(rng, 3)), tuple(rng.integers(0, min(window), 4).tolist()))
    return operator, {"x": operands(rng, _upto(rng, 2), _upto(rng, 20), 4 + _upto(rng, 6), 4 + _upto(rng, 6))}, None


def average_pool(rng):
    """Windows with padding, which counts or not, or whole images."""
    window = (_upto(rng, 3), _upto(rng, 3)) if rng.integers(3) else None
    operator = pe.AvgPool2d(window, _upto(rng, 2), tuple(rng.integers(0, min(window), 4).tolist()) if window else 0,
                            x_scale=0.5, y_scale=0.25, count_include_pad=bool(rng.integers(2)))
    x = rng.integers(-128, 128, (_upto(rng, 2), _upto(rng, 20), 3 + _upto(rng, 6), 3 + _upto(rng, 6)), np.int8)
    return operator, {"x": x}, None


def relu(rng):
    """A clamp of each element."""
    return Relu(0), {"x": operands(rng, _upto(rng, 3), _upto(rng, 40), _upto(rng, 5), _upto(rng, 5))}, None


def lookup(rng):
    """One table, or one of each channel."""
    channels = _upto(rng, 20)
    table = rng.integers(-128, 128, (256,) if rng.integers(2) else (channels, 256)).astype(np.int8)
    return Lookup(table), {"x": operands(rng, _upto(rng, 3), channels, _upto(rng, 5), _upto(rng, 5))}, None


def add(rng):
    """Two tensors, each times a weight of its own."""
    a, b = (rng.integers(-128, 128, (2, _upto(rng, 20)), np.int8) for _ in range(2))
    return pe.Add(0.03, 5, 0.07, -9, 0.11, np.int8(3)), {"a": a, "b": np.resize(b, a.shape)}, None


OPERATORS = [gemm, linear, conv, max_pool, average_pool, relu, lookup, add]
