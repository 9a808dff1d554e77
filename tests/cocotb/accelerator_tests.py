"""Random regression of the accelerator. Run inside the simulator by ``test_environment.py``."""

import json
import os
from functools import partial

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from drawn_graphs import GRAPHS, graphs_of
from environment import CHANNELS, ERROR, Coverage, Environment
from kinds import PROGRAMS, Case, MovesKind

import pearray as pe
from pearray.hdl.shell.registers import Cause

KIND = {kind.name: kind for kind in PROGRAMS}[os.environ["KIND"]]
SEED, CASES = json.loads(os.environ["SEED"]), json.loads(os.environ["CASES"])

#: Operators that a run draws. Gradients are exact sums, which an array of fixed point does not have.
NAMES = ("gemm", "conv") if KIND.dtype == np.int16 else ("gemm", "conv", "gradient")
#: Of those, what reads and writes all bytes of its tensors, so that an error on any of them must be met.
WHOLE = ("gemm",)
#: Further graphs: those of functions that few accelerators have.
DRAWN = {name: make for name, make in graphs_of(KIND.small).items() if GRAPHS[name].needs}
NAMES += tuple(DRAWN)
if isinstance(KIND, MovesKind):
    NAMES += ("program",)
    WHOLE += ("program",)

#: Elements of inputs of a graph that is drawn: the bus models take about a millisecond for a cycle.
MOST_ELEMENTS = 1500

COVERAGE = Coverage([
    *(f"stall {channel}" for channel in CHANNELS),
    *(f"operator {name}" for name in NAMES),
    *(f"output {name}" for name in KIND.outputs),
    *(f"error {cause.name}" for cause in (Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                          Cause.WRITE_DECERR)),
    "reset in mid-run",
])


def case_of(rng, operator, tensors, role, **arguments):
    """Compile an operator, with a bias or none, whose outputs spread over their range, or are sums."""
    sums = operator(**arguments).golden(tensors)["y"]
    made = operator(**arguments, requant=KIND.requant(rng, float(np.std(sums)) or 1.0))
    if rng.random() < 0.5:
        tensors[role] = rng.integers(-1000, 1000, sums.shape[1]).astype(KIND.biases)
    return compiled(Case(made, tensors))


def compiled(case):
    """Compile a case, and count the types of its outputs."""
    for made in case.expected.values():
        COVERAGE.hit(f"output {made.dtype}")
    return case.compile(KIND.small)


def random_gemm(rng):
    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    COVERAGE.hit("operator gemm")
    tensors = {"a": KIND.operands(rng, (m, k)), "b": KIND.operands(rng, (k, n))}
    return case_of(rng, pe.Gemm, tensors, "c")


def random_convolution(rng):
    n, c, m = (int(size) for size in rng.integers(1, [3, 6, 10]))
    r, s = (int(size) for size in rng.integers(1, 4, 2))
    h, w = (int(size) for size in rng.integers(3, 8, 2))
    COVERAGE.hit("operator conv")
    tensors = {"x": KIND.operands(rng, (n, c, h, w)), "w": KIND.operands(rng, (m, c, r, s))}
    return case_of(rng, pe.Conv2d, tensors, "b", stride=int(rng.integers(1, 3)),
                   padding=int(rng.integers(0, min(r, s))))


def random_gradient(rng):
    n, c, m = (int(size) for size in rng.integers(1, [3, 6, 10]))
    r, s = (int(size) for size in rng.integers(1, 4, 2))
    h, w = (int(size) for size in rng.integers(3, 8, 2))
    COVERAGE.hit("operator gradient")
    operator = pe.Conv2dGrad(stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 3)))
    shapes = {"x": (n, c, h, w), "w": (m, c, r, s)}
    if rng.random() < 0.3:
        operator, shapes = pe.LinearGrad(), {"x": (h, c * w), "w": (m, c * w)}
    tensors = {role: KIND.operands(rng, shape) for role, shape in shapes.items()}
    tensors["dy"] = KIND.operands(rng, operator.forward.infer(tensors)["y"][0])
    return compiled(Case(operator, tensors))


def random_graph(name, rng):
    """Draw a graph of a function that few accelerators have: attention with any mask, norms of any rows."""
    while True:
        graph, inputs = DRAWN[name](rng, KIND.small)
        if sum(value.size for value in (*inputs.values(), *graph.constants.values())) <= MOST_ELEMENTS:
            break
    COVERAGE.hit(f"operator {name}")
    return Case.of(graph, inputs).compile(KIND.small)


def random_program(rng):
    COVERAGE.hit("operator program")
    return KIND.random(rng).compile(KIND.small)


def random_case(rng):
    return MAKERS[NAMES[int(rng.integers(len(NAMES)))]](rng)


MAKERS = {"gemm": random_gemm, "conv": random_convolution, "gradient": random_gradient, "program": random_program,
          **{name: partial(random_graph, name) for name in DRAWN}}


async def environment(dut, number):
    bench = Environment(dut, SEED * 100 + number, COVERAGE)
    await bench.start()
    return bench, np.random.default_rng([SEED, number])


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def random_shapes_and_stalls(dut):
    """Programs follow one another, each with other shapes and other stalls."""
    bench, rng = await environment(dut, 0)
    for number in range(CASES):
        # Each kind of case meets others in its turn.
        bench.stall([0.0, 0.2, 0.5, 0.8][(number + number // len(NAMES)) % 4])
        case = MAKERS[NAMES[number % len(NAMES)]](rng)
        dut._log.warning("case %d: %s", number, case.operator)
        await bench.check(case)


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def error_responses(dut):
    """End the run with its cause at an error on any beat, and then run as if nothing had been."""
    bench, rng = await environment(dut, 1)
    for number, cause in enumerate((Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                    Cause.WRITE_DECERR)):
        case = MAKERS[WHOLE[number % len(WHOLE)]](rng)
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
