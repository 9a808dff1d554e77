"""Functional model of what ``post.row_softmax`` adds: passes over rows of bytes, and what they keep of each row."""

from typing import Any

import numpy as np

from ...golden import gemmlowp, requantise
from ...hdl.arithmetic.reciprocal import LEAST
from ...hdl.post.row_softmax import STATES, RowPass
from ...hdl.shell.commands import Rounding
from ..cells import ProgramError

__all__ = ["RowPasses"]

#: Fields that must be zero.
_ZERO = ("bias", "per_channel", "table", "pair", "product", "average", "search", "transposed", "reduce", "softmax",
         "normalise", "moments", "normed")

#: Bits of a term that are rounded away before it is added; right shift of a share without zeros before a total, and
#: the greatest there is.
_CUT, _SHIFT, _MOST = 12, 35, 31


class RowPasses:
    """States of rows: greatest byte, multiplier and right shift of shares, and total in float32."""

    def __init__(self) -> None:
        self._greatest = np.zeros(STATES, np.int64)
        self._multiplier = np.zeros(STATES, np.int64)
        self._shift = np.zeros(STATES, np.int64)
        self._float_total = np.zeros(STATES, np.float32)

    @staticmethod
    def rows(body: dict[str, Any], groups: int) -> int:
        """Rows of sums that a command goes over, which have so many groups.

        Raises
        ------
        ProgramError
            If their counts do not fit.
        """
        tiles = 1
        if body.get("float_row") and body["row_pass"] == RowPass.TOTAL:
            tiles = body["acc_nstep"] * groups
        if body["n_count"] != tiles:
            raise ProgramError(f"n_count must be {tiles} with row_pass, not {body['n_count']}")
        return int(body["m_count"] * (1 if tiles == 1 else body["acc_nstep"]))

    @staticmethod
    def _rows(count: int, body: dict[str, Any]) -> tuple[np.ndarray, int]:
        """States of the rows of a command over some rows of sums, and rows of sums of each."""
        each = body["acc_nstep"]
        if not each or count % each:
            raise ProgramError(f"m_count must be a multiple of acc_nstep = {each} with row_pass, not {count}")
        place = body["scale_nstep"] + np.arange(count // each)
        if place[-1] >= STATES:
            raise ProgramError(f"there are {STATES} states of rows, {place[-1]} is outside")
        return place, each

    @staticmethod
    def _counts(columns: int, each: int, body: dict[str, Any]) -> np.ndarray:
        """Which columns of each row of sums count."""
        limits = np.full(each, body["bias_mstep"])
        limits[-1] = body["bias_nstep"]
        if limits.min() < 1 or limits.max() > columns:
            raise ProgramError(f"bias_nstep and bias_mstep must be 1..{columns} with row_pass")
        found: np.ndarray = np.arange(columns) < limits[:, None]
        return found

    def index(self, sums: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Take down the greatest bytes of rows in the first pass, and say what is looked up in others."""
        for name in _ZERO:
            if body.get(name):
                raise ProgramError(f"{name} must be zero with row_pass")
        if sums.size and not -128 <= sums.min() <= sums.max() <= 255:
            raise ProgramError("sums must be bytes with row_pass")
        place, each = self._rows(len(sums), body)
        counts = self._counts(sums.shape[1], each, body)
        if body["row_pass"] == RowPass.GREATEST:
            byte = np.where(counts, sums.reshape(-1, *counts.shape), -256)
            self._greatest[place] = byte.max(axis=(1, 2))
        below = (np.repeat(self._greatest[place], each)[:, None] - sums) & 255
        return below | sums & ~255

    def add(self, terms: np.ndarray, body: dict[str, Any]) -> None:
        """Add the terms of rows, and find what shares are scaled by."""
        place, each = self._rows(len(terms), body)
        counts = self._counts(terms.shape[1], each, body)
        if body.get("float_row"):
            found = terms.astype(np.int32).view(np.float32).reshape(-1, *counts.shape)[:, counts]
            self._float_total[place] = np.add.accumulate(found, axis=-1, dtype=np.float32)[:, -1]
            return
        rounded = (terms + (1 << _CUT - 1)) >> _CUT
        total = np.where(counts, rounded.reshape(-1, *counts.shape), 0).sum(axis=(1, 2))
        if terms.min() < 0 or total.min() < LEAST or total.max() >= 1 << 32:
            raise ProgramError(f"terms must not be negative, and totals {LEAST}..{(1 << 32) - 1} with row_pass")
        headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
        shift = _SHIFT - headroom
        inverse = gemmlowp.reciprocal((total << headroom) - (1 << 31))
        self._multiplier[place] = np.where(shift > _MOST, 0, inverse)
        self._shift[place] = np.minimum(shift, _MOST)

    def shares(self, terms: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Outputs of terms."""
        is_float = body.get("float_row")
        rounding = Rounding.ONNX if is_float else Rounding.TFLITE_DOUBLE
        if body["rounding"] is not rounding:
            raise ProgramError(f"rounding must be {rounding.name} with the last row_pass")
        place, each = self._rows(len(terms), body)
        if is_float:
            return self._quotients(terms, np.repeat(self._float_total[place], each), body)
        multiplier, shift = (np.repeat(found[place], each) for found in (self._multiplier, self._shift))
        return requantise.tflite(terms, multiplier, -shift, body["zero_point"], body["low"], body["high"],
                                 0).astype(np.int64)

    @staticmethod
    def _quotients(terms: np.ndarray, total: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Outputs of terms in float32, whose rows have these totals."""
        values = terms.astype(np.int32).view(np.float32)
        product = np.where(values < np.finfo(np.float32).tiny, 0, values).astype(np.float64) * (body["bias_base"] & 511)
        # Exact products of 33 bits, and quotients whose ties no rounding to 53 bits can make.
        shares = np.rint(product / total[:, None].astype(np.float64)).astype(np.int64)
        return np.clip(shares + body["zero_point"], body["low"], body["high"])
