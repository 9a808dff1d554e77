"""Rows of a table by numbers that a run gives, and the gradient of the table, as routines.

No LOAD goes where a number of the run says. So each element of what is made is compared with all that it may come from:
rows of the table, or places in which a row was looked up, one step each.
"""

from math import prod

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators.embedding import Embedding, EmbeddingGrad
from ..routines.values import Lane, Value
from .context import Context
from .float_tensors import FloatTensors
from .kernel import Kernel
from .routine import Elements, Phase, Routine

__all__ = ["looked_up", "looked_up_grad"]

#: Most comparisons.
_MOST = 1 << 26


def _check(tensors: FloatTensors, rows: int, made: int) -> None:
    if rows * made > _MOST:
        raise PearrayError(f"{tensors.node.name}: rows of the table times elements that are looked up must be at most "
                           f"{_MOST} on this accelerator, which compares each with all, not {rows * made}")


def _other(lane: Lane, name: str, number: Value) -> Value:
    return lane.bit_xor(lane.load(name), number)


def looked_up(context: Context, node: Node[Embedding]) -> list[Kernel]:
    """State Embedding: each element becomes that of the row whose number it has."""
    tensors = FloatTensors(context, node)
    (rows, width), count = tensors.shape("w"), prod(tensors.shape("indices"))
    _check(tensors, rows, count * width)
    layout = tensors.layout("y")
    sources = {"w": tensors.source("w", np.tile(tensors.places("w"), count)),
               "indices": tensors.source("indices", np.repeat(tensors.places("indices").reshape(-1), width)[None])}

    def begin(lane: Lane) -> None:
        lane.become("found", 0.0)
        lane.become("number", lane.literal(0))

    def take(lane: Lane) -> None:
        number = lane.state("number")
        lane.become("found", lane.select(_other(lane, "indices", number), lane.state("found"), lane.load("w")))
        lane.become("number", lane.integer_add(number, lane.literal(1)))

    result = tensors.result("y", layout.positions().reshape(1, -1), layout)
    phases = [Phase(begin, repeats=False), Phase(take),
              Phase(lambda lane: lane.store("y", lane.state("found")), repeats=False)]
    return [Routine.of(node.name, sources, {"y": result}, phases, ("found", "number"), steps=rows,
                       units=count * width)]


def looked_up_grad(context: Context, node: Node[EmbeddingGrad]) -> list[Kernel]:
    """State EmbeddingGrad: each row of the table gets the sum, in order, of what was looked up under its number."""
    tensors, rows = FloatTensors(context, node), node.operator.rows
    places = tensors.places("dy")
    width, count = places.shape[-1], prod(tensors.shape("indices"))
    _check(tensors, rows, count * width)
    numbers = tensors.constants("rows", np.repeat(np.arange(rows, dtype=np.int32), width))
    sources = {"dy": tensors.source("dy", np.tile(places.reshape(count, width), rows)),
               "indices": tensors.source("indices", tensors.places("indices").reshape(-1, 1)),
               "row": Elements(numbers, np.arange(rows * width)[None])}

    def add(lane: Lane) -> None:
        given = lane.select(_other(lane, "indices", lane.load("row")), 0.0, lane.load("dy"))
        lane.become("total", lane.state("total") + given)

    phases = [Phase(lambda lane: lane.become("total", 0.0), repeats=False), Phase(add),
              Phase(lambda lane: lane.store("dw", lane.state("total")), repeats=False)]
    layout = tensors.layout("dw")
    result = tensors.result("dw", layout.positions().reshape(1, -1), layout)
    return [Routine.of(node.name, sources, {"dw": result}, phases, ("total",), steps=count, units=rows * width)]
