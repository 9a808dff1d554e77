"""What depends on an array's size: blocks of attention, and operators that are made of others."""

from dataclasses import replace

from ..graph import Graph, Node, Tensor

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
    return _in_parts(graph.changed(nodes=[replace(node, operator=operator)
                                          for operator, node in zip(operators, graph.nodes, strict=True)]))


def _in_parts(graph: Graph) -> Graph:
    """Return a graph with nodes for the parts of operators that have some, under names of theirs."""
    nodes: list[Node] = []
    constants, tensors = dict(graph.constants), dict(graph.tensors)
    taken = {*graph.tensors, *(node.name for node in graph.nodes)}

    def fresh(name: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    for node in graph.nodes:
        parts, names = node.operator.parts(graph.typed(node.inputs)), dict(node.inputs)
        if not parts:
            nodes.append(node)
        for part in parts:
            name = fresh(f"{node.name}:{part.name}")
            names[part.name] = node.outputs.get(part.name, name)
            inputs = {role: names[given] for role, given in part.inputs.items()}
            for role, value in part.constants.items():
                inputs[role] = constant = fresh(f"{name}:{role}")
                constants[constant] = value
                tensors[constant] = Tensor(constant, value.shape, value.dtype)
            nodes.append(Node(name, part.operator, inputs, {"y": names[part.name]}))
    made = graph.changed(nodes=nodes, constants=constants, tensors=tensors)
    for node in nodes:
        made.infer(node)
    return made
