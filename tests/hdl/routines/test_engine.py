# amaranth: UnusedElaboratable=no
"""Routines in the engine of post-processing, against the table of instructions in NumPy."""

import numpy as np
import pytest
from float_draws import FLOAT32, from_bits, to_bits
from post_commands import DEPTH, random_sums, run
from routine_commands import (
    COMPUTING,
    Model,
    command,
    config,
    draw_instruction,
    draw_routine,
    draw_vectors,
    dump,
    fill,
)
from slow import slow

from pearray.hdl.routines.engine import RoutineEngine
from pearray.hdl.routines.instructions import SLOTS, Instruction, Operation
from pearray.hdl.shell.commands import Rounding


def check(rng, target, routines, commands, **options):
    """Run commands on the engine, and compare every byte that it writes, and after how many writes each is done."""
    model, sums = Model(target), random_sums(rng, target) & 0xFFFFFFFF
    model.vectors[:] = draw_vectors(rng, target)
    stored = np.frombuffer(b"".join(each.encode() for each in routines), np.uint8)
    model.routines[:len(stored)] = stored
    destination = target.commands.destination
    memories = {destination["VECTOR"]: model.vectors, destination["ROUTINE"]: stored}
    writes = []
    for each in commands:
        if each["routine"]:
            model.run(each)
        else:
            model.groups += len(stored_sums(target, sums, each, model.written))
        writes.append(model.groups)
    written, seen = run(rng, target, sums, memories, commands, cycles=100_000, **options)
    wrong = np.flatnonzero(written != model.written)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first {wrong[0]}: {written[wrong[0]]}, "
                            f"not {model.written[wrong[0]]}")
    assert seen["done"] == writes, "a command was not done after its own last write"
    assert seen["output_writes"] == model.groups
    return seen


def stored_sums(target, sums, each, written):
    """Write what a command makes of sums that have neither biases nor bounds; return its groups."""
    lanes, raw = target.post.lanes, each["rounding"] == Rounding.NONE
    size, rows = 4 if raw else target.operand_bytes, []
    for row in range(each["m_count"]):
        values = from_bits(sums[each["bank"], (each["acc_base"] + row) % DEPTH].astype(np.uint32), FLOAT32)
        # A bias of zero is added.
        values = np.where(values == 0, np.float32(0), values)
        bits = to_bits(values) if raw else to_bits(values, target.arithmetic.format)
        places = (each["out_base"] + row * each["out_mstep"] + np.arange(len(bits) * size)) % len(written)
        written[places] = bits.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :size].ravel()
        rows += range(len(bits) // lanes)
    return rows


def of_sums(rng, target):
    """Draw a command that writes rows of sums, or their roundings."""
    raw, row = bool(rng.integers(2)), target.sum_columns * 4
    return {"rounding": Rounding.NONE if raw else Rounding.ONNX, "routine": 0, "bank": int(rng.integers(2)),
            "n_count": 1, "m_count": int(rng.integers(1, 12)), "acc_base": int(rng.integers(DEPTH)),
            "out_base": int(rng.integers(target.scratchpads.output_bytes // row)) * row, "out_mstep": row}


@pytest.mark.parametrize(("lanes", "operands", "data_width"), [
    (2, "bfloat16", 64), slow(1, "float8_e4m3fn", 32), slow(4, "float16", 64), slow(2, "float8_e5m2", 256),
])
def test_drawn_routines(rng, lanes, operands, data_width):
    """Every operation on every register, from any place to any other: a wrong delay, slot, lane or bit shows."""
    target = config(lanes, operands=operands, data_width=data_width)
    short = [each for each in COMPUTING if each not in (Operation.DIV, Operation.SQRT)] + [Operation.SELECT] * 2
    routines = fill(rng)
    commands = [command(rng, target, 0, len(routines), n_count=1, m_count=SLOTS)]
    for long in (Operation.DIV, Operation.SQRT):
        drawn = draw_routine(rng, [short[place] for place in rng.permutation(len(short))], long)
        commands.append(command(rng, target, len(routines), len(drawn), n_count=2))
        routines += drawn
    commands.append(command(rng, target, len(routines), len(dump()), n_count=1, m_count=SLOTS))
    check(rng, target, routines + dump(), commands)


@pytest.mark.parametrize(("lanes", "cols", "operands", "data_width", "stalls"), [
    (1, 4, "float8_e4m3fn", 32, False), slow(2, 4, "bfloat16", 64, True), slow(8, 8, "float8_e4m3fn", 32, False),
    slow(1, 4, "float16", 512, True),
])
def test_routines_among_sums(rng, lanes, cols, operands, data_width, stalls):
    """A command that begins before one of the other kind is done would write under it, or be done out of turn."""
    target = config(lanes, cols, operands, data_width, output_bytes=8192)
    routine = [draw_instruction(rng, operation) for operation in (
        Operation.LOAD_NARROW, Operation.INDEX, Operation.MUL, Operation.STORE_NARROW, Operation.STORE_WORD)]
    kinds = [1, 0, 0, 1, 1, 0, *rng.integers(0, 2, 4).tolist()]
    commands = [command(rng, target, int(rng.integers(3)), 2, n_count=1) if kind else of_sums(rng, target)
                for kind in kinds]
    commands.append(command(rng, target, 0, len(routine), n_count=2))
    check(rng, target, routine, commands, stalls=stalls)


def test_time(rng):
    """The compiler reads here how long a routine takes, and the watchdog how long one may."""
    target = config()
    routine = [Instruction(op=each) for each in (Operation.SET, Operation.DIV, Operation.MIX, Operation.STORE_WORD)]
    body = command(rng, target, 0, len(routine), n_count=2, m_count=1)
    seen = check(rng, target, routine, [body])
    assert seen["done_cycles"][0] - seen["accepted_cycles"][0] == RoutineEngine.cycles_of(2, routine)


@pytest.mark.parametrize(("fields", "message"), [
    ({"bias_mstep": 1}, "routine_fields: a field that a routine has not is not zero"),
    ({"release": 1}, "routine_fields: a field that a routine has not is not zero"),
    ({"scale_nstep": 0}, "routine_counts"),
    ({"m_count": SLOTS + 1}, "routine_counts"),
    ({"out_base": 4}, "routine_outputs: out_base is no multiple of lanes"),
    ({"scale_base": 1}, "instruction: an instruction's operation is none"),
])
def test_what_commands_may_not_say_breaks_a_rule(rng, fields, message):
    """What hardware would take for something else must be seen where a program is run, not in its outputs."""
    target = config()
    stored = np.frombuffer(Instruction(op=Operation.SET).encode() + bytes([63] * 8), np.uint8)
    memories = {target.commands.destination["ROUTINE"]: stored}
    body = command(rng, target, 0, 1, n_count=1, m_count=1, out_base=0) | fields
    with pytest.raises(AssertionError, match=message):
        run(rng, target, random_sums(rng, target), memories, [body])
