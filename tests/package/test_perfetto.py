"""Traces: what the hardware says of its commands, bursts and cycles, as tracks of a file for ui.perfetto.dev."""

import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from kinds import KINDS, each_kind

import pearray as pe
from pearray.compiler.program import QUEUES
from pearray.perfetto import trace_events, write_trace

KIND = {kind.name: kind for kind in KINDS}


@pytest.fixture
def traced(rng):
    """Make a run of a small layer with a trace: what ran, what came, and the events."""
    def run(kind, engine):
        case = kind.layer(rng, 2, 3, 4)
        handle = pe.compile(case.graph, case.inputs, kind.tiny)
        result = handle.run(case.inputs, engine, trace=True)
        events = trace_events(handle.compiled().program, result.trace,
                              [(layer.name, layer.cycles) for layer in result.layers])
        return handle.compiled(), result, events
    return run


def tracks(events):
    """Slices by the name of their track, in order."""
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    found = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            found[names[event["pid"], event["tid"]]].append(event)
    return found


@each_kind
def test_tracks(traced, kind):
    """A slice too few, in the wrong cycle or across another is a picture of something that did not happen."""
    compiled, result, events = traced(kind, "amaranth")
    assert json.loads(json.dumps(events)) == events
    found = tracks(events)

    # Cycles: without a gap, as many of each cause as the ledger has.
    cycles = found["cycles charged to"]
    ends = [event["ts"] + event["dur"] for event in cycles]
    assert [event["ts"] for event in cycles] == [0, *ends[:-1]]
    assert ends[-1] == result.cycles
    counts = defaultdict(int)
    for event in cycles:
        counts[event["name"]] += event["dur"]
    ledger = {name: count for name, count in result.ledger.items() if count}
    assert counts.pop("array works") == ledger.pop("useful", 0) + ledger.pop("padding", 0)
    assert counts == ledger

    # Commands and bursts: all, within the run, none across another on its track.
    for opcode, queue in QUEUES.items():
        commands = compiled.program.counts.get(queue, 0)
        assert len(found[opcode.name]) == commands == result.counters.get(f"{queue}_commands", 0)
    assert sum(event["args"]["beats"] for event in found["read bursts"]) == (
        result.counters["fetch_beats"] + result.counters["load_beats"])
    assert sum(event["args"]["beats"] for event in found["write bursts"]) == result.counters["write_beats"]
    for name, counter in (("read beats", result.dram_read_bytes), ("write beats", result.dram_write_bytes)):
        assert sum(event["dur"] for event in found[name]) == counter // compiled.config.beat_bytes
    lanes = defaultdict(list)
    for event in (event for event in events if event["ph"] == "X"):
        assert 0 <= event["ts"] < event["ts"] + event["dur"] <= result.cycles, event
        lanes[event["pid"], event["tid"]].append(event)
    for lane in lanes.values():
        assert all(one["ts"] + one["dur"] <= other["ts"] for one, other in pairwise(lane))


def test_arrows(traced):
    """An arrow must come from what was waited for last, and end where the gate opens, two cycles later."""
    compiled, result, events = traced(KIND["systolic"], "amaranth")
    starts, ends = ({event["id"]: event for event in events if event["ph"] == phase} for phase in "sf")
    assert starts.keys() == ends.keys()
    slices = {(event["pid"], event["tid"], event["ts"]): event for event in events if event["ph"] == "X"}
    for number, end in ends.items():
        start, target = starts[number], slices[end["pid"], end["tid"], end["ts"]]
        source = next(event for event in slices.values() if (event["pid"], event["tid"]) == (start["pid"], start["tid"])
                      and event["ts"] <= start["ts"] < event["ts"] + event["dur"])
        queue, index = source["name"].split()
        assert target["args"][f"waits for {queue.lower()}"] == int(index) + 1
        assert start["ts"] <= end["ts"]
    waiting = [command for command in compiled.program.commands if any(command.waits.values())]
    assert len(starts) == len(waiting) > 3
    # Of what waits for a LOAD, and nothing later, the gate opens two cycles after it is done.
    assert any(ends[number]["ts"] - starts[number]["ts"] == 2 for number in starts)
    assert result.trace is not None


def test_engines_see_the_same(traced):
    """Two engines that sample the port in different cycles would draw different pictures."""
    generator = np.random.default_rng(3)
    case = KIND["systolic"].layer(generator, 2, 3, 4)
    seen = {}
    for engine in ("amaranth", "verilator"):
        handle = pe.compile(case.graph, case.inputs, KIND["systolic"].tiny)
        trace = handle.run(case.inputs, engine, trace=True).trace
        seen[engine] = (list(trace.causes()), [list(trace.commands(queue)) for queue in range(len(QUEUES))],
                        trace.moved("r"), trace.moved("b"), trace.bursts)
    assert seen["amaranth"] == seen["verilator"]


def test_untraced_runs_keep_nothing(rng):
    """A trace that is kept unasked would fill the memory in long runs."""
    case = KIND["systolic"].layer(rng, 1, 1, 3)
    assert pe.compile(case.graph, case.inputs, KIND["systolic"].tiny).run(case.inputs, "amaranth").trace is None


def test_what_cannot_be_traced(rng, tmp_path):
    """Neither an engine without traces nor a folder in the file's place may end in a traceback."""
    case = KIND["systolic"].layer(rng, 1, 1, 3)
    handle = pe.compile(case.graph, case.inputs, KIND["systolic"].tiny)
    with pytest.raises(pe.PearrayError, match=r"^engine cocotb keeps no trace: use engine verilator or amaranth$"):
        handle.run(case.inputs, "cocotb", trace=True)
    with pytest.raises(pe.PearrayError, match=r"^--trace file '.*' cannot be written: Is a directory$"):
        write_trace(tmp_path, [])
