"""Every operator with every feature on the RTL, against onnxruntime, LiteRT or an int64 einsum, with drawn shapes."""

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase

import pearray as pe

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

from kinds import SMALL
from operator_cases import FAMILIES, WIDTHS
from slow import slow

#: Both are built by other tests as well.
CONFIGURATIONS = ("systolic-8x8", SMALL["systolic"])

#: Accelerators of other widths: one that other tests build, and one that is built for this test alone.
OTHERS = {16: SMALL["systolic-16"], 4: pe.load_config(SMALL["systolic"], overrides={"array.operand_bits": 4}).hardware}

#: Drawn cases of a family; an exact addition is searched for, which takes long.
EXAMPLES = {"add": 8}


def check(strategy, seed, examples, configurations):
    """Compare golden model and RTL with the runtime on drawn cases, on one configuration after another.

    Averages that depend on the order of float32's additions are refused; few may be.
    """
    tried = done = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=False,
                         phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(strategy())
    def compare(case):
        nonlocal tried, done
        tried += 1
        expected = case.expected()
        golden = pe.golden_run(case.operator, case.tensors)["y"]
        on = configurations[tried % len(configurations)]
        try:
            actual = pe.run(case.operator, case.tensors, on=on, effort=0).outputs["y"]
        except pe.PearrayError as error:
            if "can't be computed exactly" not in str(error):
                raise
            actual = golden
        else:
            done += 1
        for result in (golden, actual):
            assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(result, expected)

    compare()
    assert done > 0.7 * tried


@pytest.mark.parametrize("family", FAMILIES)
def test_rtl_equals_the_runtime(family, seed):
    """A stride, padding, dilation, group, zero point, scale or rounding that differs shows as an element."""
    check(FAMILIES[family], seed, EXAMPLES.get(family, 16), CONFIGURATIONS)


@pytest.mark.parametrize(("family", "bits"), [
    (family, bits) if bits == 16 else slow(family, bits) for family, bits in WIDTHS.items()])
def test_rtl_of_other_widths_equals_an_einsum(family, bits, seed):
    """Operands of another width take other paths through scratchpads, PEs, accumulators and requantisation."""
    check(family, seed, 16, [OTHERS[bits]])
