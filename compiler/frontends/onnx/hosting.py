"""Which nodes of a file onnxruntime computes on the host, and the parts that these make between programs.

Programs know stored integers only. So a node on the host takes with it all that makes, and all that is made of, the
real numbers that it shares: from the stored tensors before it to those behind it. What others need of these, too,
programs compute as well.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Node, Tensor
from ...graph.parts import phases
from ...operators import Hosted
from ...operators.hosted import HostedKind
from .builder import MICROSOFT, OWN, Builder, OnnxNode
from .reading import captured
from .refusals import Refusal
from .runtime import Types, run, session
from .work import products_of

__all__ = ["HOSTED", "Hosting"]

#: Operator of the node that stands for a part on the host.
HOSTED = "part on the host"

_PURPOSE = "what is left to the host"

#: Types of stored tensors, which programs and hosts can share.
_STORED = (np.int8, np.uint8, np.int16, np.uint16)

#: Operators whose sums programs and hosts can share, too.
_SUMS = ("ConvInteger", "MatMulInteger")


class Hosting:
    """Nodes of a file that the host computes.

    Parameters
    ----------
    model : onnx.ModelProto
        The file.
    inputs : mapping of str to Tensor
        Inputs of the network, with the shapes of a run.
    left : mapping of names to str
        Reasons to leave the host the node that makes the first of some tensors which the file has.
    is_exact : bool
        Whether the host also computes what programs compute only within a bound.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], left: Mapping[tuple[str, ...], str], is_exact: bool):
        self._model, self._inputs, self.is_exact = model, inputs, is_exact
        #: Types of all tensors.
        self.types = Types(model, inputs)
        #: Nodes that have been refused, by the first tensor that each makes, with the reasons.
        self._refused: dict[str, str] = {}
        makers = {name: node for node in model.graph.node for name in node.output if name}
        for names, why in left.items():
            node = next((makers[name] for name in names if name in makers), None)
            if node is not None and node.op_type == "QuantizeLinear":
                # What stores a result has its kernel's name.
                node = makers.get(node.input[0], node)
            if node is not None:
                self._refused[next(filter(None, node.output))] = why
        self._sums = {name for node in model.graph.node if node.op_type in _SUMS for name in node.output}
        self._nodes: list[OnnxNode] = []
        self._constants: Mapping[str, np.ndarray] = {}

    def add(self, found: Sequence[Refusal]) -> bool:
        """Take nodes that have been refused; tell whether that is anything new."""
        before = len(self._refused)
        for each in found:
            for node in self._of_file(each.node) or self._of_file(each.taken):
                self._refused.setdefault(_key(node), each.reason)
        return len(self._refused) > before

    def _of_file(self, node: OnnxNode) -> list[OnnxNode]:
        """Nodes of the file for which a node stands: all between what it reads and what it makes."""
        makers = {name: each for each in self._nodes for name in each.outputs}
        found: list[OnnxNode] = []
        waiting, ends = [name for name in node.outputs if name in makers], {*node.inputs, *self._constants}
        while waiting:
            each = makers.get(waiting.pop())
            if each is not None and each not in found:
                found.append(each)
                waiting += [name for name in each.inputs if name and name not in ends]
        return found

    def parted(self, nodes: list[OnnxNode], constants: Mapping[str, np.ndarray], outputs: Collection[str]
               ) -> list[OnnxNode]:
        """Nodes for programs, with one for each part on the host, in an order in which each finds what it reads.

        Parameters
        ----------
        nodes : list of OnnxNode
            Nodes of the file, without those of constants.
        constants : mapping of str to ndarray
            Tensors that are known, in the file's types.
        outputs : collection of str
            Outputs of the network.
        """
        self._nodes, self._constants = nodes, constants
        if not self._refused:
            return nodes
        core = self._core()
        copied = self._before(core)
        kept = self._needed(core, copied, outputs)
        made = _groups(nodes, core, copied, kept, self._is_stored)
        by_programs = {name for node in kept for name in _reads(node)} | {*outputs}
        hosted = {name for node in core for name in node.outputs}
        parts = [OnnxNode(HOSTED, OWN, group[0].name, [], [], {"nodes": group}) for on_host, group in made if on_host]
        for part in parts:
            group = part.attributes["nodes"]
            inside = [name for node in group for name in node.outputs if name]
            part.inputs = list(dict.fromkeys(name for node in group for name in _reads(node)
                                             if name not in inside and name not in constants))
        by_hosts = {name for part in parts for name in part.inputs}
        for part in parts:
            part.outputs = [name for node in part.attributes["nodes"] for name in node.outputs if (name and (
                name in by_programs if name in hosted else name in by_hosts and name not in outputs))
                            or name in by_hosts & hosted]
        waiting = iter(parts)
        return [node for on_host, group in made for node in ([next(waiting)] if on_host else group)]

    def _is_stored(self, name: str) -> bool:
        """Whether programs and the host can share a tensor."""
        return (name in self._inputs or name in self._constants or name in self._sums
                or self.types.dtype(name) in _STORED)

    def _core(self) -> list[OnnxNode]:
        """Nodes that have been refused, and what is made of their real numbers."""
        core, shared = [], set[str]()
        for node in self._nodes:
            if _key(node) in self._refused or shared & {*_reads(node)}:
                core.append(node)
                shared |= {name for name in node.outputs if name and not self._is_stored(name)}
        return core

    def _before(self, core: Sequence[OnnxNode]) -> list[OnnxNode]:
        """Nodes of the core, and those that make the real numbers which they read, in order."""
        ids, wanted, found = {id(node) for node in core}, set[str](), []
        for node in reversed(self._nodes):
            if id(node) in ids or wanted & {*node.outputs}:
                found.append(node)
                wanted |= {name for name in _reads(node) if not self._is_stored(name)}
        return found[::-1]

    def _needed(self, core: Sequence[OnnxNode], copied: Sequence[OnnxNode], outputs: Collection[str]
                ) -> list[OnnxNode]:
        """Nodes that are not of the core and from which something follows that is read, in order."""
        ids = {id(node) for node in core}
        inside = {name for node in copied for name in node.outputs}
        wanted = {*outputs, *(name for node in copied for name in _reads(node) if name not in inside)}
        found = []
        for node in reversed(self._nodes):
            if id(node) not in ids and wanted & {*node.outputs}:
                found.append(node)
                wanted |= {*_reads(node)}
        return found[::-1]

    def emit(self, node: OnnxNode, builder: Builder) -> None:
        """Add a part on the host to the graph.

        Raises
        ------
        PearrayError
            If onnxruntime refuses it.
        """
        made = []
        for name in node.outputs:
            found = self.types.get(name)
            if found is None:
                raise PearrayError(f"onnxruntime, which computes it on the host, cannot tell the shape of {name!r}")
            made.append(found)
        part = _Runtime(self._submodel(node, [builder.tensor(name) for name in node.inputs], made), node.outputs)
        gives = {tensor.name: (tensor.shape, tensor.dtype) for tensor in made}
        nodes = node.attributes["nodes"]
        operator = Hosted(part, tuple(node.inputs), gives, tuple(self._kinds(nodes)),
                          sum(products_of(each, self._shape) for each in nodes))
        builder.tensors |= {name: Tensor(name, *spec) for name, spec in gives.items()}
        builder.nodes.append(Node(node.name, operator, dict(zip(operator.required, node.inputs, strict=True)),
                                  dict(zip(operator.outputs, node.outputs, strict=True))))

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if name in self._constants:
            return self._constants[name].shape
        found = self._inputs.get(name) or self.types.get(name)
        return None if found is None else found.shape

    def _kinds(self, nodes: Sequence[OnnxNode]) -> list[HostedKind]:
        """Operators of a part, those that have been refused first."""
        groups: dict[tuple[bool, str, str], list[OnnxNode]] = {}
        for node in nodes:
            why = self._refused.get(_key(node), "it shares real numbers with what cannot be mapped")
            groups.setdefault((_key(node) not in self._refused, node.label, why), []).append(node)
        return [HostedKind(label, len(group), group[0].name, why, not is_beside)
                for (is_beside, label, why), group in sorted(groups.items(), key=lambda item: item[0][0])]

    def _submodel(self, node: OnnxNode, read: Sequence[Tensor], made: Sequence[Tensor]) -> Any:
        from onnx import helper, numpy_helper

        ends = [[helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
                 for tensor in tensors] for tensors in (read, made)]
        nodes = node.attributes["nodes"]
        known = dict.fromkeys(name for each in nodes for name in _reads(each) if name in self._constants)
        graph = helper.make_graph(
            [each.proto for each in nodes], "part", ends[0], ends[1],
            [numpy_helper.from_array(self._constants[name], name) for name in known])
        sets = list(self._model.opset_import)
        if all(item.domain != MICROSOFT for item in sets):
            sets.append(helper.make_opsetid(MICROSOFT, 1))
        return helper.make_model(graph, opset_imports=sets, ir_version=self._model.ir_version)


#: Operators that leave tables and numbers of their rows what they are, and those that give numbers another shape.
_SAME = ("Cast", "DequantizeLinear", "Identity")
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


class _Runtime:
    """Function of tensors by name that onnxruntime computes; its session is made when it is first needed."""

    def __init__(self, model: Any, outputs: Sequence[str]):
        self.model, self._outputs = model, list(outputs)

    @cached_property
    def _session(self) -> Any:
        return session(self.model, _PURPOSE)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Rows of the tables in which what it takes is looked up as it is, by name."""
        makers = {name: node for node in self.model.graph.node for name in node.output}
        shapes = {item.name: tuple(item.dims) for item in self.model.graph.initializer}
        found: dict[str, int] = {}

        def source(name: str, passed: Sequence[str]) -> str:
            while name in makers and makers[name].op_type in passed:
                name = makers[name].input[0]
            return name

        for node in self.model.graph.node:
            if node.op_type != "Gather" or (table := source(node.input[0], _SAME)) not in shapes:
                continue
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            name = source(node.input[1], (*_SAME, *_VIEWS))
            found[name] = min(shapes[table][axis], found.get(name, shapes[table][axis]))
        return found

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return run(self._session, self._outputs, inputs, _PURPOSE)

    def write(self, stem: Path) -> Path:
        """Write the nodes as an ONNX file."""
        path = stem.with_suffix(".onnx")
        path.write_bytes(self.model.SerializeToString())
        return path


def _groups(nodes: Sequence[OnnxNode], core: Sequence[OnnxNode], copied: Sequence[OnnxNode],
            kept: Sequence[OnnxNode], is_stored: Callable[[str], bool]) -> list[tuple[bool, list[OnnxNode]]]:
    """Nodes of the host and of programs by turns, in the order in which they run, with whether they are the host's.

    What only dequantises is made again for each part that reads it.
    """
    ids = {id(node) for node in core}
    dequantised = {node.outputs[0]: node for node in copied if id(node) not in ids and not node.domain
                   and node.op_type == "DequantizeLinear" and is_stored(node.inputs[0])}
    places = {id(node): place for place, node in enumerate(nodes)}
    items = [(True, places[id(node)]) for node in copied if dequantised.get(node.outputs[0]) is not node]
    items = sorted([*items, *((False, places[id(node)]) for node in kept)], key=lambda item: item[1])
    makers = {(on_host, name): (on_host, place) for on_host, place in items for name in nodes[place].outputs if name}
    hosted = {name for node in core for name in node.outputs if name}

    def before(item: tuple[bool, int]) -> list[tuple[bool, int]]:
        names = [dequantised[name].inputs[0] if item[0] and name in dequantised else name
                 for name in _reads(nodes[item[1]])]
        # A host takes what is real from itself, and what is stored from who makes it for all.
        sides = ((name, name in hosted or (item[0] and (False, name) not in makers)
                  or (item[0] and not is_stored(name))) for name in names)
        return [makers[side, name] for name, side in sides if (side, name) in makers]

    number = phases(items, before, lambda item: item[0])
    groups: dict[int, tuple[bool, list[OnnxNode]]] = {}
    for item in items:
        on_host, group = groups.setdefault(number[item], (item[0], []))
        node = nodes[item[1]]
        group += [dequantised[name] for name in dict.fromkeys(_reads(node))
                  if on_host and name in dequantised and dequantised[name] not in group]
        group.append(node)
    return [groups[place] for place in sorted(groups)]


def _key(node: OnnxNode) -> str:
    return next(filter(None, node.outputs), node.name)


def _reads(node: OnnxNode) -> list[str]:
    """Names of tensors that a node reads, those within its branches among them."""
    return [name for name in node.inputs if name] + (captured(node.proto) if node.proto is not None else [])
