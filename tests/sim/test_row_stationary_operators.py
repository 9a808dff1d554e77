"""Operators and layers on the RTL of row-stationary accelerators, from the compiler to the bits of the outputs."""

import hypothesis
import numpy as np
import pytest
from fixed_layers import fixed_conv, fixed_gemm, gradients, words
from hypothesis import HealthCheck, Phase
from kinds import SMALL

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.golden.cost import ConvLayer
from pearray.golden.row_stationary import LayerMapping, Mapping

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

from operator_cases import FAMILIES

#: Both are built by other tests as well.
NARROW, WIDE = SMALL["row-stationary-8"], SMALL["row-stationary-16"]


@pytest.mark.parametrize("family", FAMILIES)
def test_rtl_equals_the_runtime(family, seed):
    """A set, tag, walk, maximum, bias or requantisation that differs shows as an element."""
    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=4 if family == "add" else 8, deadline=None, database=None, derandomize=False,
                         phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(FAMILIES[family]())
    def compare(case):
        expected = case.expected()
        actual = pe.run(case.operator, case.tensors, on=NARROW).outputs["y"]
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected, f"RTL, {case!r}")

    compare()


def test_gradients(rng):
    """Both gradients of a convolution, which training needs, on the RTL against sums in NumPy."""
    for _ in range(8):
        for operator, tensors, expected in gradients(rng):
            actual = pe.run(operator, tensors, on=NARROW).outputs["y"]
            np.testing.assert_array_equal(actual[:, :, :expected.shape[2], :expected.shape[3]], expected)


def predicted(operator, tensors, mapping):
    """Counts of a convolution in closed form, from tensors or their shapes."""
    (n, c, h, w), (m, _, r, s) = (getattr(tensors[role], "shape", tensors[role]) for role in ("x", "w"))
    layer = ConvLayer(name="conv", c=c, h=h, w=w, m=m, r=r, s=s, stride=operator.stride, padding=operator.padding,
                      dilation=operator.dilation)
    mapped = LayerMapping(layer=layer, mapping=Mapping(**mapping), batch=n)
    return mapped.counts(bias="b" in tensors) | {"active_pes": mapped.active_pes}


@pytest.mark.parametrize("maker", [fixed_conv, fixed_gemm])
def test_fixed_point(rng, maker):
    """Truncation, wrapping, codes and stores of the RTL against golden; every access against the closed form."""
    for _ in range(25):
        operator, tensors = maker(rng)
        result = pe.run(operator, tensors, on=WIDE)
        expected = pe.golden_run(operator, tensors)["y"]
        np.testing.assert_array_equal(result.outputs["y"], expected, f"{Graph.of(operator, tensors).nodes}")
        if maker is fixed_conv and operator.groups == 1 and tensors["w"][0, 0].size > 1:
            counters = result.layers[0].counters
            counters |= {"products": counters["macs"] + counters["gated"]}
            wanted = predicted(operator, tensors, result.layers[0].mapping)
            assert {name: counters[name] for name in wanted} == wanted


def test_records_of_layers(rng):
    """A layer that begins before the last one's record would count for it, and no layer would fit its prediction."""
    sizes, shapes = [(3, 3, 1), (2, 5, 2), (5, 1, 1), (3, 3, 2)], {"x": (2, 6, 17, 16)}
    operators, constants, nodes, before = [], {}, [], "x"
    for index, (r, s, stride) in enumerate(sizes):
        count, channels = int(rng.integers(3, 12)), shapes[before][1]
        constants |= {f"w{index}": words(rng, count, channels, r, s), f"b{index}": words(rng, count)}
        operator = pe.Conv2d(stride=stride, padding=1, requant=pe.FixedPoint(6), activation="relu")
        operators.append(operator)
        nodes.append(Node(f"layer{index}", operator, {"x": before, "w": f"w{index}", "b": f"b{index}"},
                          {"y": f"y{index}"}))
        before = f"y{index}"
        shapes[before] = Graph(list(nodes), {"x": Tensor("x", shapes["x"], np.dtype(np.int16))}, dict(constants), ["x"],
                               [before]).tensors[before].shape
    graph = Graph(nodes, {"x": Tensor("x", shapes["x"], np.dtype(np.int16))}, constants, ["x"], [before])
    inputs = {"x": words(rng, *shapes["x"])}
    result = pe.run(graph, inputs, on=WIDE)
    np.testing.assert_array_equal(result.outputs[before], pe.golden_run(graph, inputs)[before])
    for index, (operator, layer) in enumerate(zip(operators, result.layers, strict=True)):
        x = "x" if index == 0 else f"y{index - 1}"
        wanted = predicted(operator, {"x": shapes[x], "w": constants[f"w{index}"], "b": None}, layer.mapping)
        counters = layer.counters | {"products": layer.counters["macs"] + layer.counters["gated"]}
        assert {name: counters[name] for name in wanted} == wanted, layer.name
