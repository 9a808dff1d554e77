"""Functional model of the systolic array's commands."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ...hdl.post.average import SEARCH, STATES
from ...hdl.post.pairs import ELEMENT_FRACTION, pair_words
from ...hdl.post.row_softmax import RowPass
from ...hdl.shell.commands import ADDRESS_BITS, ROW_WRAP, Parameter
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..averages import averaged
from ..cells import POSTED, Cells, ProgramError
from ..interpreter import Interpreter
from ..softmax_rows import SoftmaxRows
from .handover import release
from .norm_rows import NormRows
from .row_passes import RowPasses
from .timing import Latencies

__all__ = ["SystolicInterpreter"]


def _walk(body: dict[str, Any], *steps: str) -> np.ndarray:
    """Offsets of three nested loops, the innermost first, whose steps stand in these fields."""
    loops = [np.arange(body[f"m_count{loop}"]) * body[step] for loop, step in enumerate(steps)]
    return (loops[2][:, None, None] + loops[1][:, None] + loops[0]).reshape(-1)


class SystolicInterpreter(Interpreter):
    """See :class:`~pearray.compiler.interpreter.Interpreter`."""

    config: SystolicConfig

    def __init__(self, config: SystolicConfig, dram_bytes: int):
        super().__init__(config, dram_bytes)
        writers = ("load", "move") if config.has_moves else ("load",)
        for key, size in ((Destination.ACTIVATION, config.scratchpads.activation_bytes),
                          (Destination.WEIGHT, config.scratchpads.weight_bytes)):
            self._bytes[key] = np.zeros(size, np.uint8)
            self._races[key] = Cells(key.name.lower(), size, writers, "execute")
        if config.has_averages:
            # Bits of sums of each group and lane.
            self._states = np.zeros((STATES, config.post.lanes), np.int32)
        self._depth = config.accumulators.depth
        if config.has_softmax:
            self._softmax = SoftmaxRows(config.sum_rows)
        if config.has_row_softmax:
            self._passes = RowPasses()
        if config.has_norms:
            self._norms = NormRows()
        self._banks, self._os_depth = config.banks, config.os_depth
        self._sums = np.zeros((2, self._depth, config.array.cols), config.arithmetic.sum_type)
        self._sums_race = Cells("accumulators", 2 * self._depth, "execute", "post", POSTED)
        #: POST that has read each bank last, until an EXECUTE that waited for it comes there: its number and body.
        self._reading: dict[int, tuple[int, dict[str, Any]]] = {}

    def _put_moved(self, destination: int, target: np.ndarray, values: np.ndarray, ordinal: int,
                   clock: np.ndarray) -> None:
        if destination not in (Destination.ACTIVATION, Destination.WEIGHT):
            super()._put_moved(destination, target, values, ordinal, clock)
        self._races[destination].write(target, ordinal, clock, queue="move")
        self._bytes[destination][target] = values

    def _operands(self, memory: int, index: np.ndarray, is_unsigned: int, zero_point: int,
                  ordinal: int, clock: np.ndarray) -> np.ndarray:
        """Operands at addresses modulo 2**20, less their zero point."""
        size = self.config.operand_bytes
        index = index % (1 << ADDRESS_BITS)
        race = self._races[memory]
        for byte in range(size):
            race.read(index * size + byte, ordinal, clock)
        stored = self._bytes[memory].view(f"<u{size}")[index]
        return self.config.arithmetic.words(stored, bool(is_unsigned), zero_point)

    def _combine(self, rows: np.ndarray, sums: np.ndarray, body: dict[str, Any], tile: int, ordinal: int,
                 clock: np.ndarray) -> None:
        """Combine the sums of a tile of elements with what stands in the accumulators."""
        bank = self._sums[body["bank"]]
        old = None if body["first"] and tile == 0 else bank[rows]
        if body.get("rescale"):
            old, sums = self._softmax.rescaled(old, sums, tile, ordinal, clock, body)
        bank[rows] = self.config.arithmetic.total(old, sums, bool(body["maximum"]))

    def _claim(self, rows: np.ndarray, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        depth = self._depth
        if rows.size and rows.max() >= depth:
            raise ProgramError(f"accumulators have {depth} rows, row {rows.max()} is outside")
        self._sums_race.write(rows + body["bank"] * depth, ordinal, clock)

    def _execute(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        pixel = _walk(body, "m_step0", "m_step1", "m_step2")
        if not pixel.size or not body["n_count"]:
            raise ProgramError("execute of nothing")
        self._hand_over(clock, body)
        for n in range(body["n_count"]):
            a_base = body["a_base"] + n * body["a_nstep"]
            w_base = body["w_base"] + n * body["w_nstep"]
            acc = body["acc_base"] + n * body["acc_nstep"]
            if body["output_stationary"]:
                self._output_stationary(a_base + pixel, w_base, acc, body, ordinal, clock)
                continue
            target = acc + np.arange(pixel.size)
            self._claim(target, ordinal, clock, body)
            self._weight_stationary(a_base + pixel, w_base, target, body, ordinal, clock)

    def _hand_over(self, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Check that what a POST has given back can't be reached before it has been read."""
        number, post = self._reading.get(body["bank"], (0, {}))
        if not post or clock[POSTED] < number:
            return
        del self._reading[body["bank"]]
        most = max(release(self.config, post, body), Latencies.of(self.config).few)
        if post["release"] > most:
            raise ProgramError(f"post command {number} gives its bank back with {post['release']} rows left, but this "
                               f"execute waits for {most} at most")

    def _both(self, a: np.ndarray, w: np.ndarray, body: dict[str, Any], ordinal: int,
              clock: np.ndarray) -> list[np.ndarray]:
        """Activations and weights at some places."""
        return [self._operands(memory, index, body[f"{name}_unsigned"], body[f"{name}_zero_point"], ordinal, clock)
                for memory, name, index in ((Destination.ACTIVATION, "a", a), (Destination.WEIGHT, "w", w))]

    def _output_stationary(self, pixel: np.ndarray, w_base: int, acc: int, body: dict[str, Any], ordinal: int,
                           clock: np.ndarray) -> None:
        for name in ("k_total", "run", "run_count", "left", "fold", "diagonal"):
            if body[name]:
                raise ProgramError(f"{name} must be zero with output_stationary")
        if pixel.size > self._os_depth:
            raise ProgramError(f"output-stationary contraction of {pixel.size}, at most {self._os_depth}")
        # As many sums as an addition takes cycles take turns in a PE.
        outputs = np.arange(self.config.array.rows * self.config.arithmetic.add_latency)
        index = w_base + _walk(body, "w_pitch", "jump1", "jump2")[:, None] + np.arange(self.config.array.cols)
        a, w = self._both(pixel[:, None] + outputs, index, body, ordinal, clock)
        self._claim(acc + outputs, ordinal, clock, body)
        self._combine(acc + outputs, self.config.arithmetic.column_sums(a.T, w), body, 0, ordinal, clock)

    def _weight_stationary(self, pixel: np.ndarray, w_base: int, target: np.ndarray, body: dict[str, Any],
                           ordinal: int, clock: np.ndarray) -> None:
        rows, cols, pitch = self.config.array.rows, self.config.array.cols, body["w_pitch"]
        total, run, run_count = body["k_total"], body["run"], body["run_count"]
        if not total or not run or not run_count:
            raise ProgramError("k_total, run and run_count must be at least 1")
        k = np.arange(total, dtype=np.int64)
        offset = k + (k // run) * body["jump1"] + (k // (run * run_count)) * body["jump2"]
        cuts = [start for base in range(0, total, run) for start in range(base, min(base + run, total), rows)]
        if body["fold"]:
            for name, used in (("jump1", run < total), ("jump2", run * run_count < total)):
                if used and body[name] % self._banks:
                    raise ProgramError(f"{name} must be a multiple of {self._banks} with fold")
            cuts = list(range(0, total, rows))
        if body["diagonal"] and (body["left"] or body["fold"] or run > min(rows, cols)):
            raise ProgramError("diagonal excludes left, fold and runs longer than the array")
        for tile, (start, end) in enumerate(pairwise((*cuts, total))):
            place = pixel[:, None] + offset[start:end]
            if body["diagonal"]:
                a, w = self._both(place, w_base + tile * pitch + np.arange(end - start), body, ordinal, clock)
                sums = np.zeros((pixel.size, cols), self.config.arithmetic.sum_type)
                sums[:, :end - start] += a * w
            else:
                along, across = (1, pitch) if body["left"] else (pitch, 1)
                index = w_base + k[start:end, None] * along + np.arange(cols) * across
                a, w = self._both(place, index, body, ordinal, clock)
                sums = self.config.arithmetic.column_sums(a, w)
            self._combine(target, sums, body, tile, ordinal, clock)

    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        m = np.arange(body["m_count"])
        if not m.size or not body["n_count"]:
            raise ProgramError("post of nothing")
        if body.get("routine"):
            self._routine(ordinal, clock, body)
            return
        if self.config.has_softmax:
            self._softmax.check(body)
        if self.config.has_norms:
            self._norms.check(body)
        self._reading[body["bank"]] = ordinal, body
        if body.get("row_pass"):
            self._passed(ordinal, clock, body)
            return
        averages = body.get("average") or body.get("search")
        count = body["n_count"] - SEARCH * bool(averages and body["search"])
        tiles = self._tiles_of_sums(m, count, ordinal, clock, body)
        if averages:
            found = self._averaged(tiles, ordinal, clock, body)
            tiles = iter([] if found is None else [found])
        if body.get("pair") and (body.get("moments") or body.get("normed")):
            tiles, body = (self._elements(sums, ordinal, clock) for sums in tiles), body | {"pair": 0}
        if body.get("moments"):
            self._norms.moments(tiles, body)
            return
        if body.get("normed"):
            tiles, body = self._normed(tiles, m, ordinal, clock, body), body | {"bias": 0}
        for n, sums in enumerate(tiles):
            scale = (body["scale_base"] + n * body["scale_nstep"]) % ROW_WRAP
            self._finish(n, m, scale, sums, ordinal, clock, body)

    def _passed(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Go over rows of a softmax."""
        m = np.arange(self._passes.rows(body, self.config.array.cols // self.config.post.lanes))
        (sums,) = self._tiles_of_sums(m, 1, ordinal, clock, body)
        index = self._passes.index(sums, body)
        if body["row_pass"] == RowPass.GREATEST:
            return
        terms = self._looked_up(index, ordinal, clock)
        if body["row_pass"] == RowPass.TOTAL:
            self._passes.add(terms, body)
        else:
            self._finish(0, m, 0, terms, ordinal, clock, body)

    def _scaled(self, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> np.ndarray:
        if body.get("row_pass"):
            return self._passes.shares(sums, body)
        if body.get("normalise"):
            return self._softmax.normalised(sums, body)
        if body.get("normed"):
            return NormRows.scaled(sums, body)
        if not body.get("softmax"):
            return super()._scaled(m, scale, sums, ordinal, clock, body)
        entry = self._entries(Parameter.SCALE, np.array([scale]), sums.shape[1], body, ordinal, clock, each=0)[0]
        return self._softmax.numerators(sums, entry[:, :4].copy().view("<f4").reshape(-1), ordinal, clock, body)

    def _elements(self, sums: np.ndarray, ordinal: int, clock: np.ndarray) -> np.ndarray:
        """Elements of rows that pairs of bytes are."""
        return np.clip(self._looked_up(sums, ordinal, clock) >> ELEMENT_FRACTION, -128, 127)

    def _normed(self, tiles: Iterable[np.ndarray], m: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> Iterator[np.ndarray]:
        """Sums of rows m of each tile: elements normalised, times gains, and with biases."""
        columns, lanes = self.config.array.cols, self.config.post.lanes
        entries = self._entries(Parameter.BIAS, body["bias_base"] + m * body["bias_mstep"], columns, body, ordinal,
                                clock, each=1)
        gains = entries[:, :, :2].copy().view("<i2")[:, :, 0].astype(np.int64)
        biases = np.zeros_like(gains)
        if body["bias"]:
            lines = body["scale_base"] + m * (columns // lanes)
            entries = self._entries(Parameter.SCALE, lines, columns, body, ordinal, clock, each=1)
            biases = entries[:, :, :4].copy().view("<i4")[:, :, 0].astype(np.int64)
        return (self._wrapped(sums + biases) for sums in self._norms.normed(tiles, gains, body))

    def _averaged(self, tiles: Iterable[np.ndarray], ordinal: int, clock: np.ndarray,
                  body: dict[str, Any]) -> np.ndarray | None:
        """See :func:`~..averages.averaged`."""
        memory, words = self.config.pair_memory, pair_words(self.config)
        entries = self._bytes[memory].view("<i4").reshape(-1, words)[:, :2]
        index = np.arange(len(entries)) * words * 4
        for table, used in enumerate((body["average"], body["search"])):
            if used:
                self._races[memory].read(index + table * 4, ordinal, clock)
        try:
            return averaged(self._states, tiles, entries, body)
        except ValueError as error:
            raise ProgramError(str(error)) from None

    def _tiles_of_sums(self, m: np.ndarray, count: int, ordinal: int, clock: np.ndarray,
                       body: dict[str, Any]) -> Iterator[np.ndarray]:
        """Rows `m` of sums of each of the first tiles."""
        for n in range(count):
            row = (body["acc_base"] + n * body["acc_nstep"] + m) % ROW_WRAP
            if row.max() >= self._depth:
                raise ProgramError(f"accumulators have {self._depth} rows, row {row.max()} is outside")
            self._sums_race.read(row + body["bank"] * self._depth, ordinal, clock)
            yield self._sums[body["bank"]][row]
