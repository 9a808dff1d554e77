"""Append: rows that are copied into a tensor where it stands."""

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Opcode
from ..graph.graph import Node
from ..operators import Append, Attention
from .context import Context, Located, Moving
from .elementwise import whole
from .kernel import Access, Chain, Index, Kernel, Scaled
from .views import Axis, Buffer, View

__all__ = ["append"]


def append(context: Context, node: Node[Append]) -> list[Kernel]:
    """State Append as ``present[h, offset + p, e] = x[h, p, e]``, present being where past is."""
    graph, name = context.graph, node.inputs["past"]
    _check_alone(context, node)
    past, (x, strides) = context.operand(node, "past"), context.heads(node, "x")
    heads, rows, elements = graph.tensors[node.inputs["x"]].shape
    if not past.is_plain():
        raise PearrayError(f"{node.name}: {name} must stand row-major in memory")
    context.located[node.outputs["present"]] = Located(past.buffer, past.layout)
    length = graph.tensors[name].shape[1]
    item = context.config.operand_bytes
    if "position" in node.inputs:
        context.moving.append(Moving(Opcode.STORE, past.buffer, node.inputs["position"], elements * item))

    def view(buffer: Buffer, head: int, row: int, first: int) -> View:
        axes = Axis("n", rows, row), Axis("h", 1, 0), Axis("w", heads, head), Axis("c", elements, 1)
        return View(buffer, axes, first)

    dtype = graph.tensors[name].dtype
    element = {"n": Index({"n": 1}), "w": Index({"q": 1}), "c": Index({"c": 1})}
    source = Access(view(x.buffer, strides[0], strides[1], 0), element, is_unsigned=dtype.kind == "u")
    target = Access(view(past.buffer, length * elements, elements, node.operator.offset * elements), element)
    return [Chain(name=node.name, ranks={"n": rows, "q": heads, "c": elements}, terms=(Scaled(source),),
                  finish=whole(dtype), y=target)]


def _check_alone(context: Context, node: Node[Append]) -> None:
    """Check that nobody sees a tensor change that is written where it stands, but who waits for the write."""
    graph, past, present = context.graph, node.inputs["past"], node.outputs["present"]
    others = [other.name for other in graph.nodes for role, name in other.inputs.items()
              if graph.source(name) == past and (other is not node or role == "x")]
    if past not in graph.inputs or others or past in {*map(graph.source, graph.outputs)}:
        reader = others[0] if others else "the graph's outputs"
        raise PearrayError(f"{node.name}: past {past} must be an input of the graph that nothing else reads, "
                           f"{'not ' + reader if past in graph.inputs else 'not made by a node'}")
    readers = [other for other in graph.nodes if present in map(graph.source, other.inputs.values())]
    wrong = [other.name for other in readers if not isinstance(other.operator, Attention)]
    if wrong:
        raise PearrayError(f"{node.name}: present {present} can be read by Attention alone, not by {wrong[0]}")
