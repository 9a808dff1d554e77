"""Multi-head attention with its projections: what it is made of, float64, counts, and one-line errors."""

import numpy as np
import pytest
from attention_draws import attention_array
from multi_head_draws import drawn_multi_head
from random_workloads import operands

import pearray as pe


def _by_hand(operator, tensors):
    """Output of golden models of Linear and Attention, heads cut out of matrices column by column."""
    memory = tensors.get("memory", tensors["x"])
    heads, groups = operator.heads, operator.kv_heads or operator.heads
    projected = {}
    for name, source, count in (("q", tensors["x"], heads), ("k", memory, groups), ("v", memory, groups)):
        whole = pe.golden_run(pe.Linear(requant=getattr(operator, f"requant_{name}")),
                              {"x": source, "w": tensors[f"w_{name}"], "b": tensors.get(f"b_{name}")})["y"]
        width = whole.shape[1] // count
        projected[name] = np.stack([whole[:, head * width:(head + 1) * width] for head in range(count)])
    scales = {f"{name}_scale": getattr(operator, f"requant_{name}").y_scale for name in "qkv"}
    attention = pe.Attention(**scales, y_scale=operator.av_scale, causal=operator.causal, window=operator.window,
                             two_bytes=operator.two_bytes, scale=operator.scale, block=operator.block,
                             tile=operator.tile)
    av = pe.golden_run(attention, projected | {"mask": tensors.get("mask")})["y"]
    return pe.golden_run(pe.Linear(requant=operator.requant_z),
                         {"x": np.concatenate([*av], axis=1), "w": tensors["w_z"], "b": tensors.get("b_z")})["y"]


def test_it_is_its_parts(rng):
    """If it failed, a head would have another's columns, or a projection another's weights or scale."""
    config = attention_array("4x6")
    for _ in range(20):
        operator, tensors = drawn_multi_head(rng, config)
        np.testing.assert_array_equal(pe.golden_run(operator, tensors)["y"], _by_hand(operator, tensors))
        blocked = operator.for_array(4, 6)
        assert (blocked.block, blocked.tile) == (6, 4)
        np.testing.assert_array_equal(pe.golden_run(operator, tensors, on=config)["y"], _by_hand(blocked, tensors))


#: Scales of weights.
WEIGHTS = {"q": 1 / 740, "k": 1 / 740, "v": 1 / 740, "z": 1 / 200}


def _operator(**options):
    """Two heads, the scales of whose tensors are all 1 / 40."""
    step = 1 / 40
    requants = {f"requant_{name}": pe.Requant.onnx(step, 0, weight, 0, step, 0) for name, weight in WEIGHTS.items()}
    return pe.MultiHeadAttention(**{"heads": 2, **requants, "av_scale": step} | options)


def _tensors(rng, p=9, d=16, made=16):
    return {"x": operands(rng, (p, d)),
            **{f"w_{name}": operands(rng, (made, d)) for name in "qkv"}, "w_z": operands(rng, (d, made))}


def test_near_float64(rng):
    """If it failed, the operator would be something else than softmax(x W_q' (x W_k')' / sqrt(E)) x W_v' W_z'."""
    tensors = _tensors(rng, p=30)
    operator = _operator()
    x = tensors["x"] / 40
    q, k, v, z = (tensors[f"w_{name}"].astype(np.float64) * weight for name, weight in WEIGHTS.items())
    heads = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        scores = (x @ q[part].T) @ (x @ k[part].T).T / np.sqrt(8)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        heads.append(weights / weights.sum(1, keepdims=True) @ (x @ v[part].T))
    exact = np.concatenate(heads, axis=1) @ z.T * 40
    errors = np.abs(pe.golden_run(operator, tensors)["y"] - exact)
    assert exact.std() > 3
    assert np.sqrt(np.square(errors).mean()) < 1


def test_queries_are_int8_whatever_x_is(rng):
    """Projections of uint8 have outputs of its type unless they are told; attention takes int8 alone."""
    operator, tensors = _operator(), _tensors(rng)
    requants = {f"requant_{name}": pe.Requant.onnx(1 / 40, 128 * (name != "z"), weight, 0, 1 / 40, 0)
                for name, weight in WEIGHTS.items()}
    shifted = tensors | {"x": (tensors["x"].astype(int) + 128).astype(np.uint8)}
    found = pe.golden_run(_operator(**requants), shifted)["y"]
    np.testing.assert_array_equal(found, pe.golden_run(operator, tensors)["y"])


def test_products_are_those_of_all_parts(rng):
    """Utilisation and reports count the four projections and what queries see of keys and values."""
    tensors = _tensors(rng)
    assert _operator().macs(tensors) == 4 * 9 * 16 * 16 + 2 * 9 * 9 * (8 + 8)
    assert _operator(causal=True).macs(tensors) == 4 * 9 * 16 * 16 + 2 * 45 * (8 + 8)


@pytest.mark.parametrize(("options", "change", "message"), [
    ({"requant_k": None}, {}, "requant_q, requant_k, requant_v, requant_z and av_scale must all be given or none"),
    ({"kv_heads": 3}, {}, "kv_heads must divide heads = 2, not be 3"),
    ({"requant_q": pe.Requant.tflite(1 << 30, 0)}, {}, "requant_q must be a Requant.onnx, not Requant("),
    ({"requant_v": pe.Requant.onnx(1, 0, 1, 0, 1, 3)}, {}, "requant_v must have y_zero_point 0, an int8, not 3"),
    ({"requant_z": pe.Requant.onnx(1, 2, 1, 0, 1, 3)}, {}, "requant_z must have x_zero_point 0, not 2"),
    ({"av_scale": 1e-20}, {}, "v_scale / y_scale must be in 2**-52..2**48, not "),
    ({}, {"w_k": (15, 16)}, "w_k must have a row for each element of 2 heads, not shape (15, 16)"),
    ({}, {"w_q": (16, 15)}, "q: w must have 16 columns to match x of shape (9, 16), not shape (16, 15)"),
    ({}, {"w_k": (18, 16)}, "av: q, k, v must have shapes (H, P, E), (Hkv, M, E), (Hkv, M, F), H a multiple of Hkv"),
    ({}, {"w_z": (16, 15)}, "y: w must have 16 columns to match x of shape (9, 16), not shape (16, 15)"),
    ({}, {"x": (1, 9, 16)}, "x must have 2 dimensions, not shape (1, 9, 16)"),
    ({}, {"q": (9, 16)}, "MultiHeadAttention has no tensor 'q'; it takes x, w_q, w_k, w_v, w_z, memory, b_q, b_k"),
])
def test_mistakes_are_named_in_one_line(rng, options, change, message):
    """What does not fit is named with what is allowed, before anything is computed."""
    tensors = _tensors(rng) | {name: np.zeros(shape, np.int8) for name, shape in change.items()}
    with pytest.raises(pe.PearrayError) as error:
        pe.golden_run(_operator(**options), tensors)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_floats_take_no_options_of_integers():
    """Options that were passed over would be another operator."""
    with pytest.raises(pe.PearrayError, match="window needs requant_q, requant_k, requant_v, requant_z, av_scale"):
        pe.MultiHeadAttention(heads=2, window=3)
