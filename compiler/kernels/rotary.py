"""Rotary position embedding: rows of heads times the matrix that turns them, one for each position."""

import numpy as np

from ...golden import rotary as golden
from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Opcode
from ..graph.graph import Node
from ..operators import RotaryEmbedding
from .context import Context, Moving, scale_entries
from .elementwise import clamped
from .kernel import Access, Contraction, Index, Kernel, Product
from .views import Axis, Buffer, View

__all__ = ["rotary"]


def rotary(context: Context, node: Node[RotaryEmbedding]) -> list[Kernel]:
    """State RotaryEmbedding as ``y[q, m] = x[q, c] turn[c, m]`` for each position, q being a head."""
    operator, config = node.operator, context.config
    if config.array.operand_bits != 8 or context.is_fixed_point:
        where = context.graph.where(node)
        raise PearrayError(f"{where}RotaryEmbedding needs an array of integers of array.operand_bits = 8, not "
                           f"{config.array.operand_bits}")
    name = node.inputs["x"]
    heads, positions, elements = context.graph.tensors[name].shape
    found, strides = context.heads(node, "x")
    # Outputs stand as what they are made of.
    result = context.result(node, found.layout, columns=elements)
    turns = _turns(context, node, elements)
    dtype = context.graph.tensors[name].dtype
    x_fields = context.checked_zero(node, "x_zero_point", operator.stored("x")[1], name)
    tables = [context.graph.constants[node.inputs[role]] for role in ("cos", "sin")]
    info = np.iinfo(dtype)
    finish = clamped(int(info.min), int(info.max), point=operator.stored("y")[1])
    finish.entries = scale_entries(operator.requant(*tables), dtype)

    def rows(buffer: Buffer, position: int) -> View:
        axes = Axis("n", 1, 0), Axis("h", 1, 0), Axis("w", heads, strides[0] or elements), Axis("c", elements, 1)
        return View(buffer, axes, position * strides[1])

    indices = {"w": Index({"q": 1}), "c": Index({"c": 1})}
    matrix = Axis("c", elements, elements), Axis("m", elements, 1)
    return [Contraction(
        name=node.name, ranks={"q": heads, "m": elements, "c": elements}, finish=finish,
        terms=(Product(Access(rows(found.buffer, position), indices, **x_fields),
                       Access(View(turns, matrix, position * elements ** 2),
                              {"c": Index({"c": 1}), "m": Index({"m": 1})})),),
        y=Access(rows(result, position), {"w": Index({"q": 1}), "c": Index({"m": 1})}))
        for position in range(positions)]


def _turns(context: Context, node: Node[RotaryEmbedding], elements: int) -> Buffer:
    """Matrices of all positions of a node, a row of memory each, which nodes that turn alike share."""
    operator, positions = node.operator, context.graph.tensors[node.inputs["x"]].shape[1]
    cos, sin = (context.graph.constants[node.inputs[role]] for role in ("cos", "sin"))
    moves = node.inputs.get("position")
    if moves is not None:
        positions += context.graph.positions[moves]
    key = (node.inputs["cos"], node.inputs["sin"], elements, operator.interleaved, operator.offset, positions, moves)
    if key not in context.shared:
        rows = slice(operator.offset, operator.offset + positions)
        matrices = golden.turns(cos[rows], sin[rows], golden.table_scale(cos, sin), elements, operator.interleaved)
        context.shared[key] = Buffer(f"{node.name}:turns", positions, elements ** 2, context.config.operand_bytes,
                                     matrices.reshape(-1))
        context.made.append(context.shared[key])
        if moves is not None:
            context.moving.append(Moving(Opcode.LOAD, context.shared[key], moves, elements ** 2))
    return context.shared[key]
