"""Kernels and programs of interpolation, against its golden model."""

import numpy as np
import pytest
from interpolation_draws import interpolate
from kernel_model import evaluate
from kinds import SMALL
from random_workloads import briefly, configuration, interpret

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels import interpolation
from pearray.compiler.kernels.context import Context
from pearray.compiler.kernels.kernel import Contraction
from pearray.compiler.kinds import compiler_for


def stated(operator, x, config=None):
    """Kernels of an operator, and what they make of x, element by element."""
    graph = Graph.of(operator, {"x": x})
    context = Context(graph, config or configuration(), False)
    given = context.locate("x")
    kernels = interpolation.interpolate(context, graph.nodes[0])
    memory = {given.buffer: given.layout.to_memory(x).astype(np.int64)}
    memory |= {buffer: buffer.values for buffer in context.made if buffer.values is not None}

    def outputs():
        evaluate(kernels, memory)
        made = context.located["y"]
        return made.layout.from_memory(memory[made.buffer])

    return kernels, outputs


@pytest.mark.parametrize(("size", "sizes", "mode"), [
    ((2, 2), (3, 3), "asymmetric"), ((4, 2), (5, 6), "half_pixel"), ((3, 5), (7, 4), "align_corners")])
def test_shares_of_any_denominator(rng, size, sizes, mode):
    """Digits are taken from a sum by factors beyond a byte: one that is cut off would show in most elements."""
    x = rng.integers(-128, 128, (1, 2, *size), dtype=np.int8)
    operator = pe.Interpolate(sizes, mode, rounding="tflite")
    interpret(Graph.of(operator, {"x": x}), {"x": x}, configuration(), effort=0)


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_each_way_is_exact(rng, monkeypatch, most):
    """A carry that is lost, a side that is rounded the other way, or a half to an odd output is one step off.

    All draws are made of matrices, or all of them run by run.
    """
    monkeypatch.setattr(interpolation, "_KERNELS", most)
    if most:
        monkeypatch.setattr(interpolation, "cycles_of",
                            lambda kernels, _: any(isinstance(kernel, Contraction) for kernel in kernels))
    for _ in range(10):
        operator, tensors, _ = interpolate(rng, most=3)
        kernels, outputs = stated(operator, tensors["x"])
        assert most or any(isinstance(kernel, Contraction) for kernel in kernels)
        np.testing.assert_array_equal(outputs(), operator.golden(tensors)["y"], str(operator))


@pytest.mark.parametrize("config", [configuration(), configuration(moves=1), SMALL["row-stationary-8"]],
                         ids=["systolic", "systolic with MOVEs", "row-stationary"])
def test_programs_of_matrices(rng, monkeypatch, config):
    """Sums that are read again as bytes would be read too early, or from where others stand."""
    monkeypatch.setattr(interpolation, "_KERNELS", 0)
    for _ in range(2):
        operator, tensors, _ = interpolate(rng)
        interpret(Graph.of(operator, tensors), tensors, config, **briefly(config))


def test_bytes_are_copied_into_planes(rng, monkeypatch):
    """Planes of bytes of sums must be as far apart as bytes are, not as the sums, or products read between them."""
    monkeypatch.setattr(interpolation, "_KERNELS", 0)
    x = rng.integers(-128, 128, (1, 3, 3, 2), dtype=np.int8)
    graph = Graph.of(pe.Interpolate((5, 3), "align_corners", rounding="tflite"), {"x": x})
    interpret(graph, {"x": x}, configuration(), dataflow="output-stationary", effort=0)


@pytest.mark.parametrize(("rounding", "dtype", "mode"), [
    ("tflite", np.int8, "half_pixel"), ("tflite", np.uint8, "align_corners"), ("onnx", np.int8, "align_corners"),
    ("float", np.uint8, "align_corners")])
def test_no_size_makes_more_kernels(rounding, dtype, mode):
    """Kernels for each row and column with shares of their own would be hundreds, and compile for minutes."""
    for size, made in ((17, 65), (65, 257), (129, 513)):
        # With 64 outputs for an element shares are multiples of 1 / 64; of int8 LiteRT has any.
        sizes = (made + 23, made + 38) if dtype is np.int8 and rounding == "tflite" else (2 * made - 1, 8 * made - 7)
        operator = pe.Interpolate(sizes, mode, rounding=rounding)
        kernels, _ = stated(operator, np.zeros((1, 2, size, size), dtype))
        assert len(kernels) <= 40, (size, sizes)


def test_commands_of_many_shares():
    """An image of 4 x 5 that becomes 16 x 10 takes 7,773 commands on this array if each row's shares are kernels."""
    operator, config = pe.Interpolate((16, 10), "align_corners", rounding="tflite"), SMALL["row-stationary-8"]
    compiled = compile_graph(Graph.of(operator, {"x": np.zeros((2, 4, 4, 5), np.int8)}), config)
    assert len(compiled.kernels) <= 16
    assert len(compiled.program.commands) < 2000


@pytest.mark.parametrize(("sizes", "is_matrices"), [((16, 16), False), ((12, 12), True)])
def test_the_cheaper_way_is_taken(monkeypatch, sizes, is_matrices):
    """Twice as large is a few sums of elements; of other sizes these take longer than products with mostly zeros."""
    config, x = configuration(), np.zeros((1, 8, 8, 8), np.int8)
    operator = pe.Interpolate(sizes, "half_pixel", rounding="tflite")
    monkeypatch.setattr(interpolation, "_KERNELS", 1 << 20)
    kernels, _ = stated(operator, x, config)
    assert any(isinstance(kernel, Contraction) for kernel in kernels) == is_matrices
    cycles = []
    for wanted in (False, True):
        monkeypatch.setattr(interpolation, "cycles_of", lambda kernels, _, wanted=wanted: wanted != any(
            isinstance(kernel, Contraction) for kernel in kernels))
        program = compile_graph(Graph.of(operator, {"x": x}), config, effort=0).program
        cycles.append(compiler_for(config).cycles(config, program))
    assert (cycles[1] < cycles[0]) == is_matrices
