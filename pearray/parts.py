"""Graphs of which the host computes parts: several programs, and what stands between them."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .compiler.compile import Unmapped
from .compiler.compiled import Compiled
from .compiler.frontends.model import Model
from .compiler.graph.graph import Graph, Node
from .compiler.graph.host_steps import host_steps
from .compiler.graph.parts import Part, crossings, parts_of
from .compiler.graph.passes.array import for_array
from .compiler.operators import Hosted
from .compiler.operators.hosted import HostedKind
from .configuration import System
from .handle import Handle, arrays, check_run, kept
from .hdl.errors import PearrayError, check_names
from .results import HostWork, Result, in_parts
from .workloads.published import named_settings

__all__ = ["Parts", "handle_for", "host_work", "mapped"]


def handle_for(graph: Graph, system: System, inputs: Mapping[str, np.ndarray] | None = None,
               **settings: Any) -> "Handle | Parts":
    """Handle of a graph, of one program or of several."""
    if any(isinstance(node.operator, Hosted) for node in graph.nodes):
        return Parts(graph, system, **settings)
    return Handle(graph, system, inputs, **settings)


def mapped(model: Model, graph_of: Callable[[Model], Graph], system: System, inputs: Mapping[str, np.ndarray],
           settings: Mapping[str, Any], keep: str = "outputs") -> "Handle | Parts":
    """Handle of a network, compiled, of which the host computes what this accelerator cannot, too.

    Parameters
    ----------
    model : Model
        The network.
    graph_of : callable
        Its graph.
    system, inputs, settings, keep
        As for :func:`handle_for` and :meth:`Handle.compiled`.

    Raises
    ------
    PearrayError
        If something cannot be mapped that is no node of the network's own.
    """
    while True:
        graph = graph_of(model)
        handle = handle_for(graph, system, inputs, **named_settings(settings, graph))
        try:
            handle.programs(keep)
        except Unmapped as error:
            left = model.leave_to_host(graph, error.node, error.why)
            if left is None:
                raise
            model = left
        else:
            return handle


def host_work(graph: Graph) -> HostWork | None:
    """What the host computes of a graph; None if that is nothing."""
    nodes, parts = [node for node in graph.nodes if isinstance(node.operator, Hosted)], parts_of(graph)
    if not nodes:
        return None
    macs = sum(graph.macs(node) for node in nodes)
    own = sum(graph.macs(node) for node in graph.nodes) - macs
    kinds: dict[tuple[str, str], HostedKind] = {}
    for kind in (kind for node in nodes for kind in node.operator.kinds):
        known = kinds.setdefault((kind.operator, kind.why), replace(kind, count=0))
        kinds[kind.operator, kind.why] = replace(known, count=known.count + kind.count)
    return HostWork(
        list(kinds.values()), sum(part.on_host for part in parts),
        sum(not part.on_host for part in parts), macs, own, crossings(parts))


class Parts:
    """A graph of which the host computes parts, with a program for each stretch between them.

    It is what :class:`Handle` is for a graph of one program, without sessions.

    Parameters
    ----------
    graph : Graph
        What to compute.
    system : System
        Accelerator and the memory behind it.
    handles : mapping of int to Handle, optional
        Those of the parts that programs compute, by number, if they are known.
    **settings
        Settings of the kind of array.

    Members
    -------
    parts : list of Part
        In the order in which they run.
    host : HostWork
        What the host computes.
    """

    def __init__(self, graph: Graph, system: System, handles: Mapping[int, Handle] | None = None, **settings: Any):
        self.graph, self.system = graph, system
        self.parts = parts_of(graph)
        self.host = host_work(graph)
        self._handles = handles if handles is not None else {
            index: Handle(part.graph, self.system, **settings)
            for index, part in enumerate(self.parts) if not part.on_host}

    @property
    def golden_graph(self) -> Graph:
        """The graph as the accelerator and the host compute it; see :attr:`Handle.golden_graph`."""
        if self.system.hardware.has_floats:
            ordered = {node.name: node for handle in self._handles.values() for node in handle.golden_graph.nodes}
            return self.graph.changed(nodes=[ordered.get(node.name, node) for node in self.graph.nodes])
        return for_array(self.graph, self.system.hardware.key_tile, self.system.hardware.score_columns)

    def programs(self, keep: str = "outputs") -> list[Compiled]:
        """The programs in the order in which they run; see :meth:`Handle.compiled`."""
        return [handle.compiled(keep) for handle in self._handles.values()]

    def run(self, inputs: Mapping[str, Any], engine: str = "verilator", keep: str | Collection[str] | None = None,
            progress: Callable[[int], None] | None = None, trace: bool = False) -> Result:
        """Run all parts; see :meth:`Handle.run`. Cycles and counters are sums over the programs.

        Raises
        ------
        PearrayError
            If an input, the engine or `keep` is wrong, or something is to be traced.
        """
        check_run(engine, progress)
        if trace:
            raise PearrayError(f"a trace draws one program, but this graph has {len(self._handles)}, with parts on "
                               "the host between them")
        given = arrays(inputs, self.graph.masks)
        self.graph.check_inputs(given)
        made = [name for part in self.parts for name in _made(part)]
        wanted = kept(self.graph, made, keep) if keep is not None else self.graph.outputs
        values, results, done = dict(given), [], 0
        for index, part in enumerate(self.parts):
            taken = {name: values[name] for name in part.graph.inputs}
            if index not in self._handles:
                values |= part.graph.golden(taken)
                continue
            result = self._handles[index].run_arrays(
                taken, engine, keep if keep is None or keep == "all" else _own(part, keep),
                None if progress is None else _behind(progress, done))
            values |= result.outputs
            done += result.cycles
            results.append(result)
        return in_parts(results, {name: values[name] for name in wanted if name in values}, self.system.pes, self.host)

    def session(self, state: Mapping[str, Any] | None = None) -> NoReturn:
        """Refuse: what stays in memory between runs is that of one program.

        Raises
        ------
        PearrayError
            Always.
        """
        raise PearrayError(f"a session is of one program, but this graph has {len(self._handles)}, with parts on the "
                           "host between them: give states as inputs of each run")

    def write(self, folder: Path, inputs: Mapping[str, np.ndarray]) -> None:
        """Write the files of each program, what the host computes between them, and ``parts.json``, their order.

        A part on the host has steps: files with the tensors of their names, networks or what :class:`.HostFunction`
        writes, and operators as :mod:`.host_steps` describes them.

        Raises
        ------
        PearrayError
            If the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            values, listed = dict(inputs), []
            for index, part in enumerate(self.parts):
                place = folder / f"part-{index}"
                taken = {name: values[name] for name in part.graph.inputs}
                described: dict[str, Any] = {"folder": place.name, "on_host": part.on_host,
                                             "inputs": part.graph.inputs, "outputs": part.graph.outputs}
                if index in self._handles:
                    self._handles[index].write(place, taken)
                else:
                    place.mkdir(parents=True, exist_ok=True)
                    described["steps"] = [_written(part.graph, node, place / str(number))
                                          for number, node in enumerate(part.graph.nodes)]
                values |= part.graph.golden(taken)
                listed.append(described)
            (folder / "parts.json").write_text(json.dumps(listed, indent=1) + "\n")
        except OSError as error:
            raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None


def _written(graph: Graph, node: Node, stem: Path) -> dict[str, Any]:
    """What the host computes by a node: a file of its own, with the tensors of its names, or an operator."""
    operator = node.operator
    if not isinstance(operator, Hosted):
        return host_steps(graph, [node])[0]
    return {"name": node.name, "file": operator.function.write(stem).name,
            "inputs": {name: node.inputs[role] for name, role in zip(operator.takes, operator.required, strict=True)},
            "outputs": {name: node.outputs[role] for name, role in zip(operator.gives, operator.outputs, strict=True)}}


def _behind(progress: Callable[[int], None], before: int) -> Callable[[int], None]:
    """Function of the cycles of a program that follows others."""
    return lambda cycles: progress(before + cycles)


def _made(part: Part) -> list[str]:
    return [name for node in part.graph.nodes for name in node.outputs.values()]


def _own(part: Part, keep: str | Collection[str]) -> list[str]:
    """Names of tensors to keep that a part makes."""
    return [name for name in check_names("keep", keep) if name in _made(part)]
