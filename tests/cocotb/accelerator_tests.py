"""Random regression of the accelerator. Run inside the simulator by ``test_environment.py``."""

import json
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from environment import CHANNELS, ERROR, Case, Coverage, Environment

import pearray as pe
from pearray.hdl.shell.registers import Cause

CONFIG = pe.load_config(Path(os.environ["CONFIG"]))
SEED, CASES = json.loads(os.environ["SEED"]), json.loads(os.environ["CASES"])

COVERAGE = Coverage([
    *(f"stall {channel}" for channel in CHANNELS),
    *(f"operator {name}" for name in ("gemm", "conv", "gradient")),
    *(f"output {name}" for name in ("int8", "int32")),
    *(f"error {cause.name}" for cause in (Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                          Cause.WRITE_DECERR)),
    "reset in mid-run",
])


def draw(rng, shape):
    return rng.integers(-128, 128, shape, dtype=np.int8)


def requantisation(rng, operator, tensors, **arguments):
    """Give an operator int8 results that spread over the whole range, or leave it its sums."""
    if rng.random() < 0.3:
        COVERAGE.hit("output int32")
        return operator(**arguments)
    COVERAGE.hit("output int8")
    deviation = float(np.std(operator(**arguments).golden(tensors)["y"])) or 1.0
    requant = pe.Requant.onnx(1.0, 0, 1.0, 0, deviation / 40, int(rng.integers(-20, 20)))
    return operator(**arguments, requant=requant)


def random_gemm(rng):
    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    COVERAGE.hit("operator gemm")
    tensors = {"a": draw(rng, (m, k)), "b": draw(rng, (k, n))}
    if rng.random() < 0.5:
        tensors["c"] = rng.integers(-1000, 1000, n).astype(np.int32)
    return Case(requantisation(rng, pe.Gemm, tensors), tensors, CONFIG)


def random_convolution(rng):
    n, c, m = (int(size) for size in rng.integers(1, [3, 6, 10]))
    r, s = (int(size) for size in rng.integers(1, 4, 2))
    h, w = (int(size) for size in rng.integers(3, 8, 2))
    COVERAGE.hit("operator conv")
    tensors = {"x": draw(rng, (n, c, h, w)), "w": draw(rng, (m, c, r, s))}
    if rng.random() < 0.5:
        tensors["b"] = rng.integers(-1000, 1000, m).astype(np.int32)
    operator = requantisation(rng, pe.Conv2d, tensors, stride=int(rng.integers(1, 3)),
                              padding=int(rng.integers(0, min(r, s))))
    return Case(operator, tensors, CONFIG)


def random_gradient(rng):
    n, c, m = (int(size) for size in rng.integers(1, [3, 6, 10]))
    r, s = (int(size) for size in rng.integers(1, 4, 2))
    h, w = (int(size) for size in rng.integers(3, 8, 2))
    COVERAGE.hit("operator gradient")
    operator = pe.Conv2dGrad(stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 3)))
    tensors = {"x": draw(rng, (n, c, h, w)), "w": draw(rng, (m, c, r, s))}
    if rng.random() < 0.3:
        operator, tensors = pe.LinearGrad(), {"x": draw(rng, (h, c * w)), "w": draw(rng, (m, c * w))}
    tensors["dy"] = draw(rng, operator.forward.infer(tensors)["y"][0])
    return Case(operator, tensors, CONFIG)


MAKERS = [random_gemm, random_convolution, random_gradient]


def random_case(rng):
    return MAKERS[int(rng.integers(len(MAKERS)))](rng)


async def environment(dut, number):
    bench = Environment(dut, SEED * 100 + number, COVERAGE)
    await bench.start()
    return bench, np.random.default_rng([SEED, number])


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def random_shapes_and_stalls(dut):
    """Programs follow one another, each with other shapes and other stalls."""
    bench, rng = await environment(dut, 0)
    for number in range(CASES):
        bench.stall([0.0, 0.2, 0.5, 0.8][number % 4])
        case = MAKERS[number % len(MAKERS)](rng)
        dut._log.warning("case %d: %s", number, case.operator)
        await bench.check(case)


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def error_responses(dut):
    """End the run with its cause at an error on any beat, and then run as if nothing had been."""
    bench, rng = await environment(dut, 1)
    for number, cause in enumerate((Cause.READ_SLVERR, Cause.READ_DECERR, Cause.WRITE_SLVERR,
                                    Cause.WRITE_DECERR)):
        case = random_gemm(rng)
        bench.stall([0.0, 0.3][number % 2])
        bench.load(case)
        blocks = case.compiled.inputs if "READ" in cause.name else case.compiled.outputs
        placed = rng.choice(list(blocks.values()))
        address = placed.address + int(rng.integers(placed.nbytes))
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
        assert start <= address + CONFIG.beat_bytes
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
