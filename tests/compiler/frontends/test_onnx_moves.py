"""ONNX operators that move elements, against onnxruntime over the space of their attributes."""

import re

import numpy as np
import pytest
from onnx_models import MICROSOFT, check, draw, load, make_model, quantisation, reference, stage
from onnx_moves import MOVES, drawn_move, drawn_shape
from random_workloads import interpret, random_configuration

import pearray as pe
from pearray.compiler.operators.moved import OUTSIDE, Moved


def _model(operator, inputs, attributes, x, opset=19):
    constants = {f"c{index}": value for index, value in enumerate(inputs) if value is not None}
    names = ["x", *("" if value is None else f"c{index}" for index, value in enumerate(inputs))]
    return make_model([(operator, names, ["y"], attributes)], {"x": x}, ["y"], constants, opset=opset)


def _applied(operator, tensors):
    """Output by nothing but what an operator says that it picks."""
    (shape, dtype), = operator.infer(tensors).values()
    y, times = np.zeros(shape, dtype), np.zeros(shape, int)
    for part in operator.picked(tensors):
        x = tensors[part.role].reshape(part.split).transpose(part.order)
        picks = [part.picks(axis) for axis in range(len(part.into))]
        found, inside = x, np.ones((), bool)
        for axis, pick in enumerate(picks):
            found = found.take(np.maximum(pick, 0), axis)
            inside = inside & (pick != OUTSIDE).reshape((-1,) + (1,) * (len(picks) - 1 - axis))
        found = np.where(inside, found, x.dtype.type(part.outside))
        found = found if part.table is None else part.table[found.astype(int) & 255]
        place = tuple(slice(part.start.get(axis, 0), part.start.get(axis, 0) + len(pick))
                      for axis, pick in enumerate(picks))
        y.reshape(part.into)[place] = found
        times.reshape(part.into)[place] += 1
    assert (times == 1).all()
    return y


@pytest.mark.parametrize("name", MOVES)
def test_equals_the_runtime(rng, tmp_path, name):
    """An index, a step, a side or a rounding that differs moves another element; what is picked must say the same."""
    for _ in range(40):
        kind = rng.choice([np.int8, np.uint8])
        operator, inputs, attributes, x = drawn_move(rng, name, kind)
        model = _model(operator, inputs, attributes, x)
        expected = reference(model, {"x": x})["y"]
        graph = load(model, tmp_path).graph()
        got = graph.golden({"x": x})["y"]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), (operator, inputs, attributes, x.shape)
        np.testing.assert_array_equal(got, expected, f"{operator} {inputs} {attributes} {x.shape}")
        for node in graph.nodes:
            if isinstance(node.operator, Moved):
                np.testing.assert_array_equal(_applied(node.operator, {"x": x}), expected)


@pytest.mark.parametrize("name", MOVES)
def test_programs_equal_the_runtime(rng, tmp_path, name):
    """Pieces, pixels, matrices of zeros and ones, rows of the output's buffer: a slip moves another byte, or waits."""
    for _ in range(4):
        operator, inputs, attributes, x = drawn_move(rng, name, rng.choice([np.int8, np.uint8]))
        model = _model(operator, inputs, attributes, x)
        graph = load(model, tmp_path).graph()
        interpret(graph, {"x": x}, random_configuration(rng, (8,)), effort=0)


def _shapes(rng, count, rank=4):
    """Shapes of tensors that stand side by side along an axis, and the axis."""
    shape, axis = drawn_shape(rng, rank), int(rng.integers(-rank, rank))
    return [(*shape[:axis % rank], int(rng.integers(1, 8)), *shape[axis % rank + 1:]) for _ in range(count)], axis


def test_concat_equals_the_runtime(rng, tmp_path):
    """Any axis and number of tensors, one of them a constant, one twice."""
    for _ in range(12):
        kind = rng.choice([np.int8, np.uint8])
        shapes, axis = _shapes(rng, int(rng.integers(1, 5)), int(rng.integers(1, 6)))
        tensors = {f"x{index}": draw(rng, shape, kind) for index, shape in enumerate(shapes)}
        names = [*tensors, *(["c"] if rng.integers(2) else []), *(["x0"] if rng.integers(2) else [])]
        constants = {"c": draw(rng, shapes[0], kind)} if "c" in names else {}
        model = make_model([("Concat", names, ["y"], {"axis": axis})], tensors, ["y"], constants)
        assert check(model, tensors, tmp_path) == 1
        interpret(load(model, tmp_path).graph(), tensors, random_configuration(rng, (8,)), effort=0)


def test_scaled_concat_equals_the_runtime(rng, tmp_path):
    """Tensors of several scales, by tables, some of which change nothing; types of inputs are the output's."""
    for _ in range(12):
        kind = rng.choice([np.int8, np.uint8])
        shapes, axis = _shapes(rng, int(rng.integers(1, 4)))
        tensors = {f"x{index}": draw(rng, shape, kind) for index, shape in enumerate(shapes)}
        constants = quantisation(rng, "y", kind, 0.01, 0.03)
        names = ["y_scale", "y_zero"]
        for name in tensors:
            own = "y" if rng.integers(4) == 0 else name
            constants |= quantisation(rng, name, kind, 0.01, 0.03)
            names += [name, f"{own}_scale", f"{own}_zero"]
        model = make_model([(f"{MICROSOFT}:QLinearConcat", names, ["y"], {"axis": axis})], tensors, ["y"], constants)
        assert check(model, tensors, tmp_path) == 1
        interpret(load(model, tmp_path).graph(), tensors, random_configuration(rng, (8,)), effort=0)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("activation", [None, "Relu"])
def test_concat_in_qdq_form(rng, tmp_path, alike, activation):
    """What is stored alike is moved as it is, so that more may follow; what is not gets the scale of the result."""
    for _ in range(3):
        inputs = {name: rng.uniform(-3, 3, (2, 3 + index, 4, 3)).astype(np.float32) for index, name in enumerate("ab")}
        constants = quantisation(rng, "y", np.int8, 0.02, 0.03)
        for name in "ab":
            constants |= quantisation(rng, name, np.int8, 0.02, 0.03)
            if alike:
                constants |= {f"{name}_{what}": constants[f"y_{what}"] for what in ("scale", "zero")}
        nodes = [*stage("a"), *stage("b"), ("Concat", ["a_d", "b_d"], ["c"], {"axis": 1}),
                 *([(activation or "Identity", ["c"], ["y"], {})] if activation or alike else []),
                 *stage("y" if activation or alike else "c")]
        constants |= {"c_scale": constants["y_scale"], "c_zero": constants["y_zero"]}
        end = "y_d" if activation or alike else "c_d"
        model = make_model(nodes, inputs, [end], constants)
        graph = load(model, tmp_path).graph()
        np.testing.assert_array_equal(graph.golden(inputs)[end], reference(model, inputs)[end])
        interpret(graph, inputs, random_configuration(rng, (8,)), effort=0)


@pytest.mark.parametrize("kind", ["Split", "Pad", "ReduceMax", "GlobalMaxPool", "Slice"])
def test_moves_in_qdq_form(rng, tmp_path, kind):
    """Elements are moved as they are stored; what stands beside them is zero, whatever the zero point."""
    for _ in range(3):
        x = rng.uniform(-3, 3, (2, 6, 5, 4)).astype(np.float32)
        constants = quantisation(rng, "x", np.int8, 0.02, 0.03) | {
            "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "sizes": np.array([1, 3, 2]),
            "from": np.array([1, 0]), "to": np.array([6, 3]), "steps": np.array([2, 1]), "along": np.array([1, 3])}
        sources, made, attributes = {
            "Split": (["sizes"], ["u", "y", "v"], {"axis": 1}), "Pad": (["pads"], ["y"], {}),
            "ReduceMax": ([], ["y"], {"axes": [[1], [2, 3], [-1, 0]][rng.integers(3)],
                                      "keepdims": int(rng.integers(2))}),
            "GlobalMaxPool": ([], ["y"], {}), "Slice": (["from", "to", "along", "steps"], ["y"], {})}[kind]
        ends = [("QuantizeLinear", [name, "x_scale", "x_zero"], [f"{name}_q"], {}) for name in made]
        ends += [("DequantizeLinear", [f"{name}_q", "x_scale", "x_zero"], [f"{name}_d"], {}) for name in made]
        model = make_model([*stage("x"), (kind, ["x_d", *sources], made, attributes), *ends], {"x": x},
                           [f"{name}_d" for name in made], constants)
        graph = load(model, tmp_path).graph()
        golden, expected = graph.golden({"x": x}), reference(model, {"x": x})
        for name in made:
            np.testing.assert_array_equal(golden[f"{name}_d"], expected[f"{name}_d"])
        interpret(graph, {"x": x}, random_configuration(rng, (8,)), effort=0)


@pytest.mark.parametrize(("kind", "inputs", "attributes", "message"), [
    ("Concat", ["x", "x"], {"axis": 4}, "axis must be in -4..3, not 4"),
    ("Concat", ["x", "odd"], {"axis": 1}, "x1 must have the shape of x0, (1, 4, 6, 6), but for axis 1, not"),
    ("Split", ["x", "three"], {"axis": 1}, "split must be 1 integers of at least 1 that add up to 4, not [3]"),
    ("Slice", ["x", "three", "three"], {}, "starts and ends must leave an element of each axis of x of shape"),
    ("Pad", ["x", "three"], {}, "pads must have two integers for each axis"),
    ("Resize", ["x", "", "halves"], {"mode": "cubic"}, "mode must be 'nearest' or 'linear', not 'cubic'"),
    ("Resize", ["x", "", "three_"], {}, "scales must have a number for each of 4 axes, not 1"),
    ("DepthToSpace", ["x"], {"blocksize": 3}, "block must be one whose square divides the 4 channels of x, not 3"),
    ("SpaceToDepth", ["x"], {"blocksize": 4}, "block must divide height and width of x of shape (1, 4, 6, 6), not"),
    ("Tile", ["x", "three"], {}, "repeats must have an integer of at least 1 for each of the 4 axes of x"),
    ("Gather", ["x", "three"], {"axis": 0}, "indices must be in -1..0, not 3"),
    ("Gather", ["x", "y"], {}, "words are looked up in tables"),
])
def test_mistakes_name_the_node(rng, tmp_path, monkeypatch, kind, inputs, attributes, message):
    """An attribute that is passed over moves something else."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    x = draw(rng, (1, 4, 6, 6), np.int8)
    constants = {"odd": draw(rng, (1, 4, 6, 5), np.int8), "three": np.array([3]), "three_": np.ones(1, np.float32),
                 "halves": np.full(4, 0.5, np.float32)}
    model = make_model([(kind, inputs, ["z"], attributes)], {"x": x, "y": np.zeros(1, np.int32)}, ["z"], constants)
    with pytest.raises(pe.PearrayError, match=rf"^node '{kind} of z' \({kind}\): .*{re.escape(message)}"):
        load(model, tmp_path).graph()
