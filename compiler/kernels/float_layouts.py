"""In which order tensors stand in memory of which several operators of a step of training are made, element by element.

Gradients of a convolution's weights stand as an array makes them. Weights, and what an optimiser keeps of them, stand
so as well, that a step goes over all of them from their first element to their last.
"""

from ..graph.graph import Graph, Node
from ..operators import SGD, Adam, Add, Conv2dGrad, Function, FunctionGrad, Mul, Rounded, Sub
from .layout import Layout

__all__ = ["packed_layout", "wanted_layouts"]

#: Operators whose tensors of the output's shape are gone over side by side.
_ELEMENTS = SGD, Adam, Add, Function, FunctionGrad, Mul, Rounded, Sub


def packed_layout(shape: tuple[int, ...], groups: int) -> Layout:
    """Weights (M, C, R, S) as arrays take and make them: [group][row][column][channel][filter]."""
    m, channels, r, s = shape
    return Layout((groups, r, s, channels, m // groups), (0, 4, 3, 1, 2), shape)


def wanted_layouts(graph: Graph) -> dict[str, Layout]:
    """Layouts of tensors that meet gradients of a convolution's weights, by name."""
    wanted: dict[str, Layout] = {}
    for node in graph.nodes:
        operator = node.operator
        # With groups, no stride tells where the filters stand.
        if isinstance(operator, Conv2dGrad) and operator.groups == 1 and "dw" in node.outputs:
            layout = packed_layout(graph.tensors[node.outputs["dw"]].shape, 1)
            wanted |= {name: layout for name in (node.outputs["dw"], node.inputs["w"]) if name not in graph.constants}
    count = -1
    while len(wanted) != count:
        count = len(wanted)
        for node in graph.nodes:
            wanted |= _beside(graph, node, wanted)
    return wanted


def _beside(graph: Graph, node: Node, wanted: dict[str, Layout]) -> dict[str, Layout]:
    """Layouts of other tensors of a node of which one has a layout that is wanted."""
    if not isinstance(node.operator, _ELEMENTS):
        return {}
    names = [*node.inputs.values(), *node.outputs.values()]
    found = [wanted[name] for name in names if name in wanted]
    return {name: found[0] for name in names if found and graph.tensors[name].shape == found[0].shape
            and name not in wanted and name not in graph.views and name not in graph.constants}
