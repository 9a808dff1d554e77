"""Layers of any size on small buffers: wide images, large filters, and matrices one side of which is huge."""

import time
import tracemalloc

import numpy as np
import pytest
from fixed_layers import configuration, words
from random_workloads import interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter

#: Sides that no buffer holds.
HUGE, LARGE = 70_000, 15_000


@pytest.fixture(scope="module")
def array():
    return pe.load_config("tests/cocotb/row_stationary.toml").hardware


def tiny(bits):
    """Accelerator of which the global buffer holds 2 KB."""
    return configuration(3, 4, bits, ifmap=8, filters=40, psums=8, banks=4, bank_lines=64, filter_banks=4)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("shape", "weights", "options"), [
    ((1, 2, 3, 700), (3, 2, 3, 3), {"padding": 1}), ((2, 1, 2, 901), (2, 1, 1, 4), {"stride": 3, "dilation": (1, 5)}),
    ((1, 6, 1, 300), (6, 1, 1, 3), {"groups": 6, "padding": (0, 1, 0, 1)}),
    ((1, 3, 2, 640), (4, 3, 2, 1), {"padding": (0, 2, 1, 0)}), ((1, 1, 50, 44), (2, 1, 36, 32), {}),
    ((1, 1, 5, 5), (1, 1, 5, 5), {"dilation": 30, "padding": 70}), ((1, 2, 3, 1100), (2, 2, 1, 900), {}),
])
def test_wide_images_and_large_filters(rng, bits, shape, weights, options):
    """Columns, or filters, that the buffers can't hold would be refused, or their parts not fit together."""
    draw = operands if bits == 8 else lambda rng, shape: words(rng, *shape)
    tensors = {"x": draw(rng, shape), "w": draw(rng, weights)}
    requant = pe.Requant.onnx(0.5, 7, 0.01, 0, 2.0, np.int8(5)) if bits == 8 else pe.FixedPoint(3)
    for activation in (None, "relu"):
        graph = Graph.of(pe.Conv2d(requant=requant, activation=activation, **options), tensors)
        interpret(graph, {"x": tensors["x"]}, tiny(bits))


def test_windows_of_pools(rng):
    """Parts of a window would be added where they must be compared, or weigh otherwise in a mean."""
    x = operands(rng, (1, 3, 30, 44))
    for operator in (pe.MaxPool2d((27, 36), (1, 3)), pe.AvgPool2d((26, 40), (2, 1))):
        interpret(Graph.of(operator, {"x": x}), {"x": x}, tiny(8))


def test_columns_share_their_weights(rng):
    """Each piece of a wide image would have packed weights of its own."""
    shape, weights = (1, 3, 4, 700), (5, 3, 3, 3)
    even, images = 2 * rng.integers(-60, 60, weights), []
    for values in (even, even + 1):
        tensors = {"x": np.zeros(shape, np.int8), "w": values.astype(np.int8)}
        compiled = compile_graph(Graph.of(pe.Conv2d(), tensors), tiny(8))
        assert len(compiled.layers[0].notes["plans"]) > 1
        images.append(np.frombuffer(b"".join(data for address, data in compiled.segments
                                             if address != compiled.program_address), np.uint8))
    assert 0.8 * np.prod(weights) < np.count_nonzero(images[0] != images[1]) <= np.prod(weights)


@pytest.mark.parametrize("width", [4096, 4097, 9000])
def test_more_columns_than_a_pass_counts(rng, width):
    """A field of a command would be too narrow for the windows of a row that the buffers could hold."""
    config = configuration(3, 4, 8, banks=32, bank_lines=2048)
    tensors = {"x": operands(rng, (1, 1, 3, width)), "w": operands(rng, (2, 1, 3, 3))}
    interpret(Graph.of(pe.Conv2d(), tensors), {"x": tensors["x"]}, config)


def gemm(rng, m, k, n, turned):
    """Return a matrix product whose operands are activations."""
    tensors = {"a": operands(rng, (k, m) if turned[0] else (m, k)), "b": operands(rng, (n, k) if turned[1] else (k, n))}
    return pe.Gemm(trans_a=turned[0], trans_b=turned[1]), tensors


def huge_layers(rng):
    """Layers with one huge side, by name."""
    for name, (m, k, n) in {"m": (HUGE, 1, 1), "k": (1, HUGE, 1), "n": (1, 1, HUGE), "m3": (LARGE, 3, 5),
                            "k3": (3, LARGE, 5), "n3": (3, 5, LARGE)}.items():
        for turned in ((False, False), (False, True), (True, False), (True, True)):
            yield f"gemm-{name}-{turned[0]:d}{turned[1]:d}", lambda size=(m, k, n), turned=turned: gemm(
                rng, *size, turned)
        yield f"linear-{name}", lambda m=m, k=k, n=n: (
            pe.Linear(), {"x": operands(rng, (m, k)), "w": operands(rng, (n, k))})
    for name, shape, weights in (
            ("channels", (1, HUGE, 1, 1), (2, HUGE, 1, 1)), ("filters", (1, 3, 2, 2), (HUGE, 3, 1, 1)),
            ("columns", (1, 3, 1, HUGE), (2, 3, 1, 1)), ("images", (HUGE, 3, 1, 1), (2, 3, 1, 1)),
            ("wide", (1, 1, 3, LARGE), (2, 1, 3, 3)), ("high", (1, 1, LARGE, 3), (2, 1, 3, 3))):
        yield f"conv-{name}", lambda shape=shape, weights=weights: (
            pe.Conv2d(), {"x": operands(rng, shape), "w": operands(rng, weights)})


@pytest.mark.parametrize("name", [name for name, _ in huge_layers(None)])
def test_huge_sides(rng, array, name):
    """A loop over pairs of passes, or over all passes for each of the mappings that are tried, would take minutes."""
    operator, tensors = dict(huge_layers(rng))[name]()
    graph = Graph.of(operator, tensors)
    inputs = {role: tensors[role] for role in graph.inputs}
    begin = time.process_time()
    compiled = compile_graph(graph, array)
    assert time.process_time() - begin < 10
    machine = interpreter(array, compiled.memory_bytes + 64)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    np.testing.assert_array_equal(compiled.extract("y", machine.read), graph.golden(inputs)["y"])


def test_memory_of_a_huge_product(rng, array):
    """Candidates of which each had a list of its passes would fill the host's memory."""
    operator, tensors = gemm(rng, 1, HUGE, 1, (True, False))
    tracemalloc.start()
    compile_graph(Graph.of(operator, tensors), array)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200e6
