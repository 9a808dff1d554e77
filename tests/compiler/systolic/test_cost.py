"""The compiler's model of time: properties that a choice of tilings relies on."""

import numpy as np
import pytest
from random_workloads import configuration, operands

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.operators import Gemm, Requant
from pearray.compiler.program import Program
from pearray.compiler.systolic import schedule
from pearray.compiler.systolic.cost import contraction_tiles, execute_cycles
from pearray.compiler.systolic.timeline import Timeline, timeline
from pearray.compiler.timing.latencies import UnendingError
from pearray.hdl.shell.commands import Opcode


def _gemm(rng, m, k, n, **settings):
    tensors = {"a": operands(rng, (m, k)), "b": operands(rng, (k, n))}
    operator = Gemm(requant=Requant.onnx(1.0, 0, 1.0, 0, float(np.sqrt(k) * 130), 0))
    return compile_graph(Graph.of(operator, tensors), configuration(), **settings).program


def _cycles(program):
    return timeline(configuration(), program).cycles


def test_tiles_of_a_contraction():
    """Folded tiles ignore where runs end, others do not."""
    assert contraction_tiles(8, 27, 9, 1) == 4
    assert contraction_tiles(8, 27, 9, 0) == 6
    assert contraction_tiles(8, 27, 27, 0) == 4
    assert contraction_tiles(8, 10, 4, 0) == 3


def test_estimate_is_at_least_the_work(rng):
    """No schedule beats the array: a lower estimate would hide a fault of the model."""
    program = _gemm(rng, 48, 100, 60)
    work = sum(execute_cycles(configuration(), command.body) for command in program.commands
               if command.opcode is Opcode.EXECUTE)
    assert work >= 48 * 104 // 8 * 64 // 8
    assert _cycles(program) > work


def test_large_products_keep_the_array_busy(rng):
    """A regression of the tiling, of prefetching or of the waits would show as idle cycles."""
    assert 64**3 / 64 / _cycles(_gemm(rng, 64, 64, 64)) > 0.85
    assert 128**3 / 64 / _cycles(_gemm(rng, 128, 128, 128)) > 0.95


def test_command_times_are_ordered(rng):
    """Each command ends after it begins, and begins after what it waits for; an EXECUTE after sums were read."""
    program = _gemm(rng, 40, 72, 48)
    times = timeline(configuration(), program)
    assert (times.done > times.begun).all()
    ends = {name: [0.0] for name in program.counts}
    for command, start, end in zip(program.commands, times.begun, times.done, strict=True):
        assert all(start >= ends[name][count] for name, count in command.waits.items()
                   if (command.opcode, name) != (Opcode.EXECUTE, "post"))
        ends[command.opcode.name.lower()].append(end)


def test_unending_programs(rng):
    """A program that waits for itself would hang the model, or end it with an error that no user can read."""
    program = _gemm(rng, 8, 8, 8)
    body = next(each.body for each in program.commands if each.opcode is Opcode.EXECUTE)
    program.stream(Opcode.EXECUTE).append(body, 0, program.counts["execute"] + 1, 0, 0)
    with pytest.raises(UnendingError, match=r"^a program of \d+ commands waits for what never happens") as caught:
        timeline(configuration(), program)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_unending_candidates_are_not_chosen(rng, monkeypatch, share):
    """A tiling that the model of time cannot follow would stop the compilation of a layer that has others."""
    ended = []

    def sometimes(config: object, program: Program, timing: object, limit: object) -> Timeline:
        if rng.random() < share:
            raise UnendingError("a program waits for what never happens")
        found = timeline(configuration(), program)
        ended.append(found.cycles)
        return found

    monkeypatch.setattr(schedule, "timeline", sometimes)
    cycles = _cycles(_gemm(rng, 48, 100, 60, dataflow="weight-stationary"))
    assert cycles <= 1.1 * min(ended, default=float("inf"))
