"""ONNX models over all that the standard allows of quantised operators: the import is right, or says why not.

Each drawn model is imported and computed by the golden model, by onnxruntime with its optimisations off and fully on,
and by a float64 reference written from the standard's text. What is right:

* The reference names the outputs that are admissible: the nearest integer, or both neighbours where float32 may put a
  number on either side of half-way. All three must be among them.
* Where the runtime computes with an integer kernel, from the file or because it fused one, the golden model equals it
  in every element.
* Its optimiser is not asked where it is known to change the meaning (``Drawn.trusted``).
"""

import re

import numpy as np
import onnx_draw
import onnx_draw_integer
import onnxruntime
import pytest
from onnx_models import load, make_model, runtime

import pearray as pe

onnxruntime.set_default_logger_severity(4)

FAMILIES = onnx_draw.FAMILIES | onnx_draw_integer.FAMILIES

#: Models of a family.
COUNT = 40


def compare(case, model, folder):
    """Check one model; return what became of it, and how many runs the runtime refused."""
    def inside(output):
        values = case.integers(output)
        assert values.shape == case.least.shape
        return ((case.least <= values) & (values <= case.most)).all()

    runs = {False: None, True: None}
    if case.runtime:
        runs = {optimised: runtime(model, case.inputs, folder, optimised) for optimised in runs}
        for optimised, made in runs.items():
            assert made is None or (optimised and not case.trusted) or inside(made[0]), "the reference is wrong"
    refused = sum(made is None for made in runs.values()) if case.runtime else 0
    try:
        got = load(model, folder).graph().golden(case.inputs)[case.output]
    except pe.PearrayError as error:
        if re.fullmatch(r"node '[^']+' \([\w.]+\): .*", str(error)):
            return "refused", refused
        raise AssertionError(f"no node is named: {error}") from error
    assert inside(got)
    for optimised, made in runs.items():
        if made is not None:
            assert got.dtype == made[0].dtype
            if made[1] and (case.trusted or not optimised):
                np.testing.assert_array_equal(got, made[0])
    return "equal", refused


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_models(family, seed, tmp_path):
    """A scale, zero point, type, attribute or optional input that is dropped or misread makes other numbers."""
    ends, refused, runs, ambiguous, elements = {"equal": 0, "refused": 0}, 0, 0, 0, 0
    for number in range(COUNT):
        case = FAMILIES[family](np.random.default_rng([seed, number, list(FAMILIES).index(family)]))
        model = make_model(case.nodes, case.inputs, [case.output], case.constants, case.opset)
        try:
            end, missing = compare(case, model, tmp_path)
        except AssertionError as error:
            raise AssertionError(f"model {number}, {case.opset}, {case.nodes}: {error}") from error
        ends[end] += 1
        refused, runs = refused + missing, runs + 2 * case.runtime
        ambiguous += int((case.least != case.most).sum())
        elements += case.least.size
    # Without these the test could pass and compare nothing.
    assert ends["refused"] <= 0.3 * COUNT, ends
    assert refused <= 0.2 * runs
    assert ambiguous <= 0.2 * elements
