"""Operators and layers on the RTL of row-stationary accelerators, from the compiler to the bits of the outputs."""

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from fixed_layers import fixed_conv, fixed_gemm
from hypothesis import HealthCheck, Phase

import pearray as pe
from pearray.compiler.graph import Graph
from pearray.golden.cost import ConvLayer
from pearray.golden.row_stationary import LayerMapping, Mapping

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

from operator_cases import FAMILIES

#: Both are built by test_row_stationary.py as well.
NARROW = pe.load_config(Path(__file__).parents[1] / "cocotb" / "row_stationary.toml")
WIDE = pe.load_config("eyeriss", overrides={
    "array.rows": 4, "array.cols": 3, "pe.filter_words": 40, "pe.psum_words": 8, "global_buffer.banks": 20,
    "global_buffer.bank_lines": 64, "memory.data_width": 32})


@pytest.mark.parametrize("family", FAMILIES)
def test_rtl_equals_the_runtime(family, seed):
    """A set, tag, walk, maximum, bias or requantisation that differs shows as an element."""
    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=4 if family == "add" else 8, deadline=None, database=None, derandomize=False,
                         phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(FAMILIES[family]())
    def compare(case):
        expected = case.expected()
        actual = pe.run(case.operator, case.tensors, on=NARROW).outputs["y"]
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected, f"RTL, {case!r}")

    compare()


def predicted(operator, tensors, mapping):
    """Counts of a convolution in closed form."""
    (n, c, h, w), (m, _, r, s) = tensors["x"].shape, tensors["w"].shape
    layer = ConvLayer(name="conv", c=c, h=h, w=w, m=m, r=r, s=s, stride=operator.stride, padding=operator.padding,
                      dilation=operator.dilation)
    mapped = LayerMapping(layer=layer, mapping=Mapping(**mapping), batch=n)
    return mapped.counts(bias="b" in tensors) | {"active_pes": mapped.active_pes}


@pytest.mark.parametrize("maker", [fixed_conv, fixed_gemm])
def test_fixed_point(rng, maker):
    """Truncation, wrapping, codes and stores of the RTL against golden; every access against the closed form."""
    for _ in range(25):
        operator, tensors = maker(rng)
        result = pe.run(operator, tensors, on=WIDE)
        expected = pe.golden_run(operator, tensors)["y"]
        np.testing.assert_array_equal(result.outputs["y"], expected, f"{Graph.of(operator, tensors).nodes}")
        if maker is fixed_conv and operator.groups == 1 and tensors["w"][0, 0].size > 1:
            counters = result.layers[0].counters
            counters |= {"products": counters["macs"] + counters["gated"]}
            wanted = predicted(operator, tensors, result.layers[0].mapping)
            assert {name: counters[name] for name in wanted} == wanted
