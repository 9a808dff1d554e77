# amaranth: UnusedElaboratable=no
"""The hash against golden's, bit by bit."""

import numpy as np
import pytest
from float_draws import wrong
from pipelines import run

from pearray.golden.rounding import mix
from pearray.hdl.arithmetic.mix import Mix


@pytest.mark.parametrize("latency", [0, 4, Mix.MOST])
def test_hashes_are_those_of_golden(rng, latency):
    """With one wrong bit every rounding at random would be another on RTL, and none of them look wrong."""
    values = np.concatenate([rng.integers(0, 1 << 32, 300, dtype=np.uint32), np.arange(40, dtype=np.uint32)])
    assert not wrong(run(Mix(latency), {"value": values}, "mixed", latency), mix(values), values)
