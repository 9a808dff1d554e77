"""What depends on an array's size: blocks of attention, and operators that are made of others."""

from dataclasses import replace

from ..graph import Graph
from ..names import Names
from .parts import nodes_of

__all__ = ["for_array"]


def for_array(graph: Graph, rows: int, cols: int) -> Graph:
    """Return a graph with each operator as an array of so many PEs computes it, and parts for those of parts.

    Raises
    ------
    PearrayError
        If an operator is stated for another size.
    """
    operators = [node.operator.for_array(rows, cols) for node in graph.nodes]
    if all(operator is node.operator and not operator.parts(graph.typed(node.inputs))
           for operator, node in zip(operators, graph.nodes, strict=True)):
        return graph
    made, names = graph.changed(nodes=[]), Names(graph)
    for operator, node in zip(operators, graph.nodes, strict=True):
        node = replace(node, operator=operator)
        parts = operator.parts(graph.typed(node.inputs))
        made.nodes += nodes_of(node, parts, made, names) if parts else [node]
    for node in made.nodes:
        made.infer(node)
    return made
