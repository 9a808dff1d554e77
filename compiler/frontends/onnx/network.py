"""Who makes and who reads each tensor of an ONNX file, for those that put one node in the place of several."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from .builder import OnnxNode

__all__ = ["Network", "is_between"]

#: What a quantiser puts between two operators.
_BETWEEN = ("QuantizeLinear", "DequantizeLinear")

#: Operators by which networks make masks of their inputs.
_OF_MASKS = {
    "Add", "And", "Cast", "CastLike", "Clip", "Concat", "ConstantOfShape", "CumSum", "DequantizeLinear", "Div", "Equal",
    "Expand", "Flatten", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mul",
    "Neg", "Not", "Or", "QuantizeLinear", "Range", "ReduceMax", "ReduceSum", "Reshape", "Shape", "Slice", "Squeeze",
    "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor"}

#: ONNX's number of float32.
_FLOAT = 1

#: Input that is the scale of a node's stored output, by operator; the zero point follows.
_STORES = {"QuantizeLinear": 1, "QLinearMatMul": 6, "QLinearMul": 6, "QLinearAdd": 6, "QLinearSoftmax": 3}


class Network:
    """Who makes and who reads each tensor.

    Parameters
    ----------
    nodes : sequence of OnnxNode
        All nodes, in order.
    constants : mapping of str to array
        Tensors whose values are known.
    outputs : collection of str
        Tensors that the network gives.
    """

    def __init__(self, nodes: Sequence[OnnxNode], constants: Mapping[str, np.ndarray], outputs: Collection[str]):
        self.nodes, self.constants = nodes, constants
        self.makers = {name: node for node in nodes for name in node.outputs if name}
        self.readers: dict[str, list[OnnxNode]] = {}
        self.fixed, self.outputs = {*constants}, {*outputs}
        #: Inputs, and what follows from them by operators that make masks.
        self.given = {name for node in nodes for name in node.inputs if name} - {*self.makers} - self.fixed
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
            if all(name in self.fixed for name in node.inputs if name):
                self.fixed.update(node.outputs)
            elif not node.domain and node.op_type in _OF_MASKS and all(
                    name in self.fixed or name in self.given for name in node.inputs if name):
                # What is stored is another tensor, unless it has been stored just before.
                maker = self.makers.get(node.input(0))
                if node.op_type != "DequantizeLinear" or (maker is not None and maker.op_type == "QuantizeLinear"):
                    self.given.update(node.outputs)

    def before(self, name: str) -> tuple[list[OnnxNode], list[str]]:
        """Nodes from which a tensor follows, in order, and what they read that no node makes and is not known."""
        wanted, nodes = {name}, []
        for node in reversed(self.nodes):
            if wanted & {*node.outputs}:
                nodes.append(node)
                wanted |= {*node.inputs[:1 if is_between(node) else None]} - {*self.constants, ""}
        return nodes[::-1], sorted(each for each in wanted if each not in self.makers)

    def passes(self, node: OnnxNode) -> bool:
        """Whether a node gives what it takes, but for quantising: nothing that floats between two others need."""
        if is_between(node):
            return True
        # Outputs that nobody reads have lost their names.
        if node.domain or len(node.outputs) > 1:
            return False
        training = self.constants.get(node.input(2), np.ones(())) if node.input(2) else np.zeros(())
        return (node.op_type == "Identity" or (node.op_type == "Dropout" and not np.any(training))
                or (node.op_type == "Cast" and node.attributes.get("to") == _FLOAT))

    def is_inner(self, name: str) -> bool:
        """Whether one node alone reads a tensor."""
        return len(self.readers.get(name, ())) == 1 and name not in self.outputs

    def maker(self, name: str, passed: list[OnnxNode]) -> OnnxNode | None:
        """Who makes a tensor that one node alone reads, behind what :meth:`passes`, which is noted as passed."""
        while self.is_inner(name) and (node := self.makers.get(name)) is not None:
            passed.append(node)
            if not self.passes(node):
                return node
            name = node.input(0)
        return None

    def reader(self, name: str, passed: list[OnnxNode]) -> tuple[OnnxNode, str] | None:
        """Who alone reads a tensor, behind what :meth:`passes`, and under which name."""
        while self.is_inner(name):
            (node,) = self.readers[name]
            if not self.passes(node):
                return node, name
            passed.append(node)
            name = node.outputs[0]
        return None

    def origin(self, name: str) -> str:
        """Name of a tensor before what :meth:`passes`."""
        while (node := self.makers.get(name)) is not None and self.passes(node):
            name = node.input(0)
        return name

    def way(self, name: str) -> list[OnnxNode]:
        """What :meth:`passes` a tensor on its way from its origin, with who makes that."""
        nodes = []
        while (node := self.makers.get(name)) is not None:
            nodes.append(node)
            if not self.passes(node):
                break
            name = node.input(0)
        return nodes

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a constant, dequantised or not; None if its value is not known."""
        value = self.constants.get(self.origin(name))
        return None if value is None else value.shape

    def number(self, name: str) -> float | None:
        """Value of a constant of one number that is not quantised, else None."""
        value = self.constants.get(name)
        return float(value.item()) if value is not None and value.size == 1 else None

    def is_symmetric(self, zero_point: str) -> bool:
        """Whether a zero point, as far as it is known, is 0 of int8."""
        value = self.constants.get(zero_point)
        return value is None or (value.dtype == np.int8 and not np.any(value))

    def are_alone(self, nodes: Iterable[OnnxNode], last: OnnxNode) -> bool:
        """Whether nobody but some nodes, of which one is the last, reads what these make before the last."""
        inside = {id(node) for node in nodes} | {id(last)}
        return all(name not in self.outputs and all(id(reader) in inside for reader in self.readers.get(name, ()))
                   for node in nodes if node is not last for name in node.outputs)

    def replaced(self, found: Iterable[tuple[OnnxNode, OnnxNode, Sequence[OnnxNode]]]) -> list[OnnxNode]:
        """All nodes, in order, where one stands for several: it, the one in whose place it is, and the others."""
        gone: set[int] = set()
        made: dict[int, OnnxNode] = {}
        for one, last, others in found:
            made[id(last)] = one
            gone.update(map(id, others))
        return [made.get(id(node), node) for node in self.nodes if id(node) not in gone]

    def agree(self, nodes: Sequence[OnnxNode]) -> bool:
        """Whether each of some nodes reads what another stores with the same scale and zero point.

        Otherwise what stands between two of them is a factor, or an offset.
        """
        for node in nodes:
            for place in range(0, len(node.inputs), 3):
                name = node.input(place)
                maker = self.makers.get(name)
                if maker is None or all(maker is not each for each in nodes):
                    continue
                if (first := _STORES.get(maker.op_type)) is None:
                    continue
                if not all(self._is_same(maker.input(first + part), node.input(place + 1 + part)) for part in (0, 1)):
                    return False
        return True

    def _is_same(self, one: str, other: str) -> bool:
        """Whether two names are of one constant, or of equal ones."""
        a, b = self.constants.get(one), self.constants.get(other)
        return one == other or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b))


def is_between(node: OnnxNode) -> bool:
    """Whether a node only quantises, or dequantises."""
    return not node.domain and node.op_type in _BETWEEN
