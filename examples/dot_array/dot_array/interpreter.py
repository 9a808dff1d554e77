"""Functional model of the commands of dot-product units, written from :class:`.commands.DotBody` alone."""

from typing import Any

import numpy as np

from pearray.compiler.cells import POSTED, Cells, ProgramError
from pearray.compiler.interpreter import Interpreter

from .commands import LOOPS, Destination
from .config import DotConfig

__all__ = ["DotInterpreter"]


class DotInterpreter(Interpreter):
    """See :class:`~pearray.compiler.interpreter.Interpreter`."""

    config: DotConfig

    def __init__(self, config: DotConfig, dram_bytes: int):
        super().__init__(config, dram_bytes)
        for key, size in ((Destination.ACTIVATION, config.scratchpads.activation_bytes),
                          (Destination.WEIGHT, config.scratchpads.weight_bytes)):
            self._bytes[key] = np.zeros(size, np.uint8)
            self._races[key] = Cells(key.name.lower(), size, "load", "execute")
        self._sums = np.zeros((2, config.accumulators.depth, config.array.rows), np.int64)
        self._sums_race = Cells("accumulators", 2 * config.accumulators.depth, "execute", "post", POSTED)

    def _operands(self, memory: int, line: np.ndarray, length: int, is_unsigned: int, zero_point: int, ordinal: int,
                  clock: np.ndarray) -> np.ndarray:
        """Operands of lines, less their zero point; the last axis is that of a line's operands."""
        stored = self._bytes[memory]
        index = line[..., None] % (len(stored) // length) * length + np.arange(length)
        self._races[memory].read(index.reshape(-1), ordinal, clock)
        return self.config.arithmetic.words(stored[index], bool(is_unsigned), zero_point)

    def _execute(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        products, units, depth = self.config.array.cols, self.config.array.rows, self.config.accumulators.depth
        turns = {loop: np.arange(body[f"count_{loop}"] + 1) for loop in LOOPS}
        steps = {loop: turns[loop] * body[f"a_{loop}"] for loop in LOOPS}
        t = (steps["t2"][:, None, None] + steps["t1"][:, None] + steps["t0"]).reshape(-1)
        m = (steps["m2"][:, None, None] + steps["m1"][:, None] + steps["m0"]).reshape(-1)
        for n in turns["n"].tolist():
            a = self._operands(Destination.ACTIVATION, body["a_base"] + n * body["a_n"] + m[:, None] + t, products,
                               body["a_unsigned"], body["a_zero_point"], ordinal, clock)
            w = self._operands(Destination.WEIGHT, body["w_base"] + n * body["w_n"] + np.arange(t.size),
                               products * units, body["w_unsigned"], body["w_zero_point"], ordinal, clock)
            w = w.reshape(t.size, products, units)
            if body["maximum"]:
                sums = np.einsum("mtk,tku->mtu", a, w).max(1)
            else:
                # Products of 9 bits: sums of fewer than 2**35 are exact in float64, and BLAS is fast.
                sums = (a.reshape(m.size, -1).astype(np.float64) @ w.reshape(-1, units)).astype(np.int64)
            row = (body["acc_base"] + n * body["acc_n"] + np.arange(m.size)) % depth
            self._sums_race.write(row + body["bank"] * depth, ordinal, clock)
            bank = self._sums[body["bank"]]
            bank[row] = self.config.arithmetic.total(None if body["first"] else bank[row], sums, bool(body["maximum"]))

    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        depth, m = self.config.accumulators.depth, np.arange(body["m_count"])
        if not m.size or not body["n_count"]:
            raise ProgramError("post of nothing")
        for n in range(body["n_count"]):
            row = body["acc_base"] + n * body["acc_nstep"] + m
            if row.max() >= depth:
                raise ProgramError(f"accumulators have {depth} rows, row {row.max()} is outside")
            self._sums_race.read(row + body["bank"] * depth, ordinal, clock)
            self._finish(n, m, body["scale_base"] + n * body["scale_nstep"], self._sums[body["bank"]][row], ordinal,
                         clock, body)
