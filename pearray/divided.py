"""Graphs of which the host computes, by golden models, what an accelerator has no program for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .compiler.compile import Unmapped
from .compiler.graph.graph import Graph, Node
from .compiler.graph.parts import parts_of
from .compiler.kernels.lowerings import lowering_of
from .compiler.kinds import compiler_for
from .compiler.operators import Hosted, Reshape
from .compiler.operators.hosted import HostedKind
from .compiler.operators.operator import Operator
from .configuration import System
from .handle import Handle
from .hdl.errors import PearrayError
from .hdl.shell.config import Config
from .parts import Parts

__all__ = ["GoldenOperator", "divided"]


@dataclass(frozen=True)
class GoldenOperator:
    """An operator as what a host computes, by its golden model; see :class:`.hosted.HostFunction`.

    Parameters
    ----------
    operator : Operator
        The operator.
    """

    operator: Operator

    @property
    def rows(self) -> Mapping[str, int]:
        """No table: golden models check what they look up."""
        return {}

    def __call__(self, inputs: Mapping[str, np.ndarray], /) -> Mapping[str, np.ndarray]:
        """Compute it of tensors by role."""
        return self.operator.golden(inputs)

    def write(self, stem: Path) -> NoReturn:
        """Refuse: no other host knows the golden model.

        Raises
        ------
        PearrayError
            Always.
        """
        raise PearrayError(f"{self.operator.kind} is computed by its golden model in pearray, which no file holds: run "
                           "the graph by pearray")


def divided(graph: Graph, system: System, **settings: Any) -> Handle | Parts:
    """Compile a graph, with a program for each stretch of it that the accelerator can compute.

    Parameters
    ----------
    graph : Graph
        Of operators with golden models.
    system : System
        Accelerator and the memory behind it.
    **settings
        Settings of the kind of array.

    Returns
    -------
    Handle or Parts
        Parts if the host has to compute some of it, whose ``host`` says what and why.

    Raises
    ------
    PearrayError
        If something cannot be mapped that is no node of the graph's own.
    """
    left = {node.name: why for node in graph.nodes if (why := _refusal(graph, node, system.hardware)) is not None}
    known: dict[tuple[str, ...], Handle] = {}
    while True:
        made = graph.changed(nodes=[_hosted(graph, node, left) for node in graph.nodes])
        handles, refused = dict[int, Handle](), None
        for index, part in enumerate(parts_of(made)):
            if part.on_host:
                continue
            key = (*(node.name for node in part.graph.nodes), "", *part.graph.outputs)
            handles[index] = known.setdefault(key, Handle(part.graph, system, **settings))
            try:
                handles[index].programs()
            except Unmapped as error:
                refused = error
                break
        if refused is None:
            return Parts(made, system, handles) if left else next(iter(handles.values()))
        # Parts of a node have names that begin with its own.
        whole = next((node.name for node in graph.nodes if f"{refused.node}:".startswith(f"{node.name}:")
                      and node.name not in left), None)
        if whole is None:
            raise refused
        left[whole] = refused.why


def _refusal(graph: Graph, node: Node, config: Config) -> str | None:
    """Why an accelerator has no program for a node, as far as its operator and types say; None if it may have one."""
    operator = node.operator
    if operator.at_edge or isinstance(operator, Reshape):
        return None
    if lowering_of(operator, config) is None and not operator.parts(graph.typed(node.inputs)):
        return f"{operator.kind} has no lowering for this accelerator yet"
    constants = {name: graph.constants[name] for name in node.inputs.values() if name in graph.constants}
    alone = Graph([node], {name: graph.tensors[name] for name in node.inputs.values()}, constants,
                  [name for name in dict.fromkeys(node.inputs.values()) if name not in constants])
    try:
        compiler_for(config).check(alone, config)
    except PearrayError as error:
        return str(error)
    return None


def _hosted(graph: Graph, node: Node, left: Mapping[str, str]) -> Node:
    """A node, or what the host computes in its place."""
    if node.name not in left:
        return node
    operator = node.operator
    gives = {role: (graph.tensors[name].shape, graph.tensors[name].dtype) for role, name in node.outputs.items()}
    kind = HostedKind(operator.kind, 1, node.name, left[node.name])
    hosted = Hosted(GoldenOperator(operator), (*node.inputs,), gives, (kind,), graph.macs(node))
    return replace(node, operator=hosted, inputs=dict(zip(hosted.required, node.inputs.values(), strict=True)),
                   outputs=dict(zip(hosted.outputs, node.outputs.values(), strict=True)))
