"""A step of training as one graph: forward and backward pass, and the new weights and state of an optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....hdl.errors import PearrayError
from ...operators.optimisers import Optimiser
from ..graph import Graph, Node
from ..names import Names
from ..verify import verify
from .backward import Differentiated, differentiated
from .narrow import operands_are_narrow

__all__ = ["Step", "training_step"]


@dataclass(frozen=True)
class Step:
    """A graph that takes weights and an optimiser's state, and gives those behind a step.

    Parameters
    ----------
    graph : Graph
        Its inputs are those of the network, weights, state, and scalars of shape (); its outputs those of the network,
        the loss, new weights and new state.
    loss : str
        The loss before the step.
    weights : dict of str to str
        Weights, with what each becomes.
    state : dict of str to str
        What the optimiser keeps, zeros before the first step, with what each becomes.
    scalars : dict of str to str
        Inputs by the optimiser's names of scalars.
    factor, unscaled : str
        Inputs: the factor of the loss, and one over it.
    key : str or None
        Input: the key of random rounding, if there is any.
    kept_bytes : int
        Bytes that are kept from the forward for the backward pass.
    forward : int
        Nodes of the forward pass, which come first.
    """

    graph: Graph
    loss: str
    weights: dict[str, str]
    state: dict[str, str]
    scalars: dict[str, str]
    factor: str
    unscaled: str
    key: str | None
    kept_bytes: int
    forward: int


def training_step(graph: Graph, loss: str, weights: Sequence[str], optimiser: Optimiser, *, format: str | None = None,
                  stochastic: bool = False, budget: int | None = None) -> Step:
    """Add the backward pass and an optimiser's step to a graph.

    Parameters
    ----------
    graph : Graph
        Of operators on float32; its constants are where weights begin.
    loss : str
        Tensor of shape () that is to become small.
    weights : sequence of str
        Constants that change, each once; at least one.
    optimiser : Optimiser
        The step.
    format : str, optional
        Format of the operands of products, see :func:`.narrow.operands_are_narrow`; float32 if absent.
    stochastic : bool
        Whether operands are rounded to it at random.
    budget : int, optional
        See :func:`.backward.differentiated`.

    Raises
    ------
    PearrayError
        If the loss or a weight is none, or a pass over graphs has an error.
    """
    _check(graph, loss, weights, optimiser)
    if stochastic and format is None:
        raise PearrayError("stochastic must be False where format is None, not True: give a format, such as 'bfloat16'")
    key = Names(graph).free("key of the step") if stochastic else None
    narrow = graph if format is None else operands_are_narrow(graph, format, key)
    found = differentiated(narrow, loss, weights, budget)
    made, names = found.graph.changed(), Names(found.graph)
    made.outputs = list(dict.fromkeys([*graph.outputs, loss]))
    unscaled = made.input(names.free(f"one over {found.seed}"), (), np.float32)
    scalars = {role: made.input(names.free(f"{role} of the step"), (), np.float32) for role in optimiser.scalars}
    step = Step(made, loss, {}, {}, scalars, found.seed, unscaled, key if key in made.inputs else None,
                found.kept_bytes, found.forward)
    for name in weights:
        _update(step, found, name, optimiser, names)
    made.outputs += [*step.weights.values(), *step.state.values()]
    _drop_unread(made, found.forward)
    verify(made)
    return step


def _check(graph: Graph, loss: str, weights: Sequence[str], optimiser: Optimiser) -> None:
    if not isinstance(optimiser, Optimiser):
        raise PearrayError(f"optimiser must be one such as pearray.SGD(lr=0.1) or pearray.Adam(lr=0.001), not "
                           f"{optimiser!r}")
    if loss not in graph.tensors:
        raise PearrayError(f"loss must be the name of a tensor of the graph, of {', '.join(graph.tensors)}, not "
                           f"{loss!r}")
    if graph.tensors[loss].shape != ():
        raise PearrayError(f"loss must be a tensor of shape (), not {loss!r} of shape {graph.tensors[loss].shape}")
    if not weights:
        raise PearrayError("weights must name at least one constant of the graph")
    for name in weights:
        if name not in graph.constants:
            raise PearrayError(f"weights must be constants of the graph, of {', '.join(graph.constants)}, not {name!r}")


def _drop_unread(graph: Graph, forward: int) -> None:
    """Drop nodes of the backward pass of which nothing is read: rules make gradients of all inputs."""
    read, kept = {*graph.outputs}, list[Node]()
    for node in reversed(graph.nodes[forward:]):
        if not read.isdisjoint(node.outputs.values()):
            kept.append(node)
            read.update(node.inputs.values())
    graph.nodes = [*graph.nodes[:forward], *reversed(kept)]
    used = read | {name for node in graph.nodes for name in (*node.inputs.values(), *node.outputs.values())}
    graph.tensors = {name: tensor for name, tensor in graph.tensors.items() if name in used or name in graph.inputs}
    graph.constants = {name: value for name, value in graph.constants.items() if name in used}


def _update(step: Step, found: Differentiated, name: str, optimiser: Optimiser, names: Names) -> None:
    """Add the node that makes a weight's next value."""
    graph, shape = step.graph, step.graph.tensors[name].shape
    inputs = {"w": name, "dw": found.gradients[name], "unscaled": step.unscaled, **step.scalars}
    outputs = {role: names.free(f"{name}:new" if role == "w" else f"{name}:{role}:new") for role in optimiser.outputs}
    for role in optimiser.state:
        inputs[role] = graph.input(names.free(f"{name}:{role}"), shape, np.float32)
        step.state[inputs[role]] = outputs[role]
    step.weights[name] = outputs["w"]
    graph.nodes.append(Node(names.free(f"{name}:step"), optimiser, inputs, outputs))
    graph.infer(graph.nodes[-1])
