"""RotaryEmbedding in ONNX networks against onnxruntime within the bound of the integers, and in programs."""

import re

import numpy as np
import pytest
from attention_draws import attention_array
from onnx_models import MICROSOFT, load, make_model, quantisation, reference, stage
from random_workloads import interpret

import pearray as pe
from pearray.golden import rotary

#: Batches, heads, rows, elements.
H, P, E = 2, 5, 8

ALONE, OWN = "RotaryEmbedding", f"{MICROSOFT}:RotaryEmbedding"


def _model(rng, kind, inputs, attributes, shape, constants=(), turned=E):
    x = rng.normal(size=shape).astype(np.float32)
    cos, sin = rotary.rotary_tables(20, turned)
    ids = np.arange(P)[None] + 3
    given = quantisation(rng, "x", np.int8, 0.03, 0.04) | quantisation(rng, "y", np.int8, 0.03, 0.04) | {
        "cos": cos, "sin": sin, "ids": np.repeat(ids, shape[0], 0), "rows_cos": cos[ids], "rows_sin": sin[ids],
        "mixed": np.array([[4, 0, 7, 7, 2]]), "offset": np.array([6])} | dict(constants)
    given = {name: value for name, value in given.items() if name in inputs or "_" in name}
    return make_model([*stage("x"), (kind, inputs, ["y"], attributes), *stage("y")], {"x": x}, ["y_d"], given,
                      opset=23), x, given


@pytest.mark.parametrize(("kind", "inputs", "attributes", "shape", "turned"), [
    (ALONE, ["x_d", "cos", "sin", "ids"], {}, (1, H, P, E), E),
    (ALONE, ["x_d", "cos", "sin", "ids"], {"num_heads": H, "interleaved": 1}, (1, P, H * E), E),
    (ALONE, ["x_d", "rows_cos", "rows_sin"], {"num_heads": H}, (1, P, H * E), E),
    (ALONE, ["x_d", "cos", "sin", "mixed"], {"rotary_embedding_dim": 4}, (1, H, P, E), 4),
    (ALONE, ["x_d", "cos", "sin", "ids"], {}, (2, H, P, E), E),
    (OWN, ["x_d", "ids", "cos", "sin"], {"num_heads": H, "interleaved": 1}, (1, P, H * E), E),
    (OWN, ["x_d", "offset", "cos", "sin"], {}, (1, P, H * E), E),
])
def test_near_the_runtime(rng, tmp_path, kind, inputs, attributes, shape, turned):
    """If it failed, pairs, positions or heads would be others than the runtime's."""
    model, x, constants = _model(rng, kind, inputs, attributes, shape, turned=turned)
    graph = load(model, tmp_path).graph()
    interpret(graph, {"x": x}, attention_array("8x8"))
    found, wanted = graph.golden({"x": x})["y_d"], reference(model, {"x": x}, ["y_d"])["y_d"]
    assert found.shape == wanted.shape
    # Tables of bytes are half a step of 1 / 127 wrong, and so are outputs of two operands of up to 255 steps.
    steps = np.abs(found - wanted) / constants["y_scale"]
    assert steps.max() <= 1.01 + 2 * 255 * 0.5 / 127 * constants["x_scale"] / constants["y_scale"]
    assert np.sqrt(np.square(steps).mean()) < 0.8


@pytest.mark.parametrize(("kind", "inputs", "attributes", "message"), [
    (ALONE, ["x_d", "cos", "sin", "x_q"], {"num_heads": H}, "position_ids 'x_q' must be a constant of int64"),
    (ALONE, ["x_d", "cos", "sin"], {"num_heads": H}, "cos_cache and sin_cache must have shape (1, 5) and a column"),
    (ALONE, ["x_d", "cos", "sin", "ids"], {}, "num_heads must be a number that divides 16, not 0"),
    (ALONE, ["x_d", "cos", "sin", "ids"], {"num_heads": H, "rotary_embedding_dim": 6},
     "rotary_embedding_dim must be 8, twice the columns of cos_cache and sin_cache, not 6"),
    (ALONE, ["x", "cos", "sin", "ids"], {"num_heads": H}, "x 'x' must come from DequantizeLinear"),
    (ALONE, ["x_d", "cos", "x_d", "ids"], {"num_heads": H}, "'x_d', a table of angles, must be a constant of float32"),
    (OWN, ["x_d", "far", "cos", "sin"], {}, "cos_cache and sin_cache must have a row for each position up to 24, not"),
    (OWN, ["x_d", "ids", "cos", "sin"], {"scale": 2.0}, "scale must be 1.0, not 2.0"),
])
def test_mistakes_name_the_node(rng, tmp_path, kind, inputs, attributes, message):
    """What is passed over would be another rotation."""
    model, _, _ = _model(rng, kind, inputs, attributes, (1, P, H * E), {"far": np.array([20])})
    label = kind.replace(":", ".")
    with pytest.raises(pe.PearrayError, match=re.escape(f"({label}): {message}")):
        load(model, tmp_path).graph()
