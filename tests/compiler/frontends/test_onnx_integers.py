"""ConvInteger, MatMulInteger and DynamicQuantizeLinear, and quantisation at the edges with several scales."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_models import draw, load, make_model, reference
from onnxruntime.quantization import QuantType, quantize_dynamic
from random_workloads import configuration, interpret

import pearray as pe
from pearray.compiler.frontends.onnx.integers import in_bytes
from pearray.compiler.graph.parts import parts_of

SMALL = configuration(4, 4)


def _standard(model, inputs):
    """Outputs by the standard's own evaluator, which takes what onnxruntime has no kernel for."""
    names = [item.name for item in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))


def _compared(model, inputs, folder, expected=None):
    """Compare the golden model and a program with the standard, or with what is given."""
    graph = load(model, folder).graph_for(inputs)
    made = graph.golden({name: inputs[name] for name in graph.inputs})
    for name, value in (_standard(model, inputs) if expected is None else expected).items():
        assert (made[name].shape, made[name].dtype) == (value.shape, value.dtype), name
        np.testing.assert_array_equal(made[name], value, name)
    return interpret(graph, {name: inputs[name] for name in graph.inputs}, SMALL, effort=0)


def _split(rng, tensors, given=()):
    """Tensors that a run gives, and constants, which are those named and some of the others."""
    chosen = {name: value for name, value in tensors.items() if name in given or rng.integers(2)}
    return chosen, {name: value for name, value in tensors.items() if name not in chosen}


def _kinds(rng):
    return rng.choice([np.int8, np.uint8], 2)


@pytest.mark.parametrize("zeros", ["one", "each"])
def test_conv_integer(rng, tmp_path, zeros):
    """What is padded counts nothing, whatever the zero points, those of runs and those of channels among them."""
    for number in range(12):
        axes = 1 + (number % 3 > 0)
        (kind, of_w), groups = _kinds(rng), int(rng.choice([1, 1, 2, 3]))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        w = draw(rng, (filters, channels // groups, *rng.integers(1, 4, axes)), of_w)
        x = draw(rng, (int(rng.integers(1, 3)), channels, *rng.integers(4, 9, axes)), kind)
        pads = rng.integers(0, 3, 2 * axes).tolist()
        attributes = {"group": groups, "pads": pads, "strides": rng.integers(1, 3, axes).tolist(),
                      "dilations": rng.integers(1, 3, axes).tolist()}
        if np.any(np.array(x.shape[2:]) + np.array(pads[:axes]) + pads[axes:] < (np.array(w.shape[2:]) - 1) * 2 + 1):
            continue
        tensors = {"x": x, "z": draw(rng, (), kind)}
        given, constants = _split(rng, tensors, ("x",))
        constants |= {"w": w, "v": draw(rng, () if zeros == "one" else (filters,), of_w)}
        model = make_model([("ConvInteger", ["x", "w", "z", "v"], ["y"], attributes)], given, ["y"], constants)
        # The evaluator's own convolution of integers with groups and zero points of channels is left out.
        z, v = (value.astype(np.float64) for value in (tensors["z"], constants["v"].reshape(-1, *[1] * (axes + 1))))
        real = make_model([("Conv", ["a", "b"], ["y"], attributes)], {}, ["y"],
                          {"a": (x - z).astype(np.float32), "b": (w - v).astype(np.float32)})
        _compared(model, given, tmp_path, {"y": reference(real, {})["y"].astype(np.int32)})


def test_matmul_integer(rng, tmp_path):
    """Operands and zero points that runs give or that are known, one or one for each row or column."""
    for _ in range(16):
        kinds, (m, k, n) = _kinds(rng), rng.integers(1, 9, 3)
        before = tuple(rng.integers(1, 4, int(rng.integers(0, 2))))
        rows = [(), (1,), (m,)][int(rng.integers(3))] if not before else [(), (*before, m, 1)][int(rng.integers(2))]
        tensors = {"a": draw(rng, (*before, m, k), kinds[0]), "b": draw(rng, (k, n), kinds[1]),
                   "p": draw(rng, rows, kinds[0]), "q": draw(rng, [(), (1,), (n,)][int(rng.integers(3))], kinds[1])}
        given, constants = _split(rng, tensors, ("a",))
        model = make_model([("MatMulInteger", ["a", "b", "p", "q"], ["y"], {})], given, ["y"], constants)
        p = tensors["p"].astype(np.int64)
        a, b = tensors["a"] - (p[:, None] if p.ndim == 1 else p), tensors["b"] - tensors["q"].astype(np.int64)
        _compared(model, given, tmp_path, {"y": (a @ b).astype(np.int32)})


def test_weights_of_any_range_are_bytes(rng):
    """Differences of bytes have nine bits; a sum of two tensors of bytes has them all, and one where they fit."""
    for low, high, count in ((-255, 0, 1), (0, 255, 1), (-100, 155, 1), (-128, 127, 1), (-255, 255, 2), (-127, 130, 2)):
        values = np.append(rng.integers(low, high + 1, 40), [low, high])
        parts = in_bytes(values)
        assert len(parts) == count, (low, high)
        assert all(part.dtype == np.int8 and -128 <= zero <= 127 for part, zero in parts)
        np.testing.assert_array_equal(sum(part.astype(int) - zero for part, zero in parts), values)


def test_dynamic_quantisation_equals_the_runtime(rng, tmp_path):
    """Scale and zero point follow from the range of a run's numbers, and 0 is within it."""
    for low, high in ((-3, 5), (1, 4), (-7, -2), (0, 0), (-1e-3, 1e-3), (-3e37, 2e38), (-0.5, 0.5)):
        for relu in (False, True):
            x = rng.uniform(low, high, (3, int(rng.integers(1, 40)))).astype(np.float32)
            first = [("Relu", ["x"], ["r"], {})] if relu else []
            nodes = [*first, ("DynamicQuantizeLinear", ["r" if relu else "x"], ["y", "s", "z"], {})]
            model = make_model(nodes, {"x": x}, ["y", "s", "z"], {})
            _compared(model, {"x": x}, tmp_path, reference(model, {"x": x}, ["y", "s", "z"]))


@pytest.mark.parametrize("kind", ["MatMulInteger", "ConvInteger"])
def test_products_of_what_a_run_quantises(rng, tmp_path, kind):
    """One program with the host's part at its edge: the zero point that the run finds counts within the image only."""
    shape, weights = ((2, 3, 5, 6), (4, 3, 3, 2)) if kind == "ConvInteger" else ((5, 7), (7, 6))
    attributes = {"pads": [1, 0, 2, 1]} if kind == "ConvInteger" else {}
    for v in (np.uint8(0), np.uint8(131)):
        x = rng.normal(1, 2, shape).astype(np.float32)
        constants = {"w": draw(rng, weights, np.uint8), "v": v}
        model = make_model([("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], {}),
                            (kind, ["q", "w", "z", "v"], ["y"], attributes)], {"x": x}, ["y", "s"], constants)
        compiled = _compared(model, {"x": x}, tmp_path, reference(model, {"x": x}, ["y", "s"]))
        assert sum(layer.macs for layer in compiled.layers) > 0


def test_several_scales_at_the_edges(rng, tmp_path):
    """Scales for each index of an axis and for blocks, the last of which is shorter, in all types of integers."""
    for kind in (np.int8, np.uint8, np.int16, np.uint16):
        for axis, block in ((1, 0), (-1, 0), (0, 0), (1, 2), (2, 3), (-3, 1)):
            shape = tuple(rng.integers(2, 6, 3))
            count = (shape[axis],) if not block else tuple(
                -(-size // block) if place == axis % 3 else size for place, size in enumerate(shape))
            x = rng.normal(0, 20, shape).astype(np.float32)
            constants = {"s": rng.uniform(0.1, 1, count).astype(np.float32), "z": draw(rng, count, kind)}
            attributes = {"axis": axis} | ({"block_size": block} if block else {})
            for zero in (["z"], []) if kind == np.uint8 else (["z"],):
                names = ["s", *zero]
                used = {name: constants[name] for name in names}
                there = make_model([("QuantizeLinear", ["x", *names], ["y"], attributes)], {"x": x}, ["y"], used, 21)
                stored = _standard(there, {"x": x})
                _compared(there, {"x": x}, tmp_path, stored)
                back = make_model([("DequantizeLinear", ["x", *names], ["y"], attributes)], {"x": stored["y"]}, ["y"],
                                  used, 21)
                _compared(back, {"x": stored["y"]}, tmp_path)


def test_scales_of_half_precision(rng, tmp_path):
    """Their factor is rounded to float16, and the float32 numbers that it is written in would give other steps."""
    scales = {name: np.array(rng.uniform(0.01, 0.1), np.float16) for name in ("as", "bs")}
    constants = scales | {"b": draw(rng, (6, 5), np.int8), "ys": np.array(0.73, np.float16),
                          **{name: np.int8(rng.integers(-9, 9)) for name in ("az", "bz", "yz")}}
    a = draw(rng, (4, 6), np.int8)
    model = make_model([("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"], {})], {"a": a}, ["y"],
                       constants, 21)
    _compared(model, {"a": a}, tmp_path)


def test_inputs_that_must_be_known_are_constants_of_the_program(rng, tmp_path):
    """A file whose weights and scales are inputs runs with those given, and not with others afterwards."""
    tensors = {"x": draw(rng, (1, 2, 5, 5), np.uint8), "xs": np.float32(0.5), "xz": np.uint8(3),
               "w": draw(rng, (3, 2, 2, 2), np.uint8), "ws": np.float32(0.25), "wz": np.uint8(100),
               "ys": np.float32(2), "yz": np.uint8(7)}
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    model = make_model([("QLinearConv", [*tensors], ["y"], {})], tensors, ["y"], {})
    found = load(model, tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(pe.golden_run(found, tensors)["y"], reference(model, tensors)["y"])
        assert found.graph_for(tensors) is found.graph_for(dict(tensors))
        tensors["w"] = draw(rng, (3, 2, 2, 2), np.uint8)
    handle = pe.compile(found, tensors, on=SMALL)
    with pytest.raises(pe.PearrayError, match="w must be what it was when it was compiled"):
        handle.run(tensors | {"w": tensors["w"] ^ 1})


@pytest.mark.parametrize(("node", "tensors", "message"), [
    (("MatMulInteger", ["a", "b", "p"], ["y"], {}), {"p": np.zeros(4, np.int8)},
     "zero point 'p' must be one number or one for each of 3 rows, not of shape (4,)"),
    (("MatMulInteger", ["a", "b", "", "p"], ["y"], {}), {"p": np.zeros(4, np.uint8)},
     "zero point 'p' must be int8, as 'b' is, not uint8"),
    (("ConvInteger", ["c", "d", "p"], ["y"], {}), {"p": np.zeros(2, np.int8)},
     "x_zero_point must be one number, not of shape (2,)"),
    (("ConvInteger", ["c", "d", "", "p"], ["y"], {}), {"p": np.zeros(2, np.int8)},
     "w_zero_point must be one number or 3, one for each output channel, not 2"),
    (("QuantizeLinear", ["f", "s"], ["y"], {"block_size": 2}), {"s": np.ones((3, 3), np.float32)},
     "scale must have shape (3, 2), one for each block of 2 along axis 1 of (3, 4), not (3, 3)"),
])
def test_what_does_not_fit_is_told(tmp_path, node, tensors, message):
    """One line that names the tensor, its shape or type, and what is allowed."""
    inputs = {"a": np.zeros((3, 4), np.int8), "b": np.zeros((4, 5), np.int8), "f": np.zeros((3, 4), np.float32),
              "c": np.zeros((1, 2, 4, 4), np.int8)}
    constants = {"d": np.zeros((3, 2, 2, 2), np.int8), **tensors}
    used = {name: value for name, value in inputs.items() if name in node[1]}
    model = make_model([node], used, ["y"], {name: value for name, value in constants.items() if name in node[1]}, 21)
    with pytest.raises(pe.PearrayError) as found:
        load(model, tmp_path).graph()
    assert message in str(found.value)


def _network(rng, kind):
    """Float network whose layers have a bias, several shapes and groups, and a sample of its input."""
    def real(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    dense = [("Gemm", ["f", "w", "b"], ["g"], {}), ("Relu", ["g"], ["r"], {}), ("MatMul", ["r", "v"], ["y"], {})]
    if kind == "dense":
        constants = {"w": real(9, 7), "b": real(7), "v": real(7, 5)}
        return [("Identity", ["x"], ["f"], {}), *dense], constants, real(3, 9)
    first = [("Conv", ["x", "k", "c"], ["h"], {"pads": [1, 1, 1, 1]}), ("Relu", ["h"], ["i"], {}),
             ("MaxPool", ["i"], ["j"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
             ("Conv", ["j", "l"], ["m"], {"pads": [0, 1, 2, 1], "strides": [2, 1], "group": 2}),
             ("Flatten", ["m"], ["f"], {})]
    constants = {"k": real(4, 3, 3, 3), "c": real(4), "l": real(6, 2, 3, 3), "w": real(6 * 2 * 4, 7), "b": real(7),
                 "v": real(7, 5)}
    return [*first, *dense], constants, real(1, 3, 8, 8)


@pytest.mark.parametrize("kind", ["dense", "images"])
@pytest.mark.parametrize(("each", "weights"), [(False, QuantType.QInt8), (True, QuantType.QInt8),
                                               (True, QuantType.QUInt8)])
def test_networks_of_quantize_dynamic(rng, tmp_path, kind, each, weights):
    """Integer products are programs, and the host finds scales between them: the output is onnxruntime's to the bit."""
    nodes, constants, x = _network(rng, kind)
    model = make_model(nodes, {"x": x}, ["y"], constants, 17)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(tmp_path / "float.onnx"))
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "model.onnx", per_channel=each, weight_type=weights)
    graph = pe.load_onnx(tmp_path / "model.onnx", fallback="host").graph_for({"x": x})
    made = graph.golden({"x": x})
    expected = reference(onnx.load(str(tmp_path / "model.onnx")), {"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(made["y"], expected)
    values, products = {"x": x, **made}, 0
    for part in parts_of(graph):
        if not part.on_host:
            compiled = interpret(part.graph, {name: values[name] for name in part.graph.inputs}, SMALL, effort=0)
            products += sum(layer.macs > 0 for layer in compiled.layers)
    assert products >= (2 if kind == "dense" else 4)
