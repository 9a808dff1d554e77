"""The integer LSTM of TensorFlow Lite, to the last bit as LiteRT's reference kernel: int8 tensors, 16-bit cell state.

Sums of products of both operands are requantised to words of 16 bits with three integer bits, added with saturation,
and become gates by functions of fixed point (:mod:`.short_gemmlowp`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import short_gemmlowp
from .requantise import tflite, tflite_multiplier
from .tensors import Array

__all__ = ["Lstm", "Step"]

_LOW, _HIGH = -(1 << 15), (1 << 15) - 1

#: Bits behind the point of what gates are functions of.
_GATE_BITS = 12


class Step(NamedTuple):
    """What a step of an LSTM makes.

    Members
    -------
    hidden : (batch, cells) int8 array
        Its output, and the state that the next step multiplies.
    cell : (batch, cells) int16 array
        The cell state.
    """

    hidden: Array
    cell: Array


@dataclass(frozen=True, eq=False)
class Lstm:
    """Scales of an LSTM, each of which float32 holds.

    Parameters
    ----------
    x_scale, hidden_scale : float
        Of the operands.
    x_weights, hidden_weights : tuple of float
        Of the weights of each gate: those that say what is added to the cell state, what is kept of it, what is new,
        and what is shown. Without the first, it is what is not kept that is added.
    made_scale : float
        Of what a step makes.
    made_zero_point : int
        Its zero point.
    cell_bits : int
        Bits behind the point of the cell state, 9 to 15.
    clip : int
        Greatest magnitude of the cell state, 0 for none.
    """

    x_scale: float
    hidden_scale: float
    x_weights: tuple[float, ...]
    hidden_weights: tuple[float, ...]
    made_scale: float
    made_zero_point: int
    cell_bits: int
    clip: int = 0

    def step(self, x: Array, hidden: Array, cell: Array) -> Step:
        """Make the next state.

        Parameters
        ----------
        x, hidden : (batch, gates * cells) int32 array
            Sums of products of the input and of the hidden state less their zero points with the weights of the gates,
            biases included.
        cell : (batch, cells) int16 array
            Cell state of the step before.
        """
        gates = np.zeros(x.shape, np.int64)
        for sums, scale, weights in ((x, self.x_scale, self.x_weights),
                                     (hidden, self.hidden_scale, self.hidden_weights)):
            parts = [self._words(part, scale, weight)
                     for part, weight in zip(np.split(sums, len(weights), -1), weights, strict=True)]
            gates = np.clip(gates + np.concatenate(parts, -1), _LOW, _HIGH)
        *given, kept, new, shown = np.split(gates, len(self.x_weights), -1)
        keeps = short_gemmlowp.sigmoid(kept)
        adds = short_gemmlowp.sigmoid(given[0]) if given else _HIGH - keeps
        kept_cell = short_gemmlowp.divided(_times(keeps, cell), 15)
        added = short_gemmlowp.divided(_times(adds, short_gemmlowp.tanh(new, 15 - _GATE_BITS)), 30 - self.cell_bits)
        state = np.clip(kept_cell + added, _LOW, _HIGH)
        if self.clip:
            state = np.clip(state, -self.clip, self.clip)
        made = _times(short_gemmlowp.sigmoid(shown), short_gemmlowp.tanh(state, 15 - self.cell_bits))
        factor = np.float32(2.0**-30) / np.float32(self.made_scale)
        stored = tflite(made, *tflite_multiplier(float(factor)), self.made_zero_point)
        return Step(stored.astype(np.int8), state.astype(np.int16))

    @staticmethod
    def _words(sums: Array, scale: float, weight: float) -> Array:
        """Requantise sums of one gate to what it is a function of."""
        factor = np.float32(weight) * np.float32(scale) / np.float32(2.0**-_GATE_BITS)
        return tflite(sums, *tflite_multiplier(float(factor)), 0, -(1 << 31), (1 << 31) - 1).astype(np.int64)


def _times(a: Array, b: Array) -> Array:
    return np.asarray(a, np.int64) * b
