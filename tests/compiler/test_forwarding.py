"""Tensors that stay on chip between parts of a program that were made apart, and borders between these."""

import numpy as np
import pytest
from encoder_layers import layer_array
from random_workloads import configuration, interpret

from pearray.compiler.dependences import Stored
from pearray.compiler.forwarding import Scratchpads, forwarded
from pearray.compiler.hazards import Hazards, Region
from pearray.compiler.kernels.views import Buffer
from pearray.compiler.moves import copied
from pearray.compiler.program import Program
from pearray.compiler.program_step import joined
from pearray.compiler.sharing import same_tiles, use_of
from pearray.compiler.steps import Group, Piece, Tile, Use
from pearray.compiler.systolic.steps import ContractionStep
from pearray.compiler.transfers import block
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.workloads.workload import load_workload

#: Where a tensor of 8 bytes stands in memory between two parts, and where constants and outputs do.
_BETWEEN, _CONSTANTS, _RESULT = 1000, 0, 2000
_PADS = Scratchpads({0: 64 * 2, 1: 64 * 2}, {"a_base": 0, "w_base": 1}, 1, has_moves=True)


class _Part:
    """A part of a program, command by command."""

    def __init__(self):
        self.program = Program(configuration(moves=1).commands)
        self._hazards = Hazards(self.program)

    def load(self, dram, address, length=8):
        self._hazards.emit(Opcode.LOAD, block(dram=dram, address=address, length=length, dims=[]),
                           writes=[Region("activation", address, address + length)])

    def load_scale(self):
        self._hazards.emit(Opcode.LOAD, {"destination": 3} | block(dram=_CONSTANTS, length=8, dims=[]),
                           writes=[Region("scale", 0, 1)])

    def compute(self, address, dram, length=8):
        self._hazards.emit(Opcode.EXECUTE, {"a_base": address}, [Region("activation", address, address + length)],
                           [Region("sums", 0, 1)])
        self._hazards.emit(Opcode.POST, {}, [Region("sums", 0, 1)], [Region("output", 0, 8)])
        self._hazards.emit(Opcode.STORE, block(dram=dram, length=8, dims=[]), [Region("output", 0, 8)])


def _forwarded(*parts, wanted=()):
    programs = [part.program for part in parts]
    whole = joined(programs, programs[0].format)
    return forwarded(whole, [program.length for program in programs], _PADS, wanted)


def _maker():
    part = _Part()
    part.load(_CONSTANTS, 0)
    part.compute(0, _BETWEEN)
    return part


def _reader(address=0):
    part = _Part()
    part.load(_BETWEEN, address)
    part.compute(address, _RESULT)
    part.program.mark("dram", "position")
    return part


def _of(program, opcode):
    return [command for command in program.commands if command.opcode is opcode]


def test_what_is_stored_and_loaded_again_is_moved():
    """A tensor would go through memory, or whoever reads it would not wait for the MOVE."""
    program = _forwarded(_maker(), _reader())
    (move,), (first, second) = _of(program, Opcode.MOVE), _of(program, Opcode.EXECUTE)
    assert [command.body["dram"] for command in _of(program, Opcode.LOAD)] == [_CONSTANTS]
    assert [command.body["dram"] for command in _of(program, Opcode.STORE)] == [_RESULT]
    # Places of the second part stand behind those of the first.
    assert (first.body["a_base"], second.body["a_base"], move.body["target"]) == (0, 64, 64)
    assert (move.waits["post"], first.waits["move"], second.waits["move"]) == (1, 0, 1)
    (mark,) = program.marks
    assert program.commands[mark.place].body["dram"] == _RESULT


def test_an_output_that_was_read_goes_only_when_it_has_been_moved():
    """A POST would write over an output that waits to be moved."""
    maker = _maker()
    maker.compute(0, _BETWEEN + 8)
    program = _forwarded(maker, _reader())
    assert _of(program, Opcode.POST)[1].waits["move"] == 1


@pytest.mark.parametrize("what", ["wanted", "used", "half"])
def test_what_cannot_stay_goes_through_memory(what):
    """What the host reads would be missing; a place that is in use, or bytes that nobody makes, would be wrong."""
    wanted, reader = [], _reader()
    if what == "wanted":
        wanted = [Buffer("t", 1, 8, 1, address=_BETWEEN)]
    elif what == "used":
        reader = _Part()
        reader.load(_CONSTANTS, 0)
        reader.compute(0, _RESULT)
        reader.load(_BETWEEN, 0)
        reader.compute(0, _RESULT)
    else:
        reader.load(_BETWEEN, 0, 16)
        reader.compute(0, _RESULT, 16)
    program = _forwarded(_maker(), reader, wanted=wanted)
    assert _of(program, Opcode.STORE)[0].body["dram"] == _BETWEEN
    loads = [command for command in _of(program, Opcode.LOAD) if command.body["dram"] == _BETWEEN]
    assert loads
    assert loads[-1].waits["store"] == 1


def test_loads_behind_a_border_wait_for_what_they_need():
    """Weights would come late that might have come before, or over what the part before still reads."""
    maker, reader = _Part(), _Part()
    maker.load(_CONSTANTS, 0, 100)
    maker.compute(0, _RESULT, 100)
    reader.load(_CONSTANTS, 100)
    reader.load(_CONSTANTS, 0)
    reader.load_scale()
    reader.compute(0, _RESULT + 8)
    beside, over, scale = _of(_forwarded(maker, reader), Opcode.LOAD)[1:]
    assert not any(beside.waits.values())
    assert (over.waits["execute"], over.waits["post"], over.waits["store"]) == (1, 0, 0)
    assert (scale.waits["execute"], scale.waits["post"]) == (0, 1)


def _steps(*tiles):
    weights = Tile(1, 8, [Piece([])])
    return [ContractionStep(Group([]), Use(tile, 1), Use(weights, 1), {}) for tile in tiles]


def test_tiles_that_hold_the_same_are_one():
    """A tensor would be loaded for each of its readers, or a reader of another would read it."""
    first, second = Buffer("a", 1, 16, 1, address=0), Buffer("b", 1, 16, 1, address=0)

    def tile(*cuts, buffer=first, dram=0):
        return Tile(0, 16, [Piece([block(dram=dram + at, address=at, length=end - at, dims=[])], [(buffer, at, end)])
                            for at, end in zip((0, *cuts), (*cuts, 16), strict=True)])

    whole, cut, other, behind = tile(), tile(4), tile(buffer=second), tile(dram=16)
    same = same_tiles(_steps(cut, whole, other, behind))
    assert same == {id(whole): cut}
    assert (use_of(cut, Use(whole, 1)).tile, use_of(cut, Use(whole, 1)).pieces) == (cut, 2)


@pytest.mark.parametrize("sizes", ["13,24,2,40", "24,32,4,64"])
def test_encoder_layers_stay_on_chip(sizes):
    """A tensor between two operators would go through memory, or weights or the input more often than they must."""
    config = layer_array()
    workload = load_workload(f"encoder-layer:{sizes}", 0, {}, config)
    compiled = interpret(workload.graph, workload.inputs, config, effort=0)
    commands = compiled.program.commands
    stored = Stored(commands)
    assert not stored.reloads
    (output,) = compiled.outputs.values()
    stores = [command.body for command in _of(compiled.program, Opcode.STORE) if not command.body.get("profile")]
    assert sum(copied(body, "dram").size for body in stores) == output.nbytes
    loads = [command.body for command in _of(compiled.program, Opcode.LOAD) if not command.body.get("fill")]
    moved = sum(copied(body, "dram").size for body in (*loads, *stores)) + len(commands) * COMMAND_BYTES
    once = np.unique(np.concatenate([copied(body, "dram") for body in loads])).size
    assert moved <= 1.1 * (once + output.nbytes + len(commands) * COMMAND_BYTES)
