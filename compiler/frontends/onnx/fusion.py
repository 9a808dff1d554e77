"""Attention that is spelled out: a product, factors and masks of its scores, Softmax, and another product.

What a quantiser puts between them, QuantizeLinear and DequantizeLinear, is left out: scores and numerators stay on
chip, where they keep more precision than in 8 bits.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from .builder import MICROSOFT, OnnxNode

__all__ = ["SPELLED", "fuse_attention"]

#: Domain and operator of a node that stands for several: products `qk` and `av`, `steps` between them with the index of
#: the operand that is constant, and the `axis` of the Softmax.
SPELLED = "", "MatMul of Softmax"

#: What operators do to scores, on floats and on stored integers, of which an operand has a scale and a zero point.
_KINDS = {("", "MatMul"): "product", ("", "QLinearMatMul"): "product", ("", "Softmax"): "softmax",
          (MICROSOFT, "QLinearSoftmax"): "softmax", ("", "Mul"): "times", (MICROSOFT, "QLinearMul"): "times",
          ("", "Div"): "over", ("", "Add"): "plus", (MICROSOFT, "QLinearAdd"): "plus"}

_BETWEEN = ("QuantizeLinear", "DequantizeLinear")

#: Input that is the scale of a node's stored output, by operator; the zero point follows.
_STORES = {"QuantizeLinear": 1, "QLinearMatMul": 6, "QLinearMul": 6, "QLinearAdd": 6, "QLinearSoftmax": 3}


def _kind(node: OnnxNode | None) -> str | None:
    return None if node is None else _KINDS.get((node.domain, node.op_type))


def _operands(node: OnnxNode) -> list[str]:
    """Names of a node's two operands, without scales and zero points."""
    return [node.input(0), node.input(3 if node.op_type.startswith("QLinear") else 1)]


class _Network:
    """Who makes and who reads each tensor."""

    def __init__(self, nodes: Sequence[OnnxNode], constants: Mapping[str, np.ndarray], outputs: Collection[str]):
        self._constants = constants
        self.makers = {name: node for node in nodes for name in node.outputs if name}
        self.readers: dict[str, list[OnnxNode]] = {}
        self.fixed = {*constants}
        self._outputs = {*outputs}
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
            if all(name in self.fixed for name in node.inputs if name):
                self.fixed.update(node.outputs)

    def is_inner(self, name: str) -> bool:
        """Whether one node alone reads a tensor."""
        return len(self.readers.get(name, ())) == 1 and name not in self._outputs

    def maker(self, name: str, passed: list[OnnxNode]) -> OnnxNode | None:
        """Who makes a tensor that one node alone reads, behind what only quantises, which is noted as passed."""
        while self.is_inner(name) and (node := self.makers.get(name)) is not None:
            passed.append(node)
            if node.domain or node.op_type not in _BETWEEN:
                return node
            name = node.input(0)
        return None

    def reader(self, name: str, passed: list[OnnxNode]) -> tuple[OnnxNode, str] | None:
        """Who alone reads a tensor, behind what only quantises, and under which name."""
        while self.is_inner(name):
            (node,) = self.readers[name]
            if node.domain or node.op_type not in _BETWEEN:
                return node, name
            passed.append(node)
            name = node.outputs[0]
        return None

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
        a, b = self._constants.get(one), self._constants.get(other)
        return one == other or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b))


def fuse_attention(nodes: Sequence[OnnxNode], constants: Mapping[str, np.ndarray],
                   outputs: Collection[str]) -> list[OnnxNode]:
    """Put one node in the place of each attention that is spelled out.

    Parameters
    ----------
    nodes : sequence of OnnxNode
        All nodes, in order.
    constants : mapping of str to array
        Tensors that the file holds.
    outputs : collection of str
        Tensors that it gives.
    """
    network = _Network(nodes, constants, outputs)
    gone: set[int] = set()
    made: dict[int, OnnxNode] = {}
    for node in nodes:
        if _kind(node) == "softmax" and (found := _attention(network, node)) is not None:
            fused, passed = found
            gone.update(map(id, passed))
            made[id(fused.attributes["av"])] = fused
    return [made.get(id(node), node) for node in nodes if id(node) not in gone]


def _attention(network: _Network, softmax: OnnxNode) -> tuple[OnnxNode, list[OnnxNode]] | None:
    """Node for the attention around a Softmax, and the nodes that it makes superfluous; None if there is none."""
    passed, steps = [softmax], []
    node = network.maker(softmax.input(0), passed)
    while node is not None and _kind(node) in ("times", "over", "plus"):
        operands = _operands(node)
        fixed = [index for index, name in enumerate(operands) if name in network.fixed]
        if len(fixed) != 1 or (_kind(node) == "over" and fixed != [1]):
            return None
        steps.append((_kind(node), node, fixed[0]))
        node = network.maker(operands[1 - fixed[0]], passed)
    behind = network.reader(softmax.outputs[0], passed)
    if _kind(node) != "product" or node is None or behind is None or _kind(behind[0]) != "product":
        return None
    av, name = behind
    if _operands(av)[0] != name or any(each in network.fixed for each in (*_operands(node), *_operands(av))):
        return None
    if not network.agree([*passed, av]):
        return None
    attributes = {"qk": node, "av": av, "steps": steps[::-1], "axis": softmax.attributes.get("axis", -1)}
    inputs = [*_operands(node), _operands(av)[1]]
    return OnnxNode(SPELLED[1], SPELLED[0], av.name, inputs, av.outputs, attributes), passed
