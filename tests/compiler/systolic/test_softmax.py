"""Softmax and rescaled sums on the interpreter: attention as golden computes it, races, and what commands exclude."""

import numpy as np
import pytest
from attention_program import OUTPUTS, PROGRAM, AttentionCase
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import configuration

from pearray.compiler.cells import ProgramError
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import Program
from pearray.compiler.validate import validate
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode, Parameter, Rounding
from pearray.hdl.systolic.commands import Destination

SEED = st.integers(0, 1 << 32)


def _target(rows=4, cols=8, lanes=2):
    return configuration(rows=rows, cols=cols, lanes=lanes, depth=64, channels=1024, moves=1, softmax=1)


def _run(case, program=None):
    """Run a case, or another program on its memory."""
    machine = interpreter(case.config, OUTPUTS + 0x4000)
    machine.write(case.segments())
    if program is not None:
        encoded = program.encode()
        validate(encoded, queues=case.config.commands.queues)
        machine.write([(PROGRAM, encoded)])
    machine.run(PROGRAM)
    return case.read(machine.read)


@settings(max_examples=60)
@given(st.sampled_from(((4, 8, 2), (8, 8, 8), (8, 4, 1), (3, 6, 2))), SEED)
def test_attention_equals_golden(shape, number):
    """If it failed, the model that judges hardware and compiler would give fields another meaning than golden."""
    case = AttentionCase.drawn(np.random.default_rng(number), _target(*shape))
    np.testing.assert_array_equal(_run(case), case.expected)


def _first(case, opcode, field):
    """Place of the first command of a queue that has a field set."""
    return next(place for place, command in enumerate(case.program().commands)
                if command.opcode is opcode and command.body.get(field))


def _case(rng, blocks=4, **options):
    target = _target()
    q, k, v = (rng.integers(-128, 128, shape).astype(np.int8)
               for shape in ((1, 4, 5), (1, 8 * blocks, 5), (1, 8 * blocks, 6)))
    scales = {"q_scale": 0.01, "k_scale": 0.05, "v_scale": 0.04, "y_scale": 0.03, "causal": False, "two_bytes": False,
              "offset": 0, "window": None, "lengths": None}
    return AttentionCase(target, q, k, v, scales | options, 4)


@pytest.mark.parametrize(("waits", "again", "message"), [
    ({"move": 1}, 2, None),
    ({}, 2, "execute command 2 reads shifts that post command 1 writes"),
    # A POST is given back to an EXECUTE as soon as it has read its sums: it may have shifts yet to write.
    ({"post": 1}, 2, "execute command 2 reads shifts that post command 1 writes"),
    ({"move": 1}, 1, "post command 2 overwrites shifts that execute command 2 reads"),
])
def test_races_of_shifts_are_found(waits, again, message):
    """If it failed, an EXECUTE could rescale by the shifts of another block, unseen."""
    target = _target()
    program = Program(target.commands)
    for destination in (Destination.ACTIVATION, Destination.WEIGHT):
        program.load({}, destination=destination.value, dram=1024, length=256, count1=1, count2=1)
    program.load({}, destination=Parameter.SCALE.value, dram=1024, length=64, fill=1, count1=1, count2=1)
    execute = {"m_count0": 4, "m_count1": 1, "m_count2": 1, "n_count": 1, "k_total": 4, "run": 4, "run_count": 1,
               "first": 1, "m_step0": 4, "w_pitch": 8}
    post = {"rounding": Rounding.ONNX, "softmax": 1, "opens": 1, "n_count": 1, "m_count": 4, "acc_nstep": 8,
            "out_mstep": 8, "high": 0x3F80}
    program.execute({"load": 3}, **execute)
    program.post({"execute": 1, "load": 3}, **post)
    program.move({"post": 1}, destination=Destination.ACTIVATION.value, target=512, length=32, count1=1, count2=1)
    program.execute(waits, **execute, bank=1, rescale=1)
    program.post({"execute": again}, **post)
    machine = interpreter(target, 4096)
    machine.write([(0, program.encode())])
    if message is None:
        machine.run(0)
    else:
        with pytest.raises(ProgramError, match=message):
            machine.run(0)


@pytest.mark.parametrize(("opcode", "flag", "fields", "message"), [
    (Opcode.POST, "softmax", {"n_count": 2}, "softmax needs n_count = 1"),
    (Opcode.POST, "softmax", {"low_byte": 1}, "low_byte needs two_bytes"),
    (Opcode.POST, "softmax", {"table": 1}, "table must be zero with softmax"),
    (Opcode.POST, "softmax", {"zero_point": 3}, "zero_point must be zero with softmax"),
    (Opcode.POST, "softmax", {"normalise": 1}, "normalise must be zero with softmax"),
    (Opcode.POST, "softmax", {"rounding": 0}, "rounding must be ONNX with softmax"),
    (Opcode.POST, "softmax", {"out_nstep": 61}, "there are 64 states, 64 is outside"),
    (Opcode.POST, "softmax", {"scale_nstep": 61}, "there are 64 shifts, 64 is outside"),
    (Opcode.POST, "softmax", {"low": 0, "high": 0}, "factor must be in"),
    (Opcode.POST, "normalise", {"per_channel": 1}, "per_channel must be zero with normalise"),
    (Opcode.POST, "normalise", {"rounding": 2}, "rounding must be ONNX with normalise"),
    (Opcode.POST, "normalise", {"scale_base": 61}, "there are 64 quotients, 64 is outside"),
    (Opcode.EXECUTE, "rescale", {"maximum": 1}, "maximum must be zero with rescale"),
    (Opcode.EXECUTE, "rescale", {"diagonal": 1, "k_total": 4, "run": 4}, "diagonal must be zero with rescale"),
    (Opcode.EXECUTE, "rescale", {"shift_base": 61}, "there are 64 shifts, 64 is outside"),
])
def test_commands_exclude(rng, opcode, flag, fields, message):
    """If it failed, the compiler could ask hardware for what it does not do."""
    case = _case(rng)
    place, commands = _first(case, opcode, flag), list(case.program().commands)
    commands[place].body.update(fields)
    with pytest.raises(ProgramError, match=message):
        _run(case, Program.of(case.config.commands, commands))


def test_fields_are_there_with_softmax_only():
    """If it failed, configurations without softmax would pay for it, or programs for them would be others."""
    with_it, without = _target().commands, configuration(moves=1).commands
    for opcode, count in ((Opcode.POST, 6), (Opcode.EXECUTE, 3)):
        own, other = (list(each._body_places(opcode)) for each in (with_it, without))
        assert [name for name in own if name in other] == other
        assert len(own) - len(other) == count
    assert with_it.execute is not without.execute
    assert len(with_it.encode(Opcode.END, {}, {})) == COMMAND_BYTES
