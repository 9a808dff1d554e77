# amaranth: UnusedElaboratable=no
"""Token gates with counts so narrow that they wrap every few commands."""

from collections import deque

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from command_sets import COMMAND_SETS

from pearray.compiler.program import Program
from pearray.compiler.validate import commands_before
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import COMMAND_BYTES
from pearray.hdl.shell.queues import slot_name
from pearray.hdl.shell.tokens import TokenGates
from pearray.hdl.shell.waits import near
from pearray.hdl.systolic.commands import COMMANDS
from pearray.sim.pysim import simulate

LOAD, EXECUTE, POST, STORE = range(4)

#: Commands in the memory of a queue, and in an engine: with the slot eight, which four bits just tell.
DEPTH, IN_ENGINE = 4, 3


class Shell:
    """Queues and engines around the gates. Now and then an engine gets stuck for a while, and others run ahead."""

    def __init__(self, rng, program, count_bits):
        self._rng = rng
        commands = program.format
        self._frees = commands.frees
        self._order, count = commands.queues, len(commands.queues)
        self._names = [opcode.name.lower() for opcode in commands.queues]
        self.module = Module()
        self.module.submodules.gates = self.gates = TokenGates(commands, count_bits)
        #: Commands that have started: the queue, its waits, and what had completed of each queue for them.
        self.started = []
        self.completed, self.taken, self._released = [0] * count, [0] * count, 0
        self._freed = dict.fromkeys(commands.frees, 0)
        self._stuck = [0] * count
        encoded = program.encode()
        bits = [int.from_bytes(encoded[start:start + COMMAND_BYTES], "little")
                for start in range(0, len(encoded), COMMAND_BYTES)]
        queues = [self._order.index(command.opcode) for command in program.commands] + [LOAD]
        self._fetch = deque(zip(queues, bits, [*program.commands, None], strict=True))
        self._queues = [deque() for _ in self._order]
        self._slots = [None] * count

    def run(self, patience=1000):
        """Run the program to its end; an AssertionError tells if nothing has started for long."""
        async def drive(ctx):
            count = len(self._order)
            ready, done, released, freed = [False] * count, [False] * count, False, dict.fromkeys(self._freed, False)
            streams = [getattr(self.gates, name) for name in self._names]
            waited = 0
            while True:
                _, _, finished, *valid = await ctx.tick().sample(
                    self.gates.finished, *(stream.valid for stream in streams))
                if finished:
                    return
                waited += 1
                for queue in range(count):
                    if valid[queue] and ready[queue]:
                        self._start(queue)
                        ctx.set(self.gates.valid[queue], 0)
                        waited = 0
                    self.completed[queue] += done[queue]
                self._released += released
                for name in freed:
                    self._freed[name] += freed[name]
                assert waited < patience, f"nothing starts after {self.taken} of {self._names}"
                self._bring(ctx)
                ready, done, released, freed = self._draw()
                for queue, stream in enumerate(streams):
                    ctx.set(stream.ready, ready[queue])
                ctx.set(self.gates.done, sum(one << queue for queue, one in enumerate(done)))
                ctx.set(self.gates.released, released)
                for name, value in freed.items():
                    ctx.set(getattr(self.gates, name), value)

        simulate(self.module, drive, timeout=1_000_000)

    def _start(self, queue):
        command, self._slots[queue] = self._slots[queue], None
        counts = list(self.completed)
        if queue == EXECUTE:
            counts[POST] = self._released
        if queue == LOAD and self._freed:
            name = {destination: name for name, destination in self._frees.items()}
            counts[EXECUTE] = self._freed[name.get(command.body["destination"], name[None])]
        self.started.append((queue, [command.waits.get(name, 0) for name in self._names], counts))
        self.taken[queue] += 1

    def _bring(self, ctx):
        """Fetch as long as there is room, and fill slots."""
        while self._fetch and len(self._queues[self._fetch[0][0]]) < DEPTH:
            queue, bits, command = self._fetch.popleft()
            self._queues[queue].append((bits, command))
        for queue, opcode in enumerate(self._order):
            if self._slots[queue] is None and self._queues[queue] and not ctx.get(self.gates.valid[queue]):
                bits, self._slots[queue] = self._queues[queue].popleft()
                slot = Value.cast(getattr(self.gates, slot_name(opcode)))
                ctx.set(slot, bits % (1 << len(slot)))
                ctx.set(self.gates.valid[queue], 1)

    def _draw(self):
        """Draw what the engines do in the next cycle."""
        rng = self._rng
        if rng.random() < 0.01:
            self._stuck[rng.integers(len(self._stuck))] = int(rng.integers(20, 150))
        self._stuck = [max(0, left - 1) for left in self._stuck]
        in_engine = [taken - completed for taken, completed in zip(self.taken, self.completed, strict=True)]
        works = [left == 0 and rng.random() < 0.9 for left in self._stuck]
        freed = {name: works[EXECUTE] and count < self.taken[EXECUTE] for name, count in self._freed.items()}
        first = min(self._freed.values(), default=self.taken[EXECUTE])
        released = works[POST] and self._released < self.taken[POST] and rng.random() < 0.9
        # What a command gives back early, it has given back when it completes.
        back = {EXECUTE: first, POST: self._released}
        done = [works[queue] and in_engine[queue] > 0 and self.completed[queue] < back.get(queue, 1 << 30)
                and rng.random() < 0.8 for queue in range(len(works))]
        ready = [works[queue] and in_engine[queue] < IN_ENGINE for queue in range(len(works))]
        return ready, done, released, freed


def random_program(rng, commands, count, count_bits):
    """Draw a program of stretches, in each of which other queues are rare; many waits are old, or left out."""
    program, queues = Program(commands, count_bits), len(commands.queues)
    while sum(program.counts.values()) < count:
        share = rng.dirichlet([0.3] * queues)
        for _ in range(int(rng.integers(20, 200))):
            wanted = {name: max(0, total - int(rng.choice([0, 1, 3, 10, 100]))) for name, total in
                      program.counts.items() if rng.random() < 0.3}
            queue = rng.choice(queues, p=share)
            body = {"destination": int(rng.choice([each.value for each in commands.destination]))}
            program.emit(commands.queues[queue], wanted, body if queue == LOAD else {})
    return program


@pytest.mark.parametrize("kind", COMMAND_SETS)
@pytest.mark.parametrize("count_bits", [4, 5])
def test_long_programs(rng, kind, count_bits):
    """A count that wraps would open a gate before its time, or never again."""
    commands = COMMAND_SETS[kind]
    program = random_program(rng, commands, 2000, count_bits)
    shell = Shell(rng, program, count_bits)
    shell.run()
    assert shell.completed == list(program.counts.values())
    for queue, waits, counts in shell.started:
        name = commands.queues[queue].name
        assert all(count >= wait for count, wait in zip(counts, waits, strict=True)), (name, waits, counts)
    # Counts wrapped many times, and ran as far ahead of a command in its slot as the assembler lets them.
    assert min(program.counts.values()) > 4 << count_bits
    numbers = np.array([commands.queues.index(command.opcode) for command in program.commands])
    before = commands_before(numbers, len(commands.queues))
    order = np.argsort(numbers, kind="stable")
    counts = np.array([counts for _, _, counts in sorted(shell.started, key=lambda start: start[0])])
    assert (counts - before[order]).max() == near(count_bits) - 1


def test_waits_left_out_as_zero_hold_commands(rng, monkeypatch):
    """The test above must see a program stop whose absent waits are encoded as zero, or it proves nothing."""
    program = Program(COMMANDS, 4)
    for _ in range(20):
        program.load({}, length=1)
    monkeypatch.setattr(Program, "_bring_near", lambda self, opcodes, waits: None)
    with pytest.raises(AssertionError, match=r"^nothing starts after \[\d+, 0, 0, 0\]"):
        Shell(rng, program, 4).run()


@pytest.mark.parametrize("count_bits", [1, 17])
def test_widths_of_counts(count_bits):
    """Wider counts than waits could not be compared, and of one bit no half could be told from the other."""
    with pytest.raises(PearrayError, match=rf"^count_bits must be in 2..16, not {count_bits}$"):
        TokenGates(COMMANDS, count_bits)
