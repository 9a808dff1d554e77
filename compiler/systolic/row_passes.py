"""Functional model of what ``post.row_softmax`` adds: passes over rows of bytes, and what they keep of each row."""

from typing import Any

import numpy as np

from ...golden import gemmlowp, requantise
from ...hdl.arithmetic.reciprocal import LEAST
from ...hdl.post.row_softmax import STATES, RowPass
from ...hdl.shell.commands import Rounding
from ..interpreter import ProgramError

__all__ = ["RowPasses"]

#: Fields that must be zero.
_ZERO = ("bias", "per_channel", "table", "pair", "product", "average", "search", "transposed", "reduce", "softmax",
         "normalise")

#: Bits of a term that are rounded away before it is added; right shift of a share without zeros before a total, and
#: the greatest there is.
_CUT, _SHIFT, _MOST = 12, 35, 31


class RowPasses:
    """States of rows: greatest byte, multiplier and right shift of shares."""

    def __init__(self) -> None:
        self._greatest = np.zeros(STATES, np.int64)
        self._multiplier = np.zeros(STATES, np.int64)
        self._shift = np.zeros(STATES, np.int64)

    @staticmethod
    def _rows(body: dict[str, Any]) -> tuple[np.ndarray, int]:
        """States of the rows of a command, and rows of sums of each."""
        each = body["acc_nstep"]
        if not each or body["m_count"] % each:
            raise ProgramError(f"m_count must be a multiple of acc_nstep = {each} with row_pass, not {body['m_count']}")
        place = body["scale_nstep"] + np.arange(body["m_count"] // each)
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
        if body["n_count"] != 1:
            raise ProgramError(f"n_count must be 1 with row_pass, not {body['n_count']}")
        if sums.size and not -128 <= sums.min() <= sums.max() <= 255:
            raise ProgramError("sums must be bytes with row_pass")
        place, each = self._rows(body)
        counts = self._counts(sums.shape[1], each, body)
        if body["row_pass"] == RowPass.GREATEST:
            byte = np.where(counts, sums.reshape(-1, *counts.shape), -256)
            self._greatest[place] = byte.max(axis=(1, 2))
        below = (np.repeat(self._greatest[place], each)[:, None] - sums) & 255
        return below | sums & ~255

    def add(self, terms: np.ndarray, body: dict[str, Any]) -> None:
        """Add the terms of rows, and find what shares are scaled by."""
        place, each = self._rows(body)
        counts = self._counts(terms.shape[1], each, body)
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
        if body["rounding"] is not Rounding.TFLITE_DOUBLE:
            raise ProgramError("rounding must be TFLITE_DOUBLE with the last row_pass")
        place, each = self._rows(body)
        multiplier, shift = (np.repeat(found[place], each) for found in (self._multiplier, self._shift))
        return requantise.tflite(terms, multiplier, -shift, body["zero_point"], body["low"], body["high"],
                                 0).astype(np.int64)
