"""Operands of products in a narrower format: who is rounded, how often, and what it is equal to."""

import ml_dtypes
import numpy as np
import pytest

import pearray as pe
from pearray.compiler import operators as op
from pearray.compiler.graph.passes.backward import differentiated
from pearray.compiler.graph.passes.narrow import operands_are_narrow
from pearray.golden import floating, gradients, rounding


def _graph(rng):
    """A convolution whose image has another reader, and a layer."""
    graph = pe.Graph()
    graph.input("x", (2, 3, 5, 4), "float32")
    graph.constant("w", rng.normal(size=(4, 3, 2, 2)).astype(np.float32))
    graph.add("h", op.Conv2d(activation="relu"), x="x", w="w", b=np.ones(4, np.float32))
    graph.add("rows", op.Reshape((2, 4, 12)), x="h")
    graph.add("pooled", op.ReduceMean((2,)), x="rows")
    graph.add("again", op.Conv2d(stride=2), x="x", w="w")
    graph.add("left", op.Gemm(trans_b=True), a=graph.add("flat", op.Reshape((2, 16)), x="again"),
              b=rng.normal(size=(5, 16)).astype(np.float32))
    graph.output("pooled", "left")
    return graph, {"x": rng.normal(size=(2, 3, 5, 4)).astype(np.float32)}


@pytest.mark.parametrize("format", [*rounding.FORMATS])
def test_products_are_those_of_the_format(rng, format):
    """If it failed, what is trained in NumPy would not be what an array of the format computes."""
    graph, inputs = _graph(rng)
    kind = rounding.FORMATS[format]
    narrow = operands_are_narrow(graph, format)
    made = narrow.golden(inputs)
    x, w, v = (each.astype(kind) for each in (inputs["x"], graph.constants["w"], graph.constants["left_b"]))
    sums = floating.conv2d(x, w, np.ones(4, np.float32))
    np.testing.assert_array_equal(made["h"], np.maximum(sums, 0))
    again = floating.conv2d(x, w, stride=2)
    np.testing.assert_array_equal(made["left"], floating.gemm(again.reshape(2, 16).astype(kind), v, trans_b=True))
    # The image and the filter have two readers each, and the pooled rows are no operand of a product.
    assert sum(isinstance(node.operator, op.Rounded) for node in narrow.nodes) == 4
    once = operands_are_narrow(narrow, format)
    assert [node.name for node in once.nodes] == [node.name for node in narrow.nodes]


def test_backward_products_are_those_of_the_format(rng):
    """If it failed, gradients would be computed of other operands than the array has."""
    graph, inputs = _graph(rng)
    found = differentiated(operands_are_narrow(graph, "bfloat16"), "left", ["w"])
    dy = rng.normal(size=(2, 5)).astype(np.float32)
    made = found.graph.golden(inputs | {"w": graph.constants["w"], found.seed: dy})
    x, w, v = (each.astype(ml_dtypes.bfloat16) for each in (inputs["x"], graph.constants["w"],
                                                            graph.constants["left_b"]))
    inner = floating.gemm(dy.astype(ml_dtypes.bfloat16), v).reshape(2, 4, 2, 2)
    _, dw, _ = gradients.conv2d_grad(x, w, inner.astype(ml_dtypes.bfloat16), stride=2)
    np.testing.assert_array_equal(made[found.gradients["w"]], dw)


def test_random_bits_are_those_of_tensor_and_key(rng):
    """If it failed, two tensors or two steps would be rounded alike, or one step not be repeatable."""
    graph, inputs = _graph(rng)
    graph.constants["left_b"] = graph.constants["left_b"] * 0 + np.float32(1.03)
    narrow = operands_are_narrow(graph, "float8_e4m3fn", "key")
    assert narrow.inputs == ["x", "key"]
    one, same, other = (narrow.golden(inputs | {"key": np.uint32(key)}) for key in (7, 7, 8))
    name = "left_b:float8_e4m3fn"
    np.testing.assert_array_equal(one[name], same[name])
    assert (one[name] != other[name]).any()
    assert {*np.unique(one[name].astype(np.float32))} == {1, 1.125}
    numbers = [node.operator.number for node in narrow.nodes if isinstance(node.operator, op.Rounded)]
    assert len({*numbers}) == len(numbers) == 4


def test_what_multiplies_what_it_makes_is_refused(rng):
    """If it failed, attention would be trained with products that no array of the format has."""
    graph = pe.Graph()
    x = graph.input("x", (2, 3, 4), "float32")
    graph.output(graph.add("y", op.Attention(), q=x, k=x, v=x))
    with pytest.raises(pe.PearrayError, match=r"^y: operator must be one whose operands are all inputs, to be rounded "
                                              r"to bfloat16, not Attention$"):
        operands_are_narrow(graph, "bfloat16")
