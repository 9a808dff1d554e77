"""Setups of the row-stationary array, decoded again."""

import numpy as np
from fixed_layers import configuration

from pearray.compiler.row_stationary.setup import Placement, decode_setups, setup_lines, setup_size


def test_chains(rng):
    """A PE out of place, a wrong end of a chain or a wrong tag would add other products or wait for ever."""
    for _ in range(30):
        rows, cols = (int(size) for size in rng.integers(1, 9, 2))
        height = int(rng.integers(1, rows + 1))
        r = int(rng.integers(1, rows // height + 1))
        room = cols * (rows // (height * r))
        e = int(rng.integers(1, room + 1))
        t = int(rng.integers(1, room // e + 1))
        groups = int(rng.integers(1, room // (e * t) + 1))
        config = configuration(rows, cols, int(rng.choice([8, 16])), filter_banks=4)
        data = setup_lines(Placement(height, e, groups, t, r, 2, 1), config)
        assert len(data) == setup_size(config) * 8
        setup = decode_setups(data, config)
        assert setup["active"].sum() == height * r * e * t * groups
        assert setup["top"].sum() == setup["bottom"].sum() == e * t * groups
        for row, column in zip(*np.nonzero(setup["active"]), strict=True):
            pe = {name: value[row, column] for name, value in setup.items()}
            if not pe["top"]:
                above = {name: value[row - 1, column] for name, value in setup.items()}
                assert (above["psums_row"], above["psums_col"]) == (pe["psums_row"], pe["psums_col"])
            assert pe["ifmap_col"] == 2 * pe["psums_col"] + pe["filters_col"]
            assert pe["filters_row"] == pe["psums_row"] * r + pe["ifmap_row"] % r
            assert pe["ifmap_row"] // r == pe["psums_row"] // t
