"""Tables of GELU, its tanh form and SiLU against PyTorch in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import gates
from pearray.golden.activation import apply_table

THEIRS = {"gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu,
          "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh")}


@pytest.mark.parametrize("name", gates.FUNCTIONS)
@settings(max_examples=40)
@given(st.sampled_from((np.int8, np.uint8)), st.floats(-10, 3), st.floats(-8, 0), st.integers(0, 127))
def test_tables_are_within_half_a_step(name, dtype, x_exponent, y_exponent, point):
    """If it failed, an entry would be rounded to the wrong side, or be that of another function."""
    x_scale, y_scale = 2.0 ** x_exponent, 2.0 ** y_exponent
    every = np.arange(256, dtype=np.uint8).view(dtype)
    entries = gates.table(name, x_scale, point, y_scale, point, dtype)
    exact = THEIRS[name](torch.tensor((every.astype(np.float64) - point) * x_scale)).numpy() / y_scale + point
    bounds = np.iinfo(dtype)
    found = apply_table(every, entries).astype(np.float64)
    assert np.abs(found - np.clip(exact, bounds.min, bounds.max)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("name", gates.FUNCTIONS)
def test_far_arguments_do_not_overflow(name):
    """If it failed, a large scale would end in an error of the exponential."""
    entries = gates.table(name, 1e6, 0, 1.0, 0)
    assert entries[:128].tolist() == [0] + [127] * 127
    assert not entries[128:].any()


@pytest.mark.parametrize(("arguments", "message"), [
    (("relu", 1.0, 0, 1.0, 0), "function must be gelu, gelu_tanh, silu, and dtype int8 or uint8, not 'relu' of int8"),
    (("silu", 0.0, 0, 1.0, 0), "x_scale must be finite and positive, not 0.0"),
    (("silu", 1.0, 0, float("inf"), 0), "y_scale must be finite and positive, not inf"),
])
def test_refuses_what_does_not_fit(arguments, message):
    """If it failed, a table would be made of nothing."""
    with pytest.raises(ValueError, match=message):
        gates.table(*arguments)
