"""Averages in the post engine against NumPy: float32 sums of a term a tile, and the steps that they reach."""

import numpy as np
import pytest
from hdl.post.test_post import (
    DEPTH,
    OUTPUT_BYTES,
    config,
    expected_bytes,
    random_command,
    random_memories,
    random_pair,
    random_sums,
    run,
)

from pearray.hdl.post.average import SEARCH, STATES, AverageWalk
from pearray.hdl.post.engine import Post as Engine
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.shell.commands import Rounding

#: What must be zero.
NONE = {"pair": 0, "bias": 0, "bias_nstep": 0, "per_channel": 0, "scale_nstep": 0, "table": 0, "out_nstep": 0}


def random_average(rng, target, *, terms=True, resume=False, search=True, tiles=None):
    """Draw a command of averages."""
    groups = target.sum_columns // target.post.lanes
    m_count = int(rng.integers(1, 1 + min(8, STATES // groups, OUTPUT_BYTES // target.sum_columns // 4)))
    tiles = (int(rng.integers(1, 6)) if tiles is None else tiles) if terms else 1
    # A scale of one leaves the number of a step as it is.
    return random_command(rng, target, Rounding.ONNX) | NONE | {
        "average": int(terms), "resume": int(resume), "search": int(search), "m_count": m_count, "scale_base": 0,
        "n_count": tiles + SEARCH * search, "zero_point": -128, "low": -128, "high": 127,
        "out_mstep": target.sum_columns}


def with_tables(rng, target, memories, sums, real):
    """Put terms of any magnitude and sign into the first table, and rising steps into the second."""
    words = np.zeros((256, pair_words(target)), np.int32)
    terms = (rng.uniform(-1, 1, 256) * 2.0 ** rng.integers(-12, 4, 256)).astype(np.float32)
    steps = np.sort((rng.uniform(-1, 1, 256) * 2.0 ** rng.integers(-8, 4, 256)).astype(np.float32))
    words[:, 0] = terms.view(np.int32)
    words[:, 1] = order(steps) if real else np.sort(rng.choice(sums.ravel(), 256))
    scale = memories[3].reshape(-1, 8).copy()
    scale[:target.post.lanes, :4] = np.ones(target.post.lanes, "<f4").view(np.uint8).reshape(-1, 4)
    return memories | {target.pair_memory: words.astype("<i4").view(np.uint8).reshape(-1), 3: scale.reshape(-1)}


def order(numbers):
    """Integers that rise with float32 numbers."""
    bits = numbers.view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def expected(target, sums, memories, commands):
    """Apply the definition of averages, one output at a time; others as ever."""
    words, written, states, counts = memories[target.pair_memory].view("<i4").reshape(256, -1), {}, {}, []
    groups = target.sum_columns // target.post.lanes
    for c in commands:
        if not (c.get("average") or c.get("search")):
            some, _ = expected_bytes(target, sums, memories, [c])
            written |= {at: some[at] for at in np.flatnonzero(some >= 0)}
            counts.append(c["n_count"] * c["m_count"] * groups)
            continue
        for m, column in np.ndindex(c["m_count"], target.sum_columns):
            state = states.get((m, column), np.float32(0)) if c["resume"] else np.float32(0)
            for n in range(c["n_count"] - SEARCH * c["search"]):
                found = sums[c["bank"], (c["acc_base"] + n * c["acc_nstep"] + m) % DEPTH, column]
                state = state + words[found & 255, :1].view(np.float32)[0] if c["average"] else np.int64(found)
            states[m, column] = state
            if c["search"]:
                level = order(np.float32([state]))[0] if c["average"] else state
                step = int(np.searchsorted(words[1:, 1], level, "right")) - 128
                at = c["out_base"] + m * c["out_mstep"] + column
                written[at % OUTPUT_BYTES] = step & 255
        counts.append(c["m_count"] * groups if c["search"] else 0)
    full = np.full(OUTPUT_BYTES, -1)
    full[list(written)] = list(written.values())
    return full, counts


def check(rng, target, commands, real=True, **options):
    sums = random_sums(rng, target)
    memories = with_tables(rng, target, random_memories(rng, target), sums, real)
    written, seen = run(rng, target, sums, memories, commands, **options)
    wanted, counts = expected(target, sums, memories, commands)
    wrong = np.flatnonzero(written != wanted)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]} "
                            f"instead of {wanted[wrong[0]]}")
    assert seen["done"] == np.cumsum(counts).tolist(), "a command was not done after its own last write"
    assert seen["output_writes"] == sum(counts)
    return seen


@pytest.mark.parametrize(("lanes", "cols", "data_width"), [(2, 8, 64), (1, 1, 32), (4, 4, 64), (2, 24, 128)])
def test_averages(rng, lanes, cols, data_width):
    """Averages among other commands: a term too early or late, a wrong state, step or setting leaves wrong outputs."""
    target = config(lanes, cols, data_width=data_width, pairs=1, averages=1)

    def others():
        kind = random_pair if rng.random() < 0.5 else random_command
        return kind(rng, target, groups=int(rng.integers(2, 20)))

    commands = []
    for _ in range(3):
        commands += [random_average(rng, target), others(), random_average(rng, target, search=False)]
        # The same states.
        last = commands[-1]
        commands += [random_average(rng, target, resume=True) | {"m_count": last["m_count"]}]
    check(rng, target, commands)
    check(rng, target, commands[:4], stalls=True)


def test_integers(rng):
    """Sums that are looked for as they are must not be taken for float32 numbers, nor wait for additions."""
    target = config(2, 8, pairs=1, averages=1)
    commands = [random_average(rng, target, terms=False) for _ in range(4)]
    check(rng, target, commands, real=False)


def test_time_of_averages(rng):
    """The compiler's timing reads here how long tiles of few and of many groups take."""
    target = config(2, 8, pairs=1, averages=1)
    for rows in (1, 2, 8):
        command = random_average(rng, target, tiles=3) | {"m_count": rows}
        seen, groups = check(rng, target, [command]), rows * 4
        assert seen["reads"] == seen["groups"] == 3 * groups
        writes = np.array(seen["writes"])
        tiles = (3 + SEARCH - 1) * max(groups, AverageWalk.PERIOD)
        assert writes[0] - seen["first_read"] == seen["latency"] + Engine.pair_delay_of(target) + tiles
        assert writes[-1] - writes[0] + 1 == groups
