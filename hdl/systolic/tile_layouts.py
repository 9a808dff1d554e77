"""What the walker over tiles hands on: to the feeder a weight vector, to the streamer a tile."""

from typing import Any

from amaranth import *
from amaranth.lib import data
from amaranth.utils import ceil_log2

from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .walker import COUNT_BITS, AddressStart, AddressSteps

__all__ = ["line_bits", "tile_layout", "weight_vector_layout"]


def line_bits(config: Config, scratchpad_bytes: int) -> int:
    """Bits of a line number of a bank of the activation or weight scratchpad."""
    return ceil_log2(scratchpad_bytes // (config.banks * config.operand_bytes))


def tile_layout(config: Config) -> data.StructLayout:
    """Layout of what the streamer must know of a tile."""
    rescaling: dict[str, Any] = {}
    if config.has_softmax:
        rescaling = {
            # Sums are shifted before they meet; those of the array are those of low bytes; accumulators may be shifted.
            "rescale": 1,
            "low_part": 1,
            "shifts_old": 1,
            # Where the shifts of the tile's rows begin.
            "shift_base": range(config.accumulators.depth),
        }
    # Weights are passed on diagonally.
    passed = {"passed": 1} if config.has_toeplitz else {}
    return data.StructLayout({
        # Turns of each loop over pixels, minus two.
        "counts": data.ArrayLayout(signed(COUNT_BITS), 3),
        "activation": AddressStart,
        "activation_steps": AddressSteps,
        # Lines by which the element of a row lies further than the number of the row says. That of
        # row 0 is zero.
        "displacement": data.ArrayLayout(line_bits(config, config.scratchpads.activation_bytes),
                                         config.array.rows),
        "a_unsigned": 1,
        "a_zero_point": signed(9),
        # First row of accumulators; in output-stationary mode that of the array's last row.
        "row": range(config.accumulators.depth),
        "first": 1,
        "maximum": 1,
        "bank": 1,
        # Last tile of the command.
        "last": 1,
        "output_stationary": 1,
        # The tile is weight-stationary, or long enough to drain all sums of the one before.
        "long": 1,
        # Output-stationary: the weights, which then walk with the activations. With ``passed``, row 0.
        "weight": AddressStart,
        "weight_steps": AddressSteps,
        "w_unsigned": 1,
        "w_zero_point": signed(9),
    } | passed | rescaling)


def weight_vector_layout(config: Config) -> data.StructLayout:
    """Layout of a weight vector to be read."""
    # Row 0 of a tile whose weights are passed on diagonally; its column 0 is the vector before.
    passed = {"passed": 1} if config.has_toeplitz else {}
    return data.StructLayout({
        "valid": 1,
        # First vector of a tile; each vector in output-stationary mode.
        "first": 1,
        "left": 1,
        "diagonal": 1,
        "unsigned": 1,
        "zero_point": signed(9),
        # Elements of the tile, 1 ... rows.
        "elements": range(config.array.rows + 1),
        # Of its first operand.
        "address": ADDRESS_BITS,
    } | passed)
