"""Averages whose ties float32 additions decide, on the RTL, against onnxruntime, and their time."""

from pathlib import Path

import numpy as np
import pytest
from onnx_node import MICROSOFT, run_node
from random_workloads import interpret, operands
from slow import engines

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

SMALL = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml", {"post.averages": 1}).hardware

#: Of the last, the small accelerator's accumulators hold the elements in turns only.
WINDOWS = [(2, 2), (3, 3), (1, 3), (3, 2), (5, 4), (2, 7), (6, 7)]

#: Quotients of two scales: equal ones, as onnxruntime's quantiser writes them, and other simple ones, have many ties.
RATIOS = [1, 1, 0.5, 2, 3, 0.4, None]


def draw(rng, shape=None, mixed=True):
    """Draw an average and its tensor: windows, strides, padding, types, zero points and scales of any kind."""
    kernel = WINDOWS[rng.integers(len(WINDOWS))]
    x_kind, y_kind = rng.choice([np.int8, np.uint8], 2)
    y_kind = y_kind if mixed and rng.random() < 0.3 else x_kind
    ratio = RATIOS[rng.integers(len(RATIOS))] or rng.uniform(0.2, 3)
    scale = np.float32(10.0 ** rng.uniform(-4, 3))
    padding = tuple(rng.integers(0, min(kernel), 4).tolist())
    stride = tuple(rng.integers(1, 4, 2).tolist())
    operator = pe.AvgPool2d(
        kernel, stride, padding, x_scale=scale, x_zero_point=int(operands(rng, (), x_kind)),
        y_scale=np.float32(scale * ratio), y_zero_point=operands(rng, (), y_kind)[()],
        count_include_pad=bool(rng.integers(2)))
    shape = shape or tuple(int(size) for size in rng.integers((1, 1, 7, 7), (3, 12, 12, 12)))
    return operator, {"x": operands(rng, shape, x_kind)}


def runtime(operator, tensors):
    """Result of onnxruntime's QLinearAveragePool."""
    x, (kernel, stride) = tensors["x"], operator.window(tensors["x"].shape)
    kind = x.dtype.type
    return run_node(
        "QLinearAveragePool",
        [x, np.float32(operator.x_scale), kind(operator.x_zero_point), np.float32(operator.y_scale),
         kind(operator.y_zero_point)], output=x.dtype, domain=MICROSOFT, kernel_shape=kernel, strides=stride,
        pads=operator.padding, count_include_pad=int(operator.count_include_pad))


def searches(compiled):
    """Whether a program adds float32 numbers."""
    return any(command.body.get("average") for command in compiled.program.commands)


def test_any_window_and_scales(rng):
    """In ties the order of float32 additions decides: any that is left out, or made twice, shows."""
    pytest.importorskip("onnxruntime")
    found = 0
    for _ in range(12):
        operator, tensors = draw(rng, mixed=False)
        expected = runtime(operator, tensors)
        np.testing.assert_array_equal(pe.golden_run(operator, tensors)["y"], expected)
        handle = pe.compile(operator, tensors, SMALL, effort=0)
        np.testing.assert_array_equal(handle.run(tensors).outputs["y"], expected)
        found += searches(handle.compiled())
    assert found > 3


@pytest.mark.parametrize("engine", engines("amaranth"))
def test_mixed_types(rng, engine):
    """With another type the zero point is outside the rounding; each engine has the same float32 additions."""
    scale = float(np.float32(rng.uniform(0.01, 0.1)))
    operator = pe.AvgPool2d((3, 2), (2, 1), (1, 0), x_scale=scale, x_zero_point=-7, y_scale=scale,
                            y_zero_point=np.uint8(101))
    tensors = {"x": operands(rng, (1, 5, 6, 5))}
    handle = pe.compile(operator, tensors, SMALL, effort=0)
    made = handle.run(tensors, engine=engine).outputs["y"]
    np.testing.assert_array_equal(made, pe.golden_run(operator, tensors)["y"])
    assert searches(handle.compiled())


def test_none_is_refused(rng):
    """Programs for many averages are interpreted, which is faster than the RTL: none may be refused, or differ."""
    config = pe.load_config("systolic-8x8", {"post.averages": 1}).hardware
    found = 0
    for number in range(24):
        operator, tensors = draw(rng)
        target = (config, SMALL)[number % 2]
        found += searches(interpret(Graph.of(operator, tensors, ()), tensors, target, effort=0))
    assert found > 6


def test_time(rng):
    """Accesses that are not predicted, or cycles, mislead the mapper."""
    for shape in ((1, 8, 12, 12), (2, 3, 9, 7)):
        operator, tensors = draw(rng, shape)
        operator = pe.AvgPool2d(2, x_scale=operator.x_scale, y_scale=operator.x_scale,
                                y_zero_point=operator.y_zero_point)
        compiled = compile_graph(Graph.of(operator, tensors, ()), SMALL)
        assert searches(compiled)
        counters = run(Job(SMALL, compiled.segments + compiled.bind(tensors), compiled.program_address, [])).counters
        expected = predict(SMALL, compiled.program)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]
