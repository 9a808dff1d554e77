"""Functional model of an accelerator's program: every command on NumPy memories, in program order.

Written from ``hdl/commands.py`` alone, so that it judges the compiler and the hardware alike. Besides
computing, it checks that no command reads what a command it does not wait for has yet to write, or
overwrites what such a command has yet to read. For this each command has a clock: the commands of each queue
that have certainly completed when it starts.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..golden import requantise
from ..hdl.commands import ADDRESS_BITS, COMMAND_BYTES, Destination, Opcode, Rounding, decode
from ..hdl.config import Config, RowStationaryConfig, SystolicConfig
from .program import QUEUES

__all__ = ["Cells", "Interpreter", "ProgramError"]

_QUEUES = list(QUEUES.values())


class ProgramError(Exception):
    """A program does something that the format forbids, or a race."""


class Cells:
    """Cells with the ordinals of their last writer and reader, to find races."""

    def __init__(self, name: str, cells: int, writer: str, reader: str):
        self.name = name
        self.cells = cells
        self._writer_queue, self._reader_queue = _QUEUES.index(writer), _QUEUES.index(reader)
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
        if latest > clock[self._reader_queue]:
            raise ProgramError(f"{_QUEUES[self._writer_queue]} command {ordinal} overwrites {self.name} that "
                               f"{_QUEUES[self._reader_queue]} command {latest} reads, but waits only for "
                               f"{clock[self._reader_queue]}")
        self._written[index] = ordinal


class Interpreter:
    """Memories of one accelerator, and what commands do to them.

    Parameters
    ----------
    config : Config
        Configuration.
    dram_bytes : int
        Size of the memory behind the AXI port.
    """

    #: Parts of a clock: completed commands of each queue.
    _CLOCKS = 4

    def __new__(cls, config: Config, dram_bytes: int) -> "Interpreter":
        """Make the interpreter of the configuration's kind of array."""
        if cls is Interpreter and isinstance(config, RowStationaryConfig):
            from .row_stationary.interpreter import RowStationaryInterpreter

            return super().__new__(RowStationaryInterpreter)
        return super().__new__(cls)

    def __init__(self, config: Config, dram_bytes: int):
        self.config = config
        self.dram = np.zeros(dram_bytes, np.uint8)
        pads = config.scratchpads
        self._bytes = {
            Destination.BIAS: np.zeros(pads.channels * 4, np.uint8),
            Destination.SCALE: np.zeros(pads.channels * 8, np.uint8),
            Destination.TABLE: np.zeros(config.sum_columns * 256, np.uint8),
        }
        self._dram_race = Cells("memory", dram_bytes, "store", "load")
        self._out = np.zeros(pads.output_bytes, np.uint8)
        self._out_race = Cells("output", pads.output_bytes, "post", "store")
        self._races = {key: Cells(key.name.lower(), value.size, "load", "post") for key, value in self._bytes.items()}
        self._lanes = config.post.lanes
        self._add_memories()

    def _add_memories(self) -> None:
        """Add the memories of the kind of array."""
        config = self.config
        assert isinstance(config, SystolicConfig)
        for key, size in ((Destination.ACTIVATION, config.scratchpads.activation_bytes),
                          (Destination.WEIGHT, config.scratchpads.weight_bytes)):
            self._bytes[key] = np.zeros(size, np.uint8)
            self._races[key] = Cells(key.name.lower(), size, "load", "execute")
        self._depth = config.accumulators.depth
        self._banks, self._os_depth = config.banks, config.os_depth
        self._sums = np.zeros((2, self._depth, config.array.cols), np.int64)
        self._sums_race = Cells("accumulators", 2 * self._depth, "execute", "post")

    def write(self, segments: Iterable[tuple[int, bytes]]) -> None:
        """Put bytes into memory at each address."""
        for address, data in segments:
            self.dram[address:address + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, length: int) -> bytes:
        """Bytes of memory."""
        return self.dram[address:address + length].tobytes()

    def run(self, program_address: int) -> int:
        """Run a program up to its END.

        Returns
        -------
        int
            Commands that ran.

        Raises
        ------
        ProgramError
            If a command is malformed or races.
        """
        totals = np.zeros(4, np.int64)
        clocks: list[list[np.ndarray]] = [[], [], [], []]
        steps = {Opcode.LOAD: self._load, Opcode.EXECUTE: self._execute, Opcode.POST: self._post,
                 Opcode.STORE: self._store}
        ran = 0
        while True:
            opcode, waits, body = decode(self.read(program_address + ran * COMMAND_BYTES, COMMAND_BYTES),
                                         self.config.array.kind)
            if opcode is Opcode.END:
                return ran
            queue = _QUEUES.index(QUEUES[opcode])
            clock = clocks[queue][-1].copy() if clocks[queue] else np.zeros(self._CLOCKS, np.int64)
            for other, name in enumerate(_QUEUES):
                # The wait is the completed count modulo 2**16 nearest below the count so far.
                behind = (int(totals[other]) - waits[name]) & 0xFFFF
                if behind >= 1 << 15:
                    raise ProgramError(f"{QUEUES[opcode]} command {totals[queue] + 1} waits for a later "
                                       f"{name} command")
                count = int(totals[other]) - behind
                if count > 0:
                    clock = np.maximum(clock, clocks[other][count - 1])
                    self._met(clock, opcode, body, other, count)
            clocks[queue].append(clock)
            totals[queue] += 1
            try:
                steps[opcode](int(totals[queue]), clock, body)
            except ProgramError as error:
                raise ProgramError(f"command {ran}: {error}") from None
            ran += 1

    def _met(self, clock: np.ndarray, opcode: Opcode, body: dict[str, Any], other: int, count: int) -> None:
        """Note what is over when a command's wait for a count of another queue is met."""
        clock[other] = max(clock[other], count)

    @staticmethod
    def _rows(base: int, step2: int, step1: int, body: dict[str, Any], modulus: int) -> np.ndarray:
        starts = (base + np.arange(body["count2"], dtype=np.int64)[:, None] * step2
                  + np.arange(body["count1"], dtype=np.int64) * step1) % modulus
        return ((starts[..., None] + np.arange(body["length"], dtype=np.int64)) % modulus).reshape(-1)

    def _load(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        destination = body["destination"]
        target = self._rows(body["address"], body["step2"], body["step1"], body, 1 << ADDRESS_BITS)
        if not target.size:
            raise ProgramError("load of nothing")
        self._races[destination].write(target, ordinal, clock)
        if body["fill"]:
            self._bytes[destination][target] = body["value"]
            return
        source = self._rows(body["dram"], body["dram_step2"], body["dram_step1"], body, 1 << 32)
        self._dram_race.read(source, ordinal, clock)
        self._bytes[destination][target] = self.dram[source]

    def _operands(self, memory: Destination, index: np.ndarray, is_unsigned: int, zero_point: int,
                  ordinal: int, clock: np.ndarray) -> np.ndarray:
        """Operands at addresses modulo 2**20, less their zero point."""
        size, bits = self.config.operand_bytes, self.config.array.operand_bits
        index = index % (1 << ADDRESS_BITS)
        race = self._races[memory]
        for byte in range(size):
            race.read(index * size + byte, ordinal, clock)
        stored = self._bytes[memory].view("<u1" if size == 1 else "<u2")[index].astype(np.int64)
        stored &= (1 << bits) - 1
        if not is_unsigned:
            stored -= (stored >> (bits - 1)) << bits
        return stored - zero_point

    def _combine(self, rows: np.ndarray, sums: np.ndarray, body: dict[str, Any], first: bool) -> None:
        bank = self._sums[body["bank"]]
        if not first:
            sums = np.maximum(bank[rows], sums) if body["maximum"] else bank[rows] + sums
        bits = self.config.accumulator_bits
        bank[rows] = ((sums + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))

    def _claim(self, rows: np.ndarray, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        depth = self._depth
        if rows.size and rows.max() >= depth:
            raise ProgramError(f"accumulators have {depth} rows, row {rows.max()} is outside")
        self._sums_race.write(rows + body["bank"] * depth, ordinal, clock)

    def _execute(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        rows, cols = self.config.array.rows, self.config.array.cols
        pixel = (np.arange(body["m_count2"])[:, None, None] * body["m_step2"]
                 + np.arange(body["m_count1"])[:, None] * body["m_step1"]
                 + np.arange(body["m_count0"]) * body["m_step0"]).reshape(-1)
        if not pixel.size or not body["n_count"]:
            raise ProgramError("execute of nothing")
        for n in range(body["n_count"]):
            a_base = body["a_base"] + n * body["a_nstep"]
            w_base = body["w_base"] + n * body["w_nstep"]
            acc = body["acc_base"] + n * body["acc_nstep"]
            if body["output_stationary"]:
                for name in ("k_total", "run", "run_count", "left", "fold", "diagonal", "k_outer"):
                    if body[name]:
                        raise ProgramError(f"{name} must be zero with output_stationary")
                if pixel.size > self._os_depth:
                    raise ProgramError(f"output-stationary contraction of {pixel.size}, at most "
                                       f"{self._os_depth}")
                step = (np.arange(body["m_count2"])[:, None, None] * body["jump2"]
                        + np.arange(body["m_count1"])[:, None] * body["jump1"]
                        + np.arange(body["m_count0"]) * body["w_pitch"]).reshape(-1)
                a = self._operands(Destination.ACTIVATION, a_base + pixel[:, None] + np.arange(rows),
                                   body["a_unsigned"], body["a_zero_point"], ordinal, clock)
                w = self._operands(Destination.WEIGHT, w_base + step[:, None] + np.arange(cols),
                                   body["w_unsigned"], body["w_zero_point"], ordinal, clock)
                target = acc + np.arange(rows)
                self._claim(target, ordinal, clock, body)
                self._combine(target, a.T @ w, body, bool(body["first"]))
                continue
            target = acc + np.arange(pixel.size)
            self._claim(target, ordinal, clock, body)
            self._weight_stationary(a_base + pixel, w_base, target, body, ordinal, clock)

    def _weight_stationary(self, pixel: np.ndarray, w_base: int, target: np.ndarray, body: dict[str, Any],
                           ordinal: int, clock: np.ndarray) -> None:
        rows, cols = self.config.array.rows, self.config.array.cols
        total, run, run_count = body["k_total"], body["run"], body["run_count"]
        if not total or not run or not run_count:
            raise ProgramError("k_total, run and run_count must be at least 1")
        k = np.arange(total, dtype=np.int64)
        offset = k + (k // run) * body["jump1"] + (k // (run * run_count)) * body["jump2"]
        if body["fold"]:
            for name, used in (("jump1", run < total), ("jump2", run * run_count < total)):
                if used and body[name] % self._banks:
                    raise ProgramError(f"{name} must be a multiple of {self._banks} with fold")
            cuts = list(range(0, total, rows))
        else:
            cuts = [start for base in range(0, total, run) for start in range(base, min(base + run, total), rows)]
        if body["diagonal"] and (body["left"] or body["fold"] or run > min(rows, cols)):
            raise ProgramError("diagonal excludes left, fold and runs longer than the array")
        a_kwargs = (body["a_unsigned"], body["a_zero_point"], ordinal, clock)
        w_kwargs = (body["w_unsigned"], body["w_zero_point"], ordinal, clock)
        for tile, start in enumerate(cuts):
            end = cuts[tile + 1] if tile + 1 < len(cuts) else total
            a = self._operands(Destination.ACTIVATION, pixel[:, None] + offset[start:end], *a_kwargs)
            if body["diagonal"]:
                line = w_base + tile * body["w_pitch"] + np.arange(end - start)
                sums = np.zeros((pixel.size, cols), np.int64)
                sums[:, :end - start] = a * self._operands(Destination.WEIGHT, line, *w_kwargs)
            elif body["left"]:
                index = w_base + np.arange(cols) * body["w_pitch"] + k[start:end, None]
                sums = self._product(a, self._operands(Destination.WEIGHT, index, *w_kwargs))
            else:
                index = w_base + k[start:end, None] * body["w_pitch"] + np.arange(cols)
                sums = self._product(a, self._operands(Destination.WEIGHT, index, *w_kwargs))
            self._combine(target, sums, body, bool(body["first"]) and tile == 0)

    @staticmethod
    def _product(a: np.ndarray, w: np.ndarray) -> np.ndarray:
        # Sums of at most 2**24 products of 17-bit operands are exact in float64, and BLAS is fast.
        product: np.ndarray = a.astype(np.float64) @ w.astype(np.float64)
        return product.astype(np.int64)

    def _line(self, memory: Destination, line: np.ndarray, size: int, ordinal: int, clock: np.ndarray) -> np.ndarray:
        width = self._lanes * size
        index = line[..., None] * width + np.arange(width)
        self._races[memory].read(index.reshape(-1), ordinal, clock)
        return self._bytes[memory][index]

    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        cols, depth = self.config.array.cols, self._depth
        group = np.arange(cols // self._lanes)
        rounding = body["rounding"]
        size = self.config.sum_bytes if rounding is Rounding.NONE else self.config.operand_bytes
        m = np.arange(body["m_count"])
        if not m.size or not body["n_count"]:
            raise ProgramError("post of nothing")
        for n in range(body["n_count"]):
            row = body["acc_base"] + n * body["acc_nstep"] + m
            if row.max() >= depth:
                raise ProgramError(f"accumulators have {depth} rows, row {row.max()} is outside")
            self._sums_race.read(row + body["bank"] * depth, ordinal, clock)
            sums = self._sums[body["bank"]][row]
            if body["bias"]:
                line = body["bias_base"] + n * body["bias_nstep"] + m[:, None] * body["bias_mstep"] + group
                bias = self._line(Destination.BIAS, line, 4, ordinal, clock)
                sums = sums + bias.copy().view("<i4").reshape(len(m), cols)
            if rounding is Rounding.NONE:
                sums = np.maximum(sums, 0) if body["table"] else sums
            else:
                line = body["scale_base"] + n * body["scale_nstep"] + group * int(bool(body["per_channel"]))
                entry = self._line(Destination.SCALE, line, 8, ordinal, clock).reshape(cols, 8)
                sums = self._round(sums, entry, body)
                sums = np.clip(sums, body["low"], body["high"])
                if body["table"]:
                    index = np.arange(cols) * 256 + (sums & 255)
                    self._races[Destination.TABLE].read(index.reshape(-1), ordinal, clock)
                    sums = self._bytes[Destination.TABLE][index].astype(np.int64)
            base = (body["out_base"] + n * body["out_nstep"] + m * body["out_mstep"]) % (1 << ADDRESS_BITS)
            if (base % (self._lanes * size)).any():
                raise ProgramError(f"output address must be a multiple of {self._lanes * size}")
            raw = sums.astype(np.int64).view(np.uint8).reshape(len(m), cols, 8)[:, :, :size]
            index = base[:, None] + np.arange(cols * size)
            self._out_race.write(index.reshape(-1), ordinal, clock)
            self._out[index] = raw.reshape(len(m), cols * size)

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
