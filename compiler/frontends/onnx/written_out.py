"""Kernels on integers written out as operators on floats, so that forms of several nodes are found in either.

Where nothing is found between them, the kernels stay as they are: they round in a way of their own.
"""

from collections.abc import Callable, Sequence

from .builder import MICROSOFT, OnnxNode

__all__ = ["restored", "written_out"]

#: Operators of kernels that add and multiply, of two operands with scales and zero points.
_KERNELS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}

#: Kernels by the number of the node that computes in their place, with all nodes that stand for one.
Kernels = dict[int, tuple[OnnxNode, list[OnnxNode]]]


def written_out(nodes: Sequence[OnnxNode], inner: Callable[[str, str], str]) -> tuple[list[OnnxNode], Kernels]:
    """Nodes with four in the place of each kernel, and what stands for which.

    Parameters
    ----------
    nodes : sequence of OnnxNode
        All nodes, in order.
    inner : callable
        A name that no tensor has, from that of one and what it is.
    """
    result: list[OnnxNode] = []
    kernels: Kernels = {}
    for node in nodes:
        if node.domain != MICROSOFT or node.op_type not in _KERNELS or not node.input(7):
            result.append(node)
            continue
        reals = [inner(node.outputs[0], f"operand {place}") for place in (0, 1)]
        real = inner(node.outputs[0], "real")
        parts = [node.standing_for("DequantizeLinear", node.inputs[3 * place:3 * place + 3], [name])
                 for place, name in enumerate(reals)]
        parts.append(node.standing_for(_KERNELS[node.op_type], reals, [real]))
        parts.append(node.standing_for("QuantizeLinear", [real, *node.inputs[6:8]], node.outputs))
        kernels[id(parts[2])] = node, parts
        result += parts
    return result, kernels


def restored(nodes: Sequence[OnnxNode], kernels: Kernels) -> list[OnnxNode]:
    """Nodes with the kernels that are still there in the place of what stands for them."""
    left = [kernels[id(node)] for node in nodes if id(node) in kernels]
    gone = {id(part) for _, parts in left for part in parts}
    own = {id(parts[2]): kernel for kernel, parts in left}
    return [own.get(id(node), node) for node in nodes if id(node) not in gone or id(node) in own]
