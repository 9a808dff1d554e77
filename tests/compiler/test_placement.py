"""Layouts in memory, and the files that a foreign memory model needs."""

import json
from itertools import pairwise

import numpy as np
from random_workloads import configuration, operands

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels.layout import Layout
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Conv2d, Requant
from pearray.compiler.placement import MemoryPlan


def test_layouts_are_inverse(rng):
    """Memory's order and ONNX's must be exact inverses, also after a reshape."""
    image = rng.integers(0, 100, (2, 3, 4, 5))
    layout = Layout.of(image.shape)
    flat = layout.to_memory(image)
    np.testing.assert_array_equal(flat, image.transpose(0, 2, 3, 1).reshape(-1))
    np.testing.assert_array_equal(layout.from_memory(flat), image)
    np.testing.assert_array_equal(flat[layout.positions()], image)
    flattened = layout.reshaped((2, 60))
    np.testing.assert_array_equal(flattened.from_memory(flat), image.reshape(2, 60))
    assert not flattened.same_memory(Layout.of((2, 60)))
    assert Layout.of((2, 7, 1, 1)).reshaped((2, 7)).same_memory(Layout.of((2, 7)))


def test_constants_of_one_key_are_packed_once():
    """Layers that share a scale or a table must not pay for it twice."""
    plan = MemoryPlan()
    first = plan.constant("a", 4, lambda: b"abcd", key="k")
    assert plan.constant("b", 4, lambda: b"abcd", key="k") == first
    assert plan.constant("c", 4, lambda: b"efgh") != first
    assert plan.packed_bytes == 8


def test_nothing_overlaps(rng):
    """Program, constants, inputs and outputs must each have bytes of their own."""
    tensors = {"x": operands(rng, (1, 3, 8, 8)), "w": operands(rng, (5, 3, 3, 3)), "b": np.arange(5, dtype=np.int32)}
    compiled = compile_graph(Graph.of(Conv2d(requant=Requant.onnx(1, 0, [1] * 5, 0, 99, 0)), tensors), configuration())
    spans = [(address, address + len(data)) for address, data in compiled.segments + compiled.bind({"x": tensors["x"]})]
    spans += [(placed.address, placed.address + placed.nbytes) for placed in compiled.outputs.values()]
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= compiled.memory_bytes


def test_written_files_replay(rng, tmp_path):
    """Someone else's memory gets by with the image and the tensor map alone: strides give every element."""
    tensors = {"x": operands(rng, (1, 3, 8, 8)), "w": operands(rng, (5, 3, 3, 3))}
    graph = Graph.of(Conv2d(requant=Requant.onnx(1, 0, 1, 0, 300, 0)), tensors)
    compiled = compile_graph(graph, configuration())
    compiled.write(tmp_path, {"x": tensors["x"]})
    tensor_map = json.loads((tmp_path / "tensors.json").read_text())
    machine = interpreter(configuration(), tensor_map["memory_bytes"])
    machine.write([(0, (tmp_path / "memory.bin").read_bytes())])
    machine.run(tensor_map["program_address"])
    (entry,) = [entry for entry in tensor_map["tensors"] if entry["role"] == "output"]
    expected = graph.golden({"x": tensors["x"]})["y"]
    for index in np.ndindex(*entry["shape"]):
        address = entry["address"] + int(np.dot(index, entry["strides"]))
        assert np.frombuffer(machine.read(address, 1), np.int8)[0] == expected[index]
