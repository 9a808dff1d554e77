"""How waits are encoded and compared: the helpers, and every course that small programs can take on small queues."""

import itertools

import numpy as np
import pytest

from pearray.compiler import program as assembler
from pearray.compiler.program import QUEUES, Program, disassemble
from pearray.compiler.validate import validate
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell import waits
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.systolic.commands import COMMANDS

OPCODES = list(QUEUES)
NAMES = list(QUEUES.values())
LOAD, EXECUTE, POST, STORE = range(4)

#: Counts of three bits bear four commands behind: one in the queue's memory, one in its slot and two in the engine.
BITS, DEPTH, IN_ENGINE = 3, 1, 2
HELD = DEPTH + 1 + IN_ENGINE


def test_comparison():
    """A comparison that is off by one, or not modular, opens a gate too early, or never."""
    for bits, completed, away in itertools.product((2, 3, 5), range(40), range(-16, 16)):
        half = 1 << bits - 1
        if not -half <= away < half:
            continue
        wait = waits.wait_field(completed - away, bits)
        assert 0 <= wait < 2 * half
        for count in (completed, completed % (2 * half)):
            assert waits.lead(count, wait, bits) == away
            assert waits.reached(count, wait, bits) == (away >= 0)
        assert waits.meant(wait, completed, bits) == completed - away
    assert waits.reached(np.array([32767, 32768]), 0).tolist() == [True, False]


class Machine:
    """Shell of small queues: what is fetched, taken and completed, with time left open.

    A state is how many commands have been fetched, and how many of each queue have been taken and completed. For the
    pairs of queues in ``early``, commands of the second count for the first as soon as they have been taken; those that
    are given back later count at some time between.
    """

    def __init__(self, program, early=((EXECUTE, POST),), bits=BITS):
        self._bits, self._early = bits, early
        self._commands = disassemble(program, COMMANDS, bits)
        self._queues = [OPCODES.index(command.opcode) for command in self._commands]
        self._of = [[command.waits for command in self._commands if OPCODES.index(command.opcode) == queue]
                    for queue in range(4)]

    def explore(self):
        """Go through all states; say what first goes wrong, or give their number."""
        first = (0, (0,) * 4, (0,) * 4)
        seen, left = {first}, [first]
        while left:
            state = left.pop()
            following = list(self._moves(*state))
            if any(isinstance(move, str) for move in following):
                return next(move for move in following if isinstance(move, str))
            if not following and state[0] < len(self._commands) + 1:
                return "nothing can go on"
            fresh = set(following) - seen
            seen |= fresh
            left += fresh
        return len(seen)

    def _moves(self, fetched, taken, completed):
        there = [self._queues[:fetched].count(queue) for queue in range(4)]
        if fetched < len(self._commands):
            queue = self._queues[fetched]
            if there[queue] - taken[queue] <= DEPTH:
                yield fetched + 1, taken, completed
        elif fetched == len(self._commands) and list(completed) == there:
            yield fetched + 1, taken, completed
        for queue in range(4):
            if completed[queue] < taken[queue]:
                yield fetched, taken, _more(completed, queue)
            if taken[queue] == there[queue]:
                continue
            gates = []
            for other, (name, count) in enumerate(self._of[queue][taken[queue]].items()):
                now = (taken if (queue, other) in self._early else completed)[other]
                gates.append(waits.reached(now, waits.wait_field(count, self._bits), self._bits))
                if gates[-1] != (now >= count):
                    yield (f"{NAMES[queue]} {taken[queue] + 1} waits for {name} {count} and "
                           f"{'starts' if gates[-1] else 'stays'} at {now}")
            if all(gates) and taken[queue] - completed[queue] < IN_ENGINE:
                yield fetched, _more(taken, queue), completed


def _more(counts, queue):
    return tuple(count + (index == queue) for index, count in enumerate(counts))


def random_program(rng, count, raised=True):
    """Draw a program in which some queues are rare; without ``raised``, its waits are encoded as they are."""
    program = Program(COMMANDS, BITS)
    share = rng.dirichlet([0.4] * 4)
    for _ in range(count):
        wanted = {name: int(rng.integers(max(0, total - 3), total + 1)) for name, total in program.counts.items()
                  if total and rng.random() < 0.3}
        program.emit(OPCODES[rng.choice(4, p=share)], wanted, {})
    if raised:
        return program.encode()
    parts = [COMMANDS.encode(command.opcode, command.waits, {}) for command in program.commands]
    return b"".join([*parts, COMMANDS.encode(Opcode.END, program.counts, {}, 0)])


@pytest.mark.parametrize("early", [((EXECUTE, POST),), ((EXECUTE, POST), (LOAD, EXECUTE))])
@pytest.mark.parametrize("number", range(20))
def test_no_course_of_a_program_misleads_a_gate(seed, number, early):
    """Some timing of engines and memory would let a command start too early, or hold it back for ever."""
    rng = np.random.default_rng([seed, number])
    program = random_program(rng, 24)
    validate(program, BITS, HELD)
    assert Machine(program, early).explore() > 24


def test_the_bounds_are_tight(monkeypatch):
    """Waits that may be one further away must mislead a gate, or the courses above prove nothing."""
    program = Program(COMMANDS, BITS)
    for _ in range(5):
        program.load({}, length=1)
    program.store({}, length=1)
    for _ in range(5):
        program.load({}, length=1)
    assert Machine(program.encode()).explore() > 24
    monkeypatch.setattr(assembler, "near", lambda bits: waits.near(bits) + 1)
    assert "stays" in Machine(program.encode()).explore()


def test_the_validator_refuses_what_misleads(seed):
    """A program that it lets pass would hang on hardware, or start a command too early."""
    found = {(True, True): 0, (True, False): 0, (False, False): 0}
    for number in range(60):
        rng = np.random.default_rng([seed, number])
        program = random_program(rng, int(rng.integers(4, 20)), raised=False)
        try:
            validate(program, BITS, HELD)
            passes = True
        except PearrayError:
            passes = False
        sound = isinstance(Machine(program).explore(), int)
        assert sound or not passes
        found[sound, passes] += 1
    assert found[True, True] > 0 < found[False, False]
    # What it refuses without need is rare: the tests above would say little if it refused what the assembler avoids.
    assert found[True, False] <= 3
