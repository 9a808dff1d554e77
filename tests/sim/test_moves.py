"""MOVEs on the RTL: what the compiler's models say of them, and what the ledger, the trace and the engines do."""

from dataclasses import replace

import numpy as np
from kinds import PROGRAMS, SMALL
from random_moves import DrawnCase

from pearray.compiler.systolic.cost import EXACT, predict
from pearray.compiler.systolic.timeline import timeline
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.ledger import Cause
from pearray.perfetto import trace_events
from pearray.sim import run

MOVES = next(kind for kind in PROGRAMS if kind.name == "moves")
#: Counts of what moves, which no order of events changes.
COUNTS = (*EXACT, "move_commands", "moved_beats")


def outcome_of(case, **job):
    """Run a program, and compare what it stores."""
    task = replace(case.job(MOVES.small), **job)
    outcome = run(task)
    contents = dict(zip(task.read, outcome.regions, strict=True))
    case.compare(lambda address, length: contents[address, length])
    return outcome


def test_timing_is_exact_beside_no_transfers(seed):
    """The compiler would choose between keeping a tensor on chip and not by cycles that are none."""
    for number in range(6):
        case = DrawnCase(np.random.default_rng([seed, number]), 40, transfers=False).compile(MOVES.small)
        found = outcome_of(case, trace=True)
        times = timeline(MOVES.small, case.program)
        seen = {queue: list(found.trace.commands(index)) for index, queue in enumerate(case.program.counts)}
        # The only STORE comes last; what it shares the port with may be late.
        stored = seen["store"][0][1]
        numbers = dict.fromkeys(seen, 0)
        for place, command in enumerate(case.program.commands):
            queue = command.opcode.name.lower()
            _, taken, done = seen[queue][numbers[queue]]
            numbers[queue] += 1
            # The model counts from the cycle before.
            if done < stored:
                assert times.done[place] == done + 1, (number, place, str(command))
                assert command.opcode is Opcode.POST or times.begun[place] == taken + 1, (number, place, str(command))


def test_counters_are_predicted(seed):
    """A count of beats that depends on luck could not tell a lost one from none."""
    for number in range(6):
        case = DrawnCase(np.random.default_rng([seed, number]), 40).compile(MOVES.small)
        counters = outcome_of(case).counters
        predicted = predict(MOVES.small, case.program)
        assert {name: counters[name] for name in COUNTS} == {name: predicted[name] for name in COUNTS}
        # Beats that take turns are left out of the model's cycles.
        assert abs(counters["cycles"] - predicted["cycles"]) < 0.1 * counters["cycles"]


def test_the_ledger_adds_up(seed):
    """A cycle in which somebody waits for a MOVE would be charged to nobody, or twice."""
    charged = 0
    for number in range(6):
        found = outcome_of(DrawnCase(np.random.default_rng([seed, number]), 40).compile(MOVES.small))
        assert sum(sum(counts.values()) for counts in found.ledger) == found.cycles
        charged += sum(counts[Cause.MOVES] for counts in found.ledger)
    assert charged > 0


def test_the_trace_shows_the_queue(rng):
    """Who looks for what keeps an EXECUTE waiting would see a gap where MOVEs are."""
    case = DrawnCase(rng, 40).compile(MOVES.small)
    events = trace_events(case.program, outcome_of(case, trace=True).trace, [])
    names = [event["name"] for event in events if event["ph"] == "X"]
    assert [name for name in names if name.startswith("MOVE ")] == [
        f"MOVE {number}" for number in range(case.program.counts["move"])]


def test_operands_of_two_bytes(seed):
    """Halves of operands would be lost where a bank holds both, or counts be taken for zero in a narrow command."""
    config = SMALL["systolic-16"]
    for number in range(20):
        case = DrawnCase(np.random.default_rng([seed, number]), 60).compile(config)
        task = case.job(config)
        contents = dict(zip(task.read, run(task).regions, strict=True))
        case.compare(lambda address, length, contents=contents: contents[address, length])
