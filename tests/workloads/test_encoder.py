"""The workload of an encoder layer: what it computes, and that its tensors follow from the seed as documented."""

import math

import numpy as np
import pytest

import pearray as pe
from pearray.workloads.workload import load_workload

#: Scale of operands over the full range with a deviation of 1.
UNIT = (12 / ((1 << 16) - 1)) ** 0.5


def _normalised(x, gamma, beta):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gamma + beta


def _softmax(scores):
    numerators = np.exp(scores - scores.max(1, keepdims=True))
    return numerators / numerators.sum(1, keepdims=True)


def _layer(x, tensors, heads):
    """The layer in float64, written out once more; biases of products, less than a hundredth, are left out."""
    def linear(x, name):
        w = tensors[f"w_{name}"]
        return x @ w.T * UNIT / w.shape[1] ** 0.5

    q, k, v = (np.split(linear(x, name), heads, axis=1) for name in "qkv")
    z = np.concatenate([_softmax(a @ b.T / a.shape[1] ** 0.5) @ c for a, b, c in zip(q, k, v, strict=True)], axis=1)
    h = _normalised(x + linear(z, "z"), tensors["gamma_1"], tensors["beta_1"])
    wide = linear(h, "1")
    wide = wide * (1 + np.vectorize(math.erf)(wide / 2 ** 0.5)) / 2
    return _normalised(h + linear(wide, "2") / np.std(wide), tensors["gamma_2"], tensors["beta_2"])


@pytest.mark.parametrize("name", ["encoder-layer:48,32,4,128", "encoder-layer:24,64,2,96"])
def test_computes_an_encoder_layer(name):
    """Outputs are those of the layer in floats, or a scale, a residual or the order of two operators is wrong."""
    workload, (_, _, heads, _) = load_workload(name, 3), map(int, name.split(":")[1].split(","))
    graph = workload.graph
    made = graph.golden(workload.inputs)["y"].reshape(-1) / 40
    real = _layer(workload.inputs["x"] * UNIT, graph.constants, heads).reshape(-1)
    assert made @ real / np.linalg.norm(made) / np.linalg.norm(real) > 0.99
    assert abs(made.std() - real.std()) < 0.03


def test_draws_in_the_documented_order():
    """Whoever repeats a run elsewhere draws the same tensors; x alone is given at run time, and nothing much clips."""
    rng, workload = np.random.default_rng(5), load_workload("encoder-layer:24,32,4,64", 5)
    graph = workload.graph
    np.testing.assert_array_equal(workload.inputs["x"], rng.integers(-128, 128, (24, 32), dtype=np.int8))
    assert set(workload.inputs) == {"x"}
    sizes = [("q", 32, 32), ("k", 32, 32), ("v", 32, 32), ("z", 32, 32), None, ("1", 64, 32), ("2", 32, 64), None]
    norms = iter("12")
    for size in sizes:
        if size is None:
            number = next(norms)
            found = {f"gamma_{number}": rng.normal(1, 0.1, 32), f"beta_{number}": rng.normal(0, 0.1, 32)}
        else:
            role, outputs, inputs = size
            found = {f"w_{role}": rng.integers(-128, 128, (outputs, inputs), dtype=np.int8),
                     f"b_{role}": rng.integers(-128, 128, outputs, dtype=np.int8)}
        for key, value in found.items():
            np.testing.assert_array_equal(graph.constants[key], value.astype(graph.constants[key].dtype))
    for made in graph.golden(workload.inputs).values():
        assert made.dtype == np.int8
        assert made.std() > 20
        assert np.mean(np.abs(made.astype(int)) > 126) < 0.03


def test_settings_and_sizes():
    """Settings reach the attention; sizes that do not fit are errors that say so."""
    workload = load_workload("encoder-layer:8,24,6,16", settings={"kv_heads": 2, "causal": True, "two_bytes": True})
    operator = workload.graph.nodes[0].operator
    assert (operator.kv_heads, operator.causal, operator.two_bytes) == (2, True, True)
    assert workload.graph.constants["w_k"].shape == (8, 24)
    for name, message in (("encoder-layer:8,24,6", "must have the form encoder-layer:P,D,H,FF"),
                          ("encoder-layer:8,24,6,0", "FF of workload .* must be at least 1, not 0"),
                          ("encoder-layer:8,24,7,9", "H of workload .* must divide D = 24, not be 7")):
        with pytest.raises(pe.PearrayError, match=message):
            load_workload(name)
