"""ONNX operators that move elements: parts of tensors, tensors side by side, padding, repetition, other sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...operators import (
    Concat,
    DepthToSpace,
    Expand,
    Gather,
    Pad,
    Slice,
    SpaceToDepth,
    Tile,
)
from ...operators.moved import checked_axis
from .builder import MICROSOFT, Builder, OnnxNode, Quantisation, handles, one
from .channelwise import add_limited, output_of
from .entrances import look_up
from .values import Scaling

__all__ = ["TABLES", "Joined", "stored_inputs", "whole_numbers"]

#: Why an accelerator has no embeddings of words.
TABLES = ("words are looked up in tables, which the accelerator does not: give the network behind it, with the "
          "embeddings as its input")


def whole_numbers(node: OnnxNode, graph: Builder, index: int, role: str) -> list[int]:
    """Integers of 32 or 64 bits that must be known at compile time."""
    value = graph.constant(node, index, role)
    if value.dtype not in (np.int32, np.int64) or value.ndim > 1:
        raise PearrayError(f"{role} must be a vector of int64, not {value.dtype} of shape {value.shape}")
    return [int(item) for item in value.reshape(-1)]


def _axes(node: OnnxNode, graph: Builder, index: int, rank: int) -> list[int]:
    """Axes counted from the first, all where the input is absent, each named once."""
    if not node.input(index):
        return [*range(rank)]
    axes = [checked_axis("axes", axis, rank) for axis in whole_numbers(node, graph, index, "axes")]
    if len({*axes}) != len(axes):
        raise PearrayError(f"axes must name each axis once, not be {axes}")
    return axes


@handles("Concat")
def _concat(node: OnnxNode, graph: Builder) -> None:
    axis = node.take(axis=0)["axis"]
    graph.add(node, Concat(axis), {f"x{index}": graph.tensor(name).name for index, name in enumerate(node.inputs)})


@handles("QLinearConcat", domain=MICROSOFT)
def _scaled_concat(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axis=0, activation=None)
    if len(node.inputs) < 5 or len(node.inputs) % 3 != 2:
        raise PearrayError("inputs must be Y_scale, Y_zero_point, and then each tensor with its scale and zero point, "
                           f"not {len(node.inputs)}")
    tensors = [graph.tensor(name) for name in node.inputs[2::3]]
    found = [graph.quantisation(node, 3 + 3 * index, f"X{index}", tensor.dtype, tensor.dtype)
             for index, tensor in enumerate(tensors)]
    y = output_of(node.standing_for(node.op_type, [tensors[0].name, *node.inputs[:2]], node.outputs), graph, "Y", 1,
                  taken["activation"])
    operator = Concat(
        taken["axis"], tuple(one(f"X{index}_scale", each.scale) for index, each in enumerate(found)),
        tuple(each.zero_point for each in found), float(y.scale), y.zero_point)
    inputs = {f"x{index}": tensor.name for index, tensor in enumerate(tensors)}
    add_limited(node, graph, operator, inputs, y.clamp)


class Joined:
    """Quantised form of Concat: tensors of several scales, which are brought to that of the result."""

    #: How many of its inputs are tensors at most.
    tensors: int | None = None

    def make(self, graph: Builder, node: OnnxNode, operands: Sequence[Any], end: OnnxNode,
             scaling: Scaling) -> OnnxNode:
        """Quantised operator of a float one, whose result `end` quantises; nothing else follows it."""
        inputs = [*end.inputs[1:3], *(name for each in operands for name in (each.name, each.scale, each.zero_point))]
        return node.standing_for("QLinearConcat", inputs, end.outputs, dict(node.attributes), MICROSOFT)


@handles("Split")
def _split(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axis=0, num_outputs=0)
    x = graph.tensor(node.inputs[0])
    axis, count = checked_axis("axis", taken["axis"], len(x.shape)), len(node.outputs)
    size = x.shape[axis]
    if taken["num_outputs"] not in (0, count):
        raise PearrayError(f"num_outputs must be {count}, the number of outputs, not {taken['num_outputs']}")
    if node.input(1):
        sizes = whole_numbers(node, graph, 1, "split")
    else:
        each = -(-size // count)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
        if not taken["num_outputs"] and size % count:
            raise PearrayError(f"split must be given where {count} outputs can't have the {size} elements of axis "
                               f"{axis} in equal parts")
    if len(sizes) != count or min(sizes) < 1 or sum(sizes) != size:
        raise PearrayError(f"split must be {count} integers of at least 1 that add up to {size}, not {sizes}")
    end = 0
    for name, part in zip(node.outputs, sizes, strict=True):
        start, end = end, end + part
        if name:
            graph.add(node, Slice((start,), (end,), (axis,)), {"x": x.name}, name)


@handles("Slice")
def _slice(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    starts, ends = (whole_numbers(node, graph, index, role) for index, role in ((1, "starts"), (2, "ends")))
    axes = _axes(node, graph, 3, len(x.shape))[:len(starts)]
    steps = whole_numbers(node, graph, 4, "steps") if node.input(4) else [1] * len(starts)
    graph.add(node, Slice(starts, ends, axes, steps), {"x": x.name})


@handles("Pad")
def _pad(node: OnnxNode, graph: Builder) -> None:
    mode = node.take(mode="constant")["mode"]
    x, value = graph.tensor(node.inputs[0]), 0
    if mode == "constant" and node.input(2):
        given = graph.constant(node, 2, "constant_value")
        if given.size != 1 or given.dtype != x.dtype:
            raise PearrayError(f"constant_value must be one {x.dtype}, not {given.dtype} of shape {given.shape}")
        value = given.item()
    axes = _axes(node, graph, 3, len(x.shape))
    graph.add(node, Pad(whole_numbers(node, graph, 1, "pads"), mode, value, axes), {"x": x.name})


def stored_inputs(node: OnnxNode, graph: Builder, found: Quantisation) -> list[str]:
    """Inputs but the first of a node that moves a float tensor, for one that moves what is stored.

    Parameters
    ----------
    node : OnnxNode
        The node.
    graph : Builder
        Graph under construction.
    found : Quantisation
        How the tensor is stored.
    """
    inputs = node.inputs[1:]
    if node.op_type != "Pad" or node.attributes.get("mode", b"constant") not in (b"constant", "constant"):
        return inputs
    value = graph.constant(node, 2, "constant_value") if node.input(2) else np.float32(0)
    if np.size(value) != 1:
        raise PearrayError(f"constant_value must be one number, not {np.size(value)}")
    real = np.asarray(value, np.float32).reshape(())
    scale = one("scale", found.scale)
    stored = quantize_linear(real, scale, found.zero_point, dtype=found.zero_point.dtype)
    if dequantize_linear(stored, scale, found.zero_point) != real:
        raise PearrayError(f"constant_value must be a whole number of steps of {scale} from zero that x can store, not "
                           f"{real.item()}")
    name = graph.store(f"{node.outputs[0]}:constant_value", np.asarray(stored))
    return [inputs[0], name, *inputs[2:]]


@handles("DepthToSpace")
def _depth_to_space(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(blocksize=1, mode="DCR")
    graph.add(node, DepthToSpace(taken["blocksize"], taken["mode"]), {"x": graph.tensor(node.inputs[0]).name})


@handles("SpaceToDepth")
def _space_to_depth(node: OnnxNode, graph: Builder) -> None:
    graph.add(node, SpaceToDepth(node.take(blocksize=1)["blocksize"]), {"x": graph.tensor(node.inputs[0]).name})


@handles("Tile")
def _tile(node: OnnxNode, graph: Builder) -> None:
    node.take()
    graph.add(node, Tile(whole_numbers(node, graph, 1, "repeats")), {"x": graph.tensor(node.inputs[0]).name})


@handles("Expand")
def _expand(node: OnnxNode, graph: Builder) -> None:
    node.take()
    graph.add(node, Expand(tuple(whole_numbers(node, graph, 1, "shape"))), {"x": graph.tensor(node.inputs[0]).name})


@handles("Gather")
def _gather(node: OnnxNode, graph: Builder) -> None:
    axis = node.take(axis=0)["axis"]
    if node.input(1) not in graph.constants:
        table = graph.constants.get(node.input(0))
        if table is None or not look_up(node, graph, table):
            raise PearrayError("words are looked up in tables by the host, before the run: indices must be a constant, "
                               "or an input of the network, whose table is known")
        return
    graph.add(node, Gather(graph.constant(node, 1, "indices"), axis), {"x": graph.tensor(node.inputs[0]).name})
