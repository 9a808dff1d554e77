"""Every lowering against golden, on the interpreter, over random shapes and configurations."""

import numpy as np
import pytest
from random_workloads import (
    MOVED_OPERATORS,
    NARROW_MOVED_OPERATORS,
    NARROW_OPERATORS,
    OPERATORS,
    check_operator,
    configuration,
    interpret,
    network,
    operands,
    random_configuration,
)

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.operators import SGD, Conv2d, Gemm, Linear, Requant, Softmax
from pearray.hdl.errors import PearrayError


@pytest.mark.parametrize("name", [*OPERATORS, *MOVED_OPERATORS])
def test_operators(rng, name):
    """Tiling, addresses, padding, zero points, rounding, waits: any slip changes an output or races."""
    makers = OPERATORS | MOVED_OPERATORS
    done = [check_operator(rng, makers[name], random_configuration(rng)) for _ in range(8)]
    assert any(done)


@pytest.mark.parametrize("name", [*NARROW_OPERATORS, *NARROW_MOVED_OPERATORS])
def test_operators_of_8_bits(rng, name):
    """As above, for operators that need tables or 8-bit scales."""
    makers = NARROW_OPERATORS | NARROW_MOVED_OPERATORS
    done = [check_operator(rng, makers[name], random_configuration(rng, (8,))) for _ in range(5)]
    assert any(done)


def test_networks(rng):
    """Layers that read what others store, layouts that a flattening permutes, kept tensors in ONNX's order."""
    for _ in range(4):
        graph, inputs = network(rng)
        interpret(graph, inputs, random_configuration(rng, (8,)), keep="all", effort=0)


@pytest.mark.parametrize(("m", "k", "n"), [(64, 64, 64), (1, 1, 1), (1, 300, 40), (200, 3, 100), (33, 129, 65)])
def test_gemm_on_a_preset(rng, m, k, n):
    """The shapes that tilings are tuned for, beside awkward neighbours."""
    tensors = {"a": operands(rng, (m, k)), "b": operands(rng, (k, n))}
    operator = Gemm(requant=Requant.onnx(1.0, 0, 1.0, 0, float(np.sqrt(k) * 130), 0))
    interpret(Graph.of(operator, tensors), tensors, configuration())


@pytest.mark.parametrize("activation", ["relu", ("clip", 0, 6.0), ("leaky_relu", 0.1), "sigmoid", "tanh", "gelu",
                                        "gelu_tanh", "silu"])
def test_activations(rng, activation):
    """Bounds that relu and clip fold into, and tables for the rest."""
    tensors = {"x": operands(rng, (2, 5, 7, 6)), "w": operands(rng, (9, 5, 3, 3))}
    operator = Conv2d(padding=1, requant=Requant.onnx(1.0, 4, 1.0, 0, 3000.0, np.int8(-20)), activation=activation)
    if activation not in ("relu", ("leaky_relu", 0.1)):
        operator = Conv2d(padding=1, requant=Requant.onnx(0.001, 4, 0.02, 0, 0.05, np.int8(-20)), activation=activation)
    graph = Graph.of(operator, tensors)
    interpret(graph, {"x": tensors["x"]}, configuration())
    assert len(np.unique(graph.golden({"x": tensors["x"]})["y"])) > 10


@pytest.mark.parametrize(("rows", "cols", "width"), [(64, 64, 512), (1, 1, 32), (3, 48, 256), (32, 4, 64)])
def test_array_shapes(rng, rows, cols, width):
    """Arrays far from square, and the largest and smallest that are promised."""
    config = configuration(rows, cols, 4096, 4096, 4096, 64, 64, 1 if cols == 1 else 4, width)
    tensors = {"x": operands(rng, (1, 10, 9, 11)), "w": operands(rng, (20, 10, 3, 3))}
    operator = Conv2d(stride=2, padding=(1, 0, 2, 1), requant=Requant.tflite(1 << 30, -9))
    interpret(Graph.of(operator, tensors), {"x": tensors["x"]}, config)


def test_constants_are_packed_once(rng):
    """Packed constants are the weights with at most padding: nothing is copied for the array's convenience."""
    tensors = {"x": operands(rng, (1, 64)), "w": operands(rng, (64, 64))}
    compiled = interpret(Graph.of(Linear(requant=Requant.onnx(1.0, 0, 1.0, 0, 500.0, 0)), tensors), {"x": tensors["x"]},
                         configuration())
    assert 64 * 64 <= compiled.host_packed_bytes <= 64 * 64 + 64


def test_gemm_packs_nothing_but_scales(rng):
    """All operands of a Gemm are activations: none is repacked ahead."""
    tensors = {"a": operands(rng, (24, 40)), "b": operands(rng, (40, 56))}
    compiled = interpret(Graph.of(Gemm(), tensors), tensors, configuration())
    assert compiled.host_packed_bytes == 0


@pytest.mark.parametrize(("operator", "tensors", "message"), [
    (SGD(lr=0.1), {"w": np.zeros(3, np.float32), "dw": np.zeros(3, np.float32)},
     "^SGD has no lowering for this accelerator yet$"),
    (Softmax(), {"x": np.zeros((2, 3), np.int8)}, "^Softmax without scales has no lowering for this accelerator yet: "),
    (Gemm(), {"a": np.zeros((2, 2), np.int16), "b": np.zeros((2, 2), np.int16)},
     "^a must be of an integer type of at most 8 bits for this accelerator, not int16$"),
])
def test_what_has_no_lowering_is_named(operator, tensors, message):
    """A user must learn what can't run, not get a traceback from the tiling."""
    with pytest.raises(PearrayError, match=message):
        compile_graph(Graph.of(operator, tensors), configuration())


def test_inputs_beyond_narrow_operands_are_refused(rng):
    """A 4-bit array would silently drop the upper bits of 8-bit values."""
    tensors = {"a": np.full((2, 2), 100, np.int8), "b": np.ones((2, 2), np.int8)}
    compiled = compile_graph(Graph.of(Gemm(), tensors), configuration(bits=4))
    with pytest.raises(PearrayError, match=r"^a must have values in -8\.\.7 for this accelerator, not 100$"):
        compiled.bind(tensors)
