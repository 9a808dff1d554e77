"""Every operator with every feature on the RTL, against onnxruntime or LiteRT, with drawn shapes."""

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase

import pearray as pe

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

from operator_cases import FAMILIES

#: Both are built by other tests as well.
CONFIGURATIONS = ("systolic-8x8", pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml"))

#: Drawn cases of each family; an exact addition is searched for, which takes long.
EXAMPLES = {"add": 10}


def compare(actual, expected):
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_rtl_equals_the_runtime(family, seed):
    """A stride, padding, dilation, group, zero point, scale or rounding that differs shows as an element."""
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=EXAMPLES.get(family, 30), deadline=None, database=None, derandomize=False,
                         phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(FAMILIES[family]())
    def check(case):
        nonlocal tried
        tried += 1
        expected = case.expected()
        compare(pe.golden_run(case.operator, case.tensors)["y"], expected)
        compare(pe.run(case.operator, case.tensors, on=CONFIGURATIONS[tried % 2]).outputs["y"], expected)

    check()
    assert tried
