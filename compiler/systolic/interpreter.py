"""Functional model of the systolic array's commands."""

from typing import Any

import numpy as np

from ...hdl.shell.commands import ADDRESS_BITS
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..interpreter import Cells, Interpreter, ProgramError

__all__ = ["SystolicInterpreter"]


class SystolicInterpreter(Interpreter):
    """See :class:`~pearray.compiler.interpreter.Interpreter`."""

    config: SystolicConfig

    def __init__(self, config: SystolicConfig, dram_bytes: int):
        super().__init__(config, dram_bytes)
        for key, size in ((Destination.ACTIVATION, config.scratchpads.activation_bytes),
                          (Destination.WEIGHT, config.scratchpads.weight_bytes)):
            self._bytes[key] = np.zeros(size, np.uint8)
            self._races[key] = Cells(key.name.lower(), size, "load", "execute")
        self._depth = config.accumulators.depth
        self._banks, self._os_depth = config.banks, config.os_depth
        self._sums = np.zeros((2, self._depth, config.array.cols), np.int64)
        self._sums_race = Cells("accumulators", 2 * self._depth, "execute", "post")

    def _operands(self, memory: int, index: np.ndarray, is_unsigned: int, zero_point: int,
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
        bank[rows] = self._wrapped(sums)

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

    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        m = np.arange(body["m_count"])
        if not m.size or not body["n_count"]:
            raise ProgramError("post of nothing")
        for n in range(body["n_count"]):
            row = body["acc_base"] + n * body["acc_nstep"] + m
            if row.max() >= self._depth:
                raise ProgramError(f"accumulators have {self._depth} rows, row {row.max()} is outside")
            self._sums_race.read(row + body["bank"] * self._depth, ordinal, clock)
            self._finish(n, m, body["scale_base"] + n * body["scale_nstep"], self._sums[body["bank"]][row], ordinal,
                         clock, body)
