"""ONNX nodes with attributes and constants that no file should hold: refused by name, or computed right.

What we take, onnxruntime must take too, with the same result.
"""

import numpy as np
import pytest
from hostile import refused_or
from onnx_models import MICROSOFT, load, make_model, reference

import pearray as pe

X = np.arange(-32, 32, dtype=np.int8).reshape(1, 4, 4, 4)
SHARED = {"s": np.float32(0.5), "z": np.int8(1), "w": np.ones((2, 2, 2, 2), np.int8), "wz": np.int8(0),
          "shape": np.array([1, 64]), "axes": np.array([0]), "low": np.int8(-3), "high": np.int8(5),
          "m": np.ones((4, 3), np.int8), "k": np.ones((4, 1, 1), np.int8)}
WINDOW = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 0, 0]}
SCALED = ["x", "s", "z", "s", "z"]

#: Nodes that are right, with attributes, and names of their constants that are to be wrong, too.
NODES = [
    ("Reshape", ["x", "shape"], {"allowzero": 0}, ["shape"]),
    ("Flatten", ["x"], {"axis": 1}, []),
    ("Squeeze", ["x", "axes"], {}, ["axes"]),
    ("Unsqueeze", ["x", "axes"], {}, ["axes"]),
    ("Clip", ["x", "low", "high"], {}, ["low", "high"]),
    ("MaxPool", ["x"], WINDOW | {"dilations": [1, 1], "ceil_mode": 0, "auto_pad": "NOTSET"}, []),
    ("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z"],
     WINDOW | {"dilations": [1, 1], "group": 2, "auto_pad": "NOTSET"}, ["s", "z", "wz", "w"]),
    ("QLinearMatMul", ["x", "s", "z", "m", "s", "wz", "s", "z"], {}, ["s", "z", "m"]),
    (f"{MICROSOFT}:QLinearAveragePool", SCALED, WINDOW | {"ceil_mode": 0, "count_include_pad": 0}, ["s", "z"]),
    (f"{MICROSOFT}:QLinearGlobalAveragePool", SCALED, {"channels_last": 0}, ["s", "z"]),
    (f"{MICROSOFT}:QLinearLeakyRelu", SCALED, {"alpha": 0.5}, ["s", "z"]),
    (f"{MICROSOFT}:QLinearAdd", ["x", "s", "z", "k", "s", "z", "s", "z"], {}, ["s", "z", "k"]),
    ("DequantizeLinear", ["x", "s", "z"], {"axis": 1}, ["s", "z"]),
]
ATTRIBUTES = [-9, -1, 0, 2, 3, 7, 1 << 31, (1 << 63) - 1, 0.5, float("nan"), "SAME_UPPER", "VALID", "x", [], [1],
              [0, 0], [2, 1], [-1, 1], [1, 1, 1, 1], [0, 2**33, 1, 0], [1 << 31, 1],
              [1, 0, 1, -1], [3, 3, 3, 3], [0.5, 2.0]]
CONSTANTS = [
    np.int8(3), np.uint8(3), np.int16(3), np.int32(0), np.int64(0), np.float32("nan"), np.float32(0.25), np.float32(-1),
    np.float64(1), np.zeros(0, np.int8), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(2, np.int32),
    np.array([0, 0]), np.array([7]), np.array([-9]), np.array([[0]]), np.array([[1, 64]]), np.array([1 << 40]),
    np.array([-1, -1]), np.array([0, -1]), np.array([2, 32]), np.array([[1, 2]], np.int8), np.array([1, 2], np.int8),
    np.full(4, 0.5, np.float32), np.array(True), np.array(["a"]), np.ones((2, 2, 2, 2), np.uint8),
]


def wrong_models(rng, kind, sources, attributes, constants):
    """Models of one node, each with one or two fields that are drawn."""
    places = [("attribute", name) for name in attributes] + [("constant", name) for name in constants]
    for place, name in places:
        values = ATTRIBUTES if place == "attribute" else CONSTANTS
        for index in rng.permutation(len(values))[:14]:
            fields, arrays = dict(attributes), {each: SHARED[each] for each in sources if each != "x"}
            if isinstance(values[index], str):
                # Either says how much to pad.
                fields.pop("pads", None)
            (fields if place == "attribute" else arrays)[name] = values[index]
            try:
                yield (name, values[index]), make_model([(kind, sources, ["y"], fields)], {"x": X}, ["y"], arrays, 21)
            except (TypeError, ValueError):
                # The format itself has no such attribute.
                continue


@pytest.mark.parametrize(("kind", "sources", "attributes", "constants"), NODES, ids=[node[0] for node in NODES])
def test_wrong_nodes(rng, tmp_path, kind, sources, attributes, constants):
    """A field that is taken modulo something, cut off or forgotten would be another network."""
    taken = 0
    for what, model in wrong_models(rng, kind, sources, attributes, constants):
        graph = refused_or(lambda model=model: load(model, tmp_path).graph(), pe.PearrayError)
        if graph is None:
            continue
        taken += 1
        try:
            expected = reference(model, {"x": X})["y"]
        except Exception as error:
            pytest.fail(f"{what} is taken, but the runtime says {error}")
        got = graph.golden({"x": X})["y"]
        assert got.shape == expected.shape, what
        np.testing.assert_array_equal(got, expected, str(what))
    assert taken or not attributes


@pytest.mark.parametrize(("node", "constants", "message"), [
    (("Reshape", ["x", "c"], ["y"], {}), np.array([[1, 64]]),
     "shape must be a vector of int64, not int64 of shape (1, 2)"),
    (("Squeeze", ["x", "c"], ["y"], {}), np.array([[0]]), "axes must be a vector of int64, not int64 of shape (1, 1)"),
    (("Unsqueeze", ["x", "c"], ["y"], {}), np.array([0, 0]), "axes must be in -6..5 and none twice, not [0, 0]"),
    (("Unsqueeze", ["x", "c"], ["y"], {}), np.array([-9]), "axes must be in -5..4 and none twice, not [-9]"),
    (("Clip", ["x", "c"], ["y"], {}), np.array([1, 2], np.int8), "min must be one int8, not int8 [1, 2]"),
    (("Flatten", ["x"], ["y"], {"axis": 7}), np.int8(0), "axis must be in -4..4, not 7"),
    (("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "pads": [0, 1 << 33, 1, 0]}), np.int8(0),
     "padding must be an "),
    ((f"{MICROSOFT}:QLinearAveragePool", SCALED, ["y"], {"kernel_shape": 3}), np.int8(0),
     "attribute kernel_shape must be a list of integers, not 3"),
    (("DequantizeLinear", ["sums", "s", "c"], ["y"], {}), np.zeros(2, np.int32),
     "x_zero_point must have one value or "),
    (("DequantizeLinear", ["sums", "s", "c"], ["y"], {}), np.zeros(0, np.int32),
     "x_zero_point must have one value or "),
])
def test_messages(tmp_path, node, constants, message):
    """The node, its field, the value and what is allowed."""
    arrays = {name: {**SHARED, "c": constants}[name] for name in node[1] if name in {*SHARED, "c"}}
    inputs = {"x": X, "sums": X.astype(np.int32)}
    with pytest.raises(pe.PearrayError) as caught:
        load(make_model([node], inputs, ["y"], arrays, 21), tmp_path).graph()
    kind = node[0].replace(":", ".")
    assert str(caught.value).startswith(f"node '{kind.rpartition('.')[2]} of y' ({kind}): {message}")


def test_dead_nodes(tmp_path):
    """What no output follows from is left out, supported or not; an input that nothing reads stays one."""
    x, other = X, np.ones(3, np.float32)
    nodes = [("Relu", ["other"], ["dead"], {}), ("Sin", ["dead"], ["deader"], {}), ("Relu", ["x"], ["y"], {})]
    model = load(make_model(nodes, {"x": x, "other": other}, ["y"], {}, 21), tmp_path)
    graph = model.graph()
    assert [node.operator.kind for node in graph.nodes] == ["Relu"]
    assert graph.inputs == ["x", "other"]
    np.testing.assert_array_equal(pe.golden_run(model, {"x": x, "other": other})["y"], np.maximum(x, 0))
    compiled = pe.compile(model, {"x": x, "other": other}, on="systolic-8x8").compiled()
    assert list(compiled.inputs) == ["x"]
    assert compiled.bind({"x": x, "other": other})


def test_constants_are_read_only(tmp_path):
    """A graph shares the file's constants with the graphs of other batches."""
    node = ("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z"], ["y"], WINDOW | {"group": 2})
    graph = load(make_model([node], {"x": X}, ["y"], {name: SHARED[name] for name in ("s", "z", "w", "wz")}),
                 tmp_path).graph()
    assert graph.constants
    assert not any(value.flags.writeable for value in graph.constants.values())


@pytest.mark.parametrize(("name", "wrong", "message"), [
    (b"anotherdomain", b"another\xff\xfemain", r"onnx.OperatorSetIdProto.domain b'another\xff\xfemain' is not UTF-8"),
    (b"result", b"r\xffsult", r"b'r\xffsult' is not UTF-8"),
    (b"Softsign", b"Soft\x1b[2m", r"Soft\x1b[2m"),
])
def test_names_that_are_no_text(tmp_path, name, wrong, message):
    """Bytes of a corrupt file would end in a traceback where a table is computed, or change a terminal's colours."""
    model = make_model([("DequantizeLinear", ["x", "s"], ["real"], {}), ("Softsign", ["real"], ["soft"], {}),
                        ("QuantizeLinear", ["soft", "s"], ["result"], {})], {"x": X.astype(np.uint8)}, ["result"],
                       {"s": np.float32(0.1)})
    model.opset_import.add(domain="anotherdomain", version=1)
    content, path = model.SerializeToString(), tmp_path / "model.onnx"
    path.write_bytes(content)
    assert pe.load_onnx(path).graph().outputs == ["result"]
    path.write_bytes(content.replace(name, wrong))
    with pytest.raises(pe.PearrayError) as caught:
        pe.load_onnx(path)
    assert f"ONNX file {str(path)!r} cannot be read: " in str(caught.value)
    assert message in str(caught.value)
