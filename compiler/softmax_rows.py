"""Functional model of what ``post.softmax`` adds to an array: numerators, quotients and rescaled sums."""

from typing import Any

import numpy as np

from ..golden import requantise
from ..golden.float_attention import float_softmax_block, quotient_dividend, rescaled
from ..golden.fused_attention import (
    EMPTY,
    HIDDEN,
    LARGEST_SHIFT,
    SoftmaxState,
    quotient,
    rshift,
    scores_in_octaves,
    softmax_block,
)
from ..hdl.arithmetic.float_formats import FloatFormat
from ..hdl.shell.commands import Rounding
from .cells import Cells, ProgramError
from .float_outputs import float_bits

__all__ = ["FloatSoftmaxRows", "SoftmaxRows"]

#: What each kind of POST leaves no place for.
_ZERO = {
    "softmax": ("zero_point", "per_channel", "table", "pair", "product", "average", "search", "transposed", "reduce",
                "normalise"),
    "normalise": ("per_channel", "scale_nstep", "pair", "product", "average", "search", "transposed"),
}


def _signed(field: int) -> int:
    """Number of 16 bits in two's complement."""
    return field - ((field & 1 << 15) << 1)


class SoftmaxRows:
    """States, quotients and shifts of rows of scores.

    Parameters
    ----------
    rows : int
        How many there are of each.
    tiles : bool
        Whether rows that are normalised are tiles, whose quotients stand ``scale_nstep`` apart.
    """

    def __init__(self, rows: int, tiles: bool = False):
        self._rows, self._tiles = rows, tiles
        self._maxima, self._totals = np.full(rows, EMPTY, np.int64), np.zeros(rows, np.int64)
        self._quotients = np.zeros(rows, np.float32)
        self._shifts = np.zeros(rows, np.int64)
        self.shifts_race = Cells("shifts", rows, "post", "execute")

    @staticmethod
    def _shifted(sums: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """Sums divided by powers of two."""
        return rshift(sums, amount)

    def _place(self, name: str, base: int, count: int) -> np.ndarray:
        if base + count > self._rows:
            raise ProgramError(f"there are {self._rows} {name}, {base + count - 1} is outside")
        return base + np.arange(count)

    def check(self, body: dict[str, Any]) -> None:
        """Check that a POST uses nothing that its flags exclude."""
        for flag, names in _ZERO.items():
            if not body[flag]:
                continue
            for name in names:
                if body.get(name) and not (self._tiles and name == "scale_nstep"):
                    raise ProgramError(f"{name} must be zero with {flag}")
            if body["rounding"] is not Rounding.ONNX:
                raise ProgramError(f"rounding must be ONNX with {flag}")
        if body["softmax"] and (body["n_count"] != 1 or body.get("low_byte", 0) > body.get("two_bytes", 0)):
            raise ProgramError("softmax needs n_count = 1, and low_byte needs two_bytes")

    def numerators(self, sums: np.ndarray, scale: np.ndarray, ordinal: int, clock: np.ndarray,
                   body: dict[str, Any]) -> np.ndarray:
        """Bytes of the numerators of scores (rows, columns), whose columns have these float32 scales."""
        if not (np.isfinite(scale) & (scale >= 0)).all():
            raise ProgramError("scales of softmax must be finite and not negative")
        masked = self._masked(sums.shape, body) | (sums < HIDDEN)
        found, shifts, state = softmax_block(scores_in_octaves(sums, scale), masked, self._state(len(sums), body),
                                             two_bytes=bool(body["two_bytes"]))
        if body["low_byte"]:
            return found & 255
        self._keep(state, shifts, _number(body), ordinal, clock, body)
        return found >> 8 if body["two_bytes"] else found

    @staticmethod
    def _masked(shape: tuple[int, ...], body: dict[str, Any]) -> np.ndarray:
        """Whether keys of rows lie beyond a command's limits."""
        along, j = body["slope"] * np.arange(shape[0])[:, None], np.arange(shape[1])
        found: np.ndarray = (j >= _signed(body["acc_nstep"]) + along) | (j < _signed(body["bias_nstep"]) + along)
        return found

    def _state(self, count: int, body: dict[str, Any]) -> SoftmaxState:
        """State of so many rows before a command."""
        place = self._place("states", body["out_nstep"], count)
        return SoftmaxState.empty(count) if body["opens"] else SoftmaxState(self._maxima[place], self._totals[place])

    def _keep(self, state: SoftmaxState, shifts: np.ndarray, dividend: np.float32, ordinal: int, clock: np.ndarray,
              body: dict[str, Any]) -> None:
        """Keep the state of rows behind a command, their quotients and their shifts."""
        place = self._place("states", body["out_nstep"], len(shifts))
        self._maxima[place], self._totals[place] = state.maximum, state.total
        try:
            self._quotients[place] = quotient(dividend, state.total)
        except ValueError as error:
            raise ProgramError(str(error)) from None
        target = self._place("shifts", body["scale_nstep"], len(shifts))
        self.shifts_race.write(target, ordinal, clock)
        self._shifts[target] = shifts

    def normalised(self, sums: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Outputs of sums (rows, columns), whose rows are scaled by their quotients."""
        scales = self.scales(len(sums), body)
        return requantise.onnx(sums, scales, body["zero_point"], body["low"], body["high"], 0).astype(np.int64)

    def scales(self, count: int, body: dict[str, Any]) -> np.ndarray:
        """Quotients by which so many rows of a command are scaled."""
        step = body["scale_nstep"] if self._tiles else 1
        last = self._place("quotients", body["scale_base"], (count - 1) * step + 1)[-1]
        found: np.ndarray = self._quotients[
            np.arange(body["scale_base"], last + 1, step) if step else [last] * count]
        return found

    def rescaled(self, old: np.ndarray | None, part: np.ndarray, tile: int, ordinal: int, clock: np.ndarray,
                 body: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray]:
        """What stands in the accumulators, if it is added to, and sums (rows, columns) of a tile, both shifted."""
        for name in ("output_stationary", "maximum", "diagonal"):
            if body[name]:
                raise ProgramError(f"{name} must be zero with rescale")
        place = self._place("shifts", body["shift_base"], len(part))
        self.shifts_race.read(place, ordinal, clock)
        shifts = self._shifts[place][:, None]
        if old is not None and tile == 0 and not body["low_part"]:
            old = self._shifted(old, np.maximum(shifts, 0))
        more = 8 if body["low_part"] else 0
        return old, self._shifted(part, np.minimum(np.maximum(-shifts, 0) + more, LARGEST_SHIFT))

    def joined(self, old: np.ndarray, part: np.ndarray, ordinal: int, clock: np.ndarray,
               body: dict[str, Any]) -> np.ndarray:
        """Sums (row, window, filter) that stand and those of a pass, both shifted, added."""
        for name in ("fresh", "bias", "maximum", "rows"):
            if body.get(name):
                raise ProgramError(f"{name} must be zero with join")
        place = self._place("shifts", body["shift_base"], part.shape[1])
        self.shifts_race.read(place, ordinal, clock)
        shifts, more = self._shifts[place][:, None], 8 if body["low_part"] else 0
        kept = old if more else rshift(old, np.maximum(shifts, 0))
        total: np.ndarray = kept + rshift(part, np.minimum(np.maximum(-shifts, 0) + more, LARGEST_SHIFT))
        return total


class FloatSoftmaxRows(SoftmaxRows):
    """The same of floats.

    Parameters
    ----------
    rows : int
        How many there are of each.
    form : FloatFormat
        Format of numerators.
    """

    def __init__(self, rows: int, form: FloatFormat):
        super().__init__(rows)
        self._form = form

    @staticmethod
    def _shifted(sums: np.ndarray, amount: np.ndarray) -> np.ndarray:
        return rescaled(sums, amount)

    def numerator_bits(self, sums: np.ndarray, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Bits of the numerators of biased float32 scores (rows, columns)."""
        scale, form = _number(body), self._form
        if not np.finfo(np.float32).tiny <= scale < np.inf:
            raise ProgramError(f"scale of softmax must be a positive normal number, not {scale}")
        found, shifts, state = float_softmax_block(sums, scale, self._masked(sums.shape, body),
                                                   self._state(len(sums), body), form.dtype)
        self._keep(state, shifts, quotient_dividend(form.dtype), ordinal, clock, body)
        return float_bits(found, form.dtype, form.no_number)

    def rescaled(self, old: np.ndarray | None, part: np.ndarray, tile: int, ordinal: int, clock: np.ndarray,
                 body: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray]:
        """Divide what stands in the accumulators, if it is added to, and sums (rows, columns) of a tile."""
        if body["low_part"]:
            raise ProgramError("low_part must be zero on an accelerator of floats")
        return super().rescaled(old, part, tile, ordinal, clock, body)


def _number(body: dict[str, Any]) -> np.float32:
    """Float32 number of a command, of which each clamp holds one half."""
    bits = (body["high"] & 0xFFFF) << 16 | body["low"] & 0xFFFF
    return np.float32(np.array([bits], np.uint32).view(np.float32)[0])
