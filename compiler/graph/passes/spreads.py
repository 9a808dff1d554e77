"""Operands that broadcast along many axes are written out along most of them."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from math import prod

import numpy as np

from ...operators import Expand
from ...operators.binary import Binary
from ...operators.extremes import Extreme
from ..graph import Graph, Node

__all__ = ["operands_have_few_axes"]

Shape = tuple[int, ...]

#: Axes that a command walks, of which those that broadcast alike side by side are one, and that of channels another.
_AXES = 4


def operands_have_few_axes(graph: Graph) -> Graph:
    """Put an expansion before operands of shapes that broadcast along more axes than commands have.

    The innermost axis stays as it is: it says in which order runtimes add. Words are written out along all axes, since
    what is computed of two tensors takes several steps of them, each of which walks elements as they stand.
    """
    nodes: list[Node] = []
    names = {*graph.tensors}
    for node in graph.nodes:
        if isinstance(node.operator, (Binary, Extreme)):
            shape = tuple(graph.tensors[node.outputs["y"]].shape)
            has_words = isinstance(node.operator, Binary) and graph.tensors[node.outputs["y"]].dtype == np.int16
            # Constants of bytes are written out in any case.
            own = {role: tuple(graph.tensors[name].shape) for role, name in node.inputs.items()
                   if has_words or name not in graph.constants}
            for role in sorted(own, key=lambda role: prod(own[role])):
                if own[role] == shape or (not has_words and _axes(shape, own.values()) <= _AXES):
                    continue
                own[role] = shape if has_words else _written_out(own[role], shape)
                name = f"{node.name}:{role} written out"
                while name in names:
                    name += "'"
                names.add(name)
                nodes.append(Node(name, Expand(own[role]), {"x": node.inputs[role]}, {"y": name}))
                node = replace(node, inputs=node.inputs | {role: name})
        nodes.append(node)
    if len(nodes) == len(graph.nodes):
        return graph
    changed = graph.changed(nodes=nodes)
    for node in nodes:
        changed.infer(node)
    return changed


def _axes(shape: Shape, operands: Iterable[Shape]) -> int:
    """Axes that are left of `shape` where those along which the same operands broadcast are one, but for the last."""
    own = [(1,) * (len(shape) - len(operand)) + operand for operand in operands]
    return 1 + len([*groupby(tuple(operand[axis] > 1 for operand in own)
                             for axis, size in enumerate(shape[:-1]) if size > 1)])


def _written_out(operand: Shape, shape: Shape) -> Shape:
    """Shape of an operand that is written out along all axes of `shape` but the innermost of more than one."""
    own = (1,) * (len(shape) - len(operand)) + operand
    innermost = max(axis for axis, size in enumerate(shape) if size > 1)
    return tuple(own[axis] if axis == innermost else size for axis, size in enumerate(shape))
