"""Nodes all of whose inputs are known, computed when a network is read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from .builder import Builder, OnnxNode

__all__ = ["computed", "folded"]


def computed(node: OnnxNode, constants: Mapping[str, np.ndarray], opsets: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Outputs of a node all of whose inputs are known, by name.

    Raises
    ------
    PearrayError
        If onnx's own evaluator has no such operator, or its inputs do not fit; the message names the node.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = [name for name in node.inputs if name]
    names = [name for name in node.outputs if name]
    ends = [[helper.make_empty_tensor_value_info(name) for name in group] for group in (given, names)]
    proto = node.proto
    if proto is None:
        proto = helper.make_node(node.op_type, node.inputs, node.outputs, domain=node.domain, **node.attributes)
    graph = helper.make_graph([proto], "constant", ends[0], ends[1])
    sets: Any = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=sets))
        values = evaluator.run(names, {name: constants[name] for name in given})
    except Exception as error:
        raise PearrayError(f"node {node.name!r} ({node.label}): cannot be computed from its constants: "
                           f"{type(error).__name__}") from None
    return dict(zip(names, (np.asarray(value) for value in values), strict=True))


def folded(node: OnnxNode, graph: Builder) -> dict[str, np.ndarray]:
    """Outputs of a node of a graph under construction, which has all of its inputs as constants."""
    return computed(node, graph.constants, graph.opsets)
