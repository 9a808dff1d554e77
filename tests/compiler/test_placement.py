"""Layouts in memory, and the files that a foreign memory model needs."""

import json
from itertools import pairwise

import numpy as np
import pytest
from random_workloads import branches, briefly, configuration, interpret, network, operands

from pearray.compiler.cells import ProgramError
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kernels.layout import Layout
from pearray.compiler.kernels.views import Buffer
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Conv2d, Requant, Reshape
from pearray.compiler.placement import MemoryPlan
from pearray.configuration import load_config
from pearray.hdl.shell.block_walk import burst_beats

#: One configuration of each kind of array.
KINDS = ["systolic-8x8", "tests/cocotb/row_stationary.toml"]


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


def _lives(graph):
    """First and last node, in order, between which each tensor that nodes make is needed; views are their sources."""
    views = {node.outputs["y"]: node.inputs["x"] for node in graph.nodes if isinstance(node.operator, Reshape)}

    def source(name):
        return source(views[name]) if name in views else name

    nodes = [node for node in graph.nodes if not isinstance(node.operator, Reshape)]
    born = {name: index for index, node in enumerate(nodes) for name in node.outputs.values()}
    last = dict(born)
    for index, node in enumerate(nodes):
        for name in map(source, node.inputs.values()):
            if name in last:
                last[name] = max(last[name], index)
    return {name: (born[name], len(nodes) if name in map(source, graph.outputs) else last[name]) for name in born}


def _meet(item, other):
    return item.address < other.address + other.length and other.address < item.address + item.length


def test_lives_that_overlap_share_no_bytes(rng):
    """A tensor that another overwrites before its last reader is lost; one that never is wastes memory."""
    shared = 0
    for _ in range(8):
        graph, _ = branches(rng)
        compiled = compile_graph(graph, load_config(KINDS[1]).hardware)
        lives = _lives(graph)
        items = {item.name: item for item in compiled.placement.reserved if item.name in lives}
        fixed = [item for item in compiled.placement.reserved if item.name not in lives]
        assert items.keys() == lives.keys()
        for index, (name, item) in enumerate(items.items()):
            assert not any(_meet(item, each) for each in fixed), name
            for other in list(items)[index + 1:]:
                if _meet(item, items[other]):
                    shared += 1
                    assert lives[name][1] < lives[other][0] or lives[other][1] < lives[name][0], (name, other)
    assert shared > 4


@pytest.mark.parametrize("on", KINDS)
def test_shared_memory_is_right(rng, on):
    """A STORE that does not wait for the LOADs of what it overwrites is a race; "all" keeps every tensor."""
    saved, config = 0, load_config(on).hardware
    for draw in (branches, branches, network, network):
        graph, inputs = draw(rng)
        everything, outputs = (interpret(graph, inputs, config, keep, **briefly(config)) for keep in ("all", "outputs"))
        saved += everything.memory_bytes - outputs.memory_bytes
    assert saved > 0


@pytest.mark.parametrize("config", [configuration(8, 8, 2048, 2048, 2048), load_config(KINDS[1]).hardware],
                         ids=["small", "row-stationary"])
def test_sharing_too_early_is_seen(rng, monkeypatch, config):
    """If a node's own input is overwritten, the interpreter must see a race, or the tests above see nothing either."""
    layer = Conv2d(padding=1, requant=Requant.onnx(1, 0, 1, 0, 900, 0))
    nodes = [Node(f"t{index}", layer, {"x": f"t{index - 1}" if index else "x", "w": "w"}, {"y": f"t{index}"})
             for index in range(3)]
    x, w = operands(rng, (1, 8, 24, 24)), operands(rng, (8, 8, 3, 3))
    graph = Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, {"w": w}, ["x"], ["t2"])
    interpret(graph, {"x": x}, config, **briefly(config))
    begin = MemoryPlan.begin
    monkeypatch.setattr(MemoryPlan, "begin", lambda plan, node, *how: begin(plan, node + 1, *how))
    with pytest.raises(AssertionError, match=r"while both are in use|is used by node"):
        compile_graph(graph, config, **briefly(config))
    monkeypatch.setattr(MemoryPlan, "verify", lambda plan, uses: None)
    with pytest.raises((ProgramError, AssertionError), match=r"overwrites memory|Mismatched elements"):
        interpret(graph, {"x": x}, config, **briefly(config))


def test_inputs_and_constants_outlive_a_run(rng):
    """Whoever runs a program again writes the inputs that differ, and nothing else."""
    for config in (load_config(on).hardware for on in KINDS):
        graph, inputs = branches(rng)
        compiled = compile_graph(graph, config)
        machine = interpreter(config, compiled.memory_bytes + 64)
        machine.write(compiled.segments)
        for values in (inputs["x"], operands(rng, inputs["x"].shape)):
            again = interpreter(config, compiled.memory_bytes + 64)
            again.dram[:] = machine.dram
            again.write(compiled.bind({"x": values}))
            again.run(compiled.program_address)
            for address, data in compiled.segments + compiled.bind({"x": values}):
                assert again.read(address, len(data)) == data
            expected = graph.golden({"x": values})
            for name in graph.outputs:
                np.testing.assert_array_equal(compiled.extract(name, again.read), expected[name])
            machine = again


@pytest.mark.parametrize("on", KINDS)
def test_sharing_costs_nothing(rng, on):
    """Commands must be the same whatever is kept but for addresses in memory, and bursts must be cut alike.

    Where tensors may stay on chip, and pooling may be a part of the layer before, what is kept decides more.
    """
    config, saved = load_config(on, {"scratchpads.moves": 0}).hardware, 0
    if config.has_maxima:
        config = load_config(on, {"scratchpads.moves": 0, "post.maxima": 0}).hardware
    grain = burst_beats(config) * config.beat_bytes
    for _ in range(4):
        graph, _ = branches(rng)
        kept, shared = (compile_graph(graph, config, keep, **briefly(config)) for keep in ("all", "outputs"))
        saved += kept.memory_bytes - shared.memory_bytes
        for one, other in zip(kept.program.commands, shared.program.commands, strict=True):
            assert (one.opcode, one.waits) == (other.opcode, other.waits)
            assert {**one.body, "dram": 0} == {**other.body, "dram": 0}
            assert (one.body.get("dram", 0) - other.body.get("dram", 0)) % grain == 0
    assert saved > 0


def _buffer(name, nbytes):
    buffer = Buffer(name, 1, nbytes, 1)
    buffer.expect_stores()
    return buffer


def test_regions_are_given_out_again():
    """Regions that are free side by side are one, and the smallest that fits is taken, or memory would grow."""
    plan = MemoryPlan()
    first, second, third = (_buffer(name, nbytes) for name, nbytes in (("a", 100), ("b", 64), ("c", 300)))
    for buffer, dies in ((first, 0), (second, 0), (third, 1)):
        plan.place(buffer, dies)
    plan.begin(1)
    both = _buffer("d", 190)
    plan.place(both, 1)
    assert both.address == first.address
    plan.begin(2)
    small = _buffer("e", 10)
    plan.place(small)
    assert small.address == first.address
    plan.verify([(0, first), (1, both), (1, third), (2, small)])


@pytest.mark.parametrize(("break_", "message"), [
    (lambda items: setattr(items["b"], "address", items["a"].address), "^[ab] and [ab] overlap at 0x0 while both are"),
    (lambda items: setattr(items["a"], "dies", None), "^[ac] and [ac] overlap at 0x0 while both are in use$"),
    (lambda items: setattr(items["b"], "dies", 0), r"^b is used by node 1, but stands only as 0x00000200 .* 0\.\.0 "),
])
def test_wrong_places_are_refused(break_, message):
    """The verifier must see what a faulty allocation would do."""
    plan = MemoryPlan()
    first, second, third = (_buffer(name, 64) for name in "abc")
    plan.place(first, 0)
    plan.place(second, 1)
    plan.begin(1)
    plan.place(third, 1)
    uses = [(0, first), (0, second), (1, second), (1, third)]
    plan.verify(uses)
    break_({item.name: item for item in plan.reserved})
    with pytest.raises(AssertionError, match=message):
        plan.verify(uses)
