"""Waits that follow from what commands read and write."""

import numpy as np
from random_workloads import configuration

from pearray.compiler.hazards import Hazards, Region
from pearray.compiler.program import QUEUES, Program
from pearray.hdl.shell.commands import Opcode

_OPCODES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.POST, Opcode.STORE, Opcode.MOVE)


def _drawn_regions(rng):
    regions = []
    for _ in range(rng.integers(0, 3)):
        first = int(rng.integers(0, 20))
        regions.append(Region("ab"[rng.integers(2)], first, first + int(rng.integers(1, 8))))
    return regions


def test_every_conflict_is_waited_for(rng):
    """Of two commands that touch the same place, one of which writes it, the later starts when the earlier is over.

    That may be by a wait of its own, by one of those before it in its queue, or by those of what it waits for.
    """
    for _ in range(30):
        program = Program(configuration(moves=1).commands)
        hazards = Hazards(program)
        commands = []
        for _ in range(60):
            opcode = _OPCODES[rng.integers(len(_OPCODES))]
            reads, writes = _drawn_regions(rng), _drawn_regions(rng)
            hazards.emit(opcode, {}, reads, writes)
            commands.append((opcode, reads, writes))
        over, ordinals = [], dict.fromkeys(QUEUES.values(), 0)
        ends = {queue: [] for queue in QUEUES.values()}
        for command, (opcode, reads, writes) in zip(program.commands, commands, strict=True):
            queue = QUEUES[opcode]
            # All that is over when it starts: counts of each queue.
            clock = dict(ends[queue][-1] if ends[queue] else dict.fromkeys(ordinals, 0))
            clock[queue] = ordinals[queue]
            for other, count in command.waits.items():
                for name, value in (ends[other][count - 1] if count else {}).items():
                    clock[name] = max(clock[name], value)
                clock[other] = max(clock[other], count)
            ordinals[queue] += 1
            ends[queue].append(clock | {queue: ordinals[queue]})
            for before, (other, number, others_reads, others_writes) in enumerate(over):
                conflict = any(mine.memory == theirs.memory and mine.first < theirs.end and theirs.first < mine.end
                               for mines, theirs_all in ((writes, [*others_reads, *others_writes]),
                                                         (reads, others_writes))
                               for mine in mines for theirs in theirs_all)
                assert not conflict or number <= clock[other], (before, command)
            over.append((queue, ordinals[queue], reads, writes))


def test_no_wait_for_what_touches_other_places():
    """A wait too many would let the array stand."""
    program = Program(configuration(moves=1).commands)
    hazards = Hazards(program)
    hazards.emit(Opcode.LOAD, {}, writes=[Region("a", 0, 8)])
    hazards.emit(Opcode.EXECUTE, {}, reads=[Region("a", 8, 16), Region("b", 0, 8)])
    hazards.emit(Opcode.POST, {}, reads=[Region("b", 0, 8)])
    assert all(not any(command.waits.values()) for command in program.commands)


def test_programs_follow_one_another(rng):
    """What stands behind another program waits for all of it, and for what it has waited for itself."""
    first, second = (Program(configuration(moves=1).commands) for _ in range(2))
    counts = np.array([int(rng.integers(1, 5)) for _ in range(2)])
    for _ in range(counts[0]):
        first.load({}, length=1, count1=1, count2=1)
    for _ in range(counts[1]):
        second.load({}, length=2, count1=1, count2=1)
    second.execute({"load": int(counts[1])}, n_count=3)
    first.follow(second)
    *loads, execute = first.commands
    assert first.counts["load"] == len(loads) == counts.sum()
    assert [load.waits["load"] for load in loads] == [0] * counts[0] + [counts[0]] * counts[1]
    assert (execute.waits["load"], execute.body["n_count"], loads[-1].body["length"]) == (counts.sum(), 3, 2)
