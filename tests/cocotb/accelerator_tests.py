"""Random regression of the accelerator. Run inside the simulator by ``test_environment.py``."""

import json
import os

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from draws import draw, draws_of, is_refusal
from environment import CHANNELS, ERROR, Coverage, Environment
from kinds import PROGRAMS, Case, MovesKind

import pearray as pe
from pearray.hdl.shell.registers import Cause

KIND = {kind.name: kind for kind in PROGRAMS}[os.environ["KIND"]]
SEED, ROUNDS = json.loads(os.environ["SEED"]), json.loads(os.environ["ROUNDS"])

#: What a round draws: every operator that the accelerator has the functions for, and programs that none is compiled to.
PROGRAM = "program"
NAMES = draws_of(KIND.small) + [PROGRAM] * 3 * isinstance(KIND, MovesKind)
#: Of those, what reads and writes all bytes of its tensors, so that an error on any of them must be met.
WHOLE = [name for name in NAMES if name in ("gemm", "fixed_gemm", PROGRAM)]

#: Elements of inputs of a graph that is drawn: the bus models take about a millisecond for a cycle.
MOST_ELEMENTS = 500
#: Commands of its program: that of a single operator may have thousands, and take more cycles than a run is given.
MOST_COMMANDS = 600

COVERAGE = Coverage([
    *(f"stall {channel}" for channel in CHANNELS),
    *(f"operator {name}" for name in NAMES),
    *(f"output {name}" for name in KIND.outputs),
    *(f"error {cause.name}" for cause in (Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                          Cause.WRITE_DECERR)),
    "reset in mid-run",
])


def random_case(rng, name=None):
    """Draw a case that the accelerator can hold, of any operator or of the one named, and count it."""
    name = NAMES[int(rng.integers(len(NAMES)))] if name is None else name
    if name == PROGRAM:
        case = KIND.random(rng).compile(KIND.small)
    else:
        case = compiled(rng, name)
        for made in case.expected.values():
            COVERAGE.hit(f"output {made.dtype}")
    COVERAGE.hit(f"operator {name}")
    return case


def compiled(rng, name):
    """Draw graphs until one is small, and the accelerator can hold it."""
    while True:
        try:
            case = Case.of(*draw(rng, KIND.small, name, MOST_ELEMENTS)).compile(KIND.small)
            if len(case.commands) <= MOST_COMMANDS:
                return case
        except pe.PearrayError as error:
            if not is_refusal(error):
                raise


async def environment(dut, number):
    bench = Environment(dut, SEED * 100 + number, COVERAGE)
    await bench.start()
    return bench, np.random.default_rng([SEED, number])


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def random_shapes_and_stalls(dut):
    """Programs follow one another, of every operator, each with other shapes and other stalls."""
    bench, rng = await environment(dut, 0)
    for number, name in enumerate(rng.permutation(NAMES * ROUNDS)):
        bench.stall(float(rng.choice([0.0, 0.2, 0.5, 0.8])))
        case = random_case(rng, name)
        dut._log.warning("case %d: %s", number, case.operator)
        await bench.check(case)


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def error_responses(dut):
    """End the run with its cause at an error on any beat, and then run as if nothing had been."""
    bench, rng = await environment(dut, 1)
    for number, cause in enumerate((Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                    Cause.WRITE_DECERR)):
        case = random_case(rng, WHOLE[number % len(WHOLE)])
        bench.stall([0.0, 0.3][number % 2])
        bench.load(case)
        blocks = case.compiled.inputs if "READ" in cause.name else case.compiled.outputs
        address = case.address(rng, list(blocks.values())[int(rng.integers(len(blocks)))])
        bench.decode_error = "DECERR" in cause.name
        if "READ" in cause.name:
            bench.read_error = address
        else:
            bench.write_error = address
        await bench.begin(case)
        status = await bench.end()
        assert status & ERROR, f"{cause} went unnoticed"
        assert Cause(status >> 8 & 0xFF) is cause
        start = await bench.read("error_address")
        assert start // 4096 == address // 4096
        assert start <= address + KIND.small.beat_bytes
        COVERAGE.hit(f"error {cause.name}")
        bench.read_error = bench.write_error = None
        await bench.check(case)


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def reset_in_mid_run(dut):
    """Leave nothing behind, at whatever time a reset comes, that a later program could meet."""
    bench, rng = await environment(dut, 2)
    for _ in range(4):
        case = random_case(rng)
        bench.load(case)
        await bench.begin(case)
        await ClockCycles(dut.clk, int(rng.integers(1, 400)))
        await bench.reset()
        COVERAGE.hit("reset in mid-run")
        await bench.check(random_case(rng))


@cocotb.test()
async def coverage(dut):
    """Meet every stall and error: a regression that never did proves nothing about them."""
    assert COVERAGE.missing() == []
