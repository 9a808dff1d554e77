"""Inputs that are drawn for networks of files."""

import numpy as np
import onnx
from onnx_models import draw, make_model, stage

import pearray as pe
from pearray.workloads.file_workload import file_workload
from pearray.workloads.operands import Operands
from pearray.workloads.settings import Settings


def test_words_are_rows_of_their_tables(rng, tmp_path):
    """Numbers beyond the tables in which the host looks them up would make every run of such a network fail."""
    constants = {"w_scale": np.float32(0.05), "w_zero": np.int8(0), "y_scale": np.float32(0.05), "y_zero": np.int8(0),
                 "table": draw(rng, (20, 8), np.int8), "few": draw(rng, (8, 3), np.int8), "flat": np.array([-1])}
    nodes = [("DequantizeLinear", ["table", "w_scale", "w_zero"], ["w"], {}),
             ("DequantizeLinear", ["few", "w_scale", "w_zero"], ["f"], {}), ("Cast", ["words"], ["wide"], {"to": 7}),
             ("Reshape", ["wide", "flat"], ["row"], {}), ("Gather", ["w", "row"], ["x"], {}),
             ("Gather", ["f", "kinds"], ["k"], {"axis": -1}), ("Transpose", ["k"], ["t"], {"perm": [1, 0]}),
             ("Add", ["x", "t"], ["y"], {}), *stage("y")]
    model = make_model(nodes, {"words": np.zeros((1, 40), np.int32), "kinds": np.zeros(40, np.int64)}, ["y_d"],
                       constants, opset=17)
    path = tmp_path / "words.onnx"
    onnx.save(model, str(path))
    made = file_workload(str(path), rng, Settings("words.onnx", {}), Operands, "host")
    assert 3 < made.inputs["words"].max() < 20
    assert 0 < made.inputs["kinds"].max() < 3
    assert min(value.min() for value in made.inputs.values()) >= 0
    pe.golden_run(made.model, made.inputs)
