"""Elements of a tensor as weights of the array's diagonal, each of which meets one channel."""

from ...hdl.systolic.commands import Destination
from ..kernels.views import View
from ..steps import Piece, Tile
from ..transfers import block
from .layer import Layer, Tiles

__all__ = ["lines_of"]


def lines_of(layer: Layer, tiles: Tiles, size: int) -> Tile:
    """Tile of `size` bytes of elements of some tiles of channels, those of each in a line of the array."""
    view, item, reach = layer.problem.weights, layer.config.operand_bytes, layer.reach
    assert isinstance(view, View)
    first, valid = layer.span(tiles)
    whole, rest, line = valid // reach, valid % reach, layer.config.array.cols * item
    dram = view.buffer.address + (view.offset + first) * item
    loads = []
    if whole:
        loads.append(block(dram=dram, length=reach * item, dims=[(whole, reach * item, line)]))
    if rest:
        loads.append(block(dram=dram + whole * reach * item, address=whole * line, length=rest * item, dims=[]))
    source = view.buffer, view.offset + first, view.offset + first + valid
    return Tile(Destination.WEIGHT.value, size, [Piece(loads, [source])])
