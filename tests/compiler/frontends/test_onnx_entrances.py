"""Real numbers that come from bytes which are cast, or from tables of words; 16-bit activations with 8-bit weights."""

import numpy as np
import onnx
import pytest
from kinds import SMALL
from onnx_chain import dequantised, stored
from onnx_models import draw, make_model, reference
from random_workloads import interpret

import pearray as pe


def _compare(folder, nodes, inputs, constants, config, opset=17):
    """Compare the output with onnxruntime's, optimisations off, and the program with the golden model."""
    model = make_model(nodes, inputs, ["y"], constants, opset)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    graph = pe.load_onnx(path).graph_for(inputs)
    np.testing.assert_array_equal(graph.golden(inputs)["y"], reference(model, inputs, ["y"])["y"], strict=True)
    interpret(graph, inputs, SMALL[config], effort=0)
    return graph


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("reader", ["chain", "convolution"])
def test_bytes_that_are_cast_are_real_numbers(rng, tmp_path, dtype, reader):
    """Images that a network normalises itself would be refused, though each byte is a number that is known."""
    constants = {"mean": rng.uniform(90, 130, (3, 1, 1)).astype(np.float32), "deviation": np.float32(64),
                 "w": draw(rng, (4, 3, 3, 2), np.int8), "w_s": np.float32(1 / 128), "w_z": np.int8(0),
                 "y_s": np.float32(1 / 32 if reader == "chain" else 8), "y_z": dtype(3)}
    cast = ("Cast", ["x"], ["c"], {"to": onnx.TensorProto.FLOAT})
    nodes = {"chain": [cast, ("Sub", ["c", "mean"], ["d"], {}), ("Div", ["d", "deviation"], ["f"], {})],
             "convolution": [cast, dequantised("w"), ("Conv", ["c", "w_d"], ["f"], {})]}[reader]
    _compare(tmp_path, [*nodes, stored("f", "y")], {"x": draw(rng, (2, 3, 5, 6), dtype)}, constants, "moves")


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("table", ["stored", "float"])
@pytest.mark.parametrize("axis", [0, -1])
def test_words_are_looked_up_by_the_host(rng, tmp_path, dtype, table, axis):
    """A network of words would begin with a table that only a host between programs can read."""
    words = rng.integers(-9, 9, (2, 3)).astype(dtype)
    values = draw(rng, (9, 9), np.uint8)
    constants = {"t": values, "t_s": np.float32(1 / 64), "t_z": np.uint8(100), "r": values.astype(np.float32) / 32 - 3,
                 "q_s": np.float32(1 / 32), "q_z": np.uint8(90), "y_s": np.float32(1 / 16), "y_z": np.uint8(7)}
    first = {"stored": [dequantised("t"), ("Gather", ["t_d", "x"], ["e"], {"axis": axis})],
             "float": [("Gather", ["r", "x"], ["g"], {"axis": axis}), stored("g", "q"), dequantised("q"),
                       ("Identity", ["q_d"], ["e"], {})]}[table]
    graph = _compare(tmp_path, [*first, ("Neg", ["e"], ["f"], {}), stored("f", "y")], {"x": words}, constants, "moves")
    with pytest.raises(pe.PearrayError, match=r"indices must be in -9\.\.8, not "):
        graph.golden({"x": np.full((2, 3), 9, dtype)})


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
def test_words_meet_bytes(rng, tmp_path, kind):
    """A network with activations of 16 bits and weights of 8 would have to be quantised anew, with wider weights."""
    shapes = {"Conv": ((1, 3, 6, 5), (4, 3, 3, 2)), "Gemm": ((3, 7), (7, 4)), "MatMul": ((2, 3, 7), (7, 4))}[kind]
    # Sums that float32 holds, so that the runtime's are exact.
    x = rng.integers(-(1 << 11), 1 << 11, shapes[0]).astype(np.int16)
    constants = {"x_s": np.float32(2**-12), "x_z": np.int16(0), "w": draw(rng, shapes[1], np.int8),
                 "w_s": np.float32(2**-6), "w_z": np.int8(0), "y_s": np.float32(2**-8), "y_z": np.int16(0)}
    nodes = [dequantised("x"), dequantised("w"), (kind, ["x_d", "w_d"], ["f"], {}), ("Relu", ["f"], ["r"], {}),
             stored("r", "y")]
    graph = _compare(tmp_path, nodes, {"x": x}, constants, "systolic-16", 21)
    assert graph.tensors["y"].dtype == np.int16
