"""Nodes all of whose inputs are known, computed when a network is read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from .builder import Builder, OnnxNode
from .runtime import run, session

__all__ = ["computed", "folded"]

#: Version of the format of models of one node, which each onnxruntime reads.
_IR_VERSION = 10


def computed(node: OnnxNode, constants: Mapping[str, np.ndarray], opsets: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Outputs of a node all of whose inputs are known, by name.

    Raises
    ------
    PearrayError
        If neither onnx's own evaluator nor onnxruntime computes it; the message names the node.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = [name for name in node.inputs if name]
    names = [name for name in node.outputs if name]
    inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
              for name, value in ((name, constants[name]) for name in dict.fromkeys(given))]
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    proto = node.proto
    if proto is None:
        proto = helper.make_node(node.op_type, node.inputs, node.outputs, domain=node.domain, **node.attributes)
    graph = helper.make_graph([proto], "constant", inputs, outputs)
    sets: Any = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=sets, ir_version=_IR_VERSION)
    values = {name: constants[name] for name in given}
    try:
        made = ReferenceEvaluator(model).run(names, values)
        return dict(zip(names, (np.asarray(value) for value in made), strict=True))
    except Exception as error:
        # Some of its operators have limits of their own, as of the sizes of GatherElements.
        return _by_runtime(node, model, names, values, type(error).__name__)


def _by_runtime(node: OnnxNode, model: Any, names: list[str], values: dict[str, np.ndarray], reason: str
                ) -> dict[str, np.ndarray]:
    """Outputs of a model of one node, which onnx's evaluator has not computed for some reason, by onnxruntime."""
    try:
        return run(session(model, repr(node.name)), names, values, repr(node.name))
    except PearrayError:
        raise PearrayError(f"node {node.name!r} ({node.label}): cannot be computed from its constants: "
                           f"{reason}") from None


def folded(node: OnnxNode, graph: Builder) -> dict[str, np.ndarray]:
    """Outputs of a node of a graph under construction, which has all of its inputs as constants."""
    return computed(node, graph.constants, graph.opsets)
