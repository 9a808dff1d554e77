"""Attention as users state it: what its parameters mean, and one-line errors."""

import numpy as np
import pytest
from random_workloads import operands

import pearray as pe
from pearray.compiler.graph.graph import Graph

SCALES = {"q_scale": 0.02, "k_scale": 0.02, "v_scale": 0.02, "y_scale": 0.01}


def _tensors(rng, heads=2, groups=1, p=9, m=13, e=8, f=5):
    return {"q": operands(rng, (heads, p, e)), "k": operands(rng, (groups, m, e)), "v": operands(rng, (groups, m, f))}


def _weights(operator, tensors, shown):
    """Outputs in float64 of keys that are shown (H, P, M)."""
    q, k, v = (tensors[name].astype(np.float64) for name in "qkv")
    k, v = (np.repeat(each, len(q) // len(k), 0) for each in (k, v))
    scores = np.where(shown, q @ k.swapaxes(1, 2) * operator.q_scale * operator.k_scale / np.sqrt(q.shape[2]), -np.inf)
    found = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e9))
    total = found.sum(-1, keepdims=True)
    return found @ v / np.where(total, total, 1) * operator.v_scale / operator.y_scale


@pytest.mark.parametrize(("options", "shown"), [
    ({}, lambda h, p, m: m >= 0),
    ({"causal": True}, lambda h, p, m: m <= p),
    ({"causal": True, "offset": 4}, lambda h, p, m: m <= p + 4),
    ({"window": 3}, lambda h, p, m: abs(p - m) < 3),
    ({"lengths": (4, 11)}, lambda h, p, m: m < np.where(h == 0, 4, 11)),
    ({"lengths": 0}, lambda h, p, m: m < 0),
])
def test_parameters_say_which_keys_are_seen(rng, options, shown):
    """Outputs are near those of float64 over the keys that a parameter shows, and as many products are counted."""
    tensors, operator = _tensors(rng), pe.Attention(**SCALES, **options)
    h, p, m = np.ogrid[:2, :9, :13]
    seen = np.broadcast_to(shown(h, p, m), (2, 9, 13))
    found = pe.golden_run(operator, tensors)["y"]
    expected = np.clip(np.rint(_weights(operator, tensors, seen)), -128, 127)
    # A step of an output is half a step of the values.
    assert abs(found - expected).max() <= 6
    assert operator.macs(tensors) == seen.sum() * (8 + 5)
    for mask in (seen, np.where(seen, 0.0, -np.inf).astype(np.float32)):
        masked = {**tensors, "mask": mask}
        np.testing.assert_array_equal(pe.golden_run(pe.Attention(**SCALES), masked)["y"], found)
        graph = Graph.of(pe.Attention(**SCALES), masked)
        assert graph.macs(graph.nodes[0]) == seen.sum() * (8 + 5)


def test_blocks_are_those_of_the_accelerator(rng):
    """A block has as many keys as the array columns, whose maximum decides the last bits."""
    tensors, operator = _tensors(rng, m=100), pe.Attention(**SCALES)
    found = {on: pe.golden_run(operator, tensors, on=on)["y"] for on in ("systolic-8x8", "systolic-32x32")}
    np.testing.assert_array_equal(found["systolic-32x32"], pe.golden_run(operator, tensors)["y"])
    np.testing.assert_array_equal(
        found["systolic-8x8"], pe.golden_run(pe.Attention(**SCALES, block=8), tensors)["y"])
    assert (found["systolic-8x8"] != found["systolic-32x32"]).any()


@pytest.mark.parametrize(("options", "change", "message"), [
    ({"y_scale": None}, {}, "q_scale, k_scale, v_scale and y_scale must all be given or none"),
    ({"y_scale": 1e-20}, {}, "v_scale / y_scale must be in 2**-52..2**48, not "),
    ({"scale": -1.0}, {}, "scale must be above 0, not -1.0"),
    ({"window": 0}, {}, "window must be an integer in 1..65535, not 0"),
    ({"lengths": (1, 2, 3)}, {}, "lengths must be one number of 0..13, or one for each of 2 heads, not (1, 2, 3)"),
    ({"lengths": 14}, {}, "lengths must be one number of 0..13, or one for each of 2 heads, not (14,)"),
    ({"lengths": "all"}, {}, "lengths must be an integer of 0..65536, or one for each head, not 'all'"),
    ({}, {"q": np.int16}, "q must be of type int8 where scales are given, not int16"),
    ({}, {"v": (1, 12, 5)}, "q, k, v must have shapes (H, P, E), (Hkv, M, E), (Hkv, M, F), H a multiple of Hkv, not "),
    ({}, {"mask": (9, 12)},
     "mask must be of bool, float or int32 and broadcast to (2, 9, 13), but for a divisor of 2 heads, not bool of "
     "shape (9, 12)"),
])
def test_mistakes_are_named_in_one_line(rng, options, change, message):
    """What does not fit is named with what is allowed, before anything is computed."""
    tensors = _tensors(rng)
    for name, what in change.items():
        shape = what if isinstance(what, tuple) else tensors[name].shape
        kind = bool if name == "mask" else np.int8 if isinstance(what, tuple) else what
        tensors[name] = np.ones(shape, kind)
    with pytest.raises(pe.PearrayError) as error:
        pe.golden_run(pe.Attention(**{**SCALES, **options}), tensors)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
