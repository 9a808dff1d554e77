"""Timing of the C++ memory model, on which every published cycle figure rests."""

import subprocess
from pathlib import Path

import pytest

import pearray.sim
from pearray.sim import tools

ONE = 1 << 32


@pytest.fixture(scope="module")
def transfers(tmp_path_factory):
    """Compile the model, and return a function that gives the cycles of each channel's transfers."""
    program = tmp_path_factory.mktemp("memory") / "memory_timing"
    subprocess.run([tools.compiler(), "-std=gnu++20", "-O1", "-Wall", "-Wextra", "-Werror",
                    "-DPEARRAY_BEAT_BYTES=8", f"-I{Path(pearray.sim.__file__).parent}", "-o", program,
                    Path(__file__).with_name("memory_timing.cpp")], check=True, timeout=120)

    def run(reads=0, writes=0, beats=4, *, read_latency=32, write_latency=32, outstanding=8, budget=1.0,
            stall=0.0):
        numbers = [reads, writes, beats, read_latency, write_latency, outstanding, round(budget * ONE),
                   round(stall * ONE)]
        output = subprocess.run([program, *map(str, numbers)], check=True, capture_output=True, text=True,
                                timeout=20).stdout
        cycles = {channel: [] for channel in ("ar", "r", "aw", "w", "b")}
        for line in output.splitlines():
            channel, cycle = line.split()
            cycles[channel].append(int(cycle))
        return cycles
    return run


@pytest.mark.parametrize("latency", [1, 2, 32])
def test_read_latency(transfers, latency):
    """A model that answers early or late makes every cycle figure wrong."""
    cycles = transfers(reads=1, read_latency=latency)
    assert cycles["ar"] == [0]
    assert cycles["r"] == [latency + beat for beat in range(4)]


@pytest.mark.parametrize("latency", [1, 2, 32])
def test_write_latency(transfers, latency):
    """The response comes that long after the last beat."""
    cycles = transfers(writes=1, write_latency=latency)
    assert cycles["aw"] == [0]
    assert cycles["w"] == [0, 1, 2, 3]
    assert cycles["b"] == [3 + latency]


def test_bursts_follow_without_gaps(transfers):
    """With enough bursts in flight each channel moves one beat a cycle."""
    cycles = transfers(reads=20, writes=20, beats=16)
    assert cycles["r"] == list(range(32, 32 + 320))
    assert cycles["w"] == list(range(320))


@pytest.mark.parametrize("outstanding", [1, 3])
def test_outstanding(transfers, outstanding):
    """More bursts in flight than the configuration says would hide latency that is there."""
    cycles = transfers(reads=12, writes=12, outstanding=outstanding)
    for addresses, ends in ((cycles["ar"], cycles["r"][3::4]), (cycles["aw"], cycles["b"])):
        for index in range(outstanding, 12):
            # An address is taken in the cycle after a burst has left, not before.
            assert addresses[index] > ends[index - outstanding]
        in_flight = [sum(start <= cycle for start in addresses) - sum(end < cycle for end in ends)
                     for cycle in range(max(ends))]
        assert max(in_flight) == outstanding


@pytest.mark.parametrize("budget", [0.75, 0.5, 0.3])
def test_budget_is_shared(transfers, budget):
    """A fraction of a beat a cycle holds for reads and writes together, and both get their share."""
    beats = 40 * 16
    cycles = transfers(reads=40, writes=40, beats=16, budget=budget)
    both = sorted(cycles["r"] + cycles["w"])
    busy = [cycle for cycle in both if cycle >= 32]
    for start in range(0, len(busy) - 100, 37):
        window = busy[start + 100] - busy[start]
        assert window >= 100 / budget - 3
    assert both[-1] <= 2 * beats / budget + 40
    overlap = min(cycles["r"][-1], cycles["w"][-1])
    reads = sum(32 <= cycle <= overlap for cycle in cycles["r"])
    writes = sum(32 <= cycle <= overlap for cycle in cycles["w"])
    assert abs(reads - writes) <= 0.1 * (reads + writes) + 2


def test_whole_beat_is_not_shared(transfers):
    """With one beat a cycle the two directions don't slow one another."""
    assert transfers(reads=8, writes=8)["r"] == transfers(reads=8)["r"]


def test_stalls_lose_nothing(transfers):
    """Stalls delay transfers, and drop and add none."""
    cycles = transfers(reads=20, writes=20, stall=0.5)
    assert len(cycles["r"]) == len(cycles["w"]) == 80
    assert len(cycles["b"]) == 20
    assert cycles["r"][-1] > transfers(reads=20, writes=20)["r"][-1] + 30
