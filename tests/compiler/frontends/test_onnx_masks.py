"""Masks that a run gives to attention in ONNX networks, against onnxruntime within a bound, and in one program."""

import re

import numpy as np
import onnx
import onnx.reference
import pytest
from attention_draws import attention_array
from onnx_models import MICROSOFT, load, make_model, reference, stage
from random_workloads import interpret

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.kinds import interpreter
from pearray.configuration import System

#: Batches, heads, queries, keys, elements of each.
N, H, P, M, E = 2, 3, 10, 14, 8

CONSTANTS = {key: value for name, step in zip("qkvy", (1 / 40, 1 / 40, 1 / 40, 1 / 60), strict=True)
             for key, value in ((f"{name}_scale", np.float32(step)), (f"{name}_zero", np.int8(0)))}


def _drawn(rng, keys=M):
    return {name: rng.normal(size=(N, rows, H * E)).astype(np.float32)
            for name, rows in (("q", P), ("k", keys), ("v", keys))}


def _check(model, runs, folder, whole=None):
    """Compile once, and compare every run with the golden model, and that with onnxruntime within a bound.

    `whole` makes of inputs the same with a model that the runtime takes.
    """
    graph = load(model, folder).graph()
    config = attention_array("8x8")
    compiled = compile_graph(graph, config)
    assert [layer.kind for layer in compiled.layers] == ["Attention"]
    for inputs in runs:
        machine = interpreter(config, compiled.memory_bytes)
        machine.write(compiled.segments + compiled.bind(inputs))
        machine.run(compiled.program_address)
        found = compiled.extract("y_d", machine.read)
        np.testing.assert_array_equal(found, compiled.graph.golden(inputs)["y_d"])
        wanted = reference(*(whole or (lambda given: (model, given)))(inputs), ["y_d"])["y_d"]
        # A step of v is one and a half of y.
        assert np.abs(np.rint(found * 60) - np.rint(wanted * 60)).max() <= 3 * 1.5


def _operator(kind, inputs, attributes, given, opset=23):
    nodes = [*stage("q"), *stage("k"), *stage("v"), (kind, inputs, ["y"], attributes), *stage("y")]
    return make_model(nodes, given, ["y_d"], CONSTANTS, opset=opset)


def _words(rng):
    """Which words there are, at least one of each sentence."""
    shown = rng.random((N, M)) < 0.6
    shown[:, rng.integers(M)] = True
    return shown


@pytest.mark.parametrize("number", [-10000.0, float(np.finfo(np.float32).min)])
def test_masks_as_exporters_write_them(rng, tmp_path, number):
    """BERT's mask of words is an integer for each; what makes numbers of it is the host's, and the rest is fused."""
    constants = CONSTANTS | {"heads": np.array([N, -1, H, E]), "root": np.float32(E ** 0.5), "one": np.float32(1),
                             "least": np.float32(number), "axes": np.array([1, 2])}
    nodes = [*stage("q"), *stage("k"), *stage("v")]
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [("Reshape", [f"{name}_d", "heads"], [f"{name}_r"], {}),
                  ("Transpose", [f"{name}_r"], [f"{name}_t"], {"perm": perm})]
    nodes += [("Unsqueeze", ["words", "axes"], ["w4"], {}), ("Cast", ["w4"], ["wf"], {"to": 1}),
              ("Sub", ["one", "wf"], ["left"], {}), ("Mul", ["left", "least"], ["mask"], {}),
              ("MatMul", ["q_t", "k_t"], ["s"], {}), ("Div", ["s", "root"], ["d"], {}),
              ("Add", ["d", "mask"], ["m"], {}), ("Softmax", ["m"], ["p"], {"axis": -1}),
              ("MatMul", ["p", "v_t"], ["y"], {}), *stage("y")]
    runs = [{**_drawn(rng), "words": _words(rng).astype(np.int64)} for _ in range(3)]
    _check(make_model(nodes, runs[0], ["y_d"], constants), runs, tmp_path)


@pytest.mark.parametrize(("shape", "kind"), [
    ((P, M), np.bool_), ((P, M), np.float32), ((N, 1, 1, M), np.bool_), ((N, 1, P, M), np.float32),
    ((N, H, 1, M), np.float32), ((1, 1, 1, M), np.float32), ((1, M), np.bool_), ((1, H, P, M), np.float32),
    ((H, 1, M), np.bool_)])
def test_masks_of_the_standard(rng, tmp_path, shape, kind):
    """A mask of each form that broadcasts to the scores; for queries or heads that follow one another none is copied.

    Heads that are alike in all batches have copies, which the host makes.
    """
    def mask():
        shown = rng.random(shape) < 0.7
        shown[..., 0] = True
        return shown if kind == np.bool_ else np.where(shown, rng.normal(size=shape), -1e4).astype(np.float32)

    def model(given):
        return _operator("Attention", ["q_d", "k_d", "v_d", "mask"], {"q_num_heads": H, "kv_num_heads": H}, given)

    def whole(given):
        # The runtime wants a row for each query.
        given = {**given, "mask": np.ascontiguousarray(np.broadcast_to(given["mask"], (*shape[:-2], P, M)))}
        return model(given), given

    runs = [{**_drawn(rng), "mask": mask()} for _ in range(2)]
    _check(model(runs[0]), runs, tmp_path, whole)


@pytest.mark.parametrize("form", ["lengths", "keys", "keys and bias"])
def test_masks_of_multi_head_attention(rng, tmp_path, form):
    """A key_padding_mask of numbers of keys, or of one for each, alone or with what is added besides."""
    def padding():
        given = {"padding": rng.integers(1, M + 1, N).astype(np.int32) if form == "lengths"
                 else _words(rng).astype(np.int32)}
        if form == "keys and bias":
            given["bias"] = rng.normal(size=(1, 1, P, M)).astype(np.float32)
        return given

    runs = [{**_drawn(rng), **padding()} for _ in range(2)]
    inputs = ["q_d", "k_d", "v_d", "", "padding", *(["bias"] if "bias" in runs[0] else [])]
    model = _operator(f"{MICROSOFT}:MultiHeadAttention", inputs, {"num_heads": H}, runs[0], opset=21)
    _check(model, runs, tmp_path)


def test_lengths_of_grouped_queries(rng, tmp_path):
    """How much of each prompt there is follows from inputs; queries see no key behind themselves besides."""
    runs = [{**_drawn(rng, P), "last": rng.integers(0, P, N).astype(np.int32)} for _ in range(2)]
    nodes = [*stage("q"), *stage("k"), *stage("v"),
             (f"{MICROSOFT}:GroupQueryAttention", ["q_d", "k_d", "v_d", "", "", "last", "total"],
              ["y", "present_key", "present_value"], {"num_heads": H, "kv_num_heads": H}), *stage("y")]
    model = make_model(nodes, runs[0], ["y_d"], CONSTANTS | {"total": np.int32(P)}, opset=21)
    _check(model, runs, tmp_path)


@pytest.mark.parametrize(("shape", "attributes", "message"), [
    ((P, 1), {}, f"mask must have a number for each of {M} keys where a run gives it, not shape ({P}, 1)"),
    ((1, M), {"is_causal": 1}, "mask must be of bool, or have a row for each query and head that sees other keys"),
])
def test_masks_that_a_host_would_have_to_copy(rng, tmp_path, shape, attributes, message):
    """Rows that memory holds once and no command finds again for another head are refused, by their name."""
    given = {**_drawn(rng), "mask": np.zeros(shape, np.float32)}
    model = _operator("Attention", ["q_d", "k_d", "v_d", "mask"],
                      {"q_num_heads": H, "kv_num_heads": H, **attributes}, given)
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        compile_graph(load(model, tmp_path).graph(), attention_array("8x8"))


def test_masks_that_do_not_fit_one_another(rng, tmp_path):
    """A mistake in one of two masks is told by their shapes, in one line."""
    given = {**_drawn(rng), "lengths": np.full(N, M, np.int64), "mask": np.zeros((P, M + 1), np.float32)}
    model = _operator("Attention", ["q_d", "k_d", "v_d", "mask", "", "", "lengths"],
                      {"q_num_heads": H, "kv_num_heads": H}, given, opset=24)
    with pytest.raises(pe.PearrayError, match=re.escape(f"masks must broadcast to one another, not be of shapes ({P}, "
                                                        f"{M + 1}) and ({N}, 1, 1, {M})")):
        load(model, tmp_path).graph()


@pytest.mark.parametrize("is_given", [False, True])
@pytest.mark.parametrize(("attributes", "lengths", "keys", "opset"), [
    ({"is_causal": 1}, (M, M - 3), None, 24), ({"is_causal": 1}, (3, 0), None, 24), ({}, (M, 5), M - 2, 24),
    ({}, None, 1, 24), ({}, None, M - 5, 24), ({"left_window_size": 2}, None, None, 25),
    ({"right_window_size": 0, "left_window_size": -1}, None, None, 25),
    ({"left_window_size": 3, "right_window_size": 1}, (M, 9), None, 25),
    ({"left_window_size": 1, "is_causal": 1, "right_window_size": 4}, (M, 4), M - 3, 25),
    ({"left_window_size": 0, "is_causal": 1}, None, None, 25),
])
def test_diagonals_windows_and_short_masks(rng, tmp_path, is_given, attributes, lengths, keys, opset):
    """Queries are the last of the keys that a batch has, and keys behind a short mask are hidden: as onnx says it.

    If it failed, batches that are padded would see other keys than the standard shows them.
    """
    inputs, constants, names = _drawn(rng), dict(CONSTANTS), ["q_d", "k_d", "v_d", "", "", "", ""]
    told = {}
    if keys is not None:
        told["mask"], names[3] = np.where(rng.random((N, 1, P, keys)) < 0.3, -np.inf, 0).astype(np.float32), "mask"
    if lengths is not None:
        told["lengths"], names[6] = np.array(lengths, np.int64), "lengths"
    inputs, constants = (inputs | told, constants) if is_given else (inputs, constants | told)
    nodes = [*stage("q"), *stage("k"), *stage("v"), ("Attention", names[:3 if not told else None], ["y"],
                                                     {"q_num_heads": H, "kv_num_heads": H, **attributes}), *stage("y")]
    model = make_model(nodes, inputs, ["y_d"], constants, opset=opset)
    graph = load(model, tmp_path).graph()
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
    found = graph.golden(inputs)["y_d"]
    assert np.abs(np.rint(found * 60) - np.rint(wanted * 60)).max() <= 3 * 1.5
    interpret(graph, inputs, attention_array("8x8"))


@pytest.mark.parametrize("form", ["bool", "float", "made"])
def test_masks_of_models_are_inputs_of_public_calls(rng, tmp_path, form):
    """A mask of bool, minus infinity in one of floats, and what makes one of bool, as a user's calls take them."""
    shown = rng.random((P, M)) < 0.7
    given = {**_drawn(rng), "mask": np.where(shown, 0, -np.inf).astype(np.float32) if form == "float" else shown}
    made = ("Where", ["mask", "none", "least"], ["m"], {}) if form == "made" else ("Identity", ["mask"], ["m"], {})
    nodes = [*stage("q"), *stage("k"), *stage("v"), made,
             ("Attention", ["q_d", "k_d", "v_d", "m"], ["y"], {"q_num_heads": H, "kv_num_heads": H}), *stage("y")]
    constants = CONSTANTS | {"none": np.float32(0), "least": np.float32(-np.inf)}
    model = make_model(nodes, given, ["y_d"], constants, opset=23)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    found, (wanted,) = (pe.golden_run(pe.load_onnx(path), given)["y_d"],
                        onnx.reference.ReferenceEvaluator(model).run(None, given))
    assert np.abs(np.rint(found * 60) - np.rint(wanted * 60)).max() <= 3 * 1.5
    handle = pe.compile(pe.load_onnx(path), given, System(attention_array("8x8")))
    assert handle.graph.masks >= {"mask"}
    with pytest.raises(pe.PearrayError, match="tensor 'q' must be finite, not -inf"):
        pe.golden_run(pe.load_onnx(path), given | {"q": np.full_like(given["q"], -np.inf)})


@pytest.mark.parametrize("name", ["left_window_size", "right_window_size"])
def test_windows_of_nothing_are_refused(rng, tmp_path, name):
    """Only -1 stands for no bound."""
    model = _operator("Attention", ["q_d", "k_d", "v_d"], {"q_num_heads": H, "kv_num_heads": H, name: -2}, _drawn(rng),
                      opset=25)
    with pytest.raises(pe.PearrayError, match=re.escape(f"(Attention): {name} must be at least -1, not -2")):
        load(model, tmp_path).graph()


def test_padding_of_another_shape_is_refused(rng, tmp_path):
    """Sums of lengths, which com.microsoft has besides, are no numbers of keys."""
    given = {**_drawn(rng), "padding": np.zeros(3 * N + 2, np.int32)}
    model = _operator(f"{MICROSOFT}:MultiHeadAttention", ["q_d", "k_d", "v_d", "", "padding"], {"num_heads": H}, given,
                      opset=21)
    with pytest.raises(pe.PearrayError, match=re.escape(f"key_padding_mask must be of int32 and shape ({N},) or "
                                                        f"({N}, {M}), not int32 of shape ({3 * N + 2},)")):
        load(model, tmp_path).graph()
