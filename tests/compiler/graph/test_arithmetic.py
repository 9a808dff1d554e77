"""Which accelerator an operator's arithmetic needs, and what fixed point refuses."""

import re

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for

FIXED = pe.FixedPoint(4)


def _words(*shape, dtype=np.int16):
    return np.ones(shape, dtype)


def _linear(requant, dtype=np.int16):
    return Graph.of(pe.Linear(requant=requant), {"x": _words(2, 3, dtype=dtype), "w": _words(4, 3, dtype=dtype)})


@pytest.mark.parametrize(("config", "overrides", "graph", "message"), [
    ("eyeriss", {}, _linear(FIXED), None),
    ("systolic-8x8", {"array.operand_bits": 16}, _linear(None), None),
    ("systolic-8x8", {}, _linear(None, np.int8), None),
    ("eyeriss", {"array.operand_bits": 8}, _linear(None, np.int8), None),
    ("eyeriss", {}, _linear(None),
     "requant must be a FixedPoint on a row-stationary array of 16 bits, not NoneType"),
    ("eyeriss", {}, Graph.of(pe.MaxPool2d(2), {"x": _words(1, 2, 4, 4)}),
     "operator must be Conv2d, Linear or Gemm on a row-stationary array of 16 bits, not MaxPool2d"),
    ("systolic-8x8", {"array.operand_bits": 16}, _linear(FIXED),
     "requant must be None or a Requant on a systolic array of 16 bits, not a FixedPoint"),
    ("eyeriss", {"array.operand_bits": 8}, _linear(FIXED),
     "requant must be None or a Requant on a row-stationary array of 8 bits, not a FixedPoint"),
])
def test_accelerator_that_an_operator_needs(config, overrides, graph, message):
    """An operator on an array of other arithmetic would give other results, so it must be refused in one line."""
    chosen = pe.load_config(config, overrides).hardware
    if message is None:
        compiler_for(chosen).check(graph, chosen)
        return
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}") as caught:
        compiler_for(chosen).check(graph, chosen)
    assert "\n" not in str(caught.value)


def test_inputs_with_many_zeros_are_coded():
    """A code of an input with few zeros is longer than the input; on other arrays there are no codes."""
    x = np.ones((4, 10), np.int16)
    graph = Graph.of(pe.Linear(requant=FIXED), {"x": x, "w": _words(4, 10)})
    chip, systolic = pe.load_config("eyeriss").hardware, pe.load_config("systolic-8x8").hardware
    for zeros, coded in ((0, False), (12, False), (13, True), (40, True)):
        x.reshape(-1)[:zeros] = 0
        assert compiler_for(chip).observe(graph, chip, {"x": x}) == {"coded": {"x"} if coded else set()}
        assert compiler_for(systolic).observe(graph, systolic, {"x": x}) == {}


@pytest.mark.parametrize(("operator", "tensors", "wrong"), [
    (pe.Linear(requant=FIXED), {"x": _words(2, 3), "w": _words(4, 3), "b": _words(4)}, "b"),
    (pe.Gemm(requant=FIXED), {"a": _words(2, 3), "b": _words(3, 4), "c": _words(2, 4)}, "c"),
    (pe.Conv2d(requant=FIXED), {"x": _words(1, 2, 3, 3), "w": _words(4, 2, 3, 3), "b": _words(4)}, "w"),
])
def test_every_operand_is_int16(operator, tensors, wrong):
    """A wider bias, say, would be cut without a word."""
    assert pe.golden_run(operator, tensors)["y"].dtype == np.int16
    with pytest.raises(pe.PearrayError, match=rf"^{wrong} must be .*not int32"):
        pe.golden_run(operator, tensors | {wrong: tensors[wrong].astype(np.int32)})


@pytest.mark.parametrize(("make", "message"), [
    (lambda: pe.FixedPoint(17), "shift must be an integer in 0..16, not 17"),
    (lambda: pe.FixedPoint(-1), "shift must be an integer in 0..16, not -1"),
    (lambda: pe.FixedPoint(1.0), "shift must be an integer in 0..16, not 1.0"),
    (lambda: pe.FixedPoint(True), "shift must be an integer in 0..16, not True"),
    (lambda: pe.Conv2d(requant=FIXED, activation="gelu"),
     "activation must be None or 'relu' in fixed point, not 'gelu'"),
    (lambda: pe.ConvTranspose2d(requant=FIXED),
     "requant must be None or a Requant for ConvTranspose2d, not a FixedPoint"),
    (lambda: pe.run(pe.Linear(), {"x": _words(1, 2), "w": _words(1, 2)}, on="systolic-8x8", mapping="own"),
     "unknown setting of a systolic array 'mapping': allowed: dataflow, effort"),
])
def test_mistakes(make, message):
    """What fixed point does not have must be told before anything is built."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}$"):
        make()


def test_operators_are_the_golden_model_with_relu(rng):
    """The operators' own arguments must reach the golden model, transpositions, padding and all."""
    from pearray.golden import fixed_point

    def draw(*shape):
        return rng.integers(-(1 << 15), 1 << 15, shape).astype(np.int16)

    x, w, b = draw(2, 4, 6, 7), draw(6, 2, 3, 2), draw(6)
    window = {"stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": 2}
    operator = pe.Conv2d(**window, requant=FIXED, activation="relu")
    expected = fixed_point.conv2d(x, w, b, shift=4, **window)
    np.testing.assert_array_equal(pe.golden_run(operator, {"x": x, "w": w, "b": b})["y"], np.maximum(expected, 0))
    a, c, d = draw(5, 3), draw(4, 5), draw(3, 4)
    expected = fixed_point.gemm(a.T, c.T, d, shift=4)
    operator = pe.Gemm(trans_a=True, trans_b=True, requant=FIXED)
    np.testing.assert_array_equal(pe.golden_run(operator, {"a": a, "b": c, "c": d})["y"], expected)
