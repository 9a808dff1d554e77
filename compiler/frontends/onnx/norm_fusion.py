"""Normalisation that is spelled out, and normalisation of sums, in forms that :mod:`.norms` knows.

What a quantiser puts inside, QuantizeLinear and DequantizeLinear, is left out: means and variances stay on chip, where
they keep more precision than in 8 bits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from .builder import MICROSOFT, Builder, OnnxNode, attempt, one
from .network import Network
from .written_out import restored, written_out

__all__ = ["SPELLED_NORMS", "SUMS", "SUM_NORMS", "fuse_norms", "sums_apart"]

#: Operators of nodes that stand for several, by whether rows lose their mean. Inputs are x, gamma, beta and epsilon,
#: the attribute `axes` is what ReduceMean has, `rank` the most dimensions of a constant, `exponent` those of Pow's.
SPELLED_NORMS = {True: "LayerNormalization of primitives", False: "RMSNormalization of primitives"}

#: Operators that add two tensors first, and whether rows lose their mean. Apart from its sum, such a node has x, gamma
#: and beta as inputs.
SUM_NORMS = {"SkipLayerNormalization": True, "SkipSimplifiedLayerNormalization": False}

#: Operators of nodes that add what they add, by whether the file stores the sum: as one of floats then, which no
#: runtime takes for its kernel on integers. In steps of our own nobody has such a sum, and that kernel's rule has more
#: scales that arrays compute exactly.
SUMS = {True: "Add of SkipLayerNormalization", False: "Add within SkipLayerNormalization"}

#: Their default of what is added to a variance, which is not that of the standard's operators.
_EPSILON = 1e-12


class _Rows(NamedTuple):
    """A normalisation found in the network up to the quotient.

    Members
    -------
    x : str
        What is normalised.
    centred : bool
        Whether rows lose their mean.
    epsilon : str
        Constant that is added to the variance.
    last : OnnxNode
        Who makes the quotient.
    inside : list of OnnxNode
        All other nodes.
    axes : tuple of int
        Axes of the means.
    """

    x: str
    centred: bool
    epsilon: str
    last: OnnxNode
    inside: list[OnnxNode]
    axes: tuple[int, ...]


def fuse_norms(network: Network, inner: Callable[[str, str], str]) -> list[OnnxNode]:
    """All nodes of a network, with one in the place of each normalisation that is spelled out.

    That is ReduceMean, Pow, Sqrt, Div and so on; QLinearAdd and QLinearMul are Add and Mul here. `inner` gives names.
    """
    if not any(_is(node, "Sqrt") for node in network.nodes):
        return list(network.nodes)
    nodes, kernels = written_out(network.nodes, inner)
    spelled = Network(nodes, network.constants, network.outputs)
    return restored(spelled.replaced(_norms(spelled)), kernels)


def _norms(network: Network) -> Iterator[tuple[OnnxNode, OnnxNode, list[OnnxNode]]]:
    """A node for each normalisation, the last of those that it stands for, and the others."""
    for node in network.nodes:
        found = _rows(network, node) if _is(node, "Sqrt") else None
        if found is None:
            continue
        last, inside, gains = _gains(network, found)
        if network.are_alone(inside, last) and network.agree([*inside, last]):
            yield OnnxNode(SPELLED_NORMS[found.centred], "", last.name, [found.x, *gains, found.epsilon],
                           last.outputs, {"axes": found.axes, **_ranks(network, [*inside, last])}), last, inside


def _ranks(network: Network, nodes: Sequence[OnnxNode]) -> dict[str, int]:
    """Most dimensions of a constant that some nodes read, and of one that is an exponent."""
    ranks = [(node.op_type, len(network.shape(name) or ())) for node in nodes for name in node.inputs]
    return {"rank": max(rank for _, rank in ranks), "exponent": max(rank * (kind == "Pow") for kind, rank in ranks)}


def _is(node: OnnxNode | None, *op_types: str) -> bool:
    return node is not None and not node.domain and node.op_type in op_types


def _made_by(network: Network, name: str, inside: list[OnnxNode], *op_types: str) -> OnnxNode | None:
    """Who makes a tensor, if that is one of some operators, which with what quantises behind it is noted as inside."""
    way = network.way(name)
    if not way or not _is(way[-1], *op_types):
        return None
    inside += [node for node in way if all(node is not each for each in inside)]
    return way[-1]


def _mean(network: Network, name: str, inside: list[OnnxNode]) -> tuple[str, tuple[int, ...]] | None:
    """Operand and axes of the mean that a tensor is, if it keeps its dimensions."""
    node = _made_by(network, name, inside, "ReduceMean")
    if node is None or node.attributes.get("keepdims", 1) != 1:
        return None
    axes = network.constants.get(node.input(1)) if node.input(1) else node.attributes.get("axes")
    return None if axes is None else (node.input(0), tuple(int(axis) for axis in np.ravel(axes)))


def _square(network: Network, name: str, inside: list[OnnxNode]) -> list[str] | None:
    """Names under which that is read whose square a tensor is."""
    node = _made_by(network, name, inside, "Pow", "Mul")
    if node is None or (node.op_type == "Pow" and network.number(node.input(1)) != 2):
        return None
    names = node.inputs[:1] if node.op_type == "Pow" else node.inputs
    return names if len({network.origin(each) for each in names}) == 1 else None


def _rows(network: Network, root: OnnxNode) -> _Rows | None:
    """Find the normalisation around a Sqrt, if it is one."""
    inside = [root]
    added = _made_by(network, root.input(0), inside, "Add")
    fixed = [index for index, name in enumerate(added.inputs) if name in network.fixed] if added is not None else []
    if added is None or len(fixed) != 1:
        return None
    variance = _mean(network, added.inputs[1 - fixed[0]], inside)
    squared = None if variance is None else _square(network, variance[0], inside)
    if variance is None or squared is None:
        return None
    end = _quotient(network, root, inside)
    if end is None:
        return None
    last, above = end
    x, centred = above, False
    differences = [_difference(network, name, inside) for name in (*squared, above)]
    if differences[0] is not None:
        x, centred = differences[0][0], True
        if any(each is None or network.origin(each[0]) != network.origin(x) or each[1] != variance[1]
               for each in differences):
            return None
    elif any(network.origin(name) != network.origin(above) for name in squared):
        return None
    return _Rows(x, centred, added.inputs[fixed[0]], last, inside, variance[1])


def _difference(network: Network, name: str, inside: list[OnnxNode]) -> tuple[str, tuple[int, ...]] | None:
    """What loses its mean, and the axes of that, if a tensor is such a difference."""
    found = list(inside)
    node = _made_by(network, name, found, "Sub")
    mean = None if node is None else _mean(network, node.input(1), found)
    if node is None or mean is None or network.origin(mean[0]) != network.origin(node.input(0)):
        return None
    inside[:] = found
    return node.input(0), mean[1]


def _quotient(network: Network, root: OnnxNode, inside: list[OnnxNode]) -> tuple[OnnxNode, str] | None:
    """Who divides by a root, and what: as a quotient, or as a product with its inverse."""
    found = network.reader(root.outputs[0], inside)
    if found is None:
        return None
    node, name = found
    if _is(node, "Div") and node.input(1) == name and network.number(node.input(0)) is None:
        return node, node.input(0)
    if _is(node, "Reciprocal") or (_is(node, "Div") and network.number(node.input(0)) == 1):
        inside.append(node)
        found = network.reader(node.outputs[0], inside)
        if found is not None and _is(found[0], "Mul"):
            node, name = found
            return node, node.inputs[1 - node.inputs.index(name)]
    return None


def _gains(network: Network, rows: _Rows) -> tuple[OnnxNode, list[OnnxNode], list[str]]:
    """Who multiplies the quotient and adds to it, each with one number for each element of a row.

    That is the last of them, the nodes before it, and names of gains and biases, empty where there are none.
    """
    last, inside, names = rows.last, list(rows.inside), []
    for op_type in ("Mul", "Add")[:2 if rows.centred else 1]:
        passed: list[OnnxNode] = []
        found = network.reader(last.outputs[0], passed)
        fixed = [name for name in found[0].inputs if name in network.fixed] if found is not None else []
        shape = network.shape(fixed[0]) if len(fixed) == 1 else None
        if found is None or not _is(found[0], op_type) or shape is None or any(size > 1 for size in shape[:-1]):
            names.append("")
            continue
        names.append(fixed[0])
        inside += [last, *passed]
        last = found[0]
    return last, inside, [*names, ""][:2]


def sums_apart(network: Network, graph: Builder) -> list[OnnxNode]:
    """All nodes of a network, with an addition and a normalisation in the place of each normalisation of a sum.

    The sum is stored between the two: as the QuantizeLinear says that reads it, else in the least int8 steps that hold
    all sums of what the operands store.

    Raises
    ------
    PearrayError
        If such a node has a bias, or results that are not supported, or operands that are not stored.
    """
    result: list[OnnxNode] = []
    moved: set[int] = set()
    for node in network.nodes:
        if node.domain == MICROSOFT and node.op_type in SUM_NORMS:
            parts, end = attempt(node, _sum_apart, node, graph, network)
            result += parts
            moved.add(id(end))
        elif id(node) not in moved:
            result.append(node)
    return result


def _sum_apart(node: OnnxNode, graph: Builder, network: Network) -> tuple[list[OnnxNode], OnnxNode | None]:
    """Nodes for one normalisation of a sum, and the QuantizeLinear of the file among them, if there is one."""
    bias, taken = 3 + SUM_NORMS[node.op_type], node.take(epsilon=_EPSILON)
    if node.input(bias):
        raise PearrayError(f"bias {node.input(bias)!r} is not supported: add it to what makes {node.input(0)!r}")
    for name in filter(None, node.outputs[1:3]):
        raise PearrayError(f"output {name!r} is not supported; only the first and the fourth one are")
    total = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3] else graph.inner(node.outputs[0], "sum")
    stored, real = (graph.inner(node.outputs[0], what) for what in ("stored sum", "real sum"))
    end = next((each for each in network.readers.get(total, ()) if _is(each, "QuantizeLinear")), None)
    if end is None:
        store = OnnxNode("QuantizeLinear", "", node.name, [total, *_room(node, graph, network)], [stored], {})
    else:
        store = end
    parts = [OnnxNode(SUMS[end is not None], "", node.name, node.inputs[:2], [total], {}, shown=node.label), store,
             OnnxNode("DequantizeLinear", "", node.name, [store.outputs[0], *store.inputs[1:]], [real], {}),
             OnnxNode(node.op_type, MICROSOFT, node.name, [real, *node.inputs[2:bias]], node.outputs[:1], taken)]
    return parts, end


def _room(node: OnnxNode, graph: Builder, network: Network) -> list[str]:
    """Names of a scale and a zero point of int8 that hold each sum of two stored tensors."""
    scales, middles = [], []
    for name in node.inputs[:2]:
        maker = network.makers.get(name)
        if not _is(maker, "DequantizeLinear") or maker is None:
            raise PearrayError(f"{name!r} must come from DequantizeLinear")
        if not maker.input(2):
            raise PearrayError(f"{name!r} must have a zero point in its DequantizeLinear, or the sum a QuantizeLinear")
        found = graph.quantisation(maker, 1, name)
        scales.append(one(f"scale of {name!r}", found.scale))
        middles.append(int(found.zero_point) - (128 if found.zero_point.dtype == np.uint8 else 0))
    scale, point = sum(scales), np.dot(scales, middles) / sum(scales)
    base = node.outputs[0]
    return [graph.store(f"{base}:sum_scale", np.asarray(scale, np.float32)),
            graph.store(f"{base}:sum_zero_point", np.asarray(np.rint(point), np.int8))]
