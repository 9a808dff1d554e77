"""Functional model of what ``post.norms`` adds to the vector engine: sums of rows, roots, and normalised elements."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ...golden import requantise
from ...golden.normalisation import inverse_root
from ...hdl.shell.commands import Rounding
from ...hdl.shell.functions import NORM_STATES
from ..cells import ProgramError

__all__ = ["NormRows"]

#: Fields that must be zero, and greatest magnitude of an element.
_ZERO = ("table", "product", "average", "search", "transposed", "reduce", "softmax", "normalise")
_GREATEST = 255


class NormRows:
    """States of rows, and the row that is being added up."""

    def __init__(self) -> None:
        self._totals = np.zeros(NORM_STATES, np.int64)
        self._roots = np.zeros(NORM_STATES, np.float32)
        self._row = (0, 0)
        self._elements = 0

    @staticmethod
    def check(body: dict[str, Any]) -> None:
        """Check that a POST uses nothing that its flags exclude."""
        flag = "moments" if body["moments"] else "normed"
        if not body[flag]:
            return
        zero = _ZERO + (("normed", "bias", "per_channel") if body["moments"] else ())
        for name in zero:
            if body.get(name):
                raise ProgramError(f"{name} must be zero with {flag}")
        if body["normed"] and (body["rounding"] is not Rounding.ONNX or not body["per_channel"]):
            raise ProgramError("normed needs rounding ONNX, and per_channel")
        if body["moments"] and body["n_count"] > 1 and not (body["row_opens"] and body["row_closes"]):
            raise ProgramError("n_count must be 1 where a row is not both opened and closed")

    @staticmethod
    def _checked(elements: np.ndarray) -> np.ndarray:
        if elements.size and np.abs(elements).max() > _GREATEST:
            raise ProgramError(f"elements of a row must be in -{_GREATEST}..{_GREATEST}")
        return elements

    @staticmethod
    def _states(body: dict[str, Any]) -> Iterator[int]:
        return (place % NORM_STATES for place in range(body["state_row"], body["state_row"] + body["n_count"]))

    def moments(self, tiles: Iterable[np.ndarray], body: dict[str, Any]) -> None:
        """Add up rows (parts, columns), and find the roots of those that are closed."""
        self._elements = body["scale_nstep"]
        addend = body["out_base"] | body["out_nstep"] << 20 | body["out_mstep"] << 40 | (body["low"] & 3) << 60
        for state, elements in zip(self._states(body), map(self._checked, tiles), strict=True):
            total, squares = (0, 0) if body["row_opens"] else self._row
            self._row = total + int(elements.sum()), squares + int(np.square(elements).sum())
            if not body["row_closes"]:
                continue
            total = self._row[0] if body["centred"] else 0
            size = self._elements * self._row[1] - total * total
            if size < 0:
                raise ProgramError(f"a row has more than scale_nstep = {self._elements} elements")
            self._totals[state] = total
            self._roots[state] = inverse_root((size << 16) + addend) * np.float32(2.0) ** (body["bias_nstep"] + 8)

    def normed(self, tiles: Iterable[np.ndarray], gains: np.ndarray, body: dict[str, Any]) -> Iterator[np.ndarray]:
        """Sums of rows (parts, columns), each element normalised and times its gain (parts, columns)."""
        for state, elements in zip(self._states(body), map(self._checked, tiles), strict=True):
            differences = (self._elements * elements - self._totals[state]).astype(np.float32)
            found = np.clip(np.rint(differences * self._roots[state]), -(1 << 15), (1 << 15) - 1).astype(np.int64)
            yield found * gains

    @staticmethod
    def scaled(sums: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Outputs of sums, whose scale stands where the steps of biases and scales are otherwise."""
        bits = body["scale_nstep"] << 16 | body["bias_nstep"]
        scale = np.array([bits], np.uint32).view(np.float32)[0]
        return requantise.onnx(sums, scale, body["zero_point"], body["low"], body["high"], 0).astype(np.int64)
