"""MOVEs on the interpreter: what they copy, and the races between them and the other queues."""

import numpy as np
import pytest
from random_workloads import configuration

from pearray.compiler.cells import ProgramError
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import Program
from pearray.compiler.validate import validate
from pearray.hdl.errors import PearrayError
from pearray.hdl.row_stationary.config import RowStationaryConfig
from pearray.hdl.shell.commands import Parameter
from pearray.hdl.shell.config import Array, Memory, OutputScratchpads
from pearray.hdl.systolic.commands import Destination

COPY = {"length": 16, "count1": 1, "count2": 1}
EXECUTE = {"m_count0": 8, "m_count1": 1, "m_count2": 1, "k_total": 2, "run": 2, "run_count": 1, "n_count": 1,
           "first": 1}
POST = {"n_count": 1, "m_count": 8, "out_mstep": 32}


def _run(program, config):
    machine = interpreter(config, 4096)
    encoded = program.encode()
    validate(encoded, queues=config.commands.queues)
    machine.write([(0, encoded)])
    return machine, machine.run(0)


def _begin(config):
    """Program of two LOADs, an EXECUTE that reads both, and a POST of what it sums."""
    program = Program(config.commands)
    program.load({}, **COPY, dram=1024)
    program.load({}, **COPY, dram=1024, destination=Destination.WEIGHT.value)
    program.execute({"load": 2}, **EXECUTE)
    program.post({"execute": 1}, **POST)
    return program


@pytest.mark.parametrize("destination", [Destination.ACTIVATION, Destination.WEIGHT])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_are_copied(rng, destination, bits):
    """The compiler would be judged by a model whose MOVEs copy other rows than the format says."""
    config = configuration(bits=bits, moves=1)
    item = bits // 8
    machine = interpreter(config, 4096)
    output = machine._out[:] = rng.integers(0, 256, machine._out.size, dtype=np.uint8)
    expected = machine._bytes[destination].copy()
    body = {"destination": destination.value, "length": 11 * item, "count1": 3, "count2": 2, "address": 101 * item,
            "step1": 40 * item, "step2": (1 << 20) - 17 * item, "target": 999 * item, "target_step1": 50 * item,
            "target_step2": 13 * item}
    for second in range(2):
        for first in range(3):
            source = (101 + 40 * first - 17 * second) * item
            target = (999 + 50 * first + 13 * second) * item
            expected[target:target + 11 * item] = output[source:source + 11 * item]
    program = Program(config.commands)
    program.move({}, **body)
    machine.write([(0, program.encode())])
    assert machine.run(0) == 1
    np.testing.assert_array_equal(machine._bytes[destination], expected)


def _no_wait_for_post(program):
    program.move({}, **COPY)


def _no_wait_for_a_fill(program):
    program.load({"execute": 1}, **COPY, fill=1)
    program.move({"post": 1}, **COPY)


def _no_wait_for_reads(program):
    program.move({"post": 1}, **COPY)
    program.execute({"move": 1}, **EXECUTE, bank=1)
    program.move({"post": 1}, **COPY)


def _no_wait_by_execute(program):
    program.move({"post": 1}, **COPY)
    program.execute({"load": 2}, **EXECUTE, bank=1)


def _no_wait_by_post(program):
    program.move({"post": 1}, **COPY)
    program.post({"execute": 1}, **POST)


def _no_wait_by_load(program):
    program.move({"post": 1}, **COPY)
    program.load({"execute": 1}, **COPY, fill=1)


@pytest.mark.parametrize(("wrong", "message"), [
    (_no_wait_for_post, "command 4: move command 1 reads output that post command 1 writes, but waits only for 0"),
    (_no_wait_for_a_fill, "command 5: move command 1 overwrites activation that load command 3 writes, but waits only "
                          "for 2"),
    (_no_wait_for_reads, "command 6: move command 2 overwrites activation that execute command 2 reads, but waits only "
                         "for 1"),
    (_no_wait_by_execute, "command 5: execute command 2 reads activation that move command 1 writes, but waits only "
                          "for 0"),
    (_no_wait_by_post, "command 5: post command 2 overwrites output that move command 1 reads, but waits only for 0"),
    (_no_wait_by_load, "command 5: load command 3 overwrites activation that move command 1 writes, but waits only "
                       "for 0"),
])
def test_races_are_found(wrong, message):
    """A wait that the compiler leaves out would pass here and give wrong outputs on hardware now and then."""
    config = configuration(moves=1)
    program = _begin(config)
    wrong(program)
    with pytest.raises(ProgramError, match=rf"^{message}$"):
        _run(program, config)


def test_waits_that_suffice():
    """A program without a race must not be refused, or the compiler would have to wait for too much."""
    config = configuration(moves=1)
    program = _begin(config)
    program.load({"execute": 1}, **COPY, fill=1)
    program.move({"post": 1, "load": 3}, **COPY)
    program.post({"execute": 1, "move": 1}, **POST)
    program.execute({"move": 1, "post": 2}, **EXECUTE)
    program.load({"execute": 2, "move": 1}, **COPY, fill=1)
    program.store({"post": 2}, **COPY, dram=2048)
    assert _run(program, config)[1] == 10


@pytest.mark.parametrize(("body", "bits", "message"), [
    (COPY | {"destination": Parameter.BIAS.value}, 8, "no MOVE to memory .*2.* in this kind of array"),
    (COPY | {"count2": 0}, 8, "move of nothing"),
    (COPY | {"address": 4090}, 8, "output has 4096 cells, address 4105 is outside"),
    (COPY | {"target": 16380}, 8, "activation has 16384 cells, address 16395 is outside"),
    (COPY | {"target": 3}, 16, "address and target of a row must be equal modulo 2"),
])
def test_what_is_refused(body, bits, message):
    """Hardware would lose bytes, hang, or copy others, and nobody would say why."""
    config = configuration(bits=bits, moves=1)
    program = Program(config.commands)
    program.move({}, **body)
    with pytest.raises(ProgramError, match=rf"^command 0: {message}$"):
        _run(program, config)


def test_a_kind_without_moves_says_so():
    """A key without effect would make a program that no hardware runs."""
    with pytest.raises(PearrayError, match=r"^scratchpads.moves and post.softmax must be 0 with array.operand_bits = "
                                           r"16, not 1 and 0$"):
        RowStationaryConfig(name="test", array=Array(rows=4, cols=4, operand_bits=16), memory=Memory(data_width=64),
                            scratchpads=OutputScratchpads(moves=1))
    with pytest.raises(ValueError, match=r"^MOVE is no command of this configuration$"):
        Program(configuration().commands).move({}, **COPY)
    assert not configuration().has_moves
