"""Convolutions and the pooling behind them as one kernel: which are, what they compute, and what it is worth."""

from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
import pytest
from random_workloads import configuration, interpret, operands, pooled, random_configuration

import pearray as pe
from pearray import PearrayError
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.operators import Conv2d, MaxPool2d, PooledConv2d, Relu, Requant
from pearray.compiler.systolic.kind import COMPILER
from pearray.hdl.systolic.config import SystolicConfig

MAXIMA = configuration(maxima=1)
CONV = Conv2d(padding=1, requant=Requant.onnx(1.0, 0, 0.004, 0, 1.0, np.int8(3)))


def draw(rng, pool, *others, conv=CONV, shape=(1, 6, 7, 7), m=8, outputs=("y",)):
    """Graph of a convolution, the pooling of its outputs, and `others` that read them as well."""
    x, w = operands(rng, shape), operands(rng, (m, shape[1], 3, 3))
    nodes = [Node("conv", conv, {"x": "x", "w": "w"}, {"y": "t"}), Node("pool", pool, {"x": "t"}, {"y": "y"}),
             *(Node(f"other{index}", other, {"x": "t"}, {"y": f"o{index}"}) for index, other in enumerate(others))]
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, {"w": w}, ["x"], list(outputs)), {"x": x}


def kinds(compiled):
    """Operators that run."""
    return [layer.kind for layer in compiled.layers]


def test_random_networks(rng):
    """Windows that are walked, placed, compared or stored wrongly, on arrays and memories of any size."""
    fused = 0
    for _ in range(12):
        config = random_configuration(rng)
        config = replace(config, post=replace(config.post, maxima=1))
        graph, inputs = pooled(rng, config.array.operand_bits)
        try:
            fused += len(interpret(graph, inputs, config, effort=0).layers) == 1
        except PearrayError as error:
            if not any(part in str(error) for part in ("can't hold", "must be at least")):
                raise
    assert fused >= 2


def _pixels(body):
    """Vectors of an EXECUTE for each tile of its contraction."""
    return body["m_count0"] * body["m_count1"] * body["m_count2"] * body["n_count"]


@pytest.mark.parametrize(("window", "shape"), [
    ((2, 2), (1, 6, 10, 10)), ((3, 3), (2, 6, 14, 14)), ((1, 3), (1, 6, 9, 13)), ((4, 1), (2, 6, 13, 5)),
    ((10, 10), (1, 6, 10, 10)), ((5, 2), (1, 24, 11, 30)),
])
def test_windows(rng, window, shape):
    """Each form of window has walks of its own; rows and columns that no window covers must not be computed."""
    graph, inputs = draw(rng, MaxPool2d(window), shape=shape)
    compiled = interpret(graph, inputs, MAXIMA, effort=0)
    assert kinds(compiled) == ["Conv2d + MaxPool2d"]
    assert [layer.name for layer in compiled.layers] == ["conv + pool"]
    pixels = shape[0] * (shape[2] // window[0] * window[0]) * (shape[3] // window[1] * window[1])
    (layer,) = compiled.layers
    assert layer.macs == pixels * 8 * shape[1] * 9
    # Each pixel begins a sum once, whatever pieces its weights come in.
    begun = [body for body in (command.body for command in compiled.program.commands) if body.get("first")]
    assert sum(map(_pixels, begun)) == pixels
    # And meets each of its elements once.
    bodies = [body for body in (command.body for command in compiled.program.commands) if "k_total" in body]
    assert sum(_pixels(body) * body["k_total"] for body in bodies) == pixels * shape[1] * 9
    assert layer.work == sum(_pixels(body) * -(-body["k_total"] // 8) for body in bodies)


@pytest.mark.parametrize(("kind", "activation"), [(np.int8, "sigmoid"), (np.uint8, None), (np.int8, "relu")])
def test_stored_types(rng, kind, activation):
    """The greatest of stored bytes depends on their sign, and a table need not be monotone."""
    requant = Requant.onnx(1.0, 0, 0.004, 0, 0.02, kind(100))
    graph, inputs = draw(rng, MaxPool2d(2), conv=Conv2d(requant=requant, activation=activation))
    assert len(interpret(graph, inputs, MAXIMA, effort=0).layers) == 1


def test_what_stays_apart(rng):
    """A tensor that somebody wants would be missing; windows that overlap or are cut off would be computed wrongly."""
    cases = {
        "overlap": draw(rng, MaxPool2d(3, 2)), "gaps": draw(rng, MaxPool2d(2, 3)),
        "padding": draw(rng, MaxPool2d(2, padding=(1, 1, 1, 1))), "dilation": draw(rng, MaxPool2d(2, dilation=2)),
        "cut off": draw(rng, MaxPool2d(3, ceil_mode=True)), "two readers": draw(rng, MaxPool2d(2), Relu(3),
                                                                                outputs=("y", "o0")),
        "an output": draw(rng, MaxPool2d(2), outputs=("y", "t")),
        "more than a command counts": draw(rng, MaxPool2d(17), conv=Conv2d(requant=CONV.requant),
                                           shape=(1, 1, 19, 19)),
    }
    for name, (graph, inputs) in cases.items():
        assert len(interpret(graph, inputs, MAXIMA, effort=0).layers) == len(graph.nodes), name
    graph, inputs = draw(rng, MaxPool2d(2))
    for config, keep, count in ((MAXIMA, "outputs", 1), (MAXIMA, "all", 2), (configuration(), "outputs", 2)):
        assert len(interpret(graph, inputs, config, keep, effort=0).layers) == count
    assert len(interpret(graph, inputs, MAXIMA, dataflow="output-stationary").layers) == 2


def test_cheaper_of_both(rng):
    """On a large array windows of few pixels leave it waiting for weights: then pooling must stay a layer."""
    config = pe.load_config("systolic-32x32", {"post.maxima": 1}).hardware
    layers = []
    for size, channels in ((4, 128), (16, 32)):
        graph, inputs = draw(rng, MaxPool2d(2), shape=(1, channels, size, size), m=channels)
        compiled = interpret(graph, inputs, config, effort=0)
        apart = compile_graph(graph, replace(config, post=replace(config.post, maxima=0)), effort=0)
        # Layers alone know nothing of what they would share with others.
        assert COMPILER.cycles(config, compiled.program) <= 1.02 * COMPILER.cycles(config, apart.program)
        layers.append(len(compiled.layers))
    assert layers[1] == 1


def test_refused():
    """A kind of array without maxima would take commands that it does not know."""
    class Plain(SystolicConfig):
        FUNCTIONS: ClassVar = ()

    with pytest.raises(PearrayError, match=r"^post.maxima must be 0 with array.kind = 'systolic', not 1$"):
        Plain(**{item.name: getattr(MAXIMA, item.name) for item in fields(MAXIMA)})


def test_operator_is_both(rng):
    """What the compiler's operator says of shapes and values is what the two that it stands for say."""
    graph, inputs = draw(rng, MaxPool2d(3), shape=(2, 5, 11, 9))
    conv, pool = graph.nodes
    operator = PooledConv2d.of(conv.operator, pool.operator)
    tensors = {**inputs, "w": graph.constants["w"]}
    np.testing.assert_array_equal(operator.golden(tensors)["y"], graph.golden(inputs)["y"])
    assert operator.infer(tensors)["y"] == ((2, 8, 3, 3), np.dtype(np.int8))
