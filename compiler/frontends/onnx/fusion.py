"""Attention that is spelled out: a product, factors and masks of its scores, Softmax, and another product.

What a quantiser puts between them, QuantizeLinear and DequantizeLinear, is left out: scores and numerators stay on
chip, where they keep more precision than in 8 bits.
"""

import numpy as np

from .builder import MICROSOFT, OnnxNode
from .network import Network

__all__ = ["SPELLED", "fuse_attention"]

#: Domain and operator of a node that stands for several: products `qk` and `av`, `steps` between them with the index of
#: the operand that is known or given, the `axis` of the Softmax, and all nodes between both products, `between`.
SPELLED = "", "MatMul of Softmax"

#: What operators do to scores, on floats and on stored integers, of which an operand has a scale and a zero point.
_KINDS = {("", "MatMul"): "product", ("", "QLinearMatMul"): "product", ("", "Softmax"): "softmax",
          (MICROSOFT, "QLinearSoftmax"): "softmax", ("", "Mul"): "times", (MICROSOFT, "QLinearMul"): "times",
          ("", "Div"): "over", ("", "Add"): "plus", (MICROSOFT, "QLinearAdd"): "plus"}


def _kind(node: OnnxNode | None) -> str | None:
    return None if node is None else _KINDS.get((node.domain, node.op_type))


def _zero_points(network: Network, qk: OnnxNode, av: OnnxNode) -> list[str]:
    """Names of the zero points of queries, keys, values and outputs, as far as the network stores them here."""
    found = []
    for node, places in ((qk, (0, 1)), (av, (1,))):
        for place in places:
            maker = network.makers.get(_operands(node)[place])
            if node.op_type.startswith("QLinear"):
                found.append(node.input(3 * place + 2))
            elif maker is not None and maker.op_type == "DequantizeLinear":
                found.append(maker.input(2))
    if av.op_type.startswith("QLinear"):
        return [*found, av.input(7)]
    return [*found, *(reader.input(2) for reader in network.readers.get(av.outputs[0], ())
                      if reader.op_type == "QuantizeLinear")]


def _operands(node: OnnxNode) -> list[str]:
    """Names of a node's two operands, without scales and zero points."""
    return [node.input(0), node.input(3 if node.op_type.startswith("QLinear") else 1)]


def fuse_attention(network: Network) -> list[OnnxNode]:
    """All nodes of a network, with one in the place of each attention that is spelled out."""
    found = (_attention(network, node) for node in network.nodes if _kind(node) == "softmax")
    return network.replaced((fused, fused.attributes["av"], passed) for fused, passed in filter(None, found))


def _shown(network: Network, name: str, passed: list[OnnxNode]) -> str:
    """Name of probabilities behind what makes zeros of those that are no numbers, noted as passed; or their own.

    So exporters write rows whose keys are all hidden, which give zeros here by themselves.
    """
    own, given = list(passed), name
    while len(network.readers.get(name, ())) == 1 and network.passes(node := network.readers[name][0]):
        own.append(node)
        name = node.outputs[0]
    readers = network.readers.get(name, ()) if name not in network.outputs else ()
    checks = [node for node in readers if not node.domain and node.op_type == "IsNaN"]
    choices = [node for node in readers if not node.domain and node.op_type == "Where"]
    if len(readers) != 2 or len(checks) != 1 or len(choices) != 1 or not network.is_inner(checks[0].outputs[0]):
        return given
    zeros = network.constants.get(network.origin(choices[0].input(1)))
    if choices[0].inputs[::2] != [checks[0].outputs[0], name] or zeros is None or zeros.size != 1 or np.any(zeros):
        return given
    passed[:] = [*own, *checks, *choices]
    return choices[0].outputs[0]


def _attention(network: Network, softmax: OnnxNode) -> tuple[OnnxNode, list[OnnxNode]] | None:
    """Node for the attention around a Softmax, and the nodes that it makes superfluous; None if there is none."""
    passed, steps = [softmax], []
    node = network.maker(softmax.input(0), passed)
    while node is not None and _kind(node) in ("times", "over", "plus"):
        operands = _operands(node)
        fixed = [index for index, name in enumerate(operands) if name in network.fixed or name in network.given]
        if len(fixed) != 1 or (_kind(node) == "over" and fixed != [1]):
            return None
        steps.append((_kind(node), node, fixed[0]))
        node = network.maker(operands[1 - fixed[0]], passed)
    before = passed[:0:-1]
    behind = network.reader(_shown(network, softmax.outputs[0], passed), passed)
    if _kind(node) != "product" or node is None or behind is None or _kind(behind[0]) != "product":
        return None
    av, name = behind
    if _operands(av)[0] != name or any(each in network.fixed for each in (*_operands(node), *_operands(av))):
        return None
    if not network.agree([*passed, av]) or not all(
            network.is_symmetric(name) for name in _zero_points(network, node, av)):
        return None
    attributes = {"qk": node, "av": av, "steps": steps[::-1], "axis": softmax.attributes.get("axis", -1),
                  "between": [*before, softmax, *passed[1 + len(before):], av]}
    inputs = [*_operands(node), _operands(av)[1]]
    return OnnxNode(SPELLED[1], SPELLED[0], av.name, inputs, av.outputs, attributes), passed
