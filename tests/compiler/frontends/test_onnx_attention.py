"""Attention in ONNX networks, spelled out and as operators, against onnxruntime within a bound, and in programs."""

import re

import numpy as np
import onnx
import pytest
from attention_draws import attention_array
from onnx_models import MICROSOFT, draw, load, make_model, qdq_reference, reference, stage
from random_workloads import interpret

import pearray as pe

#: Heads, queries, keys, elements of each.
H, P, M, E = 3, 10, 14, 8


def _scale(name, value):
    return {f"{name}_scale": np.float32(value), f"{name}_zero": np.int8(0)}


def _inputs(rng):
    return {name: rng.normal(size=(1, rows, H * E)) for name, rows in (("q", P), ("k", M), ("v", M))}


def _spelled(rng, tmp_path, *, masked=True, order=("Div", "Add"), axis=-1, quantised=True):
    """Model of attention as exporters and static quantisers write it, between projections' outputs and y."""
    constants = _scale("q", 1 / 40) | _scale("k", 1 / 40) | _scale("v", 1 / 40) | _scale("y", 1 / 60)
    constants |= {"heads": np.array([1, -1, H, E]), "flat": np.array([1, P, H * E]), "root": np.float32(E ** 0.5)}
    mask = np.where(rng.random((1, 1, P, M)) < 0.2, -1e4, 0).astype(np.float32)
    mask[..., 0] = 0
    constants |= {"mask": mask} | _scale("s", 0.06) | _scale("d", 0.03) | _scale("m", 80) | {
        "p_scale": np.float32(1 / 127), "p_zero": np.int8(0)}
    nodes = [*stage("q"), *stage("k"), *stage("v")]
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [("Reshape", [f"{name}_d", "heads"], [f"{name}_r"], {}),
                  ("Transpose", [f"{name}_r"], [f"{name}_t"], {"perm": perm})]
    between = stage if quantised else lambda name: [("Identity", [name], [f"{name}_d"], {})]
    nodes += [("MatMul", ["q_t", "k_t"], ["s"], {}), *between("s")]
    found = "s_d"
    for kind in order:
        if kind == "Add" and not masked:
            continue
        made = {"Div": "d", "Add": "m"}[kind]
        nodes += [(kind, [found, {"Div": "root", "Add": "mask"}[kind]], [made], {}), *between(made)]
        found = f"{made}_d"
    nodes += [("Softmax", [found], ["p"], {"axis": axis}), *between("p"), ("MatMul", ["p_d", "v_t"], ["a"], {}),
              ("Transpose", ["a"], ["b"], {"perm": [0, 2, 1, 3]}), ("Reshape", ["b", "flat"], ["c"], {})]
    # Nothing computes on floats behind attention: the quantiser puts a pair there.
    at = next(index for index, node in enumerate(nodes) if node[2] == ["b"])
    nodes[at] = ("Transpose", ["y_d"], ["b"], {"perm": [0, 2, 1, 3]})
    nodes[at:at] = [("QuantizeLinear", ["a", "y_scale", "y_zero"], ["y_q"], {}),
                    ("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y_d"], {})]
    nodes += [("QuantizeLinear", ["c", "y_scale", "y_zero"], ["z_q"], {}),
              ("DequantizeLinear", ["z_q", "y_scale", "y_zero"], ["z"], {})]
    return make_model(nodes, {name: value.astype(np.float32) for name, value in _inputs(rng).items()}, ["z"], constants)


def _floats(inputs):
    return {name: value.astype(np.float32) for name, value in inputs.items()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("order", [("Div", "Add"), ("Add", "Div")])
def test_attention_that_is_spelled_out_is_fused(rng, tmp_path, masked, order):
    """If it failed, scores would be stored in 8 bits, or a mask or a factor be lost on the way.

    Outputs are near those of the float network, whose operands alone are quantised.
    """
    inputs = _floats(_inputs(rng))
    model = _spelled(rng, tmp_path, masked=masked, order=order)
    graph = load(model, tmp_path).graph()
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds.count("Attention") == 1
    assert not {"Softmax", "Gemm", "Lookup"} & {*kinds}
    exact = _spelled(np.random.default_rng(0), tmp_path, masked=masked, order=order, quantised=False)
    mask = next(item for item in model.graph.initializer if item.name == "mask")
    next(item for item in exact.graph.initializer if item.name == "mask").CopyFrom(mask)
    wanted = reference(exact, inputs, ["z_q"])["z_q"].astype(int)
    found = np.rint(graph.golden(inputs)["z"] * 60).astype(int)
    # A step of v is one and a half of y.
    assert np.abs(found - wanted).max() <= 3 * 1.5
    assert np.sqrt(np.square(found - wanted).mean()) <= 0.7 * 1.5


def test_fused_attention_keeps_more_than_the_runtime(rng, tmp_path):
    """The fused operator is not equal to the runtime's chain, which has scores and probabilities of 8 bits.

    It is nearer to what the float network computes of the same stored operands.
    """
    ours, theirs = [], []
    for _ in range(8):
        inputs, state = _floats(_inputs(rng)), rng.bit_generator.state
        model = _spelled(rng, tmp_path, masked=False)
        rng.bit_generator.state = state
        exact = reference(_spelled(rng, tmp_path, masked=False, quantised=False), inputs, ["a"])["a"]
        exact = exact.transpose(0, 2, 1, 3).reshape(1, P, H * E)
        ours.append(load(model, tmp_path).graph().golden(inputs)["z"] - exact)
        theirs.append(qdq_reference(model, inputs) - exact)
    rms = [np.sqrt(np.square(each).mean()) for each in (ours, theirs)]
    assert rms[0] < rms[1]


def test_a_program_of_it_copies_nothing(rng, tmp_path):
    """Reshapes and transpositions around attention are views, and outputs stand as the last of them wants them."""
    inputs = _floats(_inputs(rng))
    graph = load(_spelled(rng, tmp_path), tmp_path).graph()
    compiled = interpret(graph, inputs, attention_array("8x8"))
    assert [layer.kind for layer in compiled.layers] == ["Attention"]


@pytest.mark.parametrize("factor", [None, 0.25])
def test_attention_of_stored_integers(rng, tmp_path, factor):
    """The form with QLinearMatMul and QLinearSoftmax is the same attention; scales are those of the products."""
    inputs = {name: draw(rng, shape, np.int8) for name, shape in (("q", (H, P, E)), ("k", (H, E, M)), ("v", (H, M, E)))}
    constants = _scale("q", 0.02) | _scale("k", 0.02) | _scale("v", 0.02) | _scale("y", 0.01) | _scale("s", 0.1)
    constants |= _scale("p", 1 / 127) | _scale("f", factor or 1) | {"f": np.int8(1)}
    quantised = {name: [name, f"{name}_scale", f"{name}_zero"] for name in "qkvsypf"}
    nodes = [("QLinearMatMul", [*quantised["q"], *quantised["k"], *quantised["s"][1:]], ["s"], {})]
    if factor:
        nodes.append((f"{MICROSOFT}:QLinearMul", [*quantised["s"], *quantised["f"], *quantised["s"][1:]], ["t"], {}))
    source = "t" if factor else "s"
    nodes += [(f"{MICROSOFT}:QLinearSoftmax", [source, *quantised["s"][1:], *quantised["p"][1:]], ["p"],
               {"axis": -1, "opset": 13}),
              ("QLinearMatMul", [*quantised["p"], *quantised["v"], *quantised["y"][1:]], ["y"], {})]
    graph = load(make_model(nodes, inputs, ["y"], constants), tmp_path).graph()
    assert [node.operator.kind for node in graph.nodes] == ["Transpose", "Attention", "Reshape"]
    q, k, v = (value.astype(np.float64) * 0.02 for value in inputs.values())
    scores = np.exp(q @ k * (factor or 1))
    wanted = np.clip(scores / scores.sum(-1, keepdims=True) @ v / 0.01, -128, 127)
    assert np.abs(graph.golden(inputs)["y"] - wanted).max() <= 3 * 2 + 0.5


@pytest.mark.parametrize(("read", "value", "fused"), [
    (None, None, True), ("s", 0.1, True), ("s", 0.2, False), ("p", 2 / 127, False), ("p_zero", -128, False)])
def test_scales_must_meet(rng, tmp_path, read, value, fused):
    """A tensor that is read with another scale or zero point is another tensor: fused, the factor would be lost.

    An equal constant of another name is the same.
    """
    inputs = {name: draw(rng, shape, np.int8) for name, shape in (("q", (H, P, E)), ("k", (H, E, M)), ("v", (H, M, E)))}
    constants = {}
    for name, scale in (("q", 0.02), ("k", 0.02), ("v", 0.02), ("y", 0.01), ("s", 0.1), ("p", 1 / 127)):
        constants |= _scale(name, scale)
    wires = {name: [f"{name}_scale", f"{name}_zero"] for name in "qkvysp"}
    reads = {name: list(wires[name]) for name in "sp"}
    if read is not None:
        constants["other"] = np.int8(value) if "zero" in read else np.float32(value)
        reads[read[0]]["zero" in read] = "other"
    nodes = [("QLinearMatMul", ["q", *wires["q"], "k", *wires["k"], *wires["s"]], ["s"], {}),
             (f"{MICROSOFT}:QLinearSoftmax", ["s", *reads["s"], *wires["p"]], ["p"], {"axis": -1, "opset": 13}),
             ("QLinearMatMul", ["p", *reads["p"], "v", *wires["v"], *wires["y"]], ["y"], {})]
    model = make_model(nodes, inputs, ["y"], constants)
    try:
        kinds = [node.operator.kind for node in load(model, tmp_path).graph().nodes]
    except pe.PearrayError:
        kinds = []
    assert ("Attention" in kinds) == fused


@pytest.mark.parametrize(("q", "k", "v", "mask", "message"), [
    ((2, 4, P, E), (4, E, M), (4, M, E), None, "must have the same 2 to 4 dimensions"),
    ((4, P, E), (2, E, M), (2, M, E), None, "must have the same 2 to 4 dimensions"),
    ((2, 1, P, E), (2, E, M), (2, M, E), None, "must have the same 2 to 4 dimensions"),
    ((H, P, E), (H, E, M), (H, M, E), (1, 1, P, M), "must have at most 3 dimensions, not 4"),
    ((H, P, E), (H, E, M), (H, M, E), (2, P, M), "mask must broadcast to the scores"),
    ((2, H, P, E), (2, H, E, M), (2, H, M, E), (H, P, M), None),
    ((2, H, P, E), (2, H, E, M), (2, H, M, E), (2, 1, P, M), None),
    ((P, E), (E, M), (M, E), (M,), None),
])
def test_nothing_is_repeated_for_dimensions_of_another(rng, tmp_path, q, k, v, mask, message):
    """Batches that broadcast are no heads that share keys: outputs would have wrong numbers, or another shape."""
    constants = {key: value for name in "qkvy" for key, value in _scale(name, 1 / 40).items()}
    inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("q", q), ("k", k), ("v", v))}
    nodes, found = [*stage("q"), *stage("k"), *stage("v"), ("MatMul", ["q_d", "k_d"], ["s"], {})], "s"
    if mask is not None:
        constants["mask"] = np.where(rng.random(mask) < 0.3, -1e4, 0).astype(np.float32)
        constants["mask"][..., 0] = 0
        nodes, found = [*nodes, ("Add", ["s", "mask"], ["m"], {})], "m"
    nodes += [("Softmax", [found], ["p"], {"axis": -1}), ("MatMul", ["p", "v_d"], ["y"], {}), *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants)
    if message is not None:
        with pytest.raises(pe.PearrayError, match=message):
            load(model, tmp_path).graph()
        return
    made = load(model, tmp_path).graph().golden(inputs)["y_d"]
    wanted = reference(model, inputs, ["y_d"])["y_d"]
    assert made.shape == wanted.shape
    assert np.abs(made - wanted).max() <= 3 / 40 + 1e-6


def _whole(rng, kind, attributes, inputs=("q_d", "k_d", "v_d"), extra=None, opset=23):
    """Model of an operator of attention between quantised tensors."""
    constants = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
                 for key, value in _scale(name, step).items()} | (extra or {})
    nodes = [*stage("q"), *stage("k"), *stage("v"), (kind, list(inputs), ["y"], attributes), *stage("y")]
    return make_model(nodes, _floats(_inputs(rng)), ["y_d"], constants, opset=opset)


@pytest.mark.parametrize(("kind", "attributes", "mask"), [
    ("Attention", {"q_num_heads": H, "kv_num_heads": H}, False),
    ("Attention", {"q_num_heads": H, "kv_num_heads": H, "is_causal": 1, "scale": 0.5}, False),
    ("Attention", {"q_num_heads": H, "kv_num_heads": H}, True),
    (f"{MICROSOFT}:MultiHeadAttention", {"num_heads": H}, False),
    (f"{MICROSOFT}:MultiHeadAttention", {"num_heads": H, "scale": 0.5}, False),
])
def test_operators_of_attention(rng, tmp_path, kind, attributes, mask):
    """Heads, factor, mask and causality mean what they mean to the runtime; else outputs would be far off."""
    inputs = _floats(_inputs(rng))
    extra = {"mask": rng.normal(size=(P, M)).astype(np.float32)} if mask else {}
    if mask:
        # Of a row that libraries hide whole, runtimes make softmax of the scores, which -2e5 leaves in float32.
        extra["mask"][3] = -2e5
    names = ["q_d", "k_d", "v_d", *(["mask"] if mask else [])]
    model = _whole(rng, kind, attributes, names, extra)
    graph = load(model, tmp_path).graph()
    wanted, found = (np.rint(each * 60) for each in (qdq_reference(model, inputs), graph.golden(inputs)["y_d"]))
    assert np.abs(found - wanted).max() <= 3 * 1.5
    assert np.sqrt(np.square(found - wanted).mean()) <= 0.7 * 1.5


@pytest.mark.parametrize(("kind", "attributes", "groups"), [
    (f"{MICROSOFT}:MultiHeadAttention", {"num_heads": H}, H), ("Attention", {"q_num_heads": H, "kv_num_heads": 1}, 1),
    ("Attention", {"q_num_heads": 4, "kv_num_heads": 2}, 2), (None, {}, H)])
def test_batches_of_heads_side_by_side(rng, tmp_path, kind, attributes, groups):
    """Heads of a batch stand side by side, those of the next behind all its rows: nothing is copied for that."""
    heads = attributes.get("q_num_heads", H)
    shapes = {"q": (2, P, heads * E), "k": (2, M, groups * E), "v": (2, M, groups * E)}
    inputs = _floats({name: rng.normal(size=shape) for name, shape in shapes.items()})
    constants = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
                 for key, value in _scale(name, step).items()}
    nodes = [*stage("q"), *stage("k"), *stage("v")]
    if kind is None:
        constants |= {"heads": np.array([2, -1, H, E]), "flat": np.array([2, P, H * E])}
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes += [("Reshape", [f"{name}_d", "heads"], [f"{name}_r"], {}),
                      ("Transpose", [f"{name}_r"], [f"{name}_t"], {"perm": perm})]
        nodes += [("MatMul", ["q_t", "k_t"], ["s"], {}), ("Softmax", ["s"], ["p"], {}),
                  ("MatMul", ["p", "v_t"], ["y"], {}), *stage("y"),
                  ("Transpose", ["y_d"], ["b"], {"perm": [0, 2, 1, 3]}), ("Reshape", ["b", "flat"], ["z"], {}),
                  ("QuantizeLinear", ["z", "y_scale", "y_zero"], ["z_q"], {}),
                  ("DequantizeLinear", ["z_q", "y_scale", "y_zero"], ["z_d"], {})]
    else:
        nodes += [(kind, ["q_d", "k_d", "v_d"], ["y"], attributes), *stage("y")]
    made = "y_d" if kind else "z_d"
    model = make_model(nodes, inputs, [made], constants, opset=23)
    graph = load(model, tmp_path).graph()
    compiled = interpret(graph, inputs, attention_array("8x8"))
    assert [layer.kind for layer in compiled.layers] == ["Attention"]
    wanted, found = (np.rint(each * 60) for each in (reference(model, inputs, [made])[made],
                                                     graph.golden(inputs)[made]))
    assert np.abs(found - wanted).max() <= 3 * 1.5


def test_heads_as_an_axis_of_their_own(rng, tmp_path):
    """Inputs of four dimensions are no images here: the host writes them row by row, as attention reads them."""
    inputs = _floats({name: rng.normal(size=(2, H, rows, E)) for name, rows in (("q", P), ("k", M), ("v", M))})
    constants = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
                 for key, value in _scale(name, step).items()}
    nodes = [*stage("q"), *stage("k"), *stage("v"), ("Attention", ["q_d", "k_d", "v_d"], ["y"], {}), *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants, opset=23)
    graph = load(model, tmp_path).graph()
    interpret(graph, inputs, attention_array("8x8"))
    wanted, found = (np.rint(each * 60) for each in (qdq_reference(model, inputs), graph.golden(inputs)["y_d"]))
    assert np.abs(found - wanted).max() <= 3 * 1.5


@pytest.mark.parametrize(("kind", "attributes", "change", "message"), [
    ("Attention", {"q_num_heads": H, "kv_num_heads": H, "softcap": 2.0}, {}, "(Attention): softcap must be 0, not 2.0"),
    ("Attention", {"q_num_heads": 5, "kv_num_heads": H}, {},
     "(Attention): heads of q must be a number that divides 24, not 5"),
    ("Attention", {"q_num_heads": H, "kv_num_heads": H}, {"q_zero": np.int8(3)},
     "(Attention): q_zero_point must be 0 of int8 for fused attention, not 3 of int8: quantise with QInt8 and "
     "ActivationSymmetric"),
    ("Attention", {"q_num_heads": H, "kv_num_heads": H}, {"y_zero": np.uint8(128)},
     "(Attention): y_zero_point must be 0 of int8 for fused attention, not 128 of uint8"),
    (f"{MICROSOFT}:MultiHeadAttention", {"num_heads": H, "what": 1}, {},
     "(com.microsoft.MultiHeadAttention): attribute what = 1 is not supported; known: num_heads, mask_filter_value"),
])
def test_mistakes_name_the_node(rng, tmp_path, monkeypatch, kind, attributes, change, message):
    """What is passed over would be another attention."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    model = _whole(rng, kind, attributes, extra=change)
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()


@pytest.mark.parametrize(("inputs", "message"), [
    (["q_d", "k_d", "v_d", "q_d"], "(Attention): mask must broadcast to the scores (1, 3, 10, 14), not be of shape (1, "
     "10, 24)"),
    (["q_d", "k_d", "v_d", "", "k_d", "v_d"], "(Attention): input past_key = 'k_d' is not supported; q, k, v and "
     "attn_mask, attention_bias, key_padding_mask, nonpad_kv_seqlen are"),
    (["q", "k_d", "v_d"], "(Attention): q 'q' must come from DequantizeLinear"),
])
def test_inputs_that_are_not_supported(rng, tmp_path, inputs, message):
    """An input that is passed over would be another attention."""
    model = _whole(rng, "Attention", {"q_num_heads": H, "kv_num_heads": H}, inputs)
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()


def test_softmax_along_another_axis(rng, tmp_path):
    """Probabilities of other sums are no attention."""
    with pytest.raises(pe.PearrayError, match=re.escape("axis of Softmax must be the last of 4, not 2")):
        load(_spelled(rng, tmp_path, axis=2), tmp_path).graph()


@pytest.mark.parametrize(("change", "at", "attributes", "message"), [
    ({"s_scale": np.float32(-0.1)}, None, {}, "node 'QLinearMatMul of s' (QLinearMatMul): Y_scale must be finite and"),
    ({"s_scale": np.full(2, 0.1, np.float32)}, None, {},
     "node 'QLinearMatMul of s' (QLinearMatMul): Y_scale must be one value, not 2"),
    ({"p_zero": np.uint8(0)}, None, {}, "node 'QLinearSoftmax of p' (com.microsoft.QLinearSoftmax): operands and "
     "result must be of one type, not int8 and uint8"),
    ({"p_scale": np.float64(0.01)}, None, {},
     "node 'QLinearSoftmax of p' (com.microsoft.QLinearSoftmax): Y_scale must be float32, not float64"),
    ({"f_scale": np.float32(np.inf)}, None, {}, "node 'QLinearMul of t' (com.microsoft.QLinearMul): B_scale must be"),
    ({"f": np.uint8(1)}, None, {}, "node 'QLinearMul of t' (com.microsoft.QLinearMul): B_zero_point must be uint8, as"),
    ({}, "p", {"beta": 2}, "node 'QLinearSoftmax of p' (com.microsoft.QLinearSoftmax): attribute beta = 2 is not"),
])
def test_what_is_left_out_must_be_right(rng, tmp_path, monkeypatch, change, at, attributes, message):
    """A node that would be refused alone is refused in attention, too, by its own name."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    inputs = {name: draw(rng, shape, np.int8) for name, shape in (("q", (H, P, E)), ("k", (H, E, M)), ("v", (H, M, E)))}
    constants = {key: value for name in "qkvyspf" for key, value in _scale(name, 1 / 100).items()} | {"f": np.int8(50)}
    wires = {name: [name, f"{name}_scale", f"{name}_zero"] for name in "qkvyspf"}
    nodes = [("QLinearMatMul", [*wires["q"], *wires["k"], *wires["s"][1:]], ["s"], {}),
             (f"{MICROSOFT}:QLinearMul", [*wires["s"], *wires["f"], *wires["s"][1:]], ["t"], {}),
             (f"{MICROSOFT}:QLinearSoftmax", ["t", *wires["s"][1:], *wires["p"][1:]], ["p"], {"axis": -1, "opset": 13}),
             ("QLinearMatMul", [*wires["p"], *wires["v"], *wires["y"][1:]], ["y"], {})]
    nodes = [(kind, given, made, {**own, **(attributes if made == [at] else {})}) for kind, given, made, own in nodes]
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(make_model(nodes, inputs, ["y"], constants | change), tmp_path).graph()


@pytest.mark.parametrize(("place", "attributes", "message"), [
    ("s_q", {"block_size": 4}, "node 'QuantizeLinear of s_q' (QuantizeLinear): block_size must be 0, not 4"),
    ("p_d", {"output_dtype": 10}, "node 'DequantizeLinear of p_d' (DequantizeLinear): output_dtype must be float32"),
    ("p", {"axis": -1, "what": 1}, "node 'Softmax of p' (Softmax): attribute what = 1 is not supported; known: axis"),
])
def test_pairs_that_are_left_out_must_be_right(rng, tmp_path, monkeypatch, place, attributes, message):
    """The same between float operators."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    model = _spelled(rng, tmp_path, order=("Div",))
    node = next(node for node in model.graph.node if place in node.output)
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()
