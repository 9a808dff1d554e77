"""The model of time of attention on row-stationary arrays; `tests/sim/test_row_attention.py` holds it to the RTL."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from attention_draws import ROW_ARRAYS, UNIT, drawn_attention, row_array
from fixed_layers import configuration
from random_workloads import operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for
from pearray.compiler.operators import Relu
from pearray.compiler.row_stationary.accesses import accesses
from pearray.compiler.row_stationary.pass_times import PassTimes, _Chains
from pearray.compiler.row_stationary.timeline import timeline
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.ledger import Cause
from pearray.memory import MemoryTiming

SCALES = {"q_scale": UNIT, "k_scale": UNIT, "v_scale": UNIT, "y_scale": UNIT / 4}


def _attention(rng, config, sizes=((2, 30, 16), (1, 40, 16), (1, 40, 12)), **options):
    tensors = {name: operands(rng, size) for name, size in zip("qkv", sizes, strict=True)}
    return compile_graph(Graph.of(pe.Attention(**SCALES, **options), tensors), config)


class _Forgetful(OrderedDict):
    """Passes, none of which is remembered."""

    def __setitem__(self, key, value):
        pass


def _walked(monkeypatch, config, program, timing):
    """Times of a program of which every window of every pass is walked, with all that was before."""
    with monkeypatch.context() as patch:
        patch.setattr(_Chains, "_repeat", lambda *_: 0)
        begin = PassTimes.__init__

        def forget(self, config):
            begin(self, config)
            self._known = _Forgetful()

        patch.setattr(PassTimes, "__init__", forget)
        patch.setattr(PassTimes, "_counted_from", staticmethod(lambda time, value: value - time))
        return timeline(config, program, timing)


@pytest.mark.parametrize("array", ROW_ARRAYS)
@pytest.mark.parametrize("queue", [0, 4])
def test_what_repeats_is_as_if_walked(array, queue, seed, monkeypatch):
    """A window or pass that is taken for a repetition, but is none, would put all behind it at other cycles."""
    config = row_array(array)
    config = replace(config, pe=replace(config.pe, filter_queue=queue))
    for number, timing in enumerate((MemoryTiming(), MemoryTiming(read_latency=100, beats_per_cycle=0.5))):
        operator, tensors = drawn_attention(np.random.default_rng([seed, number, queue, 3]), config)
        tensors.pop("mask", None)
        program = compile_graph(Graph.of(operator, tensors), config).program
        found, walked = timeline(config, program, timing), _walked(monkeypatch, config, program, timing)
        for name in ("begun", "done", "came", "left"):
            np.testing.assert_array_equal(getattr(found, name), getattr(walked, name), name)
        assert found.cycles == walked.cycles
        for place, passed in found.passes.items():
            np.testing.assert_array_equal(passed.worked, walked.passes[place].worked)


def test_command_times_are_ordered(rng):
    """Each command ends after it begins, and begins after what it waits for."""
    config = row_array("4x6")
    program = _attention(rng, config, two_bytes=True).program
    times = timeline(config, program)
    assert (times.done > times.begun).all()
    ends = {name: [0] for name in program.counts}
    for command, start, end in zip(program.commands, times.begun, times.done, strict=True):
        # An EXECUTE waits until sums have been read, a LOAD until what it writes over has.
        assert all(start >= ends[name][count] for name, count in command.waits.items()
                   if (command.opcode, name) not in ((Opcode.EXECUTE, "post"), (Opcode.LOAD, "execute")))
        ends[command.opcode.name.lower()].append(end)


def test_no_pass_is_faster_than_its_networks(rng):
    """A pass that takes less than its products, ifmap words, filters or lines do would be a fault of the model."""
    config = row_array("4x6")
    program = _attention(rng, config).program
    times, before = timeline(config, program), 0
    for place, passed in times.passes.items():
        body = program.commands[place].body
        windows, q, p, r, t = (body[name] + 1 for name in ("windows", "window", "filters", "ifmap_sets", "psum_sets"))
        lines = windows * t * (body["psum_beats"] + 1)
        assert passed.done - max(passed.begun, before) >= lines
        assert passed.done - passed.begun >= max(windows * q * p, windows * q * r)
        assert passed.worked[:, 1].sum() == windows * q * p
        assert (np.diff(passed.worked[:, 0]) > 0).all()
        assert np.diff(passed.ifmap_offered) >= windows * q * r
        before = passed.done


def test_longer_latency_never_helps(rng):
    """A model that does not wait for memory would find all memories alike."""
    config = row_array("3x4")
    program = _attention(rng, config).program
    cycles = [timeline(config, program, MemoryTiming(read_latency=latency, write_latency=latency)).cycles
              for latency in (10, 100, 1000)]
    assert cycles[1] > cycles[0] + 90
    assert cycles[2] > cycles[1] + 900


def test_what_the_kind_predicts(rng):
    """Cycles by cause add up, work is that of the products, and counters are those of accesses, and cycles."""
    config = row_array("4x6")
    compiled = _attention(rng, config)
    kind = compiler_for(config)
    charges, cycles = kind.charges(config, compiled.program), kind.cycles(config, compiled.program)
    assert sum(charges.values()) == cycles
    passes = [command.body for command in compiled.program.commands
              if command.opcode is Opcode.EXECUTE and not command.body.get("setup")]
    used = {(body["ifmap_sets"] + 1) * (body["psum_sets"] + 1) for body in passes}
    assert len(used) == 1
    assert charges[Cause.WORK] == compiled.layers[0].work // used.pop()
    assert charges[Cause.WEIGHTS] > 0
    assert kind.counters(config, compiled.program) == accesses(config, compiled.program) | {"cycles": cycles}


def test_other_passes_are_not_timed(rng):
    """Figures of passes that the model does not know would be wrong: there are none."""
    config = configuration(3, 4, 8)
    graph = Graph([Node("relu", Relu(), {"x": "x"}, {"y": "y"})], {"x": Tensor("x", (4, 6), np.dtype(np.int8))},
                  inputs=["x"], outputs=["y"])
    program = compile_graph(graph, config).program
    kind = compiler_for(config)
    assert kind.cycles(config, program) is None
    assert not kind.charges(config, program)
    assert not kind.counters(config, program)
