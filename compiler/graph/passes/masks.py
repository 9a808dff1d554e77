"""Masks of attention that a run gives become integers on the host, whatever their type."""

from dataclasses import replace

import numpy as np

from ...operators import Attention, MaskBias, Reshape
from ..graph import Graph, Node

__all__ = ["masks_are_biases"]


def masks_are_biases(graph: Graph) -> Graph:
    """Put a node of the host before each attention whose mask is no constant; of equal ones, one."""
    makers = {name: node for node in graph.nodes for name in node.outputs.values()}
    nodes: list[Node] = []
    found: dict[tuple[object, ...], str] = {}
    for node in graph.nodes:
        if isinstance(node.operator, Attention) and node.operator.is_scaled and node.inputs.get(
                "mask", "") not in {"", *graph.constants}:
            bias = _bias(graph, node, makers)
            operator = bias.operator
            key = (*bias.inputs.values(), operator.shape, operator.sizes, operator.attention.unit(operator.sizes[3]),
                   *(each.tobytes() for each in operator.attention.bounds(*operator.sizes[:3], clipped=False)))
            if key not in found:
                found[key] = name = f"{node.inputs['mask']}:bias of {node.name}"
                nodes.append(replace(bias, name=name, outputs={"y": name}))
            node = replace(node, inputs=node.inputs | {"mask": found[key]})
        nodes.append(node)
    if not found:
        return graph
    made = graph.changed(nodes=_read(graph, nodes))
    for node in made.nodes:
        made.infer(node)
    return made


def _bias(graph: Graph, node: Node[Attention], makers: dict[str, Node]) -> Node[MaskBias]:
    """Node of the host that makes integers of a mask, behind what only changes the mask's shape."""
    name = source = node.inputs["mask"]
    while source in makers and isinstance(makers[source].operator, Reshape):
        source = makers[source].inputs["x"]
    (heads, queries, elements), keys = graph.tensors[node.inputs["q"]].shape, graph.tensors[node.inputs["k"]].shape[1]
    own = graph.tensors[name].shape
    masks, rows, columns = *(1,) * (3 - len(own)), *own
    operator = MaskBias(node.operator, (heads, queries, keys, elements), (masks, rows, columns),
                        f"{graph.where(node)}{graph.named(source)}")
    operator.infer({"mask": graph.tensors[source]})
    inputs = {"mask": source}
    if "position" in node.inputs and np.dtype(graph.tensors[source].dtype).kind == "f":
        inputs["position"] = node.inputs["position"]
    return Node(node.name, operator, inputs, {})


def _read(graph: Graph, nodes: list[Node]) -> list[Node]:
    """Nodes without those that change the shape of what nothing reads any more."""
    wanted, kept = {*graph.outputs}, []
    for node in reversed(nodes):
        if not isinstance(node.operator, Reshape) or wanted & {*node.outputs.values()}:
            kept.append(node)
            wanted |= {*node.inputs.values()}
    return kept[::-1]
