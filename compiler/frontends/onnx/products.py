"""Operators that add products: where their output channels are, and what follows their sums before these are stored.

A factor of the sums goes into the scale of the weights, and its sign into the weights; what is added goes into the
bias, in steps of the sums, of which half a one is lost at most.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ....hdl.errors import PearrayError
from ...operators.fields import whole
from .builder import Builder, OnnxNode, one
from .quantisation import steps_of_sums, whole_steps
from .values import Result, Scaling, Stored

__all__ = ["PRODUCTS", "channels_of", "follower", "product_inputs", "rank_of", "real_bias", "real_unit",
           "scaled"]

#: Operators that add products, and the axis of their output channels in the result.
PRODUCTS = {"Conv": 1, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}


def _weights_axis(node: OnnxNode, rank: int) -> int:
    """Axis of output channels in weights of some dimensions, along which these may have scales."""
    axes = {"Conv": 0, "ConvTranspose": 1, "MatMul": max(rank - 1, 1), "Gemm": 1 - node.attributes.get("transB", 0)}
    return axes[node.op_type]


def rank_of(node: OnnxNode, graph: Builder, x: Stored, w: Stored) -> int:
    """Dimensions of the result of an operator that adds products."""
    ranks = [len(graph.tensor(operand.name).shape) for operand in (x, w)]
    if node.op_type != "MatMul":
        return ranks[0]
    # An axis alone is a row, or a column, which the result has not.
    return max(*ranks, 2) - ranks.count(1)


def _groups(node: OnnxNode) -> int:
    """How often weights' output channels come again in the result, where they are those of each group."""
    return whole(1)("group", node.attributes.get("group", 1)) if node.op_type == "ConvTranspose" else 1


def channels_of(node: OnnxNode, graph: Builder, weights: Stored) -> int:
    """Output channels of an operator that adds products.

    Raises
    ------
    PearrayError
        If scales of weights do not belong to them.
    """
    shape = graph.tensor(weights.name).shape
    axis = _weights_axis(node, len(shape))
    found = weights.quantisation
    if found.scale.ndim and found.axis % len(shape) != axis:
        raise PearrayError(f"axis of the scales of {node.inputs[1]!r} must be {axis}, not {found.axis}")
    return shape[axis] * _groups(node) if axis < len(shape) else 1


def real_unit(node: OnnxNode, operands: Sequence[Stored | np.ndarray]) -> np.ndarray:
    """What one unit of a sum of products stands for, as float64, for each output channel if there are several scales.

    Raises
    ------
    PearrayError
        If a factor of Gemm is not finite, or that of its products not above 0.
    """
    alpha, beta = (np.float64(np.float32(node.attributes.get(name, 1.0))) for name in ("alpha", "beta"))
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not np.isfinite(value) or (name == "alpha" and value <= 0):
            raise PearrayError(f"{name} must be finite{' and above 0' if name == 'alpha' else ''}, not {value}")
    x, w = (operand.quantisation for operand in operands[:2] if isinstance(operand, Stored))
    unit = np.asarray(np.float64(one("x_scale", x.scale)) * w.scale.astype(np.float64) * alpha)
    return np.tile(unit, _groups(node)) if unit.ndim else unit


def real_bias(node: OnnxNode, graph: Builder, operands: Sequence[Stored | np.ndarray]) -> np.ndarray:
    """Bias of a node as real numbers, 0 if there is none."""
    beta = np.float64(np.float32(node.attributes.get("beta", 1.0)))
    if len(operands) < 3 or not beta:
        return np.zeros(())
    bias = operands[2]
    if isinstance(bias, np.ndarray):
        return np.asarray(beta * bias.astype(np.float64))
    value, found = graph.constants.get(bias.name), bias.quantisation
    if value is None:
        raise PearrayError(f"bias {bias.name!r} must be a constant")
    spread = [-1 if axis == found.axis % max(value.ndim, 1) else 1 for axis in range(value.ndim)]
    scale, zero = (np.asarray(part, np.float64) for part in (found.scale, found.zero_point))
    scale, zero = (part.reshape(spread) if part.ndim else part for part in (scale, zero))
    return np.asarray(beta * (value - zero) * scale)


def follower(node: OnnxNode, constants: Sequence[np.ndarray | None], rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and addend by which an operator changes a result of some dimensions, with constants at its other inputs.

    Raises
    ------
    PearrayError
        If it is no multiplication and addition of constants.
    """
    one, none = np.ones(()), np.zeros(())
    others = [value.astype(np.float64) for value in constants if value is not None]
    is_first = constants[0] is None
    if node.op_type == "BatchNormalization" and is_first and not node.attributes.get("training_mode", 0):
        gain, bias, mean, variance = (value.reshape(-1, *(1,) * (rank - 2)) for value in others)
        factor = gain / np.sqrt(variance + np.float64(np.float32(node.attributes.get("epsilon", 1e-5))))
        return factor, bias - mean * factor
    if node.op_type == "Neg":
        return -one, none
    if node.op_type == "Mul":
        return others[0], none
    if node.op_type == "Div" and is_first:
        with np.errstate(divide="ignore"):
            return 1 / others[0], none
    if node.op_type == "Add":
        return one, others[0]
    if node.op_type == "Sub":
        return (one, -others[0]) if is_first else (-one, others[0])
    raise PearrayError(f"{node.op_type} of sums of products, which have more than 256 values, is no table: put "
                       "QuantizeLinear and DequantizeLinear before it")


def scaled(result: Result, factor: np.ndarray, addend: np.ndarray) -> Scaling:
    """What follows the sums of a result once it is multiplied by a factor, then added to.

    Parameters
    ----------
    result : Result
        Of an operator that adds products.
    factor, addend : array
        Constants that broadcast to the result, with one number for all or one for each output channel.

    Raises
    ------
    PearrayError
        If they differ along another axis, or limits stand before them.
    """
    assert result.scaling is not None
    if result.limits.low > -np.inf or result.limits.high < np.inf:
        raise PearrayError("what follows a Relu or Clip behind sums of products must be QuantizeLinear")
    axis, count = result.channels
    rows = []
    for value in (factor, addend):
        shape = (1,) * (result.rank - value.ndim) + value.shape
        if len(shape) != result.rank or any(size != 1 and (size != count or place != axis % result.rank)
                                            for place, size in enumerate(shape)):
            raise PearrayError(f"a constant behind sums of products must be one number, or one for each of the {count} "
                               f"output channels along axis {axis % result.rank}, not of shape {value.shape}")
        rows.append(value.astype(np.float64).reshape(-1) if value.size > 1 else np.float64(value.item()))
    if not all(np.isfinite(row).all() for row in rows):
        raise PearrayError("a constant behind sums of products must be finite")
    before = result.scaling
    return Scaling(before.factor * rows[0], before.addend * rows[0] + rows[1])


def product_inputs(graph: Builder, node: OnnxNode, operands: Sequence[Stored | np.ndarray], end: OnnxNode,
                   scaling: Scaling) -> tuple[list[str], str]:
    """Inputs of an operator on stored integers that adds products, and the name of its bias, if it has one.

    Parameters
    ----------
    graph, node, operands, end, scaling
        As :meth:`.forms.Form.make` takes them.
    """
    x, w = (operand for operand in operands[:2] if isinstance(operand, Stored))
    inputs = [name for operand in (x, w) for name in (operand.name, operand.scale, operand.zero_point)]
    unit, beta = real_unit(node, operands), np.float64(np.float32(node.attributes.get("beta", 1.0)))
    if scaling.is_absent:
        if len(operands) < 3 or not beta:
            return inputs, ""
        bias = operands[2]
        if isinstance(bias, Stored):
            return inputs, steps_of_sums(graph, end, bias.name, bias.quantisation, unit / beta)
        # onnxruntime stores such a bias in steps of the product of both scales, which is a float32 number.
        step = np.asarray(unit / beta, np.float32)
        return inputs, _stored_bias(graph, node, end, bias.astype(np.float32) / step, step)
    scale, stored = _scaled_weights(graph, node, w, scaling.factor)
    inputs[3] = graph.store(f"{end.outputs[0]}:w", stored) if stored is not None else w.name
    inputs[4] = graph.store(f"{end.outputs[0]}:w_scale", scale)
    total = scaling.factor * real_bias(node, graph, operands) + scaling.addend
    if not np.any(total):
        return inputs, ""
    step = real_unit(node, [x, replace(w, quantisation=w.quantisation._replace(scale=scale))])
    steps = total / step
    count = channels_of(node, graph, w)
    if steps.shape[-1:] != (count,):
        steps = np.broadcast_to(steps, (*steps.shape[:-1], count))
    return inputs, _stored_bias(graph, node, end, steps, step)


def _stored_bias(graph: Builder, node: OnnxNode, end: OnnxNode, steps: np.ndarray, step: np.ndarray) -> str:
    name = node.input(2) or f"bias of {node.name}"
    return graph.store(f"{name}:{end.outputs[0]}", whole_steps(name, np.rint(steps), step))


def _scaled_weights(graph: Builder, node: OnnxNode, w: Stored, factor: np.ndarray
                    ) -> tuple[np.ndarray, np.ndarray | None]:
    """Scales of weights times a factor, and the weights themselves if they must change for its sign, else None."""
    scale = w.quantisation.scale
    groups = _groups(node)
    if factor.ndim and groups > 1:
        parts = factor.reshape(groups, -1)
        if (parts != parts[0]).any():
            raise PearrayError("factors behind a ConvTranspose must be the same for all of its groups: scales of its "
                               "weights are")
        factor = parts[0]
    with np.errstate(over="ignore", under="ignore"):
        made = np.asarray(scale.astype(np.float64) * np.where(factor == 0, 1, np.abs(factor))).astype(np.float32)
    if (factor > 0).all():
        return made, None
    value = graph.constants.get(w.name)
    if value is None:
        raise PearrayError(f"factors of sums of products must be above 0 where weights are no constant, not "
                           f"{float(np.min(factor)):.8g}")
    axis = _weights_axis(node, value.ndim)
    spread = [-1 if place == axis else 1 for place in range(value.ndim)]
    sign, zero = (part.reshape(spread) if part.ndim else part
                  for part in (np.sign(factor).astype(np.int64), np.asarray(w.quantisation.zero_point, np.int64)))
    turned = zero + sign * (value.astype(np.int64) - zero)
    info = np.iinfo(value.dtype)
    if turned.min() < info.min or turned.max() > info.max:
        raise PearrayError(f"weights of channels with a factor below 0 must have values whose negatives {value.dtype} "
                           f"holds, too, not such as would become {turned.min()}..{turned.max()}")
    return made, turned.astype(value.dtype)
