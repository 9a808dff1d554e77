"""Values that an array narrower than a byte can't hold, and multipliers that the hardware can't take, are caught."""

import re
from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kernels.context import scale_entries

SMALL = Path(__file__).parents[2] / "cocotb" / "configuration.toml"


def chain(requant, second):
    """Two convolutions, of which the second reads what the first makes."""
    w = np.ones((4, 4, 1, 1), np.int8)
    nodes = [Node("first", pe.Conv2d(requant=requant), {"x": "x", "w": "w"}, {"y": "t"}),
             Node("pool", pe.MaxPool2d(2), {"x": "t"}, {"y": "u"}),
             Node("second", pe.Conv2d(padding=1, requant=second), {"x": "u", "w": "w"}, {"y": "y"})]
    return Graph(nodes, {"x": Tensor("x", (1, 4, 6, 6), np.dtype(np.int8))}, {"w": w}, ["x"], ["y"])


@pytest.mark.parametrize(("clamp", "zero", "message"), [
    ((-8, 7), 7, None),
    (None, 7, "pool: t must be clamped to -8..7 to be an operand of this accelerator, not to -128..127"),
    ((-8, 7), 8, "second: x_zero_point must be in -8..7 on this accelerator, not 8"),
])
def test_operands_of_four_bits(clamp, zero, message):
    """The array would cut the upper bits off, and the network would be another one."""
    config = pe.load_config(SMALL, overrides={"array.operand_bits": 4}).hardware
    graph = chain(pe.Requant.onnx(1, 0, 0.1, 0, 1, 0, clamp=clamp), pe.Requant.onnx(1, zero, 0.1, 0, 1, 0))
    if message is None:
        compile_graph(graph, config)
        return
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}"):
        compile_graph(graph, config)


def test_small_multipliers_that_shift_left():
    """The hardware's single rounding takes a left shift only with a multiplier of at least 2**30."""
    requant = pe.Requant.tflite([1 << 20, 3, 0, 1 << 30], [5, 30, 7, 2], rounding="single")
    entries = scale_entries(requant)
    multipliers, shifts = entries & 0xFFFFFFFF, -(((entries >> 32) & 63).astype(np.int64) ^ 32) + 32
    assert multipliers.tolist() == [1 << 25, 3 << 29, 0, 1 << 30]
    assert shifts.tolist() == [0, 1, 0, 2]
