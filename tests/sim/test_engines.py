"""The three engines run one job on a stand-in for the accelerator."""

import importlib.util
import re

import pytest
from standin import BROKEN, BURST, STANDIN

import pearray as pe
from pearray.memory import DEFAULT_MEMORY
from pearray.sim import Disturbance, Job, run, verilator
from pearray.sim.engine import ENGINES

CONFIG = pe.load_config("systolic-8x8", {"memory.data_width": 64}).hardware
SOURCE, TARGET, PROGRAM = 0x1_0000, 0x80_0000, 0x400


def copy_job(rng, bursts, memory=DEFAULT_MEMORY):
    """Job that copies bursts, and the bytes that it copies."""
    data = rng.integers(0, 256, bursts * BURST * CONFIG.beat_bytes).astype("uint8").tobytes()
    words = (SOURCE, TARGET, bursts)
    program = b"".join(word.to_bytes(4, "little") for word in words).ljust(64, b"\0")
    length = len(data)
    return Job(CONFIG, [(SOURCE, data), (PROGRAM, program)], PROGRAM,
               [(TARGET, length), (TARGET - 3, 3), (SOURCE + 1, 5), (TARGET + length, 2)], memory), data


@pytest.mark.parametrize("engine", ENGINES)
def test_round_trip(engine, rng):
    """An engine that misplaces a byte, a counter or a region makes every result worthless."""
    job, data = copy_job(rng, 37)
    outcome = run(job, engine, design=STANDIN)
    assert outcome.regions == [data, b"\xa5" * 3, data[1:6], b"\xa5" * 2]
    assert outcome.counters == {"cycles": outcome.cycles, "read_beats": 37 * BURST + 2}
    assert 0 < outcome.sim_s < 60
    assert len(outcome.verilog_sha256) == 64


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stall", [0.3, 0.7])
def test_stalls_change_nothing_but_time(engine, stall, rng, seed):
    """Stalls must reach the hardware on every channel, and no data may depend on them."""
    job, data = copy_job(rng, 9)
    calm = run(job, engine, design=STANDIN)
    stormy = run(job, engine, design=STANDIN, disturbance=Disturbance(stall=stall, seed=seed))
    assert stormy.regions[0] == data
    assert stormy.cycles > calm.cycles + 5


def test_native_and_python_timing_agree(rng):
    """Two models of one memory, written apart, must count the same cycles."""
    job, _ = copy_job(rng, 23)
    assert run(job, "amaranth", design=STANDIN).cycles == run(job, design=STANDIN).cycles


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["read_error", "write_error"])
def test_bus_error_is_reported(engine, kind, rng):
    """An error response must end the run with its cause."""
    job, _ = copy_job(rng, 9)
    address = {"read_error": SOURCE, "write_error": TARGET}[kind] + 4 * BURST * CONFIG.beat_bytes
    message = r"^the accelerator stopped with error 1 \(bus error\) at address 0x"
    with pytest.raises(pe.PearrayError, match=message):
        run(job, engine, design=STANDIN, disturbance=Disturbance(**{kind: address}))


@pytest.mark.parametrize("engine", ENGINES)
def test_broken_rule_is_reported(engine, rng):
    """A rule that is broken must end the run, in one line that names it and the cycle, in every engine."""
    job, _ = copy_job(rng, 9)
    message = (r"^the accelerator broke a rule in cycle \d+: (systolic_8x8: )?read_beats: more than 21 have come$")
    with pytest.raises(pe.PearrayError, match=message) as caught:
        run(job, engine, design=BROKEN)
    # Registers, the program, and 19 beats of the block take as long as the engine's memory makes them.
    assert 30 < int(re.search(r"cycle (\d+)", str(caught.value))[1]) < 150, str(caught.value)


@pytest.mark.parametrize("engine", ["verilator", "cocotb"])
def test_hung_memory_is_reported(engine, rng):
    """A memory that never answers must end in an error that names the burst, not in a hang."""
    job, _ = copy_job(rng, 9)
    with pytest.raises(pe.PearrayError, match=r"^the accelerator is stuck: ") as caught:
        run(job, engine, design=STANDIN, disturbance=Disturbance(hang=SOURCE + 200))
    if engine == "verilator":
        assert "read bursts are in flight, the oldest of 4 beats at 0x000100c0" in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_endless_program_is_reported(engine, rng):
    """A program that never ends must be stopped at the limit."""
    job, _ = copy_job(rng, 0)
    with pytest.raises(pe.PearrayError, match=r"^the accelerator is stuck: it did not finish"):
        run(job, engine, design=STANDIN, max_cycles=3000)


@pytest.mark.parametrize(("engine", "bursts"), [("verilator", 600_000), ("cocotb", 1500), ("amaranth", 400)])
def test_progress(engine, bursts, rng):
    """A progress bar that stands still looks like a hang."""
    job, _ = copy_job(rng, bursts)
    seen = []
    run(job, engine, seen.append, 10_000_000, design=STANDIN)
    assert seen
    assert seen == sorted(seen)


def test_second_run_builds_nothing(rng, monkeypatch):
    """A second run of one configuration must not emit or compile anything."""
    job, data = copy_job(rng, 3)
    run(job, design=STANDIN)

    def forbidden(*arguments):
        raise AssertionError("built again")

    monkeypatch.setattr(verilator, "_compile", forbidden)
    monkeypatch.setattr("pearray.sim.design._emit", forbidden)
    outcome = run(job, design=STANDIN)
    assert outcome.regions[0] == data
    assert outcome.build_s < 2


def test_verilog_does_not_depend_on_timing(rng):
    """Memory timing is the model's: changing it must not compile anything, but change the cycles."""
    slow = pe.MemoryTiming(read_latency=100)
    fast, late = run(copy_job(rng, 9)[0], design=STANDIN), run(copy_job(rng, 9, slow)[0], design=STANDIN)
    assert late.verilog_sha256 == fast.verilog_sha256
    assert late.cycles > fast.cycles + 100


@pytest.mark.parametrize(("name", "hint"), [
    ("cocotb", r"pip install 'pearray\[cocotb\]'"),
    ("cocotbext", r"pip install 'pearray\[cocotb\]'"),
])
def test_missing_extra_is_named(name, hint, rng, monkeypatch):
    """A user without the extra must read what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, *rest: None if module == name
                        else find(module, *rest))
    with pytest.raises(pe.PearrayError, match=hint):
        run(copy_job(rng, 1)[0], "cocotb", design=STANDIN)


def test_missing_compiler_is_named(rng, monkeypatch):
    """So must one without a compiler."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(pe.PearrayError, match=r"no-such-compiler is missing: apt-get install g\+\+"):
        run(copy_job(rng, 1)[0], design=STANDIN)


@pytest.mark.parametrize(("change", "message"), [
    ({"program_address": 4}, "program_address must be a multiple of 64"),
    ({"segments": [(0, b"12"), (1, b"3")]}, "segments must not overlap"),
    ({"segments": [(2**32 - 1, b"12")]}, "segment must lie within 32 bits"),
    ({"read": [(-1, 2)]}, "read region must lie within 32 bits"),
])
def test_bad_job_is_refused(change, message):
    """A job that no engine could run must say so in one line."""
    fields = {"segments": [], "program_address": 0, "read": []} | change
    with pytest.raises(pe.PearrayError, match=f"^{message}"):
        Job(CONFIG, **fields)


def test_unknown_engine_is_refused(rng):
    """A mistyped engine must not fall back to another."""
    with pytest.raises(pe.PearrayError, match=r"^engine must be .*, not 'icarus'$"):
        run(copy_job(rng, 1)[0], "icarus", design=STANDIN)
