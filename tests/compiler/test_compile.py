"""Compiling a graph: what each level prints, and nodes with several outputs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from random_workloads import configuration, interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.compiled import LEVELS
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kernels.channelwise import relu
from pearray.compiler.kernels.lowerings import LOWERINGS
from pearray.compiler.operators import Conv2d, Gemm, Linear, Operator, Relu, Requant, Reshape, Transpose

ON = [configuration(), pe.load_config("tests/cocotb/row_stationary.toml").hardware]


def _layers(rng):
    linear = Linear(requant=Requant.onnx(1, 0, 1, 0, 900, 0))
    nodes = [Node("first", linear, {"x": "x", "w": "w", "b": "b"}, {"y": "h"}),
             Node("second", Relu(2), {"x": "h"}, {"y": "r"}),
             Node("third", Gemm(), {"a": "r", "b": "v"}, {"y": "y"})]
    constants = {"w": operands(rng, (12, 20)), "b": np.arange(12, dtype=np.int32), "v": operands(rng, (12, 5))}
    return Graph(nodes, {"x": Tensor("x", (6, 20), np.dtype(np.int8))}, constants, ["x"], ["y"])


@pytest.mark.parametrize("config", ON)
def test_levels_are_printed(rng, config):
    """What a level holds must be readable, the same each time, and what the next one is made of."""
    graph = _layers(rng)
    compiled = compile_graph(graph, config)
    assert {level: compiled.dump(level) for level in LEVELS} == {
        level: compile_graph(graph, config).dump(level) for level in LEVELS}
    assert compiled.dump("kernels").splitlines() == [
        "first: h[q, m] = sum(c < 20) x[q, c] w[g, r, s, c, m]; bias; requantise onnx + 0; clamp -128..127",
        "second: r[q, c] = h[q, c]; requantise onnx + 0; clamp 2..127",
        "third: y[q, m] = sum(c < 12) r[q, c] w[g, r, s, c, m]"]
    assert compiled.dump("graph").splitlines()[-1] == "output y"
    places = compiled.dump("placement").splitlines()
    for name, placed in compiled.inputs.items() | compiled.outputs.items():
        assert any(line.startswith(f"{placed.address:#010x} {placed.nbytes:>12,} ") and line.endswith(f" {name}")
                   for line in places)
    assert sum(line.endswith(" h") and "0..1" in line for line in places) == 1
    assert places[-1].endswith(" program")
    assert compiled.dump("commands").splitlines() == compiled.commands.splitlines()
    assert len(compiled.dump("commands").splitlines()) == len(compiled.program.commands)


@pytest.mark.parametrize("config", ON)
@pytest.mark.parametrize("read", ["image", "rows"])
@pytest.mark.parametrize("is_view", [False, True])
def test_inputs_stand_as_their_readers_want_them(rng, config, read, is_view):
    """An image in another order would be copied before its first layer, and once more behind its last one."""
    w = operands(rng, (4, 3, 2, 2) if read == "image" else (4, 60))
    layer = (Conv2d if read == "image" else Linear)(requant=Requant.onnx(1, 0, 1, 0, 900, 0))
    turned = Transpose((0, 3, 1, 2)) if read == "image" else Reshape((2, 60))
    nodes = [Node("turned", turned, {"x": "x"}, {"y": "t"}), Node("layer", layer, {"x": "t", "w": "w"}, {"y": "h"})]
    if read == "image":
        nodes.append(Node("back", Transpose((0, 2, 3, 1), is_view=is_view), {"x": "h"}, {"y": "y"}))
    graph = Graph(nodes, {"x": Tensor("x", (2, 5, 4, 3), np.dtype(np.int8))}, {"w": w}, ["x"],
                  ["y" if read == "image" else "h"])
    compiled = interpret(graph, {"x": operands(rng, (2, 5, 4, 3))}, config)
    # What is said to be a transposition of its own is made, as others would be.
    assert len(compiled.layers) == 1 + (read == "image" and not is_view)
    assert len(compiled.dump("kernels").splitlines()) == len(compiled.layers)
    placed = compiled.inputs["x"].layout
    np.testing.assert_array_equal(placed.positions().reshape(-1), np.arange(120))


def test_unknown_levels_are_named(rng):
    """A misspelt level must not be an empty dump."""
    with pytest.raises(pe.PearrayError, match=r"^unknown level 'kernel': did you mean 'kernels'\? allowed: graph, "):
        compile_graph(_layers(rng), ON[0]).dump("kernel")


@dataclass(frozen=True, eq=False)
class Bounds(Operator):
    """Two outputs: x cut off at each of two lower bounds."""

    low: tuple[int, int] = (-5, 9)
    outputs = ("least", "most")

    def infer(self, tensors):
        """Both outputs are like x."""
        return dict.fromkeys(self.outputs, (tensors["x"].shape, tensors["x"].dtype))

    def golden(self, tensors):
        """Both outputs in NumPy."""
        return {role: np.maximum(tensors["x"], low).astype(np.int8)
                for role, low in zip(self.outputs, self.low, strict=True)}

    def macs(self, tensors):
        """No products."""
        return 0


def _bounds(context, node):
    return [kernel for role, low in zip(node.operator.outputs, node.operator.low, strict=True) if role in node.outputs
            for kernel in relu(context, replace(node, operator=Relu(low), outputs={"y": node.outputs[role]}))]


@pytest.mark.parametrize("config", ON)
@pytest.mark.parametrize("keep", ["outputs", "all"])
def test_nodes_with_several_outputs(rng, monkeypatch, config, keep):
    """Gradients make three tensors: each has its place and its readers, and one that nobody wants may be left out."""
    monkeypatch.setitem(LOWERINGS, Bounds, _bounds)
    x = operands(rng, (1, 6, 5, 5))
    nodes = [Node("bounds", Bounds(), {"x": "x"}, {"least": "a", "most": "b"}),
             Node("after", Relu(20), {"x": "a"}, {"y": "c"}),
             Node("one", Bounds((0, 30)), {"x": "b"}, {"most": "d"})]
    graph = Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, {}, ["x"], ["c", "b", "d"])
    compiled = interpret(graph, {"x": x}, config, keep)
    assert [layer.name for layer in compiled.layers] == ["bounds", "after", "one"]
    assert set(compiled.output_names) == ({"a", "b", "c", "d"} if keep == "all" else {"b", "c", "d"})


@pytest.mark.parametrize("config", ON)
def test_outputs_that_no_kernel_writes_are_refused(rng, monkeypatch, config):
    """A lowering that forgets an output would leave whatever stood in memory there."""
    monkeypatch.setitem(LOWERINGS, Bounds, lambda context, node: _bounds(context, node)[:1])
    x = operands(rng, (1, 6, 5, 5))
    graph = Graph([Node("bounds", Bounds(), {"x": "x"}, {"least": "a", "most": "b"})],
                  {"x": Tensor("x", x.shape, x.dtype)}, {}, ["x"], ["a", "b"])
    with pytest.raises(pe.PearrayError, match=r"^bounds: no kernel writes 150 of 150 elements of b$"):
        compile_graph(graph, config)
