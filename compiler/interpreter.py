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
from ..hdl.shell.commands import ADDRESS_BITS, COMMAND_BYTES, Opcode, Parameter, Rounding
from ..hdl.shell.config import Config
from ..hdl.shell.waits import WAIT_BITS, meant, reached
from .program import QUEUES

__all__ = ["POSTED", "Cells", "Interpreter", "ProgramError"]

_QUEUES = list(QUEUES.values())
_POST = _QUEUES.index("post")

#: Part of a clock besides completed commands: POSTs that have read their sums.
POSTED = len(_QUEUES)


class ProgramError(Exception):
    """A program does something that the format forbids, or a race."""


def _waited_for(opcode: Opcode, waits: dict[str, int], totals: list[int], count_bits: int) -> list[int]:
    """Commands of each queue that a command waits for, of those that stand before it."""
    counts = []
    for name, total in zip(_QUEUES, totals, strict=True):
        count = meant(waits[name], total, count_bits)
        if not reached(total, waits[name], count_bits):
            raise ProgramError(f"{opcode.name} waits for ever, for {name} command {count} of {total} before it")
        if opcode is Opcode.END and count < total:
            raise ProgramError(f"END waits only for {count} of {total} {name} commands")
        counts.append(count)
    return counts


class Cells:
    """Cells with the ordinals of their last writer and reader, to find races.

    Parameters
    ----------
    name : str
        Of the memory.
    cells : int
        How many.
    writer, reader : str
        Queues whose commands write and read them.
    read_by : int, optional
        Part of a clock that tells which readers have read; by default those that have completed.
    """

    def __init__(self, name: str, cells: int, writer: str, reader: str, read_by: int | None = None):
        self.name = name
        self.cells = cells
        self._writer_queue, self._reader_queue = _QUEUES.index(writer), _QUEUES.index(reader)
        self._read_by = self._reader_queue if read_by is None else read_by
        self._written = np.zeros(cells, np.int32)
        self._read = np.zeros(cells, np.int32)

    def check(self, index: np.ndarray) -> None:
        """Check that addresses are inside."""
        if index.size and (index.min() < 0 or index.max() >= self.cells):
            raise ProgramError(f"{self.name} has {self.cells} cells, address {index.max()} is outside")

    def read(self, index: np.ndarray, ordinal: int, clock: np.ndarray, *, internal: bool = False) -> None:
        """Note a read, and check that what was written last is there."""
        self.check(index)
        # The queue that writes reads its own results in order: accumulation.
        if internal or not index.size:
            return
        latest = self._written[index].max()
        if latest > clock[self._writer_queue]:
            raise ProgramError(f"{_QUEUES[self._reader_queue]} command {ordinal} reads {self.name} that "
                               f"{_QUEUES[self._writer_queue]} command {latest} writes, but waits only for "
                               f"{clock[self._writer_queue]}")
        self._read[index] = ordinal

    def write(self, index: np.ndarray, ordinal: int, clock: np.ndarray) -> None:
        """Note a write, and check that what was there has been read."""
        self.check(index)
        if not index.size:
            return
        latest = self._read[index].max()
        if latest > clock[self._read_by]:
            raise ProgramError(f"{_QUEUES[self._writer_queue]} command {ordinal} overwrites {self.name} that "
                               f"{_QUEUES[self._reader_queue]} command {latest} reads, but waits only for "
                               f"{clock[self._read_by]}")
        self._written[index] = ordinal


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
        self._dram_race = Cells("memory", dram_bytes, "store", "load")
        self._out = np.zeros(pads.output_bytes, np.uint8)
        self._out_race = Cells("output", pads.output_bytes, "post", "store")
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
        totals = [0] * len(_QUEUES)
        clocks: list[list[np.ndarray]] = [[], [], [], []]
        steps = {Opcode.LOAD: self._load, Opcode.EXECUTE: self._execute, Opcode.POST: self._post,
                 Opcode.STORE: self._store}
        ran = 0
        while True:
            opcode, waits, body = self.config.commands.decode(
                self.read(program_address + ran * COMMAND_BYTES, COMMAND_BYTES))
            try:
                counts = _waited_for(opcode, waits, totals, count_bits)
                if opcode is Opcode.END:
                    return ran
                queue = _QUEUES.index(QUEUES[opcode])
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

    def _finish(self, n: Any, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> None:
        """Turn sums (rows, columns) of tiles `n` and rows `m` into outputs; `scale` is the first line of entries."""
        columns, rounding = sums.shape[1], body["rounding"]
        group = np.arange(columns // self._lanes)
        size = self.config.sum_bytes if rounding is Rounding.NONE else self.config.operand_bytes
        if body.get("pair"):
            sums = self._pair(sums, ordinal, clock, body)
        if body["bias"]:
            line = (body["bias_base"] + n * body["bias_nstep"] + m * body["bias_mstep"])[:, None] + group
            bias = self._line(Parameter.BIAS, line, 4, ordinal, clock)
            sums = self._wrapped(sums + bias.copy().view("<i4").reshape(sums.shape))
        if rounding is Rounding.NONE:
            sums = np.maximum(sums, 0) if body["table"] else sums
        else:
            line = scale + group * int(bool(body["per_channel"]))
            entry = self._line(Parameter.SCALE, line, 8, ordinal, clock).reshape(columns, 8)
            sums = np.clip(self._round(sums, entry, body), body["low"], body["high"])
            if body["table"]:
                index = np.arange(columns) * 256 + (sums & 255)
                self._races[Parameter.TABLE].read(index.reshape(-1), ordinal, clock)
                sums = self._bytes[Parameter.TABLE][index].astype(np.int64)
        if body.get("reduce"):
            m, sums = self._greatest(m, sums, body)
        base = (body["out_base"] + n * body["out_nstep"] + m * body["out_mstep"]) % (1 << ADDRESS_BITS)
        if (base % (self._lanes * size)).any():
            raise ProgramError(f"output address must be a multiple of {self._lanes * size}")
        raw = sums.astype(np.int64).view(np.uint8).reshape(len(sums), columns, 8)[:, :, :size]
        index = base[:, None] + np.arange(columns * size)
        self._out_race.write(index.reshape(-1), ordinal, clock)
        self._out[index] = raw.reshape(len(sums), columns * size)

    def _pair(self, sums: np.ndarray, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Sums of the table entries that the low bytes of sums choose."""
        for name in ("bias", "per_channel", "scale_nstep", "table"):
            if body[name]:
                raise ProgramError(f"{name} must be zero with pair")
        memory = self.config.pair_memory
        words, total = pair_words(self.config), np.zeros_like(sums)
        for table in range(2):
            index = ((sums >> 8 * table & 255) * words + table) * 4
            self._races[memory].read(index.reshape(-1), ordinal, clock)
            total += self._bytes[memory].view("<i4")[index // 4]
        return self._wrapped(total)

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
