# amaranth: UnusedElaboratable=no
"""Rows that the post engine normalises, against Python's integers, and when they come."""

import numpy as np
import pytest
from norm_commands import NormModel, layer_commands
from post_commands import DEPTH, config, expected_bytes, random_command, random_memories, random_sums, run

from pearray.hdl.post.engine import Post
from pearray.hdl.post.norms import Norms


def elements(rng, target):
    """Sums that are elements: int8 or uint8 less a zero point, some rows level, some extreme."""
    shape = (2, DEPTH, target.sum_columns)
    drawn = rng.integers(-255, 256, shape) >> rng.integers(0, 9, shape[:2])[:, :, None]
    level = rng.random(shape[:2]) < 0.2
    return np.where(level[:, :, None], rng.choice([-255, 255, 7], shape[:2])[:, :, None], drawn)


def check(rng, target, commands, sums=None, **options):
    sums, memories = elements(rng, target) if sums is None else sums, random_memories(rng, target)
    written, seen = run(rng, target, sums, memories, commands, **options)
    model = NormModel(target, sums, memories)
    for command in commands:
        if command.get("moments"):
            model.moments(command)
        elif command.get("normed"):
            model.normed(command)
        else:
            other, _ = expected_bytes(target, sums, memories, [command])
            model.written = np.where(other < 0, model.written, other)
    wrong = np.flatnonzero(written != model.written)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]} "
                            f"instead of {model.written[wrong[0]]}")
    return seen


@pytest.mark.parametrize(("lanes", "cols", "data_width", "functions"), [
    (2, 4, 64, {}), (1, 1, 32, {}), (4, 4, 32, {}), (1, 8, 128, {}), (4, 8, 64, {"transposed": 1, "softmax": 1}),
    (2, 4, 64, {"pairs": 1, "averages": 1, "products": 1, "maxima": 1}),
])
def test_rows(rng, lanes, cols, data_width, functions):
    """A wrong element, sum, square, root, gain, bias, scale, row or delay leaves wrong outputs, here or behind."""
    target = config(lanes, cols, data_width=data_width, norms=1, channels=64 * lanes, **functions)
    commands = []
    for _ in range(4):
        tiles = int(rng.integers(1, 5))
        rows = int(rng.integers(1, 5))
        cuts = int(rng.integers(1, tiles + 1)) if rng.random() < 0.4 else 1
        moments, normed = layer_commands(rng, target, rows=rows, tiles=tiles, cuts=cuts, pair=int(rng.integers(2)))
        commands += [*moments, normed, random_command(rng, target, groups=12)]
    check(rng, target, commands, stalls=bool(rng.integers(2)))


@pytest.mark.parametrize(("lanes", "functions"), [(4, {}), (1, {"averages": 1}), (2, {"row_softmax": 1})])
def test_rows_of_pairs(rng, lanes, functions):
    """Rows of pairs and others take turns: each element is of its own group, without a fraction, and saturated."""
    target = config(lanes, 4, norms=1, pairs=1, **functions)
    commands = []
    for cuts, pair in ((1, 1), (1, 0), (2, 1), (3, 0)):
        moments, normed = layer_commands(rng, target, rows=3, tiles=3, cuts=cuts, pair=pair, centred=1, elements=12,
                                         addend=3 << 16)
        commands += [command | {"bank": pair} for command in (*({**each, "bias_nstep": 13} for each in moments),
                                                              normed | {"bias": 0})]
    sums = np.stack([elements(rng, target)[0], random_sums(rng, target)[1]])
    check(rng, target, commands, sums)


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize(("size", "fraction"), [(12, 13), (30000, 14)])
def test_each_part_counts(rng, centred, size, fraction):
    """Sums, squares, roots, gains and biases of four rows of three parts; normalised elements in range, or clipped."""
    target = config(2, 4, norms=1)
    moments, normed = layer_commands(rng, target, rows=4, tiles=3, centred=centred, elements=size, addend=3 << 16)
    check(rng, target, [*({**command, "bias_nstep": fraction} for command in moments), normed | {"bias": 1}])


def test_rows_come_part_by_part(rng):
    """A row that is given in several commands has the sums of all of them, and no other row has."""
    target = config(2, 4, norms=1)
    moments, normed = layer_commands(rng, target, rows=3, tiles=4, cuts=3)
    assert len(moments) == 9
    check(rng, target, [*moments, normed])


@pytest.mark.parametrize("pairs", [0, 1])
@pytest.mark.parametrize(("rows", "tiles"), [(1, 2), (7, 1), (2, 12)])
def test_time_of_roots(rng, rows, tiles, pairs):
    """A command that waits for roots begins when the model of time says; if it did not wait, it would read old ones."""
    target = config(4, 8, norms=1, pairs=pairs)
    groups, behind = 2 * tiles, int(rows > 1)
    moments, normed = layer_commands(rng, target, rows=rows, tiles=tiles, behind=behind, centred=1, elements=8 * tiles,
                                     addend=3 << 16, pair=pairs)
    moments = [command | {"bias_nstep": 13} for command in moments]
    # Only as many rows as it need not wait for are left out.
    seen = check(rng, target, [*moments, normed | {"n_count": rows - behind, "bias": 0}])
    found = []
    for row in range(rows):
        own = (row + 1) * groups - 1 + Post.root_delay_of(target)
        found.append(max(own, found[-1] + Norms.PERIOD if found else 0))
    first = found[-1 - behind]
    assert seen["writes"][0] - seen["first_read"] == first + seen["latency"] + Post.norm_delay_of(target)
    assert seen["reads"] == groups * (2 * rows - behind)


@pytest.mark.parametrize(("fields", "message"), [
    ({"bias": 1}, "norm_fields: a field is set that it has no place for"),
    ({"table": 1}, "norm_fields: a field is set that it has no place for"),
])
def test_fields_without_a_place_break_a_rule(rng, fields, message):
    """A command of moments with a bias, which nothing would add, is a fault of whoever wrote it."""
    target = config(2, 4, norms=1)
    moments, _ = layer_commands(rng, target, rows=2, tiles=1)
    with pytest.raises(AssertionError, match=message):
        check(rng, target, [moments[0] | fields])


def test_other_settings_wait_for_all_roots(rng):
    """A layer that begins while rows of another wait would give those its own number of elements."""
    target = config(2, 4, norms=1)
    (first,), _ = layer_commands(rng, target, rows=4, tiles=1, elements=10)
    (second,), _ = layer_commands(rng, target, rows=1, tiles=1, elements=11)
    with pytest.raises(AssertionError, match="norm_settings: rows of another command have yet to get their roots"):
        run(rng, target, elements(rng, target), random_memories(rng, target), [first, second | {"behind": 64}])
