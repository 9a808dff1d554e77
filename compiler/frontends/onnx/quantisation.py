"""What QuantizeLinear and DequantizeLinear say about a tensor, as the standard defines it, and biases in steps of sums.

Scales are float32 constants, one for a tensor or one for each index of an axis; other precisions and blocks are
refused.
"""

from typing import Any

import numpy as np

from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from ...operators import DequantizeBlocks, QuantizeBlocks
from ...operators.fields import NARROW
from .builder import Builder, OnnxNode, Quantisation

__all__ = [
    "dequantised_constant", "operand", "quantised_constant", "real", "result", "several_scales", "steps_of_sums",
    "whole_steps",
]

_STORED = ("int8", "uint8", "int16", "uint16")

#: Relative error that roundings of scales to float32 and of their product leave between equal scales.
_ROUNDING = 2.0**-22

#: Least step between float32 numbers.
_LEAST = 2.0**-149


def _listed(*kinds: str) -> str:
    """Names of types for messages."""
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _check_attributes(taken: dict[str, Any], float_type: str) -> None:
    """Check that scales are for whole tensors, and numbers float32; `float_type` is the attribute that tells."""
    if taken["block_size"]:
        raise PearrayError(f"block_size must be 0, not {taken['block_size']}")
    # 1 is TensorProto.FLOAT, and 0 leaves it to the scale.
    if taken[float_type] not in (0, 1):
        raise PearrayError(f"{float_type} must be float32 (1), not {taken[float_type]}")


def _check_axis(found: Quantisation, what: str, shape: tuple[int, ...]) -> None:
    """Check that there is one scale for each index of an axis."""
    axis = found.axis
    if not found.scale.ndim:
        return
    if not -len(shape) <= axis < len(shape):
        raise PearrayError(f"axis must be in {-len(shape)}..{len(shape) - 1}, not {axis}")
    if found.scale.size != shape[axis]:
        raise PearrayError(f"{what}_scale must have one value or {shape[axis]}, as axis {axis} of the tensor has, "
                           f"not {found.scale.size}")


def operand(node: OnnxNode, graph: Builder, x: Tensor | None = None) -> Quantisation:
    """How the operand `x` of a DequantizeLinear is stored, which the graph knows if it is not given.

    Raises
    ------
    PearrayError
        If it is none of the supported types, or scale and zero point do not fit it.
    """
    taken = node.take(axis=1, block_size=0, output_dtype=0)
    _check_attributes(taken, "output_dtype")
    x = graph.tensor(node.inputs[0]) if x is None else x
    if x.dtype.name not in (*_STORED, "int32"):
        raise PearrayError(f"x must be {_listed(*_STORED, 'int32', *NARROW)}, not {x.dtype}")
    found = graph.quantisation(node, 1, "x", x.dtype, x.dtype)
    if x.dtype == np.int32 and np.any(found.zero_point):
        raise PearrayError(f"x_zero_point must be absent or 0 for int32, not {np.asarray(found.zero_point).tolist()}")
    found = found._replace(axis=taken["axis"])
    _check_axis(found, "x", x.shape)
    return found


def result(node: OnnxNode, graph: Builder) -> Quantisation:
    """How a QuantizeLinear stores its result.

    The type is that of the zero point, else `output_dtype`, else uint8. (`saturate` is for floats of 8 bits only.)

    Raises
    ------
    PearrayError
        If it is none of the supported types, or the node's fields contradict one another.
    """
    taken = node.take(axis=1, block_size=0, output_dtype=0, precision=0, saturate=1)
    _check_attributes(taken, "precision")
    held, bounds = _kind(taken)
    found = graph.quantisation(node, 1, "y", absent=held)._replace(axis=taken["axis"])
    if not node.input(2):
        return found._replace(clamp=bounds)
    if taken["output_dtype"] and (found.zero_point.dtype != held or found.clamp != bounds):
        raise PearrayError(f"output_dtype must be absent or the type of y_zero_point, not {held}")
    return found


def several_scales(node: OnnxNode, graph: Builder, name: str) -> bool:
    """Append a QuantizeLinear of an input, or a DequantizeLinear to an output, if it has several scales; tell that."""
    found = _blocks(node, graph, graph.tensor(name))
    if found is not None:
        kind = QuantizeBlocks if node.op_type == "QuantizeLinear" else DequantizeBlocks
        graph.add(node, kind(**found), {"x": name}, bounds=found.get("clamp"))
    return found is not None


def _blocks(node: OnnxNode, graph: Builder, x: Tensor) -> dict[str, Any] | None:
    """What QuantizeBlocks and DequantizeBlocks take, of a QuantizeLinear or DequantizeLinear of `x`.

    Returns
    -------
    dict or None
        None if one scale is for all.

    Raises
    ------
    PearrayError
        If a type is none of the supported ones, or a shape does not fit.
    """
    taken = node.take(axis=1, block_size=0, output_dtype=0, precision=0, saturate=1)
    is_result = node.op_type == "QuantizeLinear"
    y = "y" if is_result else "x"
    scale, axis = graph.constant(node, 1, f"{y}_scale"), taken["axis"]
    if scale.size == 1 and not taken["block_size"]:
        return None
    _check_attributes(taken | {"block_size": 0}, "precision" if is_result else "output_dtype")
    if scale.dtype != np.float32:
        raise PearrayError(f"{y}_scale must be float32, not {scale.dtype}")
    if not taken["block_size"]:
        _check_axis(Quantisation(scale.reshape(-1), 0, axis=axis), y, x.shape)
    zero = graph.constant(node, 2, f"{y}_zero_point") if node.input(2) else None
    bounds = graph.ranges.get(node.input(2))
    if zero is None:
        kind, bounds = _kind(taken) if is_result else (x.dtype, None)
        zero = np.zeros(scale.shape, kind)
    if zero.dtype.name not in _STORED or (not is_result and zero.dtype != x.dtype):
        raise PearrayError(f"{y}_zero_point must be {_listed(*_STORED)}, as {y} is, not {zero.dtype}")
    block = taken["block_size"]
    if not block:
        # One for each index of an axis, whatever the others.
        block, place = 1, axis % len(x.shape)
        whole = [1 if each != place else -1 for each in range(len(x.shape))]
        wide = [size if each != place else scale.size for each, size in enumerate(x.shape)]
        scale, zero = (np.broadcast_to(value.reshape(whole), wide) for value in (scale, zero))
    return {"scale": scale, "zero_point": zero, "axis": axis, "block": block} | ({"clamp": bounds} if is_result else {})


def _kind(taken: dict[str, Any]) -> tuple[Any, tuple[int, int] | None]:
    """Type that holds the result of a QuantizeLinear without a zero point, and its range if that is narrower."""
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(taken["output_dtype"]).lower() if taken["output_dtype"] else "uint8"
    held, bounds = NARROW.get(kind, (kind, None))
    if held not in _STORED and kind not in NARROW:
        raise PearrayError(f"output_dtype must be {_listed(*_STORED, *NARROW)}, not {kind}")
    return np.dtype(held), bounds


def quantised_constant(node: OnnxNode, graph: Builder) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Value of a QuantizeLinear whose operand is a constant, and its range if narrower than its type."""
    found, x = result(node, graph), graph.constant(node, 0, "x")
    _check_axis(found, "y", x.shape)
    value = quantize_linear(x, found.scale, found.zero_point, dtype=found.zero_point.dtype, axis=found.axis)
    return value if found.clamp is None else np.clip(value, *found.clamp), found.clamp


def dequantised_constant(node: OnnxNode, graph: Builder) -> np.ndarray:
    """What a DequantizeLinear makes of a constant."""
    return real(graph.constant(node, 0, "x"), operand(node, graph))


def real(value: np.ndarray, found: Quantisation) -> np.ndarray:
    """Real numbers that stored ones stand for, float32."""
    axis = found.axis if found.scale.ndim else 0
    return dequantize_linear(value.reshape(value.shape or 1), found.scale, found.zero_point, axis=axis
                             ).reshape(value.shape)


def steps_of_sums(graph: Builder, node: OnnxNode, name: str, found: Quantisation, step: np.ndarray) -> str:
    """Express a stored bias in the steps that a contraction's integer sums have.

    A runtime adds ``scale * (bias - zero_point)`` as a real number. An integer sum has room for whole steps only, so
    the bias must be whole ones, but for what float32 rounds off.

    Parameters
    ----------
    graph, node
        Graph under construction, and the node whose bias it is.
    name : str
        The stored bias; an int32 constant whose name is returned takes its place.
    found : Quantisation
        How it is stored.
    step : float64 array of shape () or (channels,)
        What one unit of a sum stands for, for each index of the last axis.

    Raises
    ------
    PearrayError
        If the bias is no constant, no whole number of steps, or beyond int32.
    """
    stored = graph.constants.get(name)
    if stored is None:
        raise PearrayError(f"bias {name!r} must be a constant")

    def spread(values: Any) -> np.ndarray:
        array = np.asarray(values, np.float64)
        return array.reshape([-1 if index == found.axis % stored.ndim else 1 for index in range(stored.ndim)]) \
            if array.ndim else array

    scale = spread(found.scale)
    steps = (stored - spread(found.zero_point)) * scale / step
    whole = np.rint(steps)
    # Below the least normal number a scale loses more of itself.
    lost = np.maximum(_ROUNDING * scale, _LEAST / 2) / scale
    wrong = np.abs(steps - whole) > lost * np.abs(steps)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        unit, factor = (np.broadcast_to(part, steps.shape)[place] for part in (step, scale))
        raise PearrayError(f"scale of bias {name!r} must be {unit:.8g}, the product of the operands' scales (with "
                           f"alpha and beta), or the bias a whole number of such steps, not {factor:.8g}, by which "
                           f"{np.broadcast_to(stored, steps.shape)[place]} is {steps[place]:.6g} steps")
    value = whole_steps(name, whole, step)
    if stored.dtype == np.int32 and stored.shape == value.shape and np.array_equal(stored, value):
        return name
    return graph.store(f"{name}:{node.outputs[0]}", value)


def whole_steps(name: str, steps: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Bias in whole steps of sums as int32, after checking that it fits; `step` is what one stands for."""
    if steps.size and not (np.isfinite(steps).all() and steps.min() >= -1 << 31 and steps.max() < 1 << 31):
        raise PearrayError(f"bias {name!r} must be within int32 in steps of {np.min(step):.8g}, the product of the "
                           f"operands' scales, not {steps.flat[np.abs(steps).argmax()]:.8g}")
    return steps.astype(np.int32)
