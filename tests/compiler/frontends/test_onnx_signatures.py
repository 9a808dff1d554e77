"""What com.microsoft's nodes must have, against onnxruntime's own list of operators."""

import re

import numpy as np
import onnxruntime.capi._pybind_state as runtime
import pytest
from onnx_models import MICROSOFT, load, make_model

import pearray as pe
from pearray.compiler.frontends.onnx.builder import HANDLERS
from pearray.compiler.frontends.onnx.signatures import SIGNATURES

#: onnxruntime has these under the standard's domain.
_STANDARD = ("SimplifiedLayerNormalization",)


def test_signatures_are_those_of_the_runtime():
    """If it failed, files that onnxruntime takes would be refused, or those taken that it calls invalid."""
    schemas = {schema.name: schema for schema in runtime.get_all_operator_schema()
               if schema.domain == ("" if schema.name in _STANDARD else MICROSOFT) and schema.name in SIGNATURES}
    assert {*schemas} == {*SIGNATURES}
    for name, schema in schemas.items():
        inputs, attributes = SIGNATURES[name]
        marks = {"Single": "", "Optional": "?", "Variadic": "*"}
        options = [marks[str(item.option).rpartition(".")[2]] for item in schema.inputs]
        assert [item[len(item.rstrip("?*")):] for item in inputs.split()] == options, name
        assert {*attributes.split()} == {key for key, value in schema.attributes.items() if value.required}, name


def test_every_operator_has_one():
    """One that is missing would be taken whatever it has."""
    assert {kind for domain, kind in HANDLERS if domain == MICROSOFT} <= {*SIGNATURES}


@pytest.mark.parametrize(("kind", "inputs", "attributes", "message"), [
    ("BiasGelu", ["x"], {}, "input B is missing; inputs are A, B, with ? where they may be absent"),
    ("BiasGelu", ["x", ""], {}, "input B is missing; "),
    ("Gelu", ["x", "b"], {}, "inputs must be at most 1, not 2"),
    ("QLinearSoftmax", ["x", "s", "z", "s"], {"opset": 13}, "input y_zero_point is missing; "),
    ("QLinearSoftmax", ["x", "s", "z", "s", "z"], {}, "attribute opset is missing"),
    ("QLinearAveragePool", ["x", "s", "z", "s", "z"], {}, "attribute kernel_shape is missing"),
    ("QLinearGlobalAveragePool", ["x", "s", "", "s", "z"], {}, "input x_zero_point is missing; "),
    ("MultiHeadAttention", ["x", "x", "x"], {}, "attribute num_heads is missing"),
    ("QLinearAdd", ["x", "s", "z", "u", "s", "u_z", "s", "z"], {},
     "A and B and C must be of one type, not int8 and uint8 and int8"),
    ("QLinearMul", ["x", "s", "z", "x", "s", "z", "s", "u_z"], {},
     "A and B and C must be of one type, not int8 and int8 and uint8"),
    ("QLinearAveragePool", ["x", "s", "z", "s", "u_z"], {"kernel_shape": [1, 1]},
     "x and y must be of one type, not int8 and uint8"),
    ("QLinearSoftmax", ["x", "s", "z", "s", "u_z"], {"opset": 13}, "Y_zero_point must be int8, as X is, not uint8"),
])
def test_invalid_nodes(tmp_path, kind, inputs, attributes, message):
    """A file that no runtime takes has no meaning; the message names the node and what it lacks."""
    constants = {"s": np.float32(1), "z": np.int8(0), "b": np.zeros(8, np.float32), "u_z": np.uint8(0),
                 "u": np.zeros((1, 2, 4, 8), np.uint8)}
    model = make_model([(f"{MICROSOFT}:{kind}", inputs, ["y"], attributes)], {"x": np.zeros((1, 2, 4, 8), np.int8)},
                       ["y"], constants)
    with pytest.raises(pe.PearrayError, match=re.escape(f"node '{kind} of y' ({MICROSOFT}.{kind}): {message}")):
        load(model, tmp_path).graph()
