# amaranth: UnusedElaboratable=no
"""Routines in the engine of post-processing, against the table of instructions in NumPy."""

import numpy as np
import pytest
from post_commands import random_sums, run
from routine_commands import COMPUTING, Model, command, config, draw_routine, draw_vectors, dump
from slow import slow

from pearray.hdl.routines.instructions import INSTRUCTIONS, SLOTS, Operation


def check(rng, target, routines, commands, **options):
    """Run commands on the engine, and compare every byte that it has written, and how often."""
    model = Model(target)
    model.vectors[:] = draw_vectors(rng, target)
    stored = np.frombuffer(b"".join(each.encode() for each in routines), np.uint8)
    model.routines[:len(stored)] = stored
    destination = target.commands.destination
    memories = {destination["VECTOR"]: model.vectors, destination["ROUTINE"]: model.routines}
    for each in commands:
        model.run(each)
    written, seen = run(rng, target, random_sums(rng, target), memories, commands, **options)
    wrong = np.flatnonzero(written != model.written)
    assert not len(wrong), f"{len(wrong)} bytes wrong, first {wrong[0]}: {written[wrong[0]]}, not {model.written[wrong[0]]}"
    assert seen["output_writes"] == model.groups
    return model, seen


@pytest.mark.parametrize(("lanes", "operands", "data_width"), [
    (2, "bfloat16", 64), (1, "float8_e4m3fn", 32), slow(4, "float16", 64), slow(2, "float8_e5m2", 256),
])
def test_drawn_routines(rng, lanes, operands, data_width):
    """Every operation on every register, from any place to any other: a wrong delay, slot, lane or bit shows."""
    target = config(lanes, operands=operands, data_width=data_width)
    short = [each for each in COMPUTING if each not in (Operation.DIV, Operation.SQRT)]
    routines, commands = [], []
    for long in (Operation.DIV, Operation.SQRT):
        drawn = draw_routine(rng, [short[place] for place in rng.permutation(len(short))], long)
        commands.append(command(rng, target, len(routines), len(drawn)))
        routines += drawn
    commands.append(command(rng, target, len(routines), len(dump()), n_count=1, m_count=SLOTS))
    check(rng, target, routines + dump(), commands)
