"""Masks that a run gives, and what networks compute of them before they meet scores: the host's, before the run.

Exporters write a mask of words as integers, which a few operators make a number for each key or score.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Given
from .attention import is_attention, met_by_scores
from .builder import Builder, OnnxNode, attempt
from .network import Network, is_between

__all__ = ["host_masks"]


def host_masks(network: Network, builder: Builder, model: Any, constants: Mapping[str, np.ndarray]) -> list[OnnxNode]:
    """Let the host compute what attention adds to scores and follows from inputs alone.

    Parameters
    ----------
    network : Network
        All nodes, with those that stand for attention.
    builder : Builder
        Graph under construction, to which nodes of the host are added.
    model : onnx.ModelProto
        The file.
    constants : mapping of str to ndarray
        Tensors that are known, in the file's own types.

    Returns
    -------
    list of OnnxNode
        The nodes that are left.
    """
    builder.given |= {name: name for name in builder.tensors if name in network.given}
    for node in network.nodes:
        for name in met_by_scores(node) if is_attention(node) else ():
            if name in network.given and name not in builder.given:
                attempt(network.makers[name], _compute, network, builder, model, constants, name)
    wanted, kept = {*network.outputs}, []
    for node in reversed(network.nodes):
        if wanted & {*node.outputs}:
            kept.append(node)
            met = {*met_by_scores(node)} if is_attention(node) else set()
            given = met & builder.given.keys()
            wanted |= {name for place, name in enumerate(node.inputs) if place < 3 or name not in given} | met - given
    return kept[::-1]


def _compute(network: Network, builder: Builder, model: Any, constants: Mapping[str, np.ndarray], name: str) -> None:
    """Add a node of the host that makes a tensor."""
    nodes, inputs = network.before(name)
    function = _evaluator(nodes, inputs, name, model, constants)
    tensors = {each: builder.tensor(each) for each in inputs}
    made = function(**{each: np.zeros(tensor.shape, tensor.dtype) for each, tensor in tensors.items()})
    builder.given[name] = builder.inner(name, "given")
    builder.add(network.makers[name], Given(function, tuple(inputs), made.shape, made.dtype, of_masks=True),
                {each: each for each in inputs}, builder.given[name])


def _evaluator(nodes: Sequence[OnnxNode], inputs: Sequence[str], output: str, model: Any,
               constants: Mapping[str, np.ndarray]) -> Callable[..., np.ndarray]:
    """Function of inputs that some nodes of the file compute."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    read = dict.fromkeys(name for node in nodes for name in node.inputs[:1 if is_between(node) else None])
    fixed = [name for name in read if name in constants]
    ends = [[helper.make_empty_tensor_value_info(name) for name in group] for group in ((*inputs, *fixed), (output,))]
    # What a quantiser puts between is left out, as between scores.
    protos = [helper.make_node("Identity", node.inputs[:1], node.outputs) if is_between(node) else node.proto
              for node in nodes]
    graph = helper.make_graph(protos, "mask", ends[0], ends[1])
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))

    def evaluate(**given: np.ndarray) -> np.ndarray:
        try:
            with np.errstate(all="ignore"):
                (made,) = evaluator.run([output], {**given, **{name: constants[name] for name in fixed}})
        except Exception as error:
            raise PearrayError(f"{output!r} cannot be computed from {', '.join(inputs)}: "
                               f"{type(error).__name__}") from None
        return np.asarray(made)

    return evaluate
