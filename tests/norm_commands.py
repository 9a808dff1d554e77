"""Commands of LayerNorm and RMSNorm for the post engine, drawn, and what they must write, in Python's integers."""

from itertools import pairwise
from math import isqrt, ldexp

import numpy as np
from post_commands import DEPTH, OUTPUT_BYTES

from pearray.golden import requantise
from pearray.hdl.shell.commands import Parameter, Rounding
from pearray.hdl.shell.functions import NORM_STATES

__all__ = ["NormModel", "layer_commands", "root_of"]


def root_of(value, exponent):
    """float32 number of the inverse root that the format defines, times a power of 2."""
    if value == 0:
        return np.float32(0)
    shift = (26 - value.bit_length()) // 2
    leading = value << 2 * shift if shift >= 0 else value >> -2 * shift
    return np.float32(ldexp(isqrt((1 << 72) // leading), shift - 36 + exponent))


def layer_commands(rng, target, *, rows, tiles, first=None, centred=None, addend=None, elements=None, behind=None,
                   cuts=1, pair=0):
    """Draw the commands of some rows: moments, at once or of `cuts` parts of one row after another, and rows normed.

    With `pair` set, elements are what pairs of bytes stand for.
    """
    lanes, columns = target.post.lanes, target.sum_columns
    per_row, bank = columns // lanes, int(rng.integers(2))
    lines = target.scratchpads.channels // lanes
    addend = int(rng.integers(0, 1 << 62)) >> int(rng.integers(0, 62)) if addend is None else addend
    # Of no row D times the squares are less than the square of the sum.
    elements = int(rng.integers(tiles * columns, 1 << 15)) if elements is None else elements
    state = int(rng.integers(NORM_STATES)) if first is None else first
    at, step = int(rng.integers(DEPTH)), tiles + int(rng.integers(3))
    shared = {"scale_nstep": elements, "bias_nstep": int(rng.integers(7, 15)),
              "centred": int(rng.integers(2)) if centred is None else centred, "out_base": addend & 0xFFFFF,
              "out_nstep": addend >> 20 & 0xFFFFF, "out_mstep": addend >> 40 & 0xFFFFF, "low": addend >> 60}
    place = {"bank": bank, "acc_base": at, "acc_nstep": step, "moments": 1}
    commands = []
    if cuts == 1:
        commands.append(shared | place | {"n_count": rows, "m_count": tiles, "row_opens": 1, "row_closes": 1,
                                          "state_row": state})
    else:
        ends = [0, *sorted(rng.choice(np.arange(1, tiles), cuts - 1, replace=False).tolist()), tiles]
        for row in range(rows):
            commands += [shared | place | {
                "n_count": 1, "m_count": end - start, "acc_base": (at + row * step + start) % DEPTH,
                "row_opens": int(start == 0), "row_closes": int(end == tiles), "state_row": (state + row) % NORM_STATES}
                for start, end in pairwise(ends)]
    for command in commands[1:]:
        command["behind"] = NORM_STATES
    pairs = {"pair": pair} if target.has_pairs else {}
    scale = int(np.exp2(np.float32(rng.uniform(-24, -18))).view(np.uint32))
    pitch = rows * tiles * columns
    normed = {
        "normed": 1, "rounding": Rounding.ONNX, "bank": bank, "bias": int(rng.integers(2)), "per_channel": 1,
        "zero_point": int(rng.integers(-128, 128)), "low": -128, "high": 127, "n_count": rows, "m_count": tiles,
        "acc_base": at, "acc_nstep": step, "bias_base": int(rng.integers(lines)), "bias_mstep": per_row,
        "bias_nstep": scale & 0xFFFF, "scale_base": int(rng.integers(lines)), "scale_nstep": scale >> 16,
        "out_base": int(rng.integers((OUTPUT_BYTES - pitch) // lanes)) * lanes, "out_nstep": tiles * columns,
        "out_mstep": columns, "state_row": state, "behind": 0 if behind is None else behind}
    return [command | pairs for command in commands], normed | pairs


class NormModel:
    """The definition of ``post.norms``, an element at a time."""

    def __init__(self, target, sums, memories):
        self._target, self._sums = target, sums
        lanes = target.post.lanes
        self._gains = memories[Parameter.BIAS].view("<i2").reshape(-1, lanes, 2)[:, :, 0]
        self._biases = memories[Parameter.SCALE].view("<i4").reshape(-1, lanes, 2)[:, :, 0]
        if target.has_pairs:
            self._tables = memories[target.pair_memory].view("<i4").reshape(256, -1)
        self._states, self._elements = {}, 0
        self._row = [0, 0]
        self.written = np.full(OUTPUT_BYTES, -1)

    def _element(self, c, n, m, column):
        value = int(self._sums[c["bank"], (c["acc_base"] + n * c["acc_nstep"] + m) % DEPTH, column])
        if not c.get("pair"):
            return value
        word = int(self._tables[value & 255, 0]) + int(self._tables[value >> 8 & 255, 1])
        word = (word + (1 << 31)) % (1 << 32) - (1 << 31)
        return min(max(word >> 20, -128), 127)

    def moments(self, c):
        """Add up rows."""
        self._elements = c["scale_nstep"]
        addend = c["out_base"] | c["out_nstep"] << 20 | c["out_mstep"] << 40 | c["low"] << 60
        for n in range(c["n_count"]):
            if c["row_opens"]:
                self._row = [0, 0]
            for m, column in np.ndindex(c["m_count"], self._target.sum_columns):
                x = self._element(c, n, m, column)
                self._row = [self._row[0] + x, self._row[1] + x * x]
            if c["row_closes"]:
                total, squares = self._row[0] * c["centred"], self._row[1]
                value = ((self._elements * squares - total**2) << 16) + addend
                self._states[(c["state_row"] + n) % NORM_STATES] = total, root_of(value, c["bias_nstep"] + 8)

    def normed(self, c):
        """Write outputs."""
        lanes, columns = self._target.post.lanes, self._target.sum_columns
        scale = np.uint32(c["bias_nstep"] | c["scale_nstep"] << 16).view(np.float32)
        for n, m, column in np.ndindex(c["n_count"], c["m_count"], columns):
            total, root = self._states[(c["state_row"] + n) % NORM_STATES]
            difference = np.float32(self._elements * self._element(c, n, m, column) - total)
            found = int(np.clip(np.rint(difference * root), -(1 << 15), (1 << 15) - 1))
            line = m * columns // lanes + column // lanes
            lane = column % lanes
            value = found * int(self._gains[(c["bias_base"] + line) % len(self._gains), lane])
            if c["bias"]:
                value += int(self._biases[(c["scale_base"] + line) % len(self._biases), lane])
            value = (value + (1 << 31)) % (1 << 32) - (1 << 31)
            byte = requantise.onnx(np.array([value]), scale, c["zero_point"], c["low"], c["high"], 0)[0]
            place = c["out_base"] + n * c["out_nstep"] + m * c["out_mstep"] + column
            self.written[place % OUTPUT_BYTES] = int(byte) & 255
