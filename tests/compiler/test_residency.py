"""Tensors that stay on chip, whole and in strips, on the interpreter: results, memory traffic, and places."""

from types import SimpleNamespace

import numpy as np
import pytest
from random_workloads import branches, configuration, interpret, network, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kernels.views import Buffer
from pearray.compiler.moves import move_bodies, moves_between
from pearray.compiler.scratchpads import Scratchpad
from pearray.compiler.steps import Output, Piece, Tile
from pearray.compiler.systolic import arrange
from pearray.compiler.systolic.cost import predict
from pearray.compiler.transfers import block


def _walk(body, base, inner, outer):
    """Bytes of a body, in the order in which they are copied."""
    return [(body[base] + second * body[outer] + first * body[inner] + at) % (1 << 20)
            for second in range(body["count2"]) for first in range(body["count1"]) for at in range(body["length"])]


def _memory_beats(compiled):
    counts = predict(compiled.config, compiled.program)
    return counts["load_beats"] + counts["write_beats"]


def residual_block(rng, channels, size, batch=1):
    """Two convolutions, what went in added to what comes out."""
    x, constants = operands(rng, (batch, channels, size, size)), {}
    for name in "ab":
        constants[f"w{name}"] = operands(rng, (channels, channels, 3, 3))
        constants[f"b{name}"] = rng.integers(-500, 500, channels).astype(np.int32)

    def conv(activation):
        requant = pe.Requant.onnx(0.02, -128, 0.01 / channels, 0, 0.05, np.int8(-128))
        return pe.Conv2d(padding=1, requant=requant, activation=activation)

    nodes = [Node("first", conv("relu"), {"x": "x", "w": "wa", "b": "ba"}, {"y": "s"}),
             Node("second", conv(None), {"x": "s", "w": "wb", "b": "bb"}, {"y": "t"}),
             Node("sum", pe.Add(0.05, -128, 0.02, -128, 0.06, np.int8(-128)), {"a": "t", "b": "x"}, {"y": "y"})]
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["y"]), {"x": x}


def test_bodies_copy_each_byte(rng):
    """A tile would hold other bytes than its LOADs bring if runs were joined across a step that is not equal."""
    for _ in range(200):
        count = int(rng.integers(1, 60))
        target = np.sort(rng.choice(200, count, replace=False))
        source = (target * int(rng.integers(1, 4)) + rng.integers(0, 2, count).cumsum() * 7)
        shuffled = rng.permutation(count)
        bodies = move_bodies(source[shuffled], target[shuffled])
        pairs = [pair for body in bodies for pair in zip(
            _walk(body, "address", "step1", "step2"), _walk(body, "target", "target_step1", "target_step2"),
            strict=True)]
        assert sorted(pairs) == sorted(zip(source.tolist(), target.tolist(), strict=True))


def test_a_byte_that_nobody_moves_is_refused():
    """A tile would be read with a hole where no output writes what its LOAD would have brought."""
    buffer = Buffer("t", 4, 8, 1, address=64)
    stored = [block(dram=64, length=24, dims=[])]
    piece = Piece([block(dram=64, length=32, dims=[])], [(buffer, 0, 32)])
    output = Output({}, 24, stored, (buffer, slice(0, 3), 8))
    with pytest.raises(AssertionError, match=r"^8 of 32 bytes .* are not moved into it once$"):
        moves_between([output], [(Tile(0, 32, [piece]), [piece])])


def test_a_resident_tile_keeps_its_place():
    """What stands nowhere else would be lost if a tile that is needed sooner took its place."""
    pad = Scratchpad(64, 8)
    resident, other = Tile(0, 40, [Piece([])], is_resident=True), Tile(0, 40, [Piece([])])
    resident.uses.append(9)
    other.uses.append(1)
    assert pad.place(resident, 0, None)
    assert not pad.place(other, 1, None)
    resident.uses.clear()
    assert pad.place(other, 1, None)
    assert resident.address < 0


@pytest.mark.parametrize("keep", ["outputs", "all"])
@pytest.mark.parametrize("make", [network, lambda rng: branches(rng, 6)], ids=["network", "branches"])
def test_drawn_networks(rng, make, keep):
    """Any byte that is moved too late, to another place or over something that is needed shows in an output."""
    graph, inputs = make(rng)
    size = int(rng.choice([512, 4096]))
    choice = {"activation": size, "weight": size, "pairs": 1}
    stays = interpret(graph, inputs, configuration(**choice, moves=1), keep)
    goes = interpret(graph, inputs, configuration(**choice), keep)
    assert stays.program.counts["move"] > 0 or size < 4096
    if keep == "outputs":
        assert _memory_beats(stays) <= _memory_beats(goes)


@pytest.fixture
def by_traffic(monkeypatch):
    """Let what goes through memory alone decide, so that layers too small to gain cycles are cut, too."""
    monkeypatch.setattr(arrange, "timeline", lambda *_: SimpleNamespace(cycles=0))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.usefixtures("by_traffic")
def test_a_block_in_strips(rng, batch):
    """Tensors larger than the scratchpad would go through memory, or lines between two strips be missing."""
    graph, inputs = residual_block(rng, 8, 14, batch)
    compiled = interpret(graph, inputs, configuration(activation=2048, pairs=1, moves=1))
    size = inputs["x"].size
    beats, counts = compiled.config.beat_bytes, predict(compiled.config, compiled.program)
    # The output, and three records of 64 bytes at most.
    assert counts["write_beats"] * beats <= size + 3 * 64
    # The input with the lines that two strips read, and the constants.
    assert counts["load_beats"] * beats <= 2.6 * size + 1.1 * compiled.host_packed_bytes
    # Constants that were packed for another cut are gone.
    assert len({address for address, _ in compiled.segments}) == len(compiled.segments)


@pytest.mark.usefixtures("by_traffic")
def test_drawn_chains(rng):
    """Strides, padding, dilation and pooling each decide otherwise which lines a strip needs, and when."""
    graph, inputs = network(rng)
    for size in (256, 512, 1024):
        interpret(graph, inputs, configuration(rows=4, cols=4, activation=size, weight=2048, pairs=1, moves=1))


def test_a_cut_is_never_slower(rng):
    """A network would lose cycles by what is meant to spare memory."""
    graph, inputs = residual_block(rng, 16, 20)
    choice = {"activation": 8192, "pairs": 1}
    stays, goes = (interpret(graph, inputs, configuration(**choice, moves=moves)) for moves in (1, 0))
    assert stays.program.counts["move"] > 0
    assert _memory_beats(stays) < _memory_beats(goes)
    # On the same hardware; without MOVEs layers are cut otherwise, since beats of memory have no price there.
    stored = interpret(graph, inputs, configuration(**choice, moves=1), "all")
    assert stored.program.counts["move"] == 0
    assert predict(stays.config, stays.program)["cycles"] <= predict(stored.config, stored.program)["cycles"]
