"""Programs of random commands: the hardware, in Amaranth's simulator, against the functional model."""

from pathlib import Path

import numpy as np
import pytest
from dot_array.commands import LOOPS
from dot_array.hardware import lines_of

import pearray as pe
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import Program
from pearray.hdl.kinds import kind
from pearray.hdl.shell.commands import ADDRESS_BITS, Rounding
from pearray.sim import Job, run

CONFIG = Path(__file__).parents[1] / "dot-8x8.toml"
SMALL = {"scratchpads.activation_bytes": 64, "scratchpads.weight_bytes": 128, "scratchpads.output_bytes": 256,
         "scratchpads.channels": 16, "accumulators.depth": 16, "memory.data_width": 32}
DATA, RESULT = 0x4000, 0x8000


def random_execute(rng, config):
    """Draw an EXECUTE of a few lines, anywhere in the scratchpads; a bank has rows for all its sums."""
    counts = dict.fromkeys(LOOPS, 0) | {loop: int(rng.integers(3)) for loop in rng.choice(LOOPS, 3, replace=False)}
    pixels, address = lines_of({f"count_{loop}": counts[loop] for loop in ("m0", "m1", "m2")}), 1 << ADDRESS_BITS
    while pixels * (counts["n"] + 1) > config.accumulators.depth:
        counts["n"] -= 1
    body = {f"count_{loop}": count for loop, count in counts.items()}
    body |= {f"a_{loop}": int(rng.integers(address)) for loop in LOOPS}
    for operand in "aw":
        is_unsigned = int(rng.integers(2))
        low, high = config.arithmetic.operand_range(bool(is_unsigned))
        body |= {f"{operand}_unsigned": is_unsigned, f"{operand}_zero_point": int(rng.integers(low, high + 1))}
    return body | {
        "maximum": int(rng.integers(2)),
        "a_base": int(rng.integers(address)), "w_base": int(rng.integers(address)), "w_n": int(rng.integers(address)),
        "acc_base": int(rng.integers(1 << 16)), "acc_n": pixels}


def random_program(rng, config, groups):
    """Draw groups of EXECUTEs that add to the same rows of a bank, which then are stored as they are."""
    program, units = Program(config.commands), config.array.rows
    memory, one = config.commands.destination, {"count1": 1, "count2": 1}
    for destination, size in ((memory.ACTIVATION, config.scratchpads.activation_bytes),
                              (memory.WEIGHT, config.scratchpads.weight_bytes)):
        program.load({}, destination=destination, dram=DATA + 0x1000 * destination, length=size, **one)
    posts = [0, 0]
    row = units * config.sum_bytes
    for group in range(groups):
        bank, size = group % 2, config.accumulators.depth * row
        for index in range(int(rng.integers(1, 4))):
            # The first fills the whole bank, so that every row is known.
            whole = {"count_m0": config.accumulators.depth - 1, "count_m1": 0, "count_m2": 0, "count_n": 0}
            executes = program.execute({"load": 2, "post": posts[bank]}, bank=bank, first=int(index == 0),
                                       **random_execute(rng, config) | (whole if index == 0 else {}))
        posts[bank] = program.post(
            {"execute": executes, "store": group}, rounding=Rounding.NONE.value, bank=bank, n_count=1,
            m_count=config.accumulators.depth, out_mstep=row)
        program.store({"post": posts[bank]}, dram=RESULT + group * size, length=size, **one)
    return program


@pytest.mark.parametrize("array", [(1, 4), (4, 4), (2, 8)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_random_commands(rng, array):
    """Every field of a command over its range: one that hardware and model read differently would be a wrong sum."""
    config = pe.load_config(CONFIG, SMALL | {"array.rows": array[0], "array.cols": array[1]}).hardware
    groups = 8
    program = random_program(rng, config, groups).encode()
    size = groups * config.accumulators.depth * config.array.rows * config.sum_bytes
    segments = [(0, program), (DATA, rng.integers(0, 256, 0x2000).astype(np.uint8).tobytes())]
    model = interpreter(config, RESULT + size)
    model.write(segments)
    model.run(0)
    outcome = run(Job(config, segments, 0, [(RESULT, size)]), "amaranth")
    found, expected = (np.frombuffer(data, "<i4") for data in (outcome.regions[0], model.read(RESULT, size)))
    assert len(np.unique(expected)) > 50
    np.testing.assert_array_equal(found, expected)


def test_throughput(rng):
    """A line a cycle, and the time that the watchdog is told: a stall nobody counts makes every price wrong."""
    config = pe.load_config(CONFIG, SMALL | {"array.rows": 2, "array.cols": 4}).hardware
    body = {"count_t0": 15, "count_m0": 15, "a_t0": 1, "first": 1}
    cycles = []
    for count in (1, 5):
        program, one = Program(config.commands), {"count1": 1, "count2": 1}
        for destination in (0, 1):
            program.load({}, destination=destination, fill=1, length=64, **one)
        for _ in range(count):
            program.execute({"load": 2}, **body)
        cycles.append(run(Job(config, [(0, program.encode())], 0, []), "amaranth").cycles)
    each = (cycles[1] - cycles[0]) / 4
    assert each == lines_of(body) + 1
    assert each < kind("dot").execute_cycles(config, body)
