"""Products whose pixels are one row, folded into a rectangle: what is packed, and what becomes of a ragged end."""

import numpy as np
import pytest
from fixed_layers import random_configuration, words
from random_workloads import interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.views import Buffer, View
from pearray.compiler.row_stationary.forms import folded, region_of
from pearray.golden.row_stationary import Span

#: Rows of pixels; few of them are a multiple of anything.
PIXELS = [1, 7, 16, 17, 50, 257]


def layers(pixels):
    """Layers with constant weights, by names: the operator, the shape of its input, and that of its weights."""
    return {
        "linear": (pe.Linear, (pixels, 19), (23, 19)),
        "conv": (pe.Conv2d, (1, 19, 1, pixels), (23, 19, 1, 1)),
        "images": (pe.Conv2d, (pixels, 5, 3, 3), (6, 5, 1, 1)),
    }


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("name", layers(1))
@pytest.mark.parametrize("bits", [8, 16])
def test_weights_are_packed_once(rng, name, pixels, bits):
    """A weight that stood in two places would take two bytes of memory, and be read for some of the pixels only."""
    operator, shape, weights = layers(pixels)[name]
    kind, requant = (np.int8, None) if bits == 8 else (np.int16, pe.FixedPoint(0))
    # The lowest bit of each weight differs. Filters that are the same by chance stand in memory once.
    even, images = 2 * rng.integers(-60, 60, weights), []
    for values in (even, even + 1):
        tensors = {"x": np.zeros(shape, kind), "w": values.astype(kind)}
        compiled = compile_graph(Graph.of(operator(requant=requant), tensors), random_configuration(
            np.random.default_rng([rng.bit_generator.seed_seq.entropy, pixels]), bits))
        images.append(np.frombuffer(b"".join(data for _, data in compiled.segments), np.uint8))
    assert 0.8 * np.prod(weights) < np.count_nonzero(images[0] != images[1]) <= np.prod(weights)


def test_host_packed_bytes_of_a_linear_layer():
    """Weights that did not divide the array would be packed with padding, or once for each cut of the pixels."""
    config = pe.load_config("tests/cocotb/row_stationary.toml").hardware
    tensors = {"x": np.zeros((17, 128), np.int8), "w": np.ones((128, 128), np.int8)}
    compiled = compile_graph(Graph.of(pe.Linear(), tensors), config)
    # Besides them a setup of the array: a line for each PE.
    setups = sum(command.body.get("setup", 0) for command in compiled.program.commands)
    assert compiled.host_packed_bytes < 1.15 * 128 * 128 + setups * config.pes * config.line_bytes


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("name", layers(1))
def test_ragged_ends(rng, name, pixels):
    """Pixels behind the last would be stored over something, or read where no tensor is."""
    operator, shape, weights = layers(pixels)[name]
    for bits in (8, 16):
        if bits == 8:
            tensors = {"x": operands(rng, shape, np.uint8), "w": operands(rng, weights),
                       "b": rng.integers(-99, 99, weights[0]).astype(np.int32)}
            made = operator(requant=pe.Requant.onnx(0.5, 130, 0.01, 1, 2.0, np.int8(5)))
        else:
            tensors = {"x": words(rng, *shape), "w": words(rng, *weights), "b": words(rng, weights[0])}
            made = operator(requant=pe.FixedPoint(5), activation="relu")
        interpret(Graph.of(made, tensors), {"x": tensors["x"]}, random_configuration(rng, bits))


@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("m", PIXELS)
def test_ragged_products(rng, m, turned):
    """Rows of a transposed operand, of a matrix of weights, or of a matrix of biases, would be beside each other's."""
    k, n = (int(size) for size in rng.integers(1, 60, 2))
    tensors = {"a": operands(rng, (k, m) if turned[0] else (m, k)), "c": rng.integers(-99, 99, (m, n)).astype(np.int32),
               "b": operands(rng, (n, k) if turned[1] else (k, n))}
    for _ in range(3):
        interpret(Graph.of(pe.Gemm(trans_a=turned[0], trans_b=turned[1]), tensors), tensors,
                  random_configuration(rng, 8))


def test_folds_are_even(rng):
    """A last row that is nearly empty would take the array as long as a full one."""
    for pixels in map(int, [*range(1, 40), *rng.integers(40, 70_000, 40)]):
        x, y = (View.rows(Buffer(name, pixels, 3, 1), "nhwc", (1, 1, pixels, 3)) for name in "xy")
        columns = int(rng.integers(1, 257))
        nest = folded(Nest(name="row", x=x, y=y, q=pixels, cg=3, ng=3), columns)
        assert nest.q <= columns
        assert 0 <= nest.p * nest.q - pixels < nest.p
        rows = [np.arange(pixels)[region_of(nest, Span(0, 1), Span(row, 1)).numbers(y)] for row in range(nest.p)]
        assert np.array_equal(np.concatenate(rows), np.arange(pixels))
