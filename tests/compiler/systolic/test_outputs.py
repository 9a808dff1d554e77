"""Outputs of a group in the scratchpad: where the last tile is not full, rows follow one another all the same."""

import numpy as np
import pytest
from random_workloads import configuration, interpret, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.operators import Gemm, Relu
from pearray.hdl.shell.commands import Opcode


@pytest.mark.parametrize(("channels", "packed"), [(12, True), (22, True), (16, True), (13, False)])
def test_rows_of_outputs_are_stored_as_one(rng, channels, packed):
    """A burst for each row of few channels takes the write channel longer than post-processing makes them.

    Were the last tile not walked first, what it spills over would be the next row's first channels.
    """
    config = pe.load_config("systolic-8x8").hardware
    tensors = {"a": operands(rng, (40, 24)), "b": operands(rng, (24, channels))}
    graph = Graph.of(Gemm(), tensors)
    program = interpret(graph, {name: tensors[name] for name in graph.inputs}, config).program
    bodies = [body | dict(zip(stream.fields, values, strict=True))
              for stream, _, body, _, values in program.entries() if stream.opcode is Opcode.STORE]
    whole = [body for body in bodies if body["length"] % channels == 0]
    assert whole
    rows = np.array([body["count1"] * body["count2"] for body in whole])
    assert (rows == 1).all() if packed else (rows > 1).all()


@pytest.mark.parametrize("channels", [3, 5, 7])
def test_a_diagonal_shorter_than_a_row_is_not_walked_from_its_end(rng, channels):
    """A tile of fewer channels than columns would spill over the tile behind it, which has been written before."""
    config = configuration(2, 4, activation=256, weight=64, output=64, channels=32, depth=8, lanes=1)
    tensors = {"x": operands(rng, (1, channels, 3, 2))}
    interpret(Graph.of(Relu(3), tensors), tensors, config)
