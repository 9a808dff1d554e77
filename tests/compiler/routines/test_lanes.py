"""The functional model of lanes against another, instruction by instruction and slot by slot."""

import numpy as np
import pytest
from routine_commands import COMPUTING, Model, command, config, draw_routine, draw_vectors, dump

from pearray.compiler.cells import ProgramError
from pearray.compiler.routine_posts import Routines
from pearray.hdl.routines.instructions import INSTRUCTION_BYTES, Operation


def memories(target, routine, vectors):
    """Memories that hold a routine and vectors, by their numbers."""
    code = np.zeros(2048, np.uint8)
    stored = np.frombuffer(b"".join(each.encode() for each in routine), np.uint8)
    code[:stored.size] = stored
    return {target.commands.destination[name].value: each for name, each in (("ROUTINE", code), ("VECTOR", vectors))}


@pytest.mark.parametrize(("form", "lanes"), [("bfloat16", 2), ("float8_e5m2", 4)])
def test_every_instruction_is_that_of_the_other_model(rng, form, lanes):
    """An effect, an address or a register that this model has for itself would let a wrong program pass."""
    target = config(lanes=lanes, operands=form)
    ours, model = Routines(target), Model(target)
    for _ in range(12):
        operations = rng.permutation(np.array(COMPUTING, object)).tolist()
        routine = [*draw_routine(rng, operations, Operation.DIV), *dump()]
        vectors = draw_vectors(rng, target)
        model.vectors[:], model.written[:] = vectors, -1
        held = memories(target, routine, vectors)
        model.routines[:] = held[target.commands.destination["ROUTINE"].value]
        count = len(routine) - len(dump())
        for first, number in ((0, count), (count, len(dump()))):
            body = command(rng, target, first, number)
            body["rounding"] = 0
            _, places, values = ours.run(held, body)
            model.written[:] = -1
            model.run(body)
            written = np.full(model.written.size, -1)
            written[places % written.size] = values
            assert set(np.flatnonzero(model.written >= 0)) == set(places % written.size)
        assert (ours._lanes.registers == model.registers.transpose(2, 0, 1)).all()


def test_fields_that_a_routine_does_not_have_are_refused(rng):
    """A command that hardware forbids must not pass the model that judges programs."""
    target = config()
    ours, held = Routines(target), memories(target, dump(), np.zeros(2048, np.uint8))
    fine = command(rng, target, 0, 4) | {"rounding": 0}
    ours.run(held, fine)
    for field, value, message in (("bias", 1, "bias must be zero with routine"),
                                  ("m_count", 17, r"m_count must be in 1\.\.16 with routine, not 17"),
                                  ("scale_nstep", 0, "a routine must have 1 to 256 instructions")):
        with pytest.raises(ProgramError, match=message):
            ours.run(held, fine | {field: value})
    code = held[target.commands.destination["ROUTINE"].value]
    code[INSTRUCTION_BYTES] = 63
    with pytest.raises(ProgramError, match="instruction: 63 is not a valid Operation"):
        ours.run(held, fine)
