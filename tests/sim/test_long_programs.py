"""A program of more commands than counts can tell apart."""

from pathlib import Path

import numpy as np

import pearray as pe
from pearray.compiler.program import Program
from pearray.compiler.validate import validate
from pearray.hdl.systolic.commands import Destination
from pearray.sim import Job, run

CONFIG = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml").hardware

#: Places in memory: operands, results, and the program.
A, W, Y, PROGRAM = (0x1000 * index for index in range(1, 5))


def product(program, result):
    """Append a product of an operand and a tile of weights, whose waits are only those that it needs."""
    row = {"count1": 1, "count2": 1}
    program.load({}, **row, dram=A, length=CONFIG.array.rows)
    load = program.load({}, **row, dram=W, length=CONFIG.array.rows * CONFIG.array.cols,
                        destination=Destination.WEIGHT.value)
    execute = program.execute({"load": load}, m_count0=1, m_count1=1, m_count2=1, n_count=1, k_total=CONFIG.array.rows,
                              run=CONFIG.array.rows, run_count=1, w_pitch=CONFIG.array.cols, first=1)
    post = program.post({"execute": execute}, n_count=1, m_count=1)
    program.store({"post": post}, **row, dram=result, length=4 * CONFIG.array.cols)


def test_counts_wrap(rng):
    """Waits that are left out, or long past, would look as if they were to come: the program would never end."""
    program = Program(CONFIG.commands)
    a = rng.integers(-128, 128, CONFIG.array.rows, dtype=np.int8)
    w = rng.integers(-128, 128, (CONFIG.array.rows, CONFIG.array.cols), dtype=np.int8)
    product(program, Y)
    for _ in range(66_000):
        program.load({"execute": 1}, fill=1, length=1, count1=1, count2=1, address=512)
    product(program, Y + 256)
    encoded = program.encode()
    validate(encoded, queues=CONFIG.commands.queues)
    job = Job(CONFIG, [(A, a.tobytes()), (W, w.tobytes()), (PROGRAM, encoded)], PROGRAM, [(Y, 16), (Y + 256, 16)])
    outcome = run(job)
    expected = (a.astype(np.int32) @ w.astype(np.int32)).tobytes()
    assert outcome.regions == [expected, expected]
    assert outcome.counters["load_commands"] == 66_004
