"""Drawn programs of commands of every queue, MOVEs among them, each of which waits for just what it must wait for.

What that is, the interpreter finds: it tells which commands' reads and writes a command's own must not overtake. So
engines overlap as much as they ever may, and a byte that is late, early or lost shows in what is stored.
"""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from needs import NeededWaits

from pearray.compiler.kinds import interpreter
from pearray.compiler.program import QUEUES, Program, disassemble
from pearray.compiler.validate import validate
from pearray.hdl.shell.commands import ADDRESS_BITS, COMMAND_BYTES, Opcode, Rounding
from pearray.hdl.shell.config import Config
from pearray.hdl.systolic.commands import Destination
from pearray.memory import DEFAULT_MEMORY, MemoryTiming
from pearray.sim import Job

__all__ = ["DrawnCase"]

#: Where the program stands, its constants, and what it stores.
PROGRAM, CONSTANTS, OUTPUTS = 0x1000, 0x8000, 0xA000
_SIZE = 0x2000
_LOAD, _STORE = (list(QUEUES).index(opcode) for opcode in (Opcode.LOAD, Opcode.STORE))


class _Drawer:
    """Draws the commands of a program one after another, and does them."""

    def __init__(self, rng: np.random.Generator, config: Config):
        self.rng, self.config = rng, config
        self.item = config.operand_bytes
        self.pads = {Destination.ACTIVATION: config.scratchpads.activation_bytes,
                     Destination.WEIGHT: config.scratchpads.weight_bytes}
        self._waits = NeededWaits(config, OUTPUTS + _SIZE)
        self.machine, self.program, self.emit = self._waits.machine, self._waits.program, self._waits.emit
        self.constants = rng.integers(0, 256, _SIZE, dtype=np.uint8)
        self.machine.write([(CONSTANTS, self.constants.tobytes())])
        self.before = rng.integers(0, 256, _SIZE, dtype=np.uint8)
        self.machine.write([(OUTPUTS, self.before.tobytes())])
        self.stored = 0

    def begin(self) -> None:
        """Give contents to all memories: nothing depends on what stood there before."""
        config, one = self.config, {"count1": 1, "count2": 1}
        for destination, size in self.pads.items():
            self.emit(Opcode.LOAD, {"destination": destination.value, "dram": CONSTANTS, "length": size, **one})
        depth, cols, line = config.accumulators.depth, config.array.cols, config.array.cols * config.sum_bytes
        for bank in range(2):
            self.emit(Opcode.EXECUTE, {
                "first": 1, "bank": bank, "k_total": 1, "run": 1, "run_count": 1, "n_count": 1, "m_count0": depth,
                "m_count1": 1, "m_count2": 1, "m_step0": 1, "w_pitch": cols, "a_base": bank})
        rows = min(depth, config.scratchpads.output_bytes // line)
        for base in range(0, config.scratchpads.output_bytes, rows * line):
            self.emit(Opcode.POST, {"rounding": Rounding.NONE, "bank": base // (rows * line) % 2, "n_count": 1,
                                    "m_count": rows, "out_mstep": line, "out_base": base})

    def rows(self, space: int, length: int, count1: int, count2: int, start: int = 0) -> tuple[int, int, int]:
        """Draw the first byte and the steps of rows inside a memory, both signs among the steps."""
        rng, item = self.rng, self.item
        while True:
            steps = [item * int(rng.integers(-3 * length // item, 3 * length // item + 1)) for _ in range(2)]
            spans = [step * (count - 1) for step, count in zip(steps, (count1, count2), strict=True)]
            low, high = sum(min(0, span) for span in spans), sum(max(0, span) for span in spans) + length
            if high - low <= space:
                first = -low + item * int(rng.integers((space - high + low) // item + 1))
                return start + first, steps[0], steps[1]

    def block(self) -> dict[str, int]:
        """Draw the shape of a block: mostly short rows, and some of many beats."""
        rng = self.rng
        most = int(rng.choice([3, 12, 40, 150])) // self.item
        return {"length": self.item * int(rng.integers(1, most + 1)), "count1": int(rng.integers(1, 5)),
                "count2": int(rng.integers(1, 3))}

    def load(self) -> None:
        rng, shape = self.rng, self.block()
        destination = Destination(int(rng.integers(2)))
        address, step1, step2 = self.rows(self.pads[destination], **shape)
        dram, dram1, dram2 = self.rows(_SIZE, **shape, start=CONSTANTS)
        places = {"address": address, "step1": step1, "step2": step2}
        wrapped = {name: value % (1 << ADDRESS_BITS) for name, value in places.items()}
        fill = int(rng.random() < 0.25)
        self.emit(Opcode.LOAD, {"destination": destination.value, "fill": fill, "value": int(rng.integers(256)),
                                "dram": dram, "dram_step1": dram1 % (1 << 32), "dram_step2": dram2 % (1 << 32),
                                **shape, **wrapped})

    def move(self) -> None:
        shape = self.block()
        destination = Destination(int(self.rng.integers(2)))
        address, step1, step2 = self.rows(self.config.scratchpads.output_bytes, **shape)
        target, target1, target2 = self.rows(self.pads[destination], **shape)
        places = {"address": address, "step1": step1, "step2": step2, "target": target, "target_step1": target1,
                  "target_step2": target2}
        wrapped = {name: value % (1 << ADDRESS_BITS) for name, value in places.items()}
        self.emit(Opcode.MOVE, {"destination": destination.value, **shape, **wrapped})

    def execute(self) -> None:
        rng, config = self.rng, self.config
        pixels = int(rng.integers(1, config.accumulators.depth // 2))
        total = int(rng.integers(1, 2 * config.array.rows))
        step = int(rng.integers(1, 4))
        a_most = self.pads[Destination.ACTIVATION] // self.item - (pixels - 1) * step - total
        w_most = self.pads[Destination.WEIGHT] // self.item - total * config.array.cols
        self.emit(Opcode.EXECUTE, {
            "first": 1, "bank": int(rng.integers(2)), "k_total": total, "run": total, "run_count": 1, "n_count": 1,
            "m_count0": pixels, "m_count1": 1, "m_count2": 1, "m_step0": step, "w_pitch": config.array.cols,
            "a_base": int(rng.integers(a_most + 1)), "w_base": int(rng.integers(w_most + 1)),
            "acc_base": int(rng.integers(config.accumulators.depth - pixels + 1))})

    def post(self) -> None:
        rng, config = self.rng, self.config
        line = config.array.cols * config.sum_bytes
        rows = int(rng.integers(1, min(config.accumulators.depth, config.scratchpads.output_bytes // line) + 1))
        group = config.post.lanes * config.sum_bytes
        most = (config.scratchpads.output_bytes - rows * line) // group
        self.emit(Opcode.POST, {
            "rounding": Rounding.NONE, "bank": int(rng.integers(2)), "n_count": 1, "m_count": rows,
            "acc_base": int(rng.integers(config.accumulators.depth - rows + 1)), "out_mstep": line,
            "out_base": group * int(rng.integers(most + 1))})

    def store(self) -> None:
        rng, shape = self.rng, self.block()
        step = shape["length"] + self.item * int(rng.integers(0, 5))
        size = step * shape["count1"] * shape["count2"]
        if self.stored + size > _SIZE:
            return
        address, step1, step2 = self.rows(self.config.scratchpads.output_bytes, **shape)
        self.emit(Opcode.STORE, {
            "dram": OUTPUTS + self.stored, "dram_step1": step, "dram_step2": step * shape["count1"], **shape,
            "address": address, "step1": step1 % (1 << ADDRESS_BITS), "step2": step2 % (1 << ADDRESS_BITS)})
        self.stored += size


class DrawnCase:
    """A drawn program, with what tests of disturbance ask of a compiled operator (``tests/kinds.py``).

    Parameters
    ----------
    rng
        Generator.
    count : int
        Commands, besides those that give all memories contents and bring some of them out.
    transfers : bool
        Whether there are LOADs and STOREs among them.
    """

    operator = "drawn program"

    def __init__(self, rng: np.random.Generator, count: int, *, transfers: bool = True):
        self._rng, self._count = rng, count
        self._shares = (0.15, 0.35, 0.15, 0.2, 0.15) if transfers else (0, 0.45, 0.25, 0.3, 0)

    def compile(self, config: Config, *, search: bool = False) -> "DrawnCase":
        """Draw the program for a configuration with the systolic array and MOVEs; there is nothing to search for."""
        rng, drawer = self._rng, _Drawer(self._rng, config)
        drawer.begin()
        names = ("load", "move", "execute", "post", "store")
        for name in rng.choice(names, self._count, p=self._shares):
            getattr(drawer, name)()
        # What has been moved is seen in sums.
        for name in ("move", "execute", "post", "store"):
            getattr(drawer, name)()
        encoded = drawer.program.encode()
        validate(encoded, queues=config.commands.queues)
        assert len(encoded) <= CONSTANTS - PROGRAM
        # With all fields, as the compiler's are.
        self.program = Program.of(config.commands, (replace(each, body={
            name: getattr(value, "value", value) for name, value in each.body.items()})
            for each in disassemble(encoded, config.commands)))
        self.segments = [(PROGRAM, encoded), (CONSTANTS, drawer.constants.tobytes()),
                         (OUTPUTS, drawer.before.tobytes())]
        # The interpreter itself finds no race in it, and the same outputs.
        machine = interpreter(config, OUTPUTS + _SIZE)
        machine.write(self.segments)
        machine.run(PROGRAM)
        self.expected = machine.dram[OUTPUTS:].copy()
        np.testing.assert_array_equal(self.expected, drawer.machine.dram[OUTPUTS:])
        x, y = (SimpleNamespace(address=address, nbytes=_SIZE) for address in (CONSTANTS, OUTPUTS))
        self.compiled = SimpleNamespace(program_address=PROGRAM, inputs={"x": x}, outputs={"y": y})
        touched = drawer.machine._dram_race
        self._touched = {CONSTANTS: touched._read[_LOAD], OUTPUTS: touched._written[_STORE]}
        return self

    @property
    def commands(self) -> list[bytes]:
        """Commands of the program, the end included."""
        encoded = self.segments[0][1]
        return [encoded[start:start + COMMAND_BYTES] for start in range(0, len(encoded), COMMAND_BYTES)]

    def address(self, rng: np.random.Generator, placed: Any) -> int:
        """Draw an address that the program reads or writes."""
        return int(rng.choice(np.flatnonzero(self._touched[placed.address])))

    def job(self, config: Config, memory: MemoryTiming = DEFAULT_MEMORY) -> Job:
        """Job that reads the outputs back."""
        return Job(config, self.segments, PROGRAM, [(OUTPUTS, _SIZE)], memory)

    def compare(self, read: Callable[[int, int], bytes]) -> None:
        """Compare all that was stored, and what stands between, given what reads (address, length) of memory."""
        np.testing.assert_array_equal(np.frombuffer(read(OUTPUTS, _SIZE), np.uint8), self.expected)
