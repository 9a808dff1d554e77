"""Attention as torch exports it and onnxruntime quantises it, in either form: fused, and as the float network says.

Between its products are casts that cast nothing, what makes zeros of rows that see no key, factors and masks that are
stored, and steps without end where a quantiser has seen minus infinity.
"""

import numpy as np
import onnx
import pytest
from attention_draws import attention_array
from onnx_models import MICROSOFT, draw, load, make_model, reference, stage
from random_workloads import interpret

import pearray as pe

#: Heads, queries, keys, elements of each.
H, P, M, E = 2, 5, 9, 8

STEPS = {"q": 1 / 40, "k": 1 / 40, "v": 1 / 40, "y": 1 / 60}


def _scales(**more):
    constants = {}
    for name, step in (STEPS | more).items():
        constants |= {f"{name}_scale": np.float32(step), f"{name}_zero": np.int8(0)}
    return constants


def _shown(rng):
    """Which keys each query sees; the first one sees none."""
    shown = rng.random((1, 1, P, M)) < 0.6
    shown[..., 0] = True
    shown[:, :, 0] = False
    return shown


def _floats(rng):
    return {name: rng.normal(size=(1, H, *shape)).astype(np.float32)
            for name, shape in (("q", (P, E)), ("k", (E, M)), ("v", (M, E)))}


def _wanted(inputs, factor, shown):
    """What real numbers give of the stored operands."""
    stored = {name: np.clip(np.rint(value / STEPS[name]), -128, 127) * STEPS[name]
              for name, value in inputs.items() if name in STEPS}
    scores = np.where(shown, stored["q"] @ stored["k"] * factor, -np.inf)
    with np.errstate(invalid="ignore"):
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares = np.nan_to_num(shares / shares.sum(-1, keepdims=True))
    return np.clip(shares @ stored["v"] / STEPS["y"], -128, 127)


def _check(model, inputs, output, scale, wanted, folder):
    graph = load(model, folder).graph()
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds.count("Attention") == 1
    assert not {"Softmax", "Lookup", "Add", "Mul"} & {*kinds}
    found = np.rint(interpret(graph, inputs, attention_array("8x8")).graph.golden(inputs)[output] / scale)
    # A step of v is one and a half of y.
    assert np.abs(found - wanted).max() <= 3 * 1.5 + 0.5


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("softened", [("Cast", {"to": 1}), ("Identity", {}), ("Dropout", {})])
def test_between_floats(rng, tmp_path, paired, softened):
    """As scaled_dot_product_attention is exported, pairs of steps without end around masked scores, or no pairs."""
    inputs, shown = _floats(rng) | {"shown": _shown(rng)}, None
    shown = inputs["shown"]
    factor = np.int8(45)
    constants = _scales(f=1 / 127, p=1 / 127, s=0.1, t=0.1) | {
        "f_q": factor, "zero": np.float32(0), "least": np.float32(-np.inf), "nothing": np.float32(0),
        "m_scale": np.float32(np.inf), "m_zero": np.int8(0)}
    pair = stage if paired else lambda name: [("Identity", [name], [f"{name}_d"], {})]
    nodes = [*stage("q"), *stage("k"), *stage("v"), ("DequantizeLinear", ["f_q", "f_scale", "f_zero"], ["f"], {}),
             ("Where", ["shown", "nothing", "least"], ["mask"], {}),
             *[(kind, [name.replace("m", "mask", 1) if name == "m" else name, *rest], made, attributes)
               for kind, (name, *rest), made, attributes in pair("m")],
             ("MatMul", ["q_d", "k_d"], ["s"], {}), *pair("s"), ("Mul", ["s_d", "f"], ["t"], {}), *pair("t"),
             ("Add", ["t_d", "m_d"], ["u"], {}),
             *[(kind, [name, *(each.replace("u_", "m_") for each in rest)], made, attributes)
               for kind, (name, *rest), made, attributes in pair("u")],
             ("Softmax", ["u_d"], ["p"], {"axis": -1}), *pair("p"), ("IsNaN", ["p_d"], ["bad"], {}),
             ("Where", ["bad", "zero", "p_d"], ["good"], {}), (softened[0], ["good"], ["soft"], softened[1]),
             ("MatMul", ["soft", "v_d"], ["y"], {}), *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants)
    _check(model, inputs, "y_d", STEPS["y"], _wanted(inputs, 45 / 127, shown), tmp_path)


def test_between_kernels(rng, tmp_path):
    """The same with QLinearMatMul, QLinearMul, QLinearAdd and QLinearSoftmax, whose mask is stored in such steps."""
    inputs = {name: draw(rng, (1, H, *shape), np.int8)
              for name, shape in (("q", (P, E)), ("k", (E, M)), ("v", (M, E)))} | {"shown": _shown(rng)}
    constants = _scales(s=0.1, t=0.1, f=1 / 127, p=1 / 127) | {
        "f": np.int8(45), "m_scale": np.float32(np.inf), "m_zero": np.int8(0), "least": np.float32(-np.inf),
        "nothing": np.float32(0)}
    wires = {name: [f"{name}_scale", f"{name}_zero"] for name in "qkvystfmp"}
    nodes = [("Where", ["shown", "nothing", "least"], ["mask"], {}),
             ("QuantizeLinear", ["mask", *wires["m"]], ["m"], {}),
             ("QLinearMatMul", ["q", *wires["q"], "k", *wires["k"], *wires["s"]], ["s"], {}),
             (f"{MICROSOFT}:QLinearMul", ["s", *wires["s"], "f", *wires["f"], *wires["t"]], ["t"], {}),
             (f"{MICROSOFT}:QLinearAdd", ["t", *wires["t"], "m", *wires["m"], *wires["m"]], ["u"], {}),
             (f"{MICROSOFT}:QLinearSoftmax", ["u", *wires["m"], *wires["p"]], ["p"], {"axis": -1, "opset": 13}),
             ("QLinearMatMul", ["p", *wires["p"], "v", *wires["v"], *wires["y"]], ["y"], {})]
    model = make_model(nodes, inputs, ["y"], constants)
    real = {name: inputs[name] * STEPS[name] for name in "qkv"}
    _check(model, inputs, "y", 1, _wanted(real, 45 / 127, inputs["shown"]), tmp_path)


@pytest.mark.parametrize(("choice", "zero"), [(["bad", "p", "zero"], 0), (["bad", "zero", "p"], 1)])
def test_other_choices_are_no_attention(rng, tmp_path, choice, zero):
    """Where probabilities are chosen in another way they are not those of softmax."""
    constants = _scales() | {"zero": np.float32(zero)}
    nodes = [*stage("q"), *stage("k"), *stage("v"), ("MatMul", ["q_d", "k_d"], ["s"], {}),
             ("Softmax", ["s"], ["p"], {"axis": -1}), ("IsNaN", ["p"], ["bad"], {}), ("Where", choice, ["good"], {}),
             ("MatMul", ["good", "v_d"], ["y"], {}), *stage("y")]
    with pytest.raises(pe.PearrayError):
        load(make_model(nodes, _floats(rng), ["y_d"], constants), tmp_path).graph()


@pytest.mark.parametrize("softened", [("Cast", {"to": 10}), ("Cast", {"to": 6})])
def test_casts_that_round_are_no_attention(rng, tmp_path, softened):
    """What rounds probabilities is not passed over."""
    nodes = [*stage("q"), *stage("k"), *stage("v"), ("MatMul", ["q_d", "k_d"], ["s"], {}),
             ("Softmax", ["s"], ["p"], {"axis": -1}), ("Cast", ["p"], ["h"], softened[1]), ("Cast", ["h"], ["g"],
                                                                                          {"to": 1}),
             ("MatMul", ["g", "v_d"], ["y"], {}), *stage("y")]
    with pytest.raises(pe.PearrayError):
        load(make_model(nodes, _floats(rng), ["y_d"], _scales()), tmp_path).graph()


@pytest.mark.parametrize("centred", [False, True])
def test_normalisation_between_kernels(rng, tmp_path, centred):
    """Primitives of which the quantiser has made QLinearAdd and QLinearMul are one operator; others round as ever."""
    x = draw(rng, (4, 16), np.int8)
    more = {"x": 1 / 40, "v": 0.01, "c": 1e-5 / 127, "a": 0.01, "n": 1 / 30, "g": 1 / 100, "z": 1 / 30, "b": 1 / 127,
            "w": 1 / 20}
    constants = _scales(**more) | {"two": np.float32(2), "epsilon": np.int8(127), "gamma": draw(rng, 16, np.int8),
                                   "beta": draw(rng, 16, np.int8)}
    wires = {name: [f"{name}_scale", f"{name}_zero"] for name in more}
    above = "d" if centred else "x_d"
    nodes = [("DequantizeLinear", ["x", *wires["x"]], ["x_d"], {})]
    if centred:
        nodes += [("ReduceMean", ["x_d"], ["m"], {"axes": [-1]}), ("Sub", ["x_d", "m"], ["d"], {})]
    nodes += [("Pow", [above, "two"], ["s"], {}), ("ReduceMean", ["s"], ["v"], {"axes": [-1]}),
              ("QuantizeLinear", ["v", *wires["v"]], ["v_q"], {}),
              (f"{MICROSOFT}:QLinearAdd", ["v_q", *wires["v"], "epsilon", *wires["c"], *wires["a"]], ["a"], {}),
              ("DequantizeLinear", ["a", *wires["a"]], ["a_d"], {}), ("Sqrt", ["a_d"], ["r"], {}),
              ("Div", [above, "r"], ["n"], {}), ("QuantizeLinear", ["n", *wires["n"]], ["n_q"], {}),
              (f"{MICROSOFT}:QLinearMul", ["gamma", *wires["g"], "n_q", *wires["n"], *wires["z"]], ["z"], {}),
              (f"{MICROSOFT}:QLinearAdd", ["z", *wires["z"], "beta", *wires["b"], *wires["w"]], ["w"], {})]
    model = make_model(nodes, {"x": x}, ["w"], constants)
    graph = load(model, tmp_path).graph()
    kinds = [node.operator.kind for node in graph.nodes]
    # RMSNorm has no biases: they are the kernel's, a table of each channel.
    assert kinds == (["LayerNorm"] if centred else ["RMSNorm", "Lookup"])
    real = x / np.float64(40)
    real = real - real.mean(-1, keepdims=True) if centred else real
    real = real / np.sqrt(np.square(real).mean(-1, keepdims=True) + 1e-5) * constants["gamma"] / 100
    real = np.clip(real, -128 / 30, 127 / 30) if not centred else real
    wanted = np.clip((real + constants["beta"] / 127) * 20, -128, 127)
    assert np.abs(graph.golden({"x": x})["w"] - wanted).max() <= (0.55 if centred else 0.9)


def test_kernels_without_a_norm_stay_as_they_are(rng, tmp_path):
    """A root elsewhere leaves QLinearAdd and QLinearMul what they are, equal to the runtime."""
    inputs = {"x": draw(rng, (4, 16), np.int8), "y": draw(rng, (4, 16), np.int8)}
    constants = _scales(x=0.02, z=0.03, w=0.05, r=0.01)
    wires = {name: [f"{name}_scale", f"{name}_zero"] for name in "xyzwr"}
    nodes = [(f"{MICROSOFT}:QLinearAdd", ["x", *wires["x"], "y", *wires["y"], *wires["z"]], ["z"], {}),
             (f"{MICROSOFT}:QLinearMul", ["z", *wires["z"], "x", *wires["x"], *wires["w"]], ["w"], {}),
             ("DequantizeLinear", ["w", *wires["w"]], ["w_d"], {}), ("Sqrt", ["w_d"], ["r"], {}),
             ("QuantizeLinear", ["r", *wires["r"]], ["r_q"], {})]
    model = make_model(nodes, inputs, ["r_q", "w"], constants)
    made = load(model, tmp_path).graph().golden(inputs)
    np.testing.assert_array_equal(made["w"], reference(model, inputs)["w"])


def test_constants_beyond_the_evaluator(rng, tmp_path):
    """Onnx's evaluator has limits of its own, as for more than 64 elements to gather from; the runtime computes it."""
    indices = rng.integers(0, 512, (1, 12))
    constants = _scales(x=0.05) | {"table": rng.normal(size=(1, 512)).astype(np.float32), "indices": indices}
    nodes = [*stage("x"), ("GatherElements", ["table", "indices"], ["c"], {"axis": 1}),
             ("Add", ["x_d", "c"], ["y"], {}), *stage("y")]
    inputs = {"x": rng.normal(size=(1, 12)).astype(np.float32)}
    model = make_model(nodes, inputs, ["y_d"], constants, opset=17)
    found, wanted = load(model, tmp_path).graph().golden(inputs)["y_d"], reference(model, inputs, ["y_d"])["y_d"]
    np.testing.assert_array_equal(found, wanted)


def test_tables_of_words_are_the_hosts(rng, tmp_path):
    """Rows of a stored table that a run chooses are the host's, and their numbers those of its rows."""
    constants = _scales(w=0.05) | {"table": draw(rng, (20, 8), np.int8)}
    nodes = [("DequantizeLinear", ["table", "w_scale", "w_zero"], ["w"], {}), ("Gather", ["w", "words"], ["y"], {}),
             *stage("y")]
    model = make_model(nodes, {"words": np.zeros((1, 5), np.int64)}, ["y_d"], constants)
    onnx.save(model, str(tmp_path / "words.onnx"))
    words = {"words": rng.integers(0, 20, (1, 5))}
    for fallback in ({}, {"fallback": "host"}):
        made = pe.golden_run(pe.load_onnx(tmp_path / "words.onnx", **fallback), words)["y_d"]
        np.testing.assert_array_equal(made, reference(model, words, ["y_d"])["y_d"])
