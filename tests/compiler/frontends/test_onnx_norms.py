"""Normalisation in ONNX networks, operators and spelled out, against onnxruntime within the bound of the integers."""

import re

import numpy as np
import onnx
import pytest
from norm_draws import norm_array
from onnx_models import MICROSOFT, draw, load, make_model, qdq_reference, quantisation, reference, stage
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from random_workloads import interpret

import pearray as pe
from pearray.compiler.frontends.onnx.importer import load_onnx
from pearray.golden import normalisation

#: Elements of a row.
D = 24

#: Operators, whether rows lose their mean, and the operator set that has them.
OPERATORS = [("LayerNormalization", True, 17), ("RMSNormalization", False, 23),
             ("SimplifiedLayerNormalization", False, 17)]


def _constants(rng, kind=np.int8, names="xy", beta=True):
    scales = {key: value for name in names for key, value in quantisation(rng, name, kind, 0.02, 0.05).items()}
    gains = {"gamma": rng.normal(1, 0.3, D).astype(np.float32)}
    return scales | gains | ({"beta": rng.normal(0, 0.5, D).astype(np.float32)} if beta else {})


def _steps(constants, graph, values):
    """Distance in steps of y that the integers of the graph's normalisation may have from float, and a rounding's."""
    node = next(node for node in graph.nodes if node.operator.kind in ("LayerNorm", "RMSNorm"))
    beta = graph.constants.get(node.inputs.get("beta"))
    gains = normalisation.Gains.of(graph.constants[node.inputs["gamma"]], beta, float(constants["y_scale"]))
    # Both round once; float32 has errors of its own.
    return np.abs(values).max() / float(constants["y_scale"]), 1 + normalisation.error_bound(gains)


def _check(model, inputs, tmp_path):
    """Hold the integers of a network to onnxruntime's floats; return its graph."""
    graph = load(model, tmp_path).graph()
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    found, wanted = graph.golden(inputs)["y_d"], reference(model, inputs, ["y_d"])["y_d"]
    assert found.shape == wanted.shape
    distance, bound = _steps(constants, graph, found - wanted)
    assert distance <= bound + 1e-3
    # A step is an exception.
    assert (np.abs(found - wanted) > 1e-6).mean() < 0.02
    return graph


@pytest.mark.parametrize(("kind", "centred", "opset"), OPERATORS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("shape", "attributes"), [((5, D), {}), ((2, 3, D), {"epsilon": 0.1, "axis": 2}),
                                                   ((3, D // 6, 6), {"axis": 1}), ((1, 2, 3, D), {"axis": -1})])
def test_operators(rng, tmp_path, kind, centred, opset, dtype, shape, attributes):
    """If it failed, epsilon, the axis, gains, biases or a type would be another than the runtime's."""
    x, constants = rng.normal(size=shape).astype(np.float32), _constants(rng, dtype, beta=centred)
    for name in ("gamma", "beta")[:1 + centred]:
        constants[name] = constants[name].reshape(shape[attributes.get("axis", -1):])
    model = make_model([*stage("x"), (kind, ["x_d", "gamma", *["beta"] * centred], ["y"], attributes), *stage("y")],
                       {"x": x}, ["y_d"], constants, opset=opset)
    graph = _check(model, {"x": x}, tmp_path)
    interpret(graph, {"x": x}, norm_array("8x8"))


def _spelled(*, centred, square, quotient, affine, stages=(), twice=False, axes=(-1,)):
    """Nodes of a normalisation as exporters write it, with pairs that quantisers put behind some of them."""
    nodes = [*stage("x")]

    def add(kind, sources, result, **attributes):
        nodes.append((kind, sources, [result], attributes))
        if result in stages:
            nodes.extend(stage(result))
            return f"{result}_d"
        return result

    above = below = "x_d"
    if centred:
        mean = add("ReduceMean", ["x_d"], "mean", axes=axes)
        above = below = add("Sub", ["x_d", mean], "d")
        below = add("Sub", ["x_d", mean], "d2") if twice else below
    squared = add("Pow", [below, "two"], "s") if square == "Pow" else add("Mul", [below, below], "s")
    variance = add("ReduceMean", [squared], "v", axes=axes)
    root = add("Sqrt", [add("Add", [variance, "epsilon"], "t")], "r")
    if quotient == "Div":
        found = add("Div", [above, root], "n")
    else:
        inverse = add("Reciprocal", [root], "i") if quotient == "Reciprocal" else add("Div", ["one", root], "i")
        found = add("Mul", [above, inverse], "n")
    if affine:
        found = add("Mul", ["gamma", found], "g")
        found = add("Add", [found, "beta"], "b") if centred else found
    kind, sources, _, attributes = nodes[-1]
    return [*nodes[:-1], (kind, sources, ["y"], attributes), *stage("y")]


def _primitives(rng, x, stages=(), **form):
    """Model of it, and its constants."""
    constants = _constants(rng) | {"two": np.float32(2), "one": np.float32(1), "epsilon": np.float32(0.03)}
    for name in stages:
        constants |= quantisation(rng, name, np.int8, 0.02, 0.05)
    return make_model(_spelled(stages=stages, **form), {"x": x}, ["y_d"], constants)


@pytest.mark.parametrize(("centred", "square", "quotient", "affine", "twice"), [
    (True, "Pow", "Div", True, False), (True, "Mul", "Div", False, False), (True, "Pow", "Reciprocal", True, True),
    (False, "Pow", "Div", True, False), (False, "Mul", "Reciprocal", True, False), (False, "Pow", "One", False, False),
])
def test_spelled_out(rng, tmp_path, centred, square, quotient, affine, twice):
    """Forms of exporters and libraries become one operator; else they would be refused."""
    x = rng.normal(size=(2, 3, D)).astype(np.float32)
    model = _primitives(rng, x, centred=centred, square=square, quotient=quotient, affine=affine, twice=twice)
    graph = _check(model, {"x": x}, tmp_path)
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds == ["Quantize", "LayerNorm" if centred else "RMSNorm", "Dequantize"]


@pytest.mark.parametrize("centred", [False, True])
def test_what_a_quantiser_puts_inside_is_left_out(rng, tmp_path, centred):
    """The static quantiser of onnxruntime quantises additions and products, and with these epsilon and gains.

    Means and variances in 8 bits would be far off: the result is nearer to the float network than the runtime's.
    """
    x = rng.normal(size=(24, D)).astype(np.float32)
    constants = {"two": np.float32(2), "epsilon": np.float32(1e-5), "gamma": rng.normal(1, 0.3, D).astype(np.float32),
                 "beta": rng.normal(0, 0.5, D).astype(np.float32), "w": rng.normal(size=(D, D)).astype(np.float32)}
    if not centred:
        del constants["beta"]
    form = {"centred": centred, "square": "Pow", "quotient": "Div", "affine": True}
    nodes = [("MatMul", ["x", "w"], ["x_d"], {}), *_spelled(**form)[2:-2], ("MatMul", ["y", "w"], ["z"], {})]
    model, path = make_model(nodes, {"x": x}, ["z"], constants, opset=17), tmp_path / "quantised.onnx"
    onnx.save(model, str(tmp_path / "float.onnx"))
    quantize_static(str(tmp_path / "float.onnx"), str(path), _Calibration(x), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
    graph = load_onnx(path).graph()
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds == ["Quantize", "Gemm", "LayerNorm" if centred else "RMSNorm", "Gemm", "Dequantize"]
    exact = reference(model, {"x": x}, ["z"])["z"]
    ours, theirs = graph.golden({"x": x})["z"], qdq_reference(onnx.load(str(path)), {"x": x})
    errors = [np.sqrt(np.square(each - exact).mean()) / exact.std() for each in (ours, theirs)]
    assert errors[0] < 0.05
    assert errors[0] < errors[1]


class _Calibration(CalibrationDataReader):
    """The samples of an input, one after another."""

    def __init__(self, x):
        self._left = iter([{"x": x}])

    def get_next(self):
        """Next input, None behind the last."""
        return next(self._left, None)


#: Normalisation of sums, whether rows lose their mean, and the operator of which it is made.
SUMS = [("SkipLayerNormalization", True), ("SkipSimplifiedLayerNormalization", False)]


def _sum_model(rng, kind, centred, *, total="", attributes=None, x=(2, 5, D), skip=(2, 5, D), change=(), more=(),
               stored=(0.06, 3)):
    """Model of normalisation of a sum, which is a result too if it has a name."""
    inputs = {"x": rng.normal(size=x).astype(np.float32), "z": rng.normal(size=skip).astype(np.float32)}
    constants = _constants(rng, names="xzyt", beta=centred) | dict(change)
    constants |= {"t_scale": np.float32(stored[0]), "t_zero": np.int8(stored[1])}
    results = ["y", "", "", total] if total else ["y"]
    nodes = [*stage("x"), *stage("z"), (f"{MICROSOFT}:{kind}", ["x_d", "z_d", "gamma", *["beta"] * centred, *more],
                                        results, attributes or {}), *stage("y"), *(stage(total) if total else ())]
    return make_model(nodes, inputs, ["y_d", *[f"{total}_d"] * bool(total)], constants), inputs


@pytest.mark.parametrize(("kind", "centred"), SUMS)
@pytest.mark.parametrize("zero", [9, -4])
def test_stored_sums_are_those_of_floats(rng, tmp_path, kind, centred, zero):
    """The runtime adds floats there: with the rule of its kernel on integers, halves with an odd zero point are off."""
    change = {f"{name}_scale": np.float32(scale) for name, scale in (("x", 0.5), ("z", 0.25))}
    model, inputs = _sum_model(rng, kind, centred, total="t", change=change | {"x_zero": np.int8(3)},
                               stored=(0.5, zero))
    inputs = {name: 8 * value for name, value in inputs.items()}
    wanted = reference(model, inputs, ["t", "t_d"])
    assert (wanted["t"] / 0.5 % 1 == 0.5).mean() > 0.3
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden(inputs)["t_d"], wanted["t_d"])


@pytest.mark.parametrize(("kind", "centred"), SUMS)
@pytest.mark.parametrize("x", [(2, 5, D), (1, D), (2, 1, D), (1, 5, D), (2, 2, 3, D), (D,)])
def test_shapes_of_sums_are_those_of_the_runtime(rng, tmp_path, kind, centred, x):
    """What the runtime refuses would run here only; batches of the skip that it passes over are refused, too."""
    seen = set()
    for skip in dict.fromkeys((x, (1, *x[1:]), x[1:], (*x[:-2], 1, D), (1, 1, D), (D,), (1, *x), (2, *x[1:]))):
        if not skip:
            continue
        model, inputs = _sum_model(rng, kind, centred, x=x, skip=skip)
        try:
            wanted = reference(model, inputs, ["y_d"])["y_d"]
        except Exception:
            # Its exceptions have no common base.
            wanted = None
        seen.add(wanted is not None)
        if wanted is not None and (len(skip) < len(x) or skip[0] <= x[0]):
            assert load(model, tmp_path).graph().golden(inputs)["y_d"].shape == wanted.shape
            continue
        with pytest.raises(pe.PearrayError, match=r"skip must have shape|input must have 2 or 3 dimensions"):
            load(model, tmp_path).graph()
    assert seen == ({False, True} if len(x) in (2, 3) else {False})


@pytest.mark.parametrize(("kind", "centred"), SUMS)
@pytest.mark.parametrize("skip", [(2, 5, D), (1, 5, D), (5, D)])
def test_sums_are_stored(rng, tmp_path, kind, centred, skip):
    """With a sum as a result, the row that is normalised is the stored sum, as the file quantises it."""
    model, inputs = _sum_model(rng, kind, centred, total="t", skip=skip)
    graph = load(model, tmp_path).graph()
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds.count("Add") == kinds.count("LayerNorm" if centred else "RMSNorm") == 1
    found, wanted = graph.golden(inputs), reference(model, inputs, ["y_d", "t_d"])
    np.testing.assert_allclose(found["t_d"], wanted["t_d"], atol=0.06 * 1.001)
    # The runtime normalises the sum of floats.
    two = [("Add", ["x_d", "z_d"], ["t"], {}), *stage("t"),
           ("LayerNormalization" if centred else "RMSNormalization", ["t_d", "gamma", *["beta"] * centred], ["y"],
            {"epsilon": 1e-12})]
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    _check(make_model([*stage("x"), *stage("z"), *two, *stage("y")], inputs, ["y_d"], constants, opset=23), inputs,
           tmp_path)
    again = load(make_model([*stage("x"), *stage("z"), *two, *stage("y")], inputs, ["y_d"], constants, opset=23),
                 tmp_path).graph().golden(inputs)["y_d"]
    np.testing.assert_array_equal(found["y_d"], again)


@pytest.mark.parametrize(("kind", "centred"), SUMS)
@pytest.mark.parametrize("epsilon", [None, 0.5])
@pytest.mark.parametrize("zeros", [(0, 0), (100, 100), (-128, 127)])
def test_sums_that_nobody_stores(rng, tmp_path, kind, centred, epsilon, zeros):
    """A scale of the sum's own holds every sum: results are off by what half a step of it makes, and no more."""
    change = {f"{name}_zero": np.int8(zero) for name, zero in zip("xz", zeros, strict=True)}
    model, inputs = _sum_model(rng, kind, centred, attributes={} if epsilon is None else {"epsilon": epsilon},
                               change=change)
    graph = load(model, tmp_path).graph()
    wanted = reference(model, inputs, ["y_d", "x_d", "z_d"])
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    found = graph.golden(inputs)["y_d"] - wanted["y_d"]
    total = wanted["x_d"] + wanted["z_d"]
    spread = np.sqrt((np.var if centred else lambda values, axis: np.square(values).mean(axis))(total, -1)).min()
    step = float(constants["x_scale"] + constants["z_scale"]) / 2 / spread * np.abs(constants["gamma"]).max()
    distance, bound = _steps(constants, graph, found)
    assert distance <= bound + 2 * step / float(constants["y_scale"])
    assert np.sqrt(np.square(found).mean()) < 0.5 * step + float(constants["y_scale"])


@pytest.mark.parametrize(("kind", "centred"), SUMS)
def test_epsilon_of_sums(rng, tmp_path, kind, centred):
    """Without an epsilon these add 1e-12, not the 1e-5 of the standard's operators, which rows that are level feel."""
    change = {"x_scale": np.float32(2**-6), "z_scale": np.float32(2**-6)}
    change |= {f"{name}_zero": np.int8(0) for name in "xyz"}
    model, inputs = _sum_model(rng, kind, centred, change=change)
    inputs["x"][:], inputs["z"][:] = 0, 0
    # A step of the sum, which is two of x.
    inputs["x"][..., 0] = 2**-5
    _check(model, inputs, tmp_path)


@pytest.mark.parametrize("read", ["mean", "d", "v", "n"])
def test_what_others_read_is_not_left_out(rng, tmp_path, read):
    """A mean that is a result of its own would be missing; the message names a node of the file."""
    x = rng.normal(size=(4, D)).astype(np.float32)
    model = _primitives(rng, x, centred=True, square="Pow", quotient="Div", affine=True)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(read))
    with pytest.raises(pe.PearrayError, match=r"operator Sqrt is not supported|result of ReduceMean|of LayerNormal"):
        load(model, tmp_path).graph()


def test_another_addition_is_no_bias(rng, tmp_path):
    """What differs from row to row stands behind the normalisation, and is a node of its own."""
    x, constants = rng.normal(size=(4, D)).astype(np.float32), _constants(rng, names="xyz")
    constants |= {"two": np.float32(2), "epsilon": np.float32(0.03), "places": draw(rng, (4, D), np.int8)}
    nodes = _spelled(centred=True, square="Pow", quotient="Div", affine=False)
    nodes += [("DequantizeLinear", ["places", "x_scale", "x_zero"], ["places_d"], {}),
              ("Add", ["y_d", "places_d"], ["z"], {}), *stage("z")]
    graph = load(make_model(nodes, {"x": x}, ["z_d"], constants), tmp_path).graph()
    assert [node.operator.kind for node in graph.nodes] == ["Quantize", "LayerNorm", "Add", "Dequantize"]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("wide", ["gamma", "beta", "epsilon", "one", "two"])
def test_constants_of_more_dimensions_than_x(rng, tmp_path, centred, square, wide):
    """Dimensions that they give to the result would be lost; after an exponent of more, axes would be others."""
    x = rng.normal(size=(2, 3, D)).astype(np.float32)
    model = _primitives(rng, x, centred=centred, square=square, quotient="One", affine=True)
    held = next(item for item in model.graph.initializer if item.name == wide)
    value = onnx.numpy_helper.to_array(held)
    held.CopyFrom(onnx.numpy_helper.from_array(value.reshape((1, 1, 1, 1, -1) if value.ndim else (1, 1, 1, 1)), wide))
    if square == "Pow" and wide == "two":
        with pytest.raises(pe.PearrayError, match="exponent of Pow must have at most 3 dimensions, not 4"):
            load(model, tmp_path).graph()
        return
    graph = _check(model, {"x": x}, tmp_path)
    assert len(graph.golden({"x": x})["y_d"].shape) == {
        "gamma": 5, "beta": 5 if centred else 3, "epsilon": 4, "one": 4, "two": 3}[wide]


LAYER = "LayerNormalization"


@pytest.mark.parametrize(("kind", "inputs", "outputs", "attributes", "message"), [
    (LAYER, ["x", "gamma"], ["y"], {}, "(LayerNormalization): x 'x' must come from DequantizeLinear"),
    (LAYER, ["x_d", "x_d"], ["y"], {}, "(LayerNormalization): gamma 'x_d' must be a constant of float32"),
    (LAYER, ["x_d", "short"], ["y"], {}, "(LayerNormalization): gamma 'short' must broadcast to (24,), not"),
    (LAYER, ["x_d", "wide"], ["y"], {}, "(LayerNormalization): gamma 'wide' must have at most 2 dimensions, as x has"),
    ("RMSNormalization", ["x_d", "wide"], ["y"], {}, "gamma 'wide' must have at most 2 dimensions, as x has, not"),
    (f"{MICROSOFT}:SkipLayerNormalization", ["x_d", "x_d", "wide"], ["y"], {}, "gamma 'wide' must be of shape (24,)"),
    (LAYER, ["x_d", "gamma"], ["f", "y"], {}, "(LayerNormalization): output 'y' is not supported; only the"),
    (LAYER, ["x_d", "gamma"], ["y"], {"stash_type": 16}, "(LayerNormalization): stash_type must be 1 (float32), not"),
    (LAYER, ["x_d", "gamma"], ["y"], {"axis": 3}, "(LayerNormalization): axis must be an integer in -2..1, not 3"),
    (LAYER, ["x_d", "gamma"], ["y"], {"epsilon": -1.0}, "(LayerNormalization): epsilon must be at least 0, not -1.0"),
    (f"{MICROSOFT}:SkipLayerNormalization", ["x_d", "x_d", "gamma", "beta", "short"], ["y"], {},
     "(com.microsoft.SkipLayerNormalization): bias 'short' is not supported: add it to what makes 'x_d'"),
    (f"{MICROSOFT}:SkipLayerNormalization", ["x_d", "x", "gamma"], ["y"], {},
     "(com.microsoft.SkipLayerNormalization): 'x' must come from DequantizeLinear"),
    (f"{MICROSOFT}:SkipLayerNormalization", ["x_d", "x_d", "gamma"], ["y"], {"axis": 1},
     "(com.microsoft.SkipLayerNormalization): attribute axis = 1 is not supported; known: epsilon"),
    (f"{MICROSOFT}:EmbedLayerNormalization", ["x_q", "", "places"], ["y"], {},
     "(com.microsoft.EmbedLayerNormalization): words are looked up in tables, which the accelerator does not: give "
     "the network behind it, with the embeddings as its input"),
])
def test_mistakes_name_the_node(rng, tmp_path, monkeypatch, kind, inputs, outputs, attributes, message):
    """An input or attribute that is passed over would be another normalisation."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    x = rng.normal(size=(4, D)).astype(np.float32)
    constants = _constants(rng) | {"short": np.ones(5, np.float32), "wide": np.ones((1, 1, D), np.float32),
                                    "places": np.ones((5, D), np.float32)}
    model = make_model([*stage("x"), (kind, inputs, outputs, attributes), *stage("y")], {"x": x}, ["y_d"], constants)
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()


def test_images_are_normalised_over_their_last_axis(rng, tmp_path):
    """Images do not stand in memory as rows of their last axis: without a copy other elements would be normalised."""
    x = rng.normal(size=(2, 3, 4, D)).astype(np.float32)
    nodes = [*stage("x"), ("AveragePool", ["x_d"], ["r"], {"kernel_shape": [2, 1]}),
             ("QuantizeLinear", ["r", "y_scale", "y_zero"], ["r_q"], {}),
             ("DequantizeLinear", ["r_q", "y_scale", "y_zero"], ["r_d"], {}), (LAYER, ["r_d", "gamma"], ["y"], {}),
             *stage("y")]
    graph = load(make_model(nodes, {"x": x}, ["y_d"], _constants(rng), opset=17), tmp_path).graph()
    interpret(graph, {"x": x}, norm_array("8x8"))


@pytest.mark.parametrize(("axes", "message"), [
    ((0,), "(LayerNormalization of primitives): axes of ReduceMean must be the last ones of 2, not [0]"),
    ((0, 1), None)])
def test_axes_of_means(rng, tmp_path, axes, message):
    """Means over other axes are no rows; over all axes from one on they are."""
    x = rng.normal(size=(4, D)).astype(np.float32)
    model = _primitives(rng, x, centred=True, square="Pow", quotient="Div", affine=False, axes=axes)
    if message is None:
        _check(model, {"x": x}, tmp_path)
        return
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()
