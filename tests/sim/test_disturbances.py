"""Stalls, latencies and error responses of every kind, on the RTL of every kind of array, over many seeds."""

from dataclasses import replace

import numpy as np
import pytest
from kinds import KINDS, PROGRAMS, stores

import pearray as pe
from pearray.hdl.shell.commands import COMMAND_BYTES
from pearray.sim import Disturbance, Job, run

#: Each kind, and a larger accelerator with a wider bus.
ALL = [*PROGRAMS, replace(KINDS[0], name="systolic-8x8", small=pe.load_config("systolic-8x8").hardware)]

each_kind = pytest.mark.parametrize("kind", ALL, ids=[kind.name for kind in ALL])


def memory(rng):
    """Draw a memory from the fastest to one that is slow, narrow and in order."""
    return pe.MemoryTiming(
        read_latency=int(rng.choice([1, 2, 7, 32, 150])), write_latency=int(rng.choice([1, 2, 32, 150])),
        outstanding=int(rng.choice([1, 2, 8, 16])), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.6, 0.25])))


def workload(rng, kind):
    """Draw a convolution of several tiles and commands of every kind.

    It is compiled for the usual memory, so that programs do not depend on the memory that is drawn.
    """
    return kind.layer(rng, *(int(value) for value in rng.integers([1, 1, 4], [12, 20, 12]))).compile(kind.small)


@each_kind
def test_stalls_and_latencies(rng, kind):
    """Data would be lost, repeated or reordered at some rhythm of the memory, or the accelerator would hang."""
    for _ in range(12):
        case = workload(rng, kind)
        task = case.job(kind.small, memory(rng))
        outcome = run(task, disturbance=Disturbance(stall=float(rng.choice([0.0, 0.1, 0.4, 0.8])),
                                                    seed=int(rng.integers(1 << 30))))
        contents = dict(zip(task.read, outcome.regions, strict=True))
        case.compare(lambda address, length, contents=contents: contents[address, length])


@each_kind
@pytest.mark.parametrize("where", ["fetch", "load", "store"])
@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_errors_on_any_beat(rng, kind, where, response):
    """An error on some beat would be lost, name a wrong cause, hang the ports, or leave bursts in flight."""
    for _ in range(10):
        case = workload(rng, kind)
        if where == "fetch":
            address = case.compiled.program_address + int(rng.integers(COMMAND_BYTES * len(case.commands)))
        else:
            placed, = (case.compiled.inputs if where == "load" else case.compiled.outputs).values()
            address = case.address(rng, placed)
        disturbance = Disturbance(
            stall=float(rng.choice([0.0, 0.3])), seed=int(rng.integers(1 << 30)), decode_error=response == "DECERR",
            **{"write_error" if where == "store" else "read_error": address})
        cause = f"{'write' if where == 'store' else 'read'} {response.lower()}"
        # Bursts in flight would be named behind the address.
        message = rf"^the accelerator stopped with error \d \({cause}\) at address 0x[0-9a-f]{{8}}$"
        with pytest.raises(pe.PearrayError, match=message) as caught:
            run(case.job(kind.small, memory(rng)), disturbance=disturbance)
        burst, beat = int(str(caught.value).rpartition("0x")[2], 16), kind.small.beat_bytes
        # The address is that of the burst, at most 16 beats before.
        assert burst - beat < address < burst + 16 * beat, str(caught.value)


@each_kind
@pytest.mark.parametrize("number", range(10))
def test_stores_without_room(kind, seed, number):
    """A row's first or last bytes would be lost, or others written, when a beat must wait for room in the writer."""
    rng = np.random.default_rng([seed, number])
    # Memory takes a beat every third cycle: behind the first 16 of them, none finds room when it could come.
    config, slow = kind.small, pe.MemoryTiming(beats_per_cycle=0.3)
    program, target = 0x1000, 0x4000
    text, written = stores(rng, config, target)
    before = rng.integers(0, 256, len(written)).astype(np.uint8)
    outcome = run(Job(config, [(program, text), (target, before.tobytes())], program, [(target, len(before))], slow))
    np.testing.assert_array_equal(np.frombuffer(outcome.regions[0], np.uint8), np.where(written, 0, before))
    assert outcome.counters["write_beats"] > 100
