"""Compiled operators on the functional model, and what the mapper makes of the memories."""

import numpy as np
import pytest
from dot_array.commands import Destination
from dot_array.parts import Mapping
from dot_cases import OPERATORS, compiled, load, operands

import pearray as pe
from pearray.hdl.shell.commands import Opcode

ARRAYS = [(8, 8), (1, 8), (16, 8), (4, 32)]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("maker", OPERATORS, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize("room", ["least", "plenty"])
def test_operators(maker, array, room, rng):
    """Any shape, with memories of a few lines or of many, is bit for bit what golden says; the model finds races."""
    units, products = array
    config = load(array__rows=units, array__cols=products)
    if room == "least":
        config = load(array__rows=units, array__cols=products, accumulators__depth=4, scratchpads__channels=16,
                      scratchpads__activation_bytes=max(64, 8 * products), scratchpads__output_bytes=64,
                      scratchpads__weight_bytes=max(64, 4 * units * products))
    for _ in range(4):
        operator, tensors, constants = maker(rng)
        compiled(operator, tensors, config, constants)


def _mapping(found):
    (layer,) = found.layers
    return Mapping(**layer.notes)


def test_sums_are_cut_when_tiles_do_not_fit(rng):
    """Channels, then rows, then columns of a filter: a cut that no test makes is one that nobody knows to be right."""
    x, w = operands(rng, 1, 24, 9, 9), operands(rng, 1, 24, 5, 5)
    cut = {}
    for room in (65536, 1024, 256, 64):
        mapping = _mapping(compiled(pe.Conv2d(), {"x": x, "w": w}, load(
            array__rows=1, scratchpads__weight_bytes=room)))
        cut[room] = mapping.rows, mapping.columns, mapping.channels
    assert cut == {65536: (5, 5, 24), 1024: (5, 5, 16), 256: (3, 5, 8), 64: (1, 3, 8)}


def test_few_channels_share_lines(rng):
    """Three channels of a 3 x 3 filter are nine operands of a line and a bit, not three lines of three."""
    x, w = operands(rng, 2, 3, 20, 21), operands(rng, 8, 3, 3, 3)
    found = compiled(pe.Conv2d(padding=(1, 2, 0, 1)), {"x": x, "w": w}, load(post__lanes=8))
    executes = [command.body for command in found.program.commands if command.opcode is Opcode.EXECUTE]
    assert {(body["count_t0"], body["count_t1"], body["count_t2"]) for body in executes} == {(1, 0, 2)}
    # A filter without columns has nothing to share.
    found = compiled(pe.Conv2d(), {"x": x, "w": w[..., :1]}, load(post__lanes=8))
    assert all(command.body["count_t0"] == 0 for command in found.program.commands if command.opcode is Opcode.EXECUTE)


def test_weights_are_packed_once(rng):
    """The host packs each weight once, with padding to whole lines; what all channels share it packs once for all."""
    config = load()
    dense = compiled(pe.Conv2d(), {"x": operands(rng, 1, 13, 10, 10), "w": operands(rng, 20, 13, 1, 3)}, config)
    assert dense.host_packed_bytes == 24 * -(-3 * 13 // 8) * 8
    x = operands(rng, 1, 12, 10, 10)
    each = compiled(pe.Conv2d(groups=12), {"x": x, "w": operands(rng, 12, 1, 3, 3)}, config)
    assert each.host_packed_bytes == 2 * 9 * 64
    pool = compiled(pe.MaxPool2d(3), {"x": x}, config)
    assert pool.host_packed_bytes == 64 + 8


def test_transposed_operands_come_one_by_one(rng):
    """A line wants consecutive operands. Memory has them apart, so each is a row of its own; nobody copies them."""
    a, b = operands(rng, 16, 24), operands(rng, 24, 8)
    config = load()

    def rows(memory, operator, tensors):
        return sum(command.body["count1"] * command.body["count2"]
                   for command in compiled(operator, tensors, config, []).program.commands
                   if command.opcode is Opcode.LOAD and command.body["destination"] == memory)

    assert rows(Destination.ACTIVATION, pe.Gemm(), {"a": a, "b": b}) <= 16
    assert rows(Destination.WEIGHT, pe.Gemm(), {"a": a, "b": b}) <= 24
    assert rows(Destination.ACTIVATION, pe.Gemm(trans_a=True), {"a": a.T.copy(), "b": b}) == 16 * 24
    assert rows(Destination.WEIGHT, pe.Gemm(trans_b=True), {"a": a, "b": b.T.copy()}) == 24 * 8


def test_loads_run_beside_commands(rng):
    """With half of a scratchpad for the tiles in use, those of the next step are loaded while this one computes."""
    found = compiled(pe.Gemm(), {"a": operands(rng, 64, 256), "b": operands(rng, 256, 64)}, load(), [])
    executes = 0
    waiting = []
    for command in found.program.commands:
        if command.opcode is Opcode.LOAD and executes:
            waiting.append(command.waits["execute"] < executes)
        executes += command.opcode is Opcode.EXECUTE
    assert waiting
    assert all(waiting)


@pytest.mark.parametrize(("overrides", "message"), [
    ({"array__rows": 32, "scratchpads__output_bytes": 64},
     r"^Gemm: scratchpads.output_bytes must be at least 128 to hold 32 outputs of 4 bytes, not 64$"),
    ({"array__rows": 32, "scratchpads__channels": 16},
     r"^Gemm: scratchpads.channels must be at least array.rows = 32, not 16$"),
])
def test_what_does_not_fit_is_named(overrides, message, rng):
    """A memory that is too small must be told by its key, with what it needs."""
    tensors = {"a": operands(rng, 3, 4), "b": operands(rng, 4, 5), "c": np.zeros(5, np.int32)}
    with pytest.raises(pe.PearrayError, match=message):
        compiled(pe.Gemm(), tensors, load(**overrides), ["b", "c"])


def test_fixed_point_is_refused(rng):
    """An array of integers must not take an operator of another arithmetic."""
    a = operands(rng, 2, 2).astype(np.int16)
    with pytest.raises(pe.PearrayError, match=r"^requant must be None or a Requant on a dot array of 8 bits, not "):
        compiled(pe.Gemm(requant=pe.FixedPoint(9)), {"a": a, "b": a}, load())
