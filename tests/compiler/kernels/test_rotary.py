"""Rotary embedding between a projection and whatever reads its heads: no tensor is copied, and no matrix twice."""

import numpy as np
import pytest
from random_workloads import configuration, interpret, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.operators import Reshape, Transpose
from pearray.golden.rotary import rotary_tables

REQUANT = pe.Requant.onnx(0.1, 0, 0.01, 0, 0.1, 0)
TURN = pe.RotaryEmbedding(0.1, 0, 0.12, 0)


def _graph(rng, rows, heads, elements):
    """Two projections of x (P, D) whose heads are turned alike, both outputs of the graph as rows again."""
    x, width = operands(rng, (rows, 12)), heads * elements
    cos, sin = rotary_tables(rows, elements)
    constants, nodes = {"cos": cos, "sin": sin}, []
    for name in "qk":
        constants[f"w_{name}"] = operands(rng, (width, 12))
        nodes += [Node(name, pe.Linear(requant=REQUANT), {"x": "x", "w": f"w_{name}"}, {"y": name}),
                  Node(f"split {name}", Reshape((rows, heads, elements)), {"x": name}, {"y": f"split {name}"}),
                  Node(f"heads {name}", Transpose((1, 0, 2)), {"x": f"split {name}"}, {"y": f"heads {name}"}),
                  Node(f"turn {name}", TURN, {"x": f"heads {name}", "cos": "cos", "sin": "sin"},
                       {"y": f"turned {name}"}),
                  Node(f"rows {name}", Transpose((1, 0, 2)), {"x": f"turned {name}"}, {"y": f"rows {name}"}),
                  Node(f"join {name}", Reshape((rows, width)), {"x": f"rows {name}"}, {"y": f"joined {name}"})]
    graph = Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["joined q", "joined k"])
    return graph, {"x": x}


@pytest.mark.parametrize("shape", [(5, 3, 8), (1, 4, 6), (3, 1, 2)])
def test_heads_are_turned_where_they_stand(shape, rng):
    """A stride or an offset of a head or a position that is wrong reads another's elements."""
    rows, _, elements = shape
    compiled = interpret(*_graph(rng, *shape), configuration())
    assert len(compiled.kernels) == 2 + 2 * rows
    matrices = [item for item in compiled.placement.reserved if item.name.endswith(":turns")]
    assert [item.length for item in matrices] == [rows * elements ** 2]


def test_tables_must_be_known(rng):
    """Matrices are made when a program is compiled: tables that a run gives are refused in one line."""
    cos, sin = rotary_tables(2, 4)
    graph = Graph.of(TURN, {"x": np.zeros((1, 2, 4), np.int8), "cos": cos, "sin": sin}, constants=["cos"])
    with pytest.raises(pe.PearrayError, match=r"^sin must be of an integer type of at most 8 bits"):
        pe.compile(graph, {"x": np.zeros((1, 2, 4), np.int8), "sin": sin}, on="systolic-8x8").compiled()
