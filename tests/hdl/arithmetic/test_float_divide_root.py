# amaranth: UnusedElaboratable=no
"""Quotients and square roots of float32 numbers against NumPy's, bit by bit."""

import numpy as np
import pytest
from float_draws import wrong
from pipelines import run
from slow import slow
from unit_draws import draw_quotients, draw_squares, quotients_and_roots, results_of_rounds, turns

from pearray.hdl.arithmetic.float_divide_root import FloatDivideRoot


@pytest.mark.parametrize("places", [16, slow(8)])
def test_quotients_and_roots_are_those_of_numpy(rng, places):
    """A bit found too late, a rest that is not seen, or one number's bits in another's would show."""
    count = 60
    a, b = draw_quotients(rng, count)
    order = rng.permutation(a.shape[0] * 2)[:320]
    squares = draw_squares(rng, a.shape[0])[:a.shape[0]]
    root = (np.arange(2 * a.shape[0]) >= a.shape[0])[order]
    a, b = np.concatenate([a, squares])[order], np.concatenate([b, squares])[order]
    dut = FloatDivideRoot(places)
    count = len(turns(a, places)) // FloatDivideRoot.ROUNDS // places
    rounds = np.tile(np.repeat(np.arange(FloatDivideRoot.ROUNDS), places), count)
    found = run(dut, {"a": turns(a, places), "b": turns(b, places), "root": turns(root, places), "round": rounds},
                "result", FloatDivideRoot.LATENCY)
    assert not wrong(results_of_rounds(found, len(a), places), quotients_and_roots(a, b, root), a, b, root)
