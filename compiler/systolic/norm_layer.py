"""How LayerNorm and RMSNorm are cut: what there is room for of a kernel's rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.functions import NORM_STATES
from ...hdl.systolic.config import SystolicConfig
from ..kernels.normalisation import Normalisation

__all__ = ["STATES", "NormLayer", "Part", "Places"]

#: Blocks of activations that stand, if there is room; and rows that have states, of two blocks.
_SLOTS, STATES = 2, NORM_STATES // 2

#: Operand vectors of an EXECUTE.
_MOST_VECTORS = (1 << 16) - 1


class NormLayer:
    """A kernel on a configuration, and what there is room for.

    Parameters
    ----------
    halves : int
        Blocks of rows that stand in a bank.

    Members
    -------
    rows, elements : int
        Rows, and elements of each.
    width, tiles : int
        Elements that come side by side in a row of sums, and such parts of a row.
    room : int
        Rows of sums of a block.
    most_tiles, most_outputs : int
        Parts of a row that stand in the accumulators at a time, and parts of which outputs stand.
    most_gains, gain_room : int
        Parts whose gains are loaded together, and whose gains stand.
    operands : tuple of Access
        What elements are made of.
    slots : int
        Blocks of activations that are loaded ahead.
    most_rows : int
        Rows of a block at most, if they are whole.
    """

    def __init__(self, kernel: Normalisation, config: SystolicConfig, halves: int):
        self.kernel, self.config, self.halves = kernel, config, halves
        self.rows, self.elements = kernel.ranks["m"], kernel.ranks["c"]
        self.cols, self.lanes = config.array.cols, config.post.lanes
        self.width = min(config.array.rows, self.cols)
        self.tiles = -(-self.elements // self.width)
        pads, depth = config.scratchpads, config.accumulators.depth
        pitch = self.tiles * self.width if self.tiles > 1 else self.elements
        self.line = self.lanes * config.sum_bytes
        self.room = min(depth // halves, _MOST_VECTORS)
        self.operands = kernel.operands
        each = max(self.width, config.beat_bytes) * len(self.operands)
        self.slots = min(pads.activation_bytes // each, _SLOTS)
        activations = (pads.activation_bytes // (self.slots * len(self.operands))
                       // config.beat_bytes * config.beat_bytes)
        outputs = pads.output_bytes // 2 // self.line * self.line
        held = pads.channels // self.cols
        if not held:
            raise PearrayError(f"{kernel.name}: scratchpads.channels must be at least {self.cols} to hold the gains of "
                               f"a row of sums, not {pads.channels}")
        self.most_gains = held if held >= self.tiles else max(held // 2, 1)
        self.gain_room = held // self.most_gains * self.most_gains
        self.most_tiles = min(self.room, activations // self.width)
        self.most_outputs = outputs // self.cols
        self.most_rows = min(self.rows, STATES, self.room // self.tiles, activations // pitch) or 1

    def pitch_of(self, part: "Part") -> int:
        """Bytes of each row of some parts: with one part alone nothing need be padded."""
        return part.tiles * self.width if self.tiles > 1 else self.elements

    def places(self, parts: Sequence["Part"]) -> "Places":
        """Where activations of some parts stand, which are loaded in this order.

        Each has a place of its own if there is room for all, else that of the one before the last is taken again.
        """
        beat = self.config.beat_bytes
        size = max(-(-part.rows * self.pitch_of(part) // beat) * beat for part in parts)
        has_room = len(parts) * len(self.operands) * size <= self.config.scratchpads.activation_bytes
        return Places(size, len(parts) if has_room else self.slots)

    @property
    def is_whole(self) -> bool:
        """Whether at least one whole row has room."""
        return self.tiles <= self.most_tiles

    @cached_property
    def constants(self) -> tuple[bytes, bytes]:
        """Gains and biases as their memories hold them, those of biases and scales, for all columns of all parts."""
        gains = np.zeros((self.tiles, self.cols), np.int32)
        biases = np.zeros((self.tiles, self.cols, 2), np.int32)
        given = self.kernel.gains
        for target, values in ((gains, given.gains), (biases[:, :, 0], given.biases)):
            padded = np.zeros(self.tiles * self.width, np.int32)
            padded[:self.elements] = values
            target[:, :self.width] = padded.reshape(self.tiles, self.width)
        return gains.tobytes(), biases.tobytes()


@dataclass(frozen=True)
class Places:
    """Places of activations, of a size, taken in turn; those of each operand stand side by side."""

    size: int
    count: int

    def place(self, number: int, operand: int) -> int:
        """Where an operand of the part begins that is loaded as one of this number."""
        return (operand * self.count + number % self.count) * self.size


@dataclass(frozen=True)
class Part:
    """Some parts, from the first to that behind the last, of some rows: of one row, or whole rows."""

    row: int
    rows: int
    first: int
    end: int

    @property
    def tiles(self) -> int:
        """Parts of each row."""
        return self.end - self.first
