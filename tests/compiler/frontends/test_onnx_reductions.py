"""ONNX operators that make one element of several, and windows of sequences, against onnxruntime."""

import re

import numpy as np
import pytest
from onnx_between import DRAWN, between
from onnx_models import draw, load, make_model, qdq_reference
from random_workloads import briefly, interpret, random_configuration

import pearray as pe


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
        try:
            interpret(load(model, tmp_path).graph_for(inputs), inputs, config, **briefly(config))
        except pe.PearrayError as error:
            assert re.search("can't be computed exactly|beyond|too large|must hold", str(error)), error
