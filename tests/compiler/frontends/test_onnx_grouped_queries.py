"""com.microsoft's GroupQueryAttention of a prompt, against onnxruntime within a bound, and in programs."""

import re

import numpy as np
import pytest
from attention_draws import attention_array
from onnx_models import MICROSOFT, load, make_model, reference, stage
from random_workloads import interpret

import pearray as pe
from pearray.golden import rotary

#: Heads, queries, elements of each.
H, P, E = 3, 10, 8


def _scale(name, value):
    return {f"{name}_scale": np.float32(value), f"{name}_zero": np.int8(0)}


def _floats(inputs):
    return {name: value.astype(np.float32) for name, value in inputs.items()}


@pytest.mark.parametrize(("attributes", "lengths"), [
    ({}, (P, P)), ({"scale": 0.5, "local_window_size": 3}, (P, P)), ({"causal": 0}, (P, P)), ({}, (P, P - 4))])
def test_grouped_queries(rng, tmp_path, attributes, lengths):
    """A prompt whose queries share keys, its window and its padding; nobody reads the caches that it would fill."""
    heads, groups = 4, 2
    inputs = _floats({"q": rng.normal(size=(2, P, heads * E)), "k": rng.normal(size=(2, P, groups * E)),
                      "v": rng.normal(size=(2, P, groups * E))})
    constants = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
                 for key, value in _scale(name, step).items()}
    constants |= {"lengths": np.array(lengths, np.int32) - 1, "total": np.int32(P)}
    nodes = [*stage("q"), *stage("k"), *stage("v"),
             (f"{MICROSOFT}:GroupQueryAttention", ["q_d", "k_d", "v_d", "", "", "lengths", "total"],
              ["y", "present_key", "present_value"], {"num_heads": heads, "kv_num_heads": groups, **attributes}),
             *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants, opset=21)
    graph = load(model, tmp_path).graph()
    interpret(graph, inputs, attention_array("8x8"))
    wanted, found = (np.rint(each * 60) for each in (reference(model, inputs, ["y_d"])["y_d"],
                                                     graph.golden(inputs)["y_d"]))
    assert np.abs(found - wanted).max() <= 3 * 1.5


@pytest.mark.parametrize("interleaved", [0, 1])
def test_grouped_queries_that_are_turned(rng, tmp_path, interleaved):
    """Angles are those of places in the prompt, of queries and of keys; bytes of tables and of what is turned round."""
    heads, groups, width = 4, 2, 16
    inputs = _floats({"q": rng.normal(size=(1, P, heads * width)), "k": rng.normal(size=(1, P, groups * width)),
                      "v": rng.normal(size=(1, P, groups * width))})
    constants = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
                 for key, value in _scale(name, step).items()}
    cos, sin = rotary.rotary_tables(20, width)
    constants |= {"last": np.array([P - 1], np.int32), "total": np.int32(P), "cos": cos, "sin": sin}
    nodes = [*stage("q"), *stage("k"), *stage("v"),
             (f"{MICROSOFT}:GroupQueryAttention", [*GROUPED, "cos", "sin"], ["y", "present_key", "present_value"],
              {"num_heads": heads, "kv_num_heads": groups, "do_rotary": 1, "rotary_interleaved": interleaved}),
             *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants, opset=21)
    graph = load(model, tmp_path).graph()
    compiled = interpret(graph, inputs, attention_array("8x8"))
    assert [layer.kind for layer in compiled.layers] == ["RotaryEmbedding", "RotaryEmbedding", "Attention"]
    wanted, found = (np.rint(each * 60) for each in (reference(model, inputs, ["y_d"])["y_d"],
                                                     graph.golden(inputs)["y_d"]))
    assert np.sqrt(np.square(found - wanted).mean()) <= 1
    assert np.abs(found - wanted).max() <= 6


GROUPED = ["q_d", "k_d", "v_d", "", "", "last", "total"]


@pytest.mark.parametrize(("inputs", "attributes", "outputs", "message"), [
    (GROUPED, {"do_rotary": 1}, 1, "cos_cache and sin_cache must be constants of float32 with 2 dimensions where do_"),
    ([*GROUPED, "table", "short"], {"do_rotary": 1}, 1, "cos and sin must be of float and of one shape (T, R / 2)"),
    ([*GROUPED, "table", "table", "n"], {}, 1, "input position_ids = 'n' is not supported; q, k, v and attn_mask"),
    ([*GROUPED[:3], "k_d", "v_d", *GROUPED[5:]], {}, 1, "input past_key = 'k_d' is not supported; q, k, v and "),
    ([*GROUPED[:6], "n"], {}, 1, "total_sequence_length must be a constant of int32, and seqlens_k that or what "),
    ([*GROUPED[:6], "other"], {}, 1, "seqlens_k must be one for each of 1 batches, and total_sequence_length = "),
    (GROUPED, {"local_window_size": 0}, 1, "local_window_size must be -1, or at least 1 and causal 1, not 0"),
    (GROUPED, {"local_window_size": 2, "causal": 0}, 1, "local_window_size must be -1, or at least 1 and causal 1"),
    (GROUPED, {"softcap": 1.0}, 1, "softcap must be 0, not 1.0"),
    (GROUPED, {"kv_num_heads": 2}, 1, "q, k, v must have shapes (H, P, E), (Hkv, M, E), (Hkv, M, F), H a multiple of"),
    (GROUPED, {}, 2, "output 'present' is not supported; only the first one is"),
    (["q_d", "", "", *GROUPED[3:]], {}, 1, "q, k and v must all be given"),
])
def test_grouped_queries_that_are_not_supported(rng, tmp_path, inputs, attributes, outputs, message):
    """A cache, a rotation or a limit that is passed over would be another attention."""
    x = _floats({name: rng.normal(size=(1, P, H * E)) for name in "qkv"}) | {"n": np.zeros(1, np.int32)}
    constants = {key: value for name in "qkvy" for key, value in _scale(name, 1 / 40).items()}
    constants |= {"last": np.array([P - 1], np.int32), "total": np.int32(P), "other": np.int32(P + 1),
                  "table": np.zeros((P, E // 2), np.float32), "short": np.zeros((P - 1, E // 2), np.float32)}
    nodes = [*stage("q"), *stage("k"), *stage("v"),
             (f"{MICROSOFT}:GroupQueryAttention", inputs, ["y", "present"],
              {"num_heads": H, "kv_num_heads": H} | attributes), *stage("y")]
    model = make_model(nodes, x, ["y_d", "present"][:outputs], constants)
    with pytest.raises(pe.PearrayError, match=re.escape(f"(com.microsoft.GroupQueryAttention): {message}")):
        load(model, tmp_path).graph()
