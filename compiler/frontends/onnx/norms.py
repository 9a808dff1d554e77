"""LayerNormalization and RMSNormalization of ONNX networks, operators or spelled out, between quantised tensors."""

from math import prod
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import LayerNorm, Reshape, RMSNorm
from ...operators.fields import whole
from .builder import MICROSOFT, OWN, Builder, OnnxNode, handles, one
from .floats import Floats, check_first_output, check_no_activation, eight_bits
from .norm_fusion import SPELLED_NORMS, SUM_NORMS

__all__ = ["NORMS", "is_norm", "stored_norm"]

#: Operators, and whether rows lose their mean.
_OPERATORS = {("", "LayerNormalization"): True, ("", "RMSNormalization"): False,
              (MICROSOFT, "SimplifiedLayerNormalization"): False}
_OPERATORS |= {("", name): centred for centred, name in SPELLED_NORMS.items()}
_OPERATORS |= {(MICROSOFT, name): centred for name, centred in SUM_NORMS.items()}

#: Their names in a file, with those of normalisation of sums.
NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", *SUM_NORMS)


def is_norm(node: OnnxNode) -> bool:
    """Whether a node is a normalisation: an operator, or one that stands for several."""
    return (node.domain, node.op_type) in _OPERATORS


def stored_norm(node: OnnxNode, graph: Builder, floats: Floats) -> OnnxNode:
    """Operator on stored integers that a normalisation stands for, without the scale of its result.

    Parameters
    ----------
    node, graph
        A node that :func:`is_norm`, and the graph under construction.
    floats : Floats
        Float tensors before the node.

    Raises
    ------
    PearrayError
        If x is not quantised, gains and biases no constants that fit, or an attribute or output is not supported.
    """
    centred = _OPERATORS[node.domain, node.op_type]
    names = floats.operand("x", node.input(0))
    check_first_output(node)
    shape = graph.tensor(names[0]).shape
    first, epsilon = (_spelled if node.op_type in SPELLED_NORMS.values() else _stated)(node, len(shape), floats)
    gains = [_gain(node, graph, place, role, shape, first, floats)
             for place, role in enumerate(("gamma", "beta")[:1 + centred], 1)]
    # Constants of more dimensions than x give them to the result.
    more = max(node.attributes.get("rank", 0) - len(shape), 0)
    return node.standing_for("LayerNorm" if centred else "RMSNorm", [*names, *gains], node.outputs,
                             {"axis": first, "epsilon": epsilon, "more": more}, OWN)


def _stated(node: OnnxNode, rank: int, floats: Floats) -> tuple[int, float]:
    """First axis of a row, and epsilon, as attributes say."""
    taken = node.take(axis=-1, epsilon=1e-5, stash_type=1)
    if taken["stash_type"] != 1:
        raise PearrayError(f"stash_type must be 1 (float32), not {taken['stash_type']}")
    return whole(-rank, rank - 1)("axis", taken["axis"]) % rank, taken["epsilon"]


def _spelled(node: OnnxNode, rank: int, floats: Floats) -> tuple[int, float]:
    """First axis of a row, and epsilon, as the nodes that are fused have them."""
    axes = sorted(axis % rank for axis in node.attributes["axes"])
    if axes != [*range(rank - len(axes), rank)] or not axes:
        raise PearrayError(f"axes of ReduceMean must be the last ones of {rank}, not {[*node.attributes['axes']]}")
    if node.attributes["exponent"] > rank:
        raise PearrayError(f"exponent of Pow must have at most {rank} dimensions, not {node.attributes['exponent']}")
    epsilon = floats.value(node.input(3))
    if epsilon is None or epsilon.size != 1:
        raise PearrayError(f"{node.input(3)!r}, which is added to the variance, must be one number")
    return axes[0], float(epsilon.item())


def _gain(node: OnnxNode, graph: Builder, place: int, role: str, x: tuple[int, ...], first: int,
          floats: Floats) -> str:
    """Name of gains or biases, one for each element of a row, which is the axes of x from `first` on.

    It is empty for biases that are absent.
    """
    name, shape = node.input(place), x[first:]
    if not name and role == "beta":
        return ""
    found = floats.value(name) if name else np.ones((), np.float32)
    if found is None or found.dtype != np.float32:
        raise PearrayError(f"{role} {name!r} must be a constant of float32")
    own = found.shape
    if node.op_type in SUM_NORMS and own != shape:
        raise PearrayError(f"{role} {name!r} must be of shape {shape}, not {own}")
    if len(own) > len(x) and node.op_type not in SPELLED_NORMS.values():
        raise PearrayError(f"{role} {name!r} must have at most {len(x)} dimensions, as x has, not shape {own}")
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    if len(own) > len(shape) or any(size not in (1, whole) for size, whole in zip(own[::-1], shape[::-1],
                                                                                 strict=False)):
        raise PearrayError(f"{role} {name!r} must broadcast to {shape}, not be of shape {found.shape}")
    row = np.ascontiguousarray(np.broadcast_to(found.reshape(own), shape)).reshape(-1)
    return graph.store(f"{node.outputs[0]}:{role}", row)


@handles("LayerNorm", "RMSNorm", domain=OWN)
def _normalise(node: OnnxNode, graph: Builder) -> None:
    """Add a normalisation of rows, which are all axes from one on.

    Inputs are x, its scale and its zero point, gamma, beta of LayerNorm, and the scale and the zero point of y.
    """
    given = node.attributes
    check_no_activation(node, "a normalisation")
    tensor, centred = graph.tensor(node.inputs[0]), node.op_type == "LayerNorm"
    x = graph.quantisation(node, 1, "x", tensor.dtype, tensor.dtype)
    y = eight_bits(node, graph, 4 + centred)
    fields: dict[str, Any] = {
        "x_scale": one("x_scale", x.scale), "y_scale": one("y_scale", y.scale), "y_zero_point": y.zero_point,
        "epsilon": given["epsilon"]}
    operator = LayerNorm(**fields) if centred else RMSNorm(**fields, x_zero_point=x.zero_point)
    inputs = {role: name for role, name in zip(("gamma", "beta"), node.inputs[3:4 + centred], strict=False) if name}
    shape, axis = tuple(tensor.shape), given["axis"]
    if axis == len(shape) - 1 and len(shape) != 4 and not given["more"]:
        graph.add(node, operator, {"x": tensor.name} | inputs)
        return
    # Tensors of four dimensions would be taken for images.
    rows, made = graph.inner(tensor.name, "rows"), graph.inner(node.outputs[0], "normalised")
    graph.add(node, Reshape((prod(shape[:axis]), prod(shape[axis:]))), {"x": tensor.name}, rows)
    graph.add(node, operator, {"x": rows} | inputs, made)
    graph.add(node, Reshape((*(1,) * given["more"], *shape)), {"x": made})
