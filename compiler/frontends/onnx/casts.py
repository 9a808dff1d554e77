"""Casts between integers: of bytes by tables, to sums, and of inputs of a network on the host."""

from functools import partial
from math import prod
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import AvgPool2d, Given, Lookup, Reshape
from ...operators.channelwise import every_value
from .builder import Builder, OnnxNode, handles

__all__: list[str] = []

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))

#: Types of inputs that the host makes bytes of.
_GIVEN = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@handles("Cast")
def _cast(node: OnnxNode, graph: Builder) -> None:
    """Keep the low bits, as the runtime does."""
    from onnx import helper

    taken = node.take(to=0, saturate=1, round_mode="up")
    x, wanted = graph.tensor(node.inputs[0]), helper.tensor_dtype_to_np_dtype(taken["to"])
    if x.dtype == wanted:
        graph.add(node, Reshape(x.shape), {"x": x.name}, bounds=graph.ranges.get(x.name))
    elif wanted in _BYTES and x.dtype in _BYTES:
        graph.add(node, Lookup(every_value(x.dtype).astype(wanted)), {"x": x.name})
    elif wanted == np.int32 and x.dtype in _BYTES:
        _sums(node, graph, x.name, tuple(x.shape))
    elif wanted in _BYTES and x.dtype.name in _GIVEN and not any(
            x.name in made.outputs.values() for made in graph.nodes):
        graph.add(node, Given(partial(_kept, wanted), ("x",), tuple(x.shape), wanted), {"x": x.name})
    else:
        raise PearrayError(
            "stored integers must be cast between int8 and uint8, from these to int32, or from an input of the network "
            f"to int8 or uint8, not from {x.dtype} to {wanted}: an accelerator has operands of 8 bits, and their sums")


def _kept(dtype: Any, x: np.ndarray) -> np.ndarray:
    """Low bits of an input."""
    return x.astype(dtype)


def _sums(node: OnnxNode, graph: Builder, name: str, shape: tuple[int, ...]) -> None:
    """Sums of one element each."""
    image = graph.inner(node.outputs[0], "image")
    sums = graph.inner(node.outputs[0], "sums")
    last = shape[-1] if shape else 1
    graph.add(node, Reshape(shape if len(shape) == 4 else (prod(shape) // last, last, 1, 1)), {"x": name}, image)
    graph.add(node, AvgPool2d(1), {"x": image}, sums)
    graph.add(node, Reshape(shape), {"x": sums})
