"""The ledger on the RTL: cycles by cause add up, per layer and in all, on every kind of array and in every engine."""

from dataclasses import replace

import numpy as np
import pytest
from draws import draw, is_refusal
from kinds import KINDS, SMALL, each_kind
from random_workloads import briefly, operands
from slow import slow

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node
from pearray.compiler.systolic.ledger import predicted_charges
from pearray.configuration import System
from pearray.hdl.shell.ledger import CAUSES, Cause
from pearray.ledger import computed, losses, predicted
from pearray.memory import DEFAULT_MEMORY
from pearray.sim.verilator import AS_EMITTED

#: Programs of each kind.
PROGRAMS = 8

#: Cycles from a layer's mark to the count in its record, at most.
BEHIND = 8

#: Entries that do not depend on time.
WORK = ("useful", "padding")

KIND = {kind.name: kind for kind in KINDS}

#: Each kind, and the systolic one with all functions of the vector engine.
EVERY = [*KINDS, replace(KIND["systolic"], name="systolic, all functions", small=SMALL["moves"])]


def together(drawn):
    """One graph of several side by side, and its inputs, given each with its own."""
    nodes, tensors, constants, inputs, outputs = [], {}, {}, {}, []
    for index, (graph, given) in enumerate(drawn):
        def named(name, index=index):
            return f"{name}_{index}"

        nodes += [Node(named(node.name), node.operator, {role: named(name) for role, name in node.inputs.items()},
                       {role: named(name) for role, name in node.outputs.items()}) for node in graph.nodes]
        tensors |= {named(name): replace(graph.tensors[name], name=named(name)) for name in graph.inputs}
        constants |= {named(name): value for name, value in graph.constants.items()}
        inputs |= {named(name): value for name, value in given.items()}
        outputs += [named(name) for name in graph.outputs]
    return Graph(nodes, tensors, constants, list(inputs), outputs), inputs


def layers(kind, rng, *sizes):
    """One graph of convolutions side by side, and its inputs."""
    return together([(case.graph, case.inputs) for case in (kind.layer(rng, *size) for size in sizes)])


def draw_program(rng, config, memory=DEFAULT_MEMORY, **settings):
    """Draw a program of one to three graphs that the accelerator can hold, and its inputs."""
    while True:
        graph, inputs = together([draw(rng, config) for _ in range(rng.integers(1, 4))])
        try:
            handle = pe.compile(graph, inputs, System(config, memory), **settings)
            handle.compiled()
        except pe.PearrayError as error:
            if not is_refusal(error):
                raise
            continue
        return handle, inputs


def draw_memory(rng):
    """Draw a memory."""
    return pe.MemoryTiming(
        read_latency=int(rng.integers(1, 80)), write_latency=int(rng.integers(1, 80)),
        outstanding=int(rng.integers(1, 9)), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.4])))


def check(kind, result, compiled=None):
    """Hold a run's ledger to its cycles and to what its layers and its array count.

    All products of a run are computed, unless it is told what was compiled.
    """
    macs = result.macs if compiled is None else sum(computed(compiled, [layer.macs for layer in result.layers]))
    for part in (*result.layers, result):
        assert list(part.ledger) == list(CAUSES)
        assert min(part.ledger.values()) >= 0, part.ledger
        assert sum(part.ledger.values()) == part.cycles, part.ledger
    for name in CAUSES:
        assert result.ledger[name] == sum(layer.ledger[name] for layer in result.layers), name
    # What only moves or compares elements has no products, but for those behind the mark of the layer before.
    assert all(layer.macs or layer.ledger["useful"] <= BEHIND for layer in result.layers)
    work = result.ledger["useful"] + result.ledger["padding"]
    if kind.name.startswith("row-stationary"):
        # Fewer than a cycle's products may be left over at each setup of the array.
        products = result.counters["execute_macs"] + result.counters["execute_gated"]
        assert products // result.pes - len(result.layers) <= work <= result.counters["execute_active"]
        assert macs // result.pes - len(result.layers) <= result.ledger["useful"] <= macs // result.pes
    else:
        assert work == result.counters["execute_active"]
        assert result.ledger["useful"] == macs // result.pes


@pytest.mark.parametrize("count", [PROGRAMS, slow(100)])
@pytest.mark.parametrize("kind", EVERY, ids=[kind.name for kind in EVERY])
def test_adds_up(rng, kind, count):
    """A cycle that is charged twice or not at all, or to the wrong layer, would make the ledger worthless."""
    for _ in range(count):
        handle, inputs = draw_program(rng, kind.small, draw_memory(rng), **briefly(kind.small))
        check(kind, handle.run(inputs), handle.compiled())


def product(rng, m, k, n, **fields):
    """Linear layer of (m, k) by (n, k) with int8 results, as operator and tensors."""
    requant = pe.Requant.onnx(0.5, 0, 0.01, 0, 2.0, np.int8(0))
    return pe.Linear(requant=requant, **fields), {"x": operands(rng, (m, k)), "w": operands(rng, (n, k))}


def ledger_of(rng, config, shape, **memory):
    """Run a linear layer (M, K, N) behind a memory; return the result, whose ledger has been checked."""
    operator, tensors = product(rng, *shape)
    result = pe.run(operator, tensors, on=System(config, pe.MemoryTiming(**memory)))
    check(KIND["systolic"], result)
    return result


#: A shape (M, K, N), what is special of the memory, and the largest loss.
BOUND = [
    ((64, 64, 8), {"read_latency": 60, "outstanding": 1}, "memory_latency"),
    ((64, 64, 8), {"beats_per_cycle": 0.05}, "memory_rate"),
    ((32, 6, 32), {}, "post_processing"),
    ((16, 8, 16), {"write_latency": 4000}, "stores"),
    ((1, 128, 64), {}, "weights"),
]


@pytest.mark.parametrize(("shape", "memory", "cause"), BOUND, ids=[row[-1] for row in BOUND])
def test_the_bottleneck_is_the_largest_loss(rng, shape, memory, cause):
    """Who removes the largest loss must gain most of it: a cause that stays small where it rules misleads."""
    result = ledger_of(rng, SMALL["systolic"], shape, **memory)
    assert losses(result.ledger)[0] == cause, result.ledger
    assert result.ledger[cause] > 0.25 * result.cycles, result.ledger


def test_a_slower_memory_costs_what_it_adds(rng):
    """Cycles that only the memory's latency adds must stand where the latency stands."""
    config, shape = SMALL["systolic"], (32, 16, 16)
    fast, slow = (ledger_of(rng, config, shape, read_latency=latency) for latency in (40, 640))
    read = {name: slow.ledger[name] - fast.ledger[name] for name in CAUSES}
    assert slow.cycles - fast.cycles >= 600
    assert read["memory_latency"] + read["program_fetch"] >= 0.95 * (slow.cycles - fast.cycles), read
    assert (slow.ledger["useful"], slow.ledger["padding"]) == (fast.ledger["useful"], fast.ledger["padding"])


def worked(spans, cycles):
    """In which cycles of a run the array works, given what each stretch of them is charged to."""
    found = np.zeros(cycles, bool)
    for begin, end, cause in spans:
        found[max(begin, 0):end] |= cause is Cause.WORK
    return found


@pytest.mark.parametrize(("kind", "count"), [(KIND["systolic"], PROGRAMS), slow(KIND["systolic"], 100),
                                             slow(EVERY[-1], 100)],
                         ids=lambda value: getattr(value, "name", str(value)))
def test_the_model_of_time_predicts_it(rng, kind, count):
    """Advice before a run, and choices between tilings, would name losses that no run has."""
    exact = 0
    for _ in range(count):
        handle, inputs = draw_program(rng, kind.small, **briefly(kind.small))
        compiled, result = handle.compiled(), handle.run(inputs, trace=True)
        expected = predicted(compiled)
        assert sum(expected.values()) == pytest.approx(result.cycles, rel=0.05)
        # Where a command begins in another cycle the model is not exact, though the end may be.
        spans = predicted_charges(kind.small, compiled.program), result.trace.causes()
        predicted_work, work = (worked(each, result.cycles) for each in spans)
        if sum(expected.values()) == result.cycles and (predicted_work == work).all():
            exact += 1
            differing = sum(abs(expected[name] - result.ledger[name]) for name in CAUSES)
            # Others that begin and end in other cycles may cancel out.
            assert differing <= 16, (expected, result.ledger)
    assert exact > count // 3


@each_kind
def test_layers(rng, kind):
    """A mark in another cycle than the record's would charge cycles to the wrong layer, a lost one all of them."""
    graph, inputs = layers(kind, rng, (2, 3, 3), (1, 2, 2))
    result = pe.run(graph, inputs, on=kind.tiny, engine="amaranth")
    assert len(result.layers) == 2
    check(kind, result)


def test_each_record_is_a_mark(rng):
    """Where a record is one beat, as with wide memories, every second layer would be charged to the one before."""
    kind = KIND["systolic"]
    config = replace(kind.tiny, memory=replace(kind.tiny.memory, data_width=128))
    graph, inputs = layers(kind, rng, *[(2, 2, 2)] * 3)
    result = pe.run(graph, inputs, on=config, engine="amaranth")
    assert len(result.layers) == 3
    check(kind, result)


@each_kind
def test_engines_agree(rng, monkeypatch, kind):
    """Engines that count the same port differently, or sample it in other cycles, would tell other ledgers."""
    monkeypatch.setenv(AS_EMITTED, "1")
    graph, inputs = layers(kind, rng, (2, 3, 3), (1, 2, 2))
    python, native = (pe.run(graph, inputs, on=System(kind.tiny, DEFAULT_MEMORY), engine=engine)
                      for engine in ("amaranth", "verilator"))
    check(kind, native)
    assert [layer.ledger for layer in python.layers] == [layer.ledger for layer in native.layers]


def test_cocotb(rng):
    """It looks only when the port changes, and must miss no cycle; its memory has a timing of its own.

    The port is the same for each kind, and builds for cocotb take long.
    """
    kind, config = KIND["systolic"], SMALL["moves"]
    graph, inputs = layers(kind, rng, (2, 3, 5), (1, 2, 4))
    cocotb, native = (pe.run(graph, inputs, on=config, engine=engine) for engine in ("cocotb", "verilator"))
    check(kind, cocotb)
    assert [cocotb.ledger[name] for name in WORK] == [native.ledger[name] for name in WORK]
