"""ONNX operators that make one element of several, and windows of sequences, against onnxruntime."""

import re
from contextlib import contextmanager

import numpy as np
import pytest
from onnx import TensorProto
from onnx_between import DRAWN, KINDS, between
from onnx_models import MICROSOFT, check, draw, load, make_model, qdq_reference, quantisation
from random_workloads import briefly, interpret, random_configuration

import pearray as pe


@contextmanager
def refused_only_for(reason):
    """Let an error pass whose message has a reason; yield a list that has it then."""
    found = []
    try:
        yield found
    except pe.PearrayError as error:
        if reason not in str(error):
            raise
        found.append(error)


@pytest.mark.parametrize("name", DRAWN)
def test_equals_the_runtime(rng, tmp_path, name):
    """An axis, a scale, a batch or a side that is taken for another gives other elements; none may be refused."""
    for _ in range(40):
        model, inputs = DRAWN[name](rng)
        expected = qdq_reference(model, inputs)
        got = load(model, tmp_path).graph_for(inputs).golden(inputs)["y"]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), model.graph.node
        np.testing.assert_array_equal(got, expected, str(model.graph))


@pytest.mark.parametrize("name", DRAWN)
def test_programs_equal_golden(rng, tmp_path, name):
    """A view, a copy or an order that is wrong shows in what a program makes, on either kind of array."""
    for _ in range(4):
        model, inputs = DRAWN[name](rng)
        config = random_configuration(rng, (8,))
        with refused_only_for("can't be computed exactly"):
            interpret(load(model, tmp_path).graph_for(inputs), inputs, config, **briefly(config))


def test_sums_that_are_taken_equal_the_runtime(rng, tmp_path):
    """Scales of any kind: what is not refused is equal to float32 additions, of which many lie near half-way."""
    taken = 0
    for _ in range(40):
        kind, count = rng.choice(KINDS), int(rng.choice([2, 3, 4, 6, 8]))
        x = draw(rng, (3000, count), kind)
        scale = np.float32(rng.uniform(0.01, 0.1))
        settings = {"axes": np.array([1]), "x_scale": scale,
                    "y_scale": np.float32(scale * rng.choice([0.5, 1, 0.7, 2]))}
        node = str(rng.choice(["ReduceSum", "ReduceMean"])), {"keepdims": 0}
        model = between(rng, node, {"x": x}, {}, ["x", "axes"], settings)
        with refused_only_for("float32 additions"):
            got = load(model, tmp_path).graph().golden({"x": x})["y"]
            np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}))
            taken += 1
    assert 10 <= taken < 40


def test_scaled_where_equals_the_runtime(rng, tmp_path):
    """QLinearWhere brings each tensor to the scale of the result by a table of its own; a swap chooses the other."""
    for _ in range(8):
        kind, shape = rng.choice(KINDS), tuple(int(size) for size in rng.integers(1, 6, rng.integers(1, 5)))
        tensors = {"x": draw(rng, shape, kind), "v": draw(rng, shape[-1:], kind)}
        constants = {"mask": rng.integers(0, 2, shape).astype(bool)}
        for name in ("x", "v", "y"):
            constants |= quantisation(rng, name, kind)
        names = ["mask", *(f"{name}{part}" for name in ("x", "v") for part in ("", "_scale", "_zero")), "y_scale",
                 "y_zero"]
        model = make_model([(f"{MICROSOFT}:QLinearWhere", names, ["y"], {})], tensors, ["y"], constants)
        assert check(model, tensors, tmp_path) == 1


@pytest.mark.parametrize(("kind", "to"), [
    (np.int8, "UINT8"), (np.uint8, "INT8"), (np.int8, "INT32"), (np.uint8, "INT32"), (np.int32, "INT8"),
    (np.int64, "UINT8"), (np.bool_, "UINT8")])
def test_casts_equal_the_runtime(rng, tmp_path, kind, to):
    """Casts keep the low bits: a saturated one would differ for half of the values."""
    shape = tuple(int(size) for size in rng.integers(1, 6, rng.integers(1, 5)))
    x = rng.integers(0, 2, shape).astype(bool) if kind is np.bool_ else draw(rng, shape, kind)
    behind = "Identity" if to == "INT32" else "Transpose"
    model = make_model([("Cast", ["x"], ["c"], {"to": getattr(TensorProto, to)}), (behind, ["c"], ["y"], {})], {"x": x},
                       ["y"], {})
    assert check(model, {"x": x}, tmp_path) == 2
    config = random_configuration(rng, (8,))
    interpret(load(model, tmp_path).graph(), {"x": x}, config, **briefly(config))


def test_refusals_say_why(rng, tmp_path):
    """A reason that is not the true one sends users the wrong way."""
    x = draw(rng, (2, 7, 7), np.int8)
    scales = {"x_scale": np.float32(0.0231), "y_scale": np.float32(0.0191), "axes": np.array([1, 2]),
              "x_zero": np.int8(-128), "y_zero": np.int8(-128)}
    wide = {"x": draw(rng, (1, 1, 2, 3, 4, 5), np.int8)}
    for model, reason in [
            (between(rng, ("ReduceMean", {}), {"x": x}, {}, ["x", "axes"], scales), "order in which onnxruntime adds"),
            (between(rng, ("MaxPool", {"kernel_shape": [1] * 4}), wide, {}, ["x"]), "(N, C, H, W), or 3 (N, C, L)"),
            (between(rng, ("MaxPool", {"kernel_shape": [1, 1]}), {"x": x}, {}, ["x"]), "one integer for x of 3"),
            (make_model([("Add", ["x", "c"], ["y"], {})], {"x": x}, ["y"], {"c": x}), "integers as they are"),
            (make_model([("Where", ["m", "x", "c"], ["y"], {})], {"x": x, "m": x.astype(bool)}, ["y"],
                        {"c": np.zeros((), np.int8)}), "condition must be a constant")]:
        with pytest.raises(pe.PearrayError, match=re.escape(reason)):
            load(model, tmp_path).graph()
