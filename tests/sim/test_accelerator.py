"""The engines on accelerators of every kind of array, and what they report of runs that fail."""

import numpy as np
import pytest
from kinds import KINDS, each_kind

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.sim import Disturbance, Job, run

CONFIG = KINDS[0].small


def gemm_job(rng, m, k, n):
    """Job of an int8 product with int32 results, and a function from regions to those results."""
    tensors = {"a": rng.integers(-128, 128, (m, k), dtype=np.int8),
               "b": rng.integers(-128, 128, (k, n), dtype=np.int8)}
    compiled = compile_graph(Graph.of(pe.Gemm(), tensors), CONFIG, effort=0)
    placed = compiled.outputs["y"]
    job = Job(CONFIG, compiled.segments + compiled.bind(tensors), compiled.program_address,
              [(placed.address, placed.nbytes)])
    expected = tensors["a"].astype(np.int32) @ tensors["b"].astype(np.int32)
    return job, expected, compiled.inputs


def result(outcome, expected):
    return np.frombuffer(outcome.regions[0], "<i4").reshape(expected.shape)


def test_engines_agree(rng):
    """Three engines that differ leave open which one shows the hardware."""
    job, expected, _ = gemm_job(rng, 9, 13, 7)
    outcomes = {engine: run(job, engine) for engine in ("verilator", "cocotb", "amaranth")}
    for outcome in outcomes.values():
        np.testing.assert_array_equal(result(outcome, expected), expected)
    assert len({outcome.verilog_sha256 for outcome in outcomes.values()}) == 1
    native, python = outcomes["verilator"], outcomes["amaranth"]
    assert native.counters == python.counters
    # Another memory takes other times, but the same accesses.
    for name, count in outcomes["cocotb"].counters.items():
        if name.endswith(("_read", "_write", "_active")):
            assert count == native.counters[name], name


@pytest.mark.parametrize("number", range(12))
def test_stalls_change_no_result(number, seed):
    """The native memory checks every rule of the bus while it stalls; a broken one ends the run."""
    rng = np.random.default_rng([seed, number])
    m, k, n = (int(size) for size in rng.integers(1, 60, 3))
    job, expected, _ = gemm_job(rng, m, k, n)
    outcome = run(job, disturbance=Disturbance(stall=[0.1, 0.5, 0.8][number % 3], seed=seed + number))
    np.testing.assert_array_equal(result(outcome, expected), expected)


@each_kind
@pytest.mark.parametrize(("direction", "decode_error", "cause"), [
    ("read_error", False, "read slverr"), ("read_error", True, "read decerr"),
    ("write_error", False, "write slverr"), ("write_error", True, "write decerr"),
])
def test_bus_error_is_reported(rng, kind, direction, decode_error, cause):
    """An error response anywhere must end the run with its cause and address."""
    case = kind.layer(rng, 5, 9, 7).compile(kind.small)
    placed = case.compiled.inputs["x"] if direction == "read_error" else case.compiled.outputs["y"]
    target = case.address(rng, placed)
    with pytest.raises(pe.PearrayError, match=rf"^the accelerator stopped with error \d \({cause}\) at address"):
        run(case.job(kind.small), disturbance=Disturbance(**{direction: target}, decode_error=decode_error))


@each_kind
def test_hung_memory_is_reported(rng, kind):
    """Who waits for whom must be in the message: without it a stuck program is hard to find."""
    case = kind.layer(rng, 5, 9, 7).compile(kind.small)
    with pytest.raises(pe.PearrayError, match=r"^the accelerator is stuck: ") as caught:
        run(case.job(kind.small), disturbance=Disturbance(hang=case.compiled.inputs["x"].address))
    message = str(caught.value)
    assert "load command" in message
    assert "execute command" in message
    assert "waits for load" in message
    assert "read bursts are in flight" in message


@each_kind
def test_bad_program_is_reported(rng, kind):
    """A program that isn't one must be refused by the hardware, with the address of the command."""
    case = kind.layer(rng, 1, 1, 3).compile(kind.small)
    address = case.compiled.program_address
    case.segments = [(start, data if start != address else b"\x07" + data[1:]) for start, data in case.segments]
    message = rf"^the accelerator stopped with error \d \(bad command\) at address {address:#010x}$"
    with pytest.raises(pe.PearrayError, match=message):
        run(case.job(kind.small))
