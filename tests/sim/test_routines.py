"""Programs with routines on the RTL: loads, contractions, routines and stores that wait for one another."""

import numpy as np
import pytest
from drawn_floats import float_configuration
from float_draws import FLOAT32, to_bits
from routine_commands import Model, command, draw_instruction, draw_vectors
from slow import engines

from pearray.hdl.routines.instructions import INSTRUCTION_BYTES, Operation
from pearray.hdl.shell.commands import Opcode, Rounding
from pearray.sim.engine import Disturbance, Job, run

#: That of the other quick tests of floats.
SYSTEM = float_configuration()

#: Where things stand in memory: the program, operands, what routines work on, instructions, and outputs.
PROGRAM, A, W, VECTORS, ROUTINES, OUT = 0x0, 0x4000, 0x5000, 0x6002, 0xB000, 0x10000

ONE = {"count1": 1, "count2": 1}


class Program:
    """A program that is written command by command, and what it must leave in memory.

    Parameters
    ----------
    rng : Generator
        Where its numbers come from.
    """

    def __init__(self, rng):
        self.rng, self.config = rng, SYSTEM.hardware
        self.model = Model(self.config)
        self.commands, self.counts, self.expected, self.end = [], dict.fromkeys(Opcode, 0), [], OUT
        #: Bytes of the output scratchpad that hold what is stored, and of memory.
        self.operands = {A: rng.integers(-8, 9, (6, 5)), W: rng.integers(-8, 9, (5, 4))}
        self.vectors = draw_vectors(rng, self.config)
        self.routine = [draw_instruction(rng, operation) for operation in (
            Operation.LOAD_WORD, Operation.LOAD_NARROW, Operation.INDEX, Operation.ADD, Operation.STORE_WORD,
            Operation.DIV, Operation.MIX, Operation.STORE_NARROW, Operation.SQRT, Operation.NARROW_RANDOM,
            Operation.STORE_WORD, Operation.SELECT)]

    def put(self, opcode, body, *waits):
        """Add a command that waits for all commands of some queues that stand before it."""
        self.commands.append((opcode, {each.name.lower(): self.counts[each] for each in waits}, body))
        self.counts[opcode] += 1

    def load(self, name, dram, address, length, *waits, **rows):
        """Add a LOAD."""
        body = {"destination": self.config.commands.destination[name], "dram": dram, "address": address,
                "length": length} | ONE | rows
        self.put(Opcode.LOAD, body, *waits)

    def load_vectors(self):
        """Load rows of bytes to some place, of any even alignment, once all routines before are done."""
        size, rng = len(self.vectors), self.rng
        length, rows = int(rng.integers(1, 200)) * 2, int(rng.integers(1, 4))
        source, address = (int(each) * 2 for each in rng.integers(0, (size - length * rows) // 2, 2))
        steps = {"count1": rows, "dram_step1": length, "step1": length}
        self.load("VECTOR", VECTORS + source, address, length, Opcode.POST, **steps)
        total = rows * length
        self.model.vectors[address:address + total] = self.vectors[source:source + total]

    def contract(self, bank, out):
        """Contract small integers, and write the sums as they are."""
        a, w = self.operands[A], self.operands[W]
        (rows, inner), cols = a.shape, w.shape[1]
        self.load("ACTIVATION", A, 0, a.size * 2, Opcode.EXECUTE)
        self.load("WEIGHT", W, 0, w.size * 2, Opcode.EXECUTE)
        self.put(Opcode.EXECUTE, {
            "first": 1, "bank": bank, "k_total": inner, "run": inner, "run_count": 1, "n_count": 1, "m_count0": rows,
            "m_count1": 1, "m_count2": 1, "m_step0": inner, "w_pitch": cols}, Opcode.LOAD, Opcode.POST)
        raw = bool(self.rng.integers(2))
        size = 4 if raw else 2
        self.put(Opcode.POST, {"rounding": Rounding.NONE if raw else Rounding.ONNX, "bank": bank, "n_count": 1,
                               "m_count": rows, "out_base": out, "out_mstep": size * cols},
                 Opcode.EXECUTE, Opcode.STORE)
        bits = to_bits((a @ w).astype(np.float32), FLOAT32 if raw else self.model.format)
        self.model.written[out:out + bits.size * size] = bits.astype(f"<u{size}").view(np.uint8).ravel()

    def run_routine(self):
        """Run some of the instructions."""
        first = int(self.rng.integers(len(self.routine)))
        body = command(self.rng, self.config, first, int(self.rng.integers(1, len(self.routine) - first + 1)))
        self.put(Opcode.POST, body, Opcode.LOAD, Opcode.STORE)
        self.model.run(body)

    def store(self):
        """Store what has been written of the output scratchpad, in rows that are as long as they can be."""
        written = self.model.written >= 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], written.astype(np.int8), [0]])))
        for begin, end in edges.reshape(-1, 2).tolist():
            self.put(Opcode.STORE, {"dram": self.end, "address": begin, "length": end - begin} | ONE, Opcode.POST)
            self.expected.append((self.end, self.model.written[begin:end].astype(np.uint8).tobytes()))
            self.end += end - begin + int(self.rng.integers(3))

    def job(self):
        """Return it with its memory."""
        self.put(Opcode.END, {}, Opcode.STORE)
        encoded = b"".join(self.config.commands.encode(opcode, waits, body) for opcode, waits, body in self.commands)
        narrow = [(at, to_bits(each.astype(np.float32), self.model.format).astype("<u2").tobytes())
                  for at, each in self.operands.items()]
        stored = b"".join(each.encode() for each in self.routine)
        segments = [(PROGRAM, encoded), *narrow, (VECTORS, self.vectors.tobytes()), (ROUTINES, stored)]
        return Job(self.config, segments, PROGRAM, [(at, len(each)) for at, each in self.expected], SYSTEM.memory)


def random_program(rng):
    """Draw a program of routines among contractions, with loads under way."""
    program = Program(rng)
    size = len(program.routine) * INSTRUCTION_BYTES
    program.model.routines[:size] = np.frombuffer(b"".join(each.encode() for each in program.routine), np.uint8)
    program.load("ROUTINE", ROUTINES, 0, size)
    program.load("VECTOR", VECTORS, 0, len(program.vectors))
    program.model.vectors[:] = program.vectors
    for _ in range(3):
        for act in rng.permutation(5).tolist():
            if act < 2:
                program.run_routine()
            elif act == 2:
                program.contract(int(rng.integers(2)), int(rng.integers(8)) * 32)
            elif act == 3:
                program.load_vectors()
            else:
                program.store()
    program.store()
    return program


@pytest.mark.parametrize("engine", engines("amaranth", "cocotb"))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_drawn_programs(rng, engine, stall):
    """A token that comes too early, a port that two write, or a command out of turn leaves other bytes in memory."""
    program = random_program(rng)
    outcome = run(program.job(), engine, disturbance=Disturbance(stall=stall if engine != "amaranth" else 0.0))
    for found, (address, expected) in zip(outcome.regions, program.expected, strict=True):
        assert found == expected, f"at {address:#x}"
    assert outcome.counters["post_commands"] == program.counts[Opcode.POST]
    assert sum(sum(each.values()) for each in outcome.ledger) == outcome.cycles
