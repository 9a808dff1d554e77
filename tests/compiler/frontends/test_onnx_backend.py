"""ONNX's own node tests between DequantizeLinear and QuantizeLinear, and as they are: none is computed wrong."""

import warnings

import numpy as np
import pytest
from onnx_backend import VARIANTS, cases, judge, shipped, wrapped

pytestmark = pytest.mark.slow

#: Operators that are within a bound of the float one, not equal to it, which tests of their own check.
BOUNDED = ("LayerNormalization", "RMSNormalization", "RotaryEmbedding", "Attention")


@pytest.fixture(scope="module")
def nodes():
    """Node tests by operator; their makers divide by zero, and cast what does not fit, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in cases() if case[1].graph.node[0].op_type not in BOUNDED]


def judged(nodes, dtypes, variants):
    """Count what becomes of node tests as they are and in their wrapped forms, after checking that none is wrong."""
    counts = {"exact": 0, "refused": 0, "unknown": 0}
    for name, model, inputs, outputs in nodes:
        trials = [wrapped(model, inputs, outputs, dtype, variant) for dtype in dtypes for variant in variants]
        found = [judge(*trial) for trial in trials if trial is not None]
        found += [judge(*shipped(model, inputs), outputs)] if inputs else []
        for result in found:
            assert not result.startswith("wrong"), f"{name}: {result}"
            assert "\n" not in result
            counts[result.partition(":")[0]] += 1
    return counts


def test_no_node_is_computed_wrong(nodes):
    """Whatever an exporter writes is exact or refused with a reason."""
    counts = judged(nodes, (np.int8, np.uint8), VARIANTS)
    assert counts["exact"] >= 1750, counts


def test_integer_nodes_as_shipped(nodes):
    """What the standard has on integers is exact, but for what needs scales that are found during a run."""
    kinds = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear",
             "DynamicQuantizeLinear")
    found = {name: judge(*shipped(model, inputs), outputs) for name, model, inputs, outputs in nodes
             if model.graph.node[0].op_type in kinds and inputs}
    exact = {name for name, result in found.items() if result == "exact"}
    assert {"test_convinteger_without_padding", "test_matmulinteger", "test_qlinearconv"} <= exact
    assert all("a program has fixed ones" in result for name, result in found.items() if "dynamicquant" in name)
