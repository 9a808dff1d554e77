"""Functional model of an accelerator's program: every command on NumPy memories, in program order.

Written from what ``hdl/shell/commands.py`` says, so that it judges the compiler and the hardware alike; requantisation
is the golden models', which are held to runtimes. Besides computing, it checks that no command reads what a command it
does not wait for has yet to write, or overwrites what such a command has yet to read. For this each command has a
clock: the commands of each queue that have certainly completed when it starts.

Waits are compared as gates compare them. When a command's turn comes, all before it have completed and none behind it,
so each count of completed commands, and of what is given back early, is that of the commands before it. A gate
that is closed then would open only by grace of commands behind, or never.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..golden import requantise
from ..golden.tensors import wrap
from ..hdl.post.pairs import pair_bytes, pair_words
from ..hdl.shell.commands import ADDRESS_BITS, COMMAND_BYTES, ROW_WRAP, Opcode, Parameter, Rounding
from ..hdl.shell.config import Config
from ..hdl.shell.waits import WAIT_BITS, meant, reached
from .cells import POSTED, QUEUE_NAMES, Cells, ProgramError
from .float_outputs import float_outputs
from .program import QUEUES
from .routine_posts import Routines, memories_of

__all__ = ["Interpreter"]

_POST = QUEUE_NAMES.index(QUEUES[Opcode.POST])


def _waited_for(opcode: Opcode, waits: dict[str, int], totals: list[int], count_bits: int) -> list[int]:
    """Commands of each queue that a command waits for, of those that stand before it."""
    counts = []
    # What a header has no wait for, no program has a command of.
    for name, total in zip(waits, totals, strict=False):
        count = meant(waits[name], total, count_bits)
        if not reached(total, waits[name], count_bits):
            raise ProgramError(f"{opcode.name} waits for ever, for {name} command {count} of {total} before it")
        if opcode is Opcode.END and count < total:
            raise ProgramError(f"END waits only for {count} of {total} {name} commands")
        counts.append(count)
    return counts


class Interpreter(ABC):
    """Memories of one accelerator, and what commands do to them: the shell's and those of post-processing.

    A kind of array adds its own memories and its EXECUTE; :func:`.kinds.interpreter` makes that of a configuration.

    Parameters
    ----------
    config : Config
        Configuration.
    dram_bytes : int
        Size of the memory behind the AXI port.
    """

    #: Parts of a clock: completed commands of each queue, and :data:`POSTED`.
    _CLOCKS = POSTED + 1

    def __init__(self, config: Config, dram_bytes: int):
        self.config = config
        self.dram = np.zeros(dram_bytes, np.uint8)
        pads = config.scratchpads
        # By the number of the memory in commands.
        self._bytes: dict[int, np.ndarray] = {
            Parameter.BIAS: np.zeros(pads.channels * 4, np.uint8),
            Parameter.SCALE: np.zeros(pads.channels * 8, np.uint8),
            Parameter.TABLE: np.zeros(config.sum_columns * 256, np.uint8),
        }
        if config.has_pairs:
            self._bytes[config.pair_memory] = np.zeros(pair_bytes(config), np.uint8)
        if config.has_routines:
            self._bytes |= memories_of(config)
            self._routines = Routines(config)
        self._dram_race = Cells("memory", dram_bytes, "store", "load")
        self._out = np.zeros(pads.output_bytes, np.uint8)
        self._out_race = Cells("output", pads.output_bytes, "post", ("store", "move") if config.has_moves else "store")
        self._races = {int(key): Cells(config.commands.destination(key).name.lower(), memory.size, "load", "post")
                       for key, memory in self._bytes.items()}
        self._lanes = config.post.lanes

    def write(self, segments: Iterable[tuple[int, bytes]]) -> None:
        """Put bytes into memory at each address."""
        for address, data in segments:
            self.dram[address:address + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, length: int) -> bytes:
        """Bytes of memory."""
        return self.dram[address:address + length].tobytes()

    def run(self, program_address: int, count_bits: int = WAIT_BITS) -> int:
        """Run a program up to its END, for hardware whose counts have `count_bits`; return how many commands ran.

        Raises
        ------
        ProgramError
            If a command is malformed or races, waits for ever, or would not be waited for at the end.
        """
        totals = [0] * len(QUEUE_NAMES)
        clocks: list[list[np.ndarray]] = [[] for _ in QUEUE_NAMES]
        steps = {Opcode.LOAD: self._load, Opcode.EXECUTE: self._execute, Opcode.POST: self._post,
                 Opcode.STORE: self._store, Opcode.MOVE: self._move}
        ran = 0
        while True:
            opcode, waits, body = self.config.commands.decode(
                self.read(program_address + ran * COMMAND_BYTES, COMMAND_BYTES))
            try:
                counts = _waited_for(opcode, waits, totals, count_bits)
                if opcode is Opcode.END:
                    return ran
                queue = QUEUE_NAMES.index(QUEUES[opcode])
                clock = clocks[queue][-1].copy() if clocks[queue] else np.zeros(self._CLOCKS, np.int64)
                for other, count in enumerate(counts):
                    if count > 0:
                        clock = np.maximum(clock, clocks[other][count - 1])
                        self._met(clock, opcode, body, other, count)
                clocks[queue].append(clock)
                totals[queue] += 1
                steps[opcode](totals[queue], clock, body)
            except ProgramError as error:
                raise ProgramError(f"command {ran}: {error}") from None
            ran += 1

    def _met(self, clock: np.ndarray, opcode: Opcode, body: dict[str, Any], other: int, count: int) -> None:
        """Note what is over when a command's wait for a count of another queue is met."""
        if other == _POST:
            clock[POSTED] = max(clock[POSTED], count)
            if opcode is Opcode.EXECUTE:
                # Given back as soon as it has read its sums, it may have outputs yet to write.
                return
        clock[other] = max(clock[other], count)

    @staticmethod
    def _rows(base: int, step2: int, step1: int, body: dict[str, Any], modulus: int) -> np.ndarray:
        starts = (base + np.arange(body["count2"], dtype=np.int64)[:, None] * step2
                  + np.arange(body["count1"], dtype=np.int64) * step1) % modulus
        return ((starts[..., None] + np.arange(body["length"], dtype=np.int64)) % modulus).reshape(-1)

    def _load(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        target = self._rows(body["address"], body["step2"], body["step1"], body, 1 << ADDRESS_BITS)
        if not target.size:
            raise ProgramError("load of nothing")
        if body["fill"]:
            values = np.full(target.size, body["value"], np.uint8)
        else:
            source = self._rows(body["dram"], body["dram_step2"], body["dram_step1"], body, 1 << 32)
            self._dram_race.read(source, ordinal, clock)
            values = self.dram[source]
        self._put(body["destination"], target, values, ordinal, clock)

    def _put(self, destination: int, target: np.ndarray, values: np.ndarray, ordinal: int, clock: np.ndarray) -> None:
        """Write the bytes that a LOAD brings to a memory."""
        self._races[destination].write(target, ordinal, clock)
        self._bytes[destination][target] = values

    @abstractmethod
    def _execute(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Do an EXECUTE."""

    @abstractmethod
    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Do a POST: take its sums, and :meth:`_finish` them."""

    def _line(self, memory: int, line: np.ndarray, size: int, ordinal: int, clock: np.ndarray) -> np.ndarray:
        width = self._lanes * size
        index = line[..., None] * width + np.arange(width)
        self._races[memory].read(index.reshape(-1), ordinal, clock)
        return self._bytes[memory][index]

    def _routine(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Run a routine on all passes of a POST."""
        read, written, values = self._routines.run(self._bytes, body)
        for memory, index in read.items():
            self._races[memory].read(index, ordinal, clock)
        self._out_race.write(written, ordinal, clock)
        self._out[written] = values

    def _finish(self, n: Any, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> None:
        """Turn sums (rows, columns) of tiles `n` and rows `m` into outputs; `scale` is the first line of entries."""
        if body.get("transposed"):
            sums = self._used(sums, body)
        columns, rounding = sums.shape[1], body["rounding"]
        size = self.config.sum_bytes if rounding is Rounding.NONE else self.config.operand_bytes
        if body.get("pair"):
            sums = self._pair(sums, ordinal, clock, body)
        if body.get("product"):
            sums = self._product(sums, body)
        bias = self._bias(n, m, sums, ordinal, clock, body) if body["bias"] else None
        if self.config.has_floats:
            sums = float_outputs(self.config, sums, bias, body)
        else:
            sums = sums if bias is None else self._wrapped(sums + bias)
            sums = self._rounded(m, scale, sums, ordinal, clock, body)
        if body.get("reduce"):
            m, sums = self._greatest(m, sums, body)
        base = (body["out_base"] + n * body["out_nstep"] + m * body["out_mstep"]) % (1 << ADDRESS_BITS)
        unit, step = self._lanes * size, size
        if body.get("transposed"):
            unit, step = size, body["lane_lines"] * self.config.output_banks + size
        if (base % unit).any():
            raise ProgramError(f"output address must be a multiple of {unit}")
        raw = sums.astype(np.int64).view(np.uint8).reshape(len(sums), columns, 8)[:, :, :size]
        index = base[:, None, None] + np.arange(columns)[:, None] * step + np.arange(size)
        self._out_race.write(index.reshape(-1), ordinal, clock)
        # What a later row writes to the same place stays.
        self._out[index.reshape(-1)] = raw.reshape(-1)

    def _bias(self, n: Any, m: Any, sums: np.ndarray, ordinal: int, clock: np.ndarray,
              body: dict[str, Any]) -> np.ndarray:
        """Words of biases of sums."""
        line = np.array(body["bias_base"] + n * body["bias_nstep"] + m * body["bias_mstep"]) % ROW_WRAP
        bias = self._entries(Parameter.BIAS, line, sums.shape[1], body, ordinal, clock, each=1)
        return bias.view("<i4").reshape(sums.shape)

    def _rounded(self, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                 body: dict[str, Any]) -> np.ndarray:
        """Sums with their biases as outputs."""
        if body["rounding"] is Rounding.NONE:
            return np.maximum(sums, 0) if body["table"] else sums
        sums = self._scaled(m, scale, sums, ordinal, clock, body)
        if not body["table"]:
            return sums
        index = np.arange(sums.shape[1]) * 256 + (sums & 255)
        self._races[Parameter.TABLE].read(index.reshape(-1), ordinal, clock)
        return self._bytes[Parameter.TABLE][index].astype(np.int64)

    def _scaled(self, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> np.ndarray:
        """Sums of rows `m`, rounded and clamped."""
        entry = self._entries(Parameter.SCALE, np.array([scale]), sums.shape[1], body, ordinal, clock,
                              each=int(bool(body["per_channel"])))[0]
        return np.clip(self._round(sums, entry, body), body["low"], body["high"])

    def _used(self, sums: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Sums of the columns that a transposed POST makes into outputs."""
        columns = (body["last_group"] + 1) * self._lanes
        if columns > sums.shape[1]:
            raise ProgramError(f"last_group must be at most {sums.shape[1] // self._lanes - 1}")
        if body["rounding"] is Rounding.NONE or body.get("pair"):
            raise ProgramError("transposed excludes pairs and sums that are not rounded")
        return sums[:, :columns]

    def _entries(self, memory: Parameter, line: np.ndarray, columns: int, body: dict[str, Any], ordinal: int,
                 clock: np.ndarray, *, each: int) -> np.ndarray:
        """Bytes of constants (rows, columns, bytes) of rows at some lines, `each` lines from a group to the next.

        With ``transposed`` lines are entries, of which all columns get the same one.
        """
        size = 4 if memory is Parameter.BIAS else 8
        if body.get("transposed"):
            index = line[:, None] * size + np.arange(size)
            self._races[memory].read(index.reshape(-1), ordinal, clock)
            return np.repeat(self._bytes[memory][index][:, None], columns, 1)
        lines = line[:, None] + np.arange(columns // self._lanes) * each
        return self._line(memory, lines, size, ordinal, clock).reshape(len(line), columns, size).copy()

    def _pair(self, sums: np.ndarray, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Sums of the table entries that the low bytes of sums choose."""
        self._check_pair(body, "pair")
        return self._looked_up(sums, ordinal, clock)

    def _looked_up(self, sums: np.ndarray, ordinal: int, clock: np.ndarray) -> np.ndarray:
        """Sums of the entries of both tables of pairs."""
        memory = self.config.pair_memory
        words, total = pair_words(self.config), np.zeros_like(sums)
        for table in range(2):
            index = ((sums >> 8 * table & 255) * words + table) * 4
            self._races[memory].read(index.reshape(-1), ordinal, clock)
            total += self._bytes[memory].view("<i4")[index // 4]
        return self._wrapped(total)

    def _product(self, sums: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Products of the low bytes of sums, less their zero points."""
        self._check_pair(body, "product")
        first, second = sums & 255, -(sums >> 8) & 255
        low, high = body["bias_base"] & 255, body["bias_base"] >> 8
        addend = (body["bias_nstep"] | (body["bias_mstep"] & 15) << 16) - (body["bias_mstep"] & 8) * (1 << 17)
        products: np.ndarray = (first - low) * (second - high) + addend
        if products.size and not -(1 << 19) <= products.min() <= products.max() < 1 << 19:
            raise ProgramError(f"products must fit 20 bits, not be {products.min()} or {products.max()}")
        return products

    @staticmethod
    def _check_pair(body: dict[str, Any], flag: str) -> None:
        """Check that a command uses nothing that comes too early for what a pair makes."""
        for name in ("bias", "per_channel", "scale_nstep", "table"):
            if body[name]:
                raise ProgramError(f"{name} must be zero with {flag}")

    def _greatest(self, m: np.ndarray, values: np.ndarray, body: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the windows among rows `m` of outputs, and the greatest of each window and column."""
        size = body["reduce"] + 1
        if body["rounding"] is Rounding.NONE:
            raise ProgramError("reduce must be zero with Rounding.NONE")
        if len(m) % size:
            raise ProgramError(f"m_count must be a multiple of reduce + 1 = {size}, not {len(m)}")
        # As the bytes that would be written are read.
        bits, sign = 8 * self.config.operand_bytes, 0 if body["reduce_unsigned"] else 1
        values = values & (1 << bits) - 1
        values -= (values >> bits - 1) * sign << bits
        return np.arange(len(m) // size), values.reshape(-1, size, values.shape[1]).max(1)

    def _wrapped(self, sums: np.ndarray) -> np.ndarray:
        """Sums modulo the width of an accumulator."""
        return wrap(sums, self.config.accumulator_bits).astype(np.int64)

    @staticmethod
    def _round(sums: np.ndarray, entry: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        zero_point, wide = body["zero_point"], (-(1 << 30), 1 << 30)
        if body["rounding"] is Rounding.ONNX:
            scale = entry[:, :4].copy().view("<f4").reshape(-1)
            return requantise.onnx(sums, scale, zero_point, body["low"], body["high"], 1).astype(np.int64)
        multiplier = entry[:, :4].copy().view("<i4").reshape(-1)
        shift = entry[:, 4].astype(np.int64) & 63
        shift -= (shift >> 5) << 6
        mode: Any = "single"
        if body["rounding"] is Rounding.TFLITE_DOUBLE:
            mode, sums = "double", np.clip(sums, -1 << 31, (1 << 31) - 1)
        return requantise.tflite(sums, multiplier, -shift, zero_point, *wide, 1, mode).astype(np.int64)

    def _store(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        if body["profile"]:
            if body["dram"] % 64:
                raise ProgramError(f"profile address must be a multiple of 64, not {body['dram']}")
            self._dram_race.write(body["dram"] + np.arange(16), ordinal, clock)
            return
        source = self._rows(body["address"], body["step2"], body["step1"], body, 1 << ADDRESS_BITS)
        target = self._rows(body["dram"], body["dram_step2"], body["dram_step1"], body, 1 << 32)
        if not source.size:
            raise ProgramError("store of nothing")
        self._out_race.read(source, ordinal, clock)
        self._dram_race.write(target, ordinal, clock)
        self.dram[target] = self._out[source]

    def _move(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        source = self._rows(body["address"], body["step2"], body["step1"], body, 1 << ADDRESS_BITS)
        target = self._rows(body["target"], body["target_step2"], body["target_step1"], body, 1 << ADDRESS_BITS)
        if not source.size:
            raise ProgramError("move of nothing")
        if ((source - target) % self.config.operand_bytes).any():
            raise ProgramError(f"address and target of a row must be equal modulo {self.config.operand_bytes}")
        self._out_race.read(source, ordinal, clock, queue="move")
        self._put_moved(body["destination"], target, self._out[source], ordinal, clock)

    def _put_moved(self, destination: int, target: np.ndarray, values: np.ndarray, ordinal: int,
                   clock: np.ndarray) -> None:
        """Write the bytes that a MOVE brings to a memory of operands."""
        raise ProgramError(f"no MOVE to memory {destination} in this kind of array")
