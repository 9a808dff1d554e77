# amaranth: UnusedElaboratable=no
"""Softmax of rows of scores that are several lines of a global buffer, against the golden model."""

import numpy as np
from post_commands import DEPTH, line_config, random_memories, run

from pearray.golden import requantise as golden
from pearray.golden.fused_attention import HIDDEN, SoftmaxState, quotient, scores_in_octaves, softmax_block
from pearray.hdl.shell.commands import Parameter, Rounding

HALF = 1 << 16


def _scores(rng, lines):
    """Sums that lie close together or far apart, and a factor with which they spread over some octaves."""
    spread = rng.integers(8, 31, (lines, 1))
    return rng.integers(-(1 << 30), 1 << 30, (lines, 2)) >> spread, np.float32(2.0 ** rng.uniform(-6, 4))


def test_rows_of_lines(rng):
    """A row's greatest score, mask, number in its nudges or state would be those of a line, or of another row."""
    target = line_config(softmax=1)
    columns, lines = target.score_columns, target.score_columns // 2
    count = DEPTH // lines
    assert (columns, count) == (8, 8)
    sums, scale = _scores(rng, DEPTH)
    memories = random_memories(rng, target)
    memories[Parameter.SCALE] = np.tile(np.array([scale, 0], np.float32).view(np.uint8),
                                        len(memories[Parameter.SCALE]) // 8)
    commands, wanted, shifts, at = [], [], [], 0
    state, quotients = SoftmaxState.empty(target.score_rows), np.zeros(target.score_rows, np.float32)
    for number in range(7):
        rows = int(rng.integers(1, count + 1))
        first, base = int(rng.integers(count - rows + 1)), int(rng.integers(3, 12 - rows))
        last, begin, slope = (int(each) for each in (rng.integers(0, 12), rng.integers(-9, 6), rng.integers(2)))
        factor = np.float32(2.0 ** rng.uniform(8, 20))
        bits = int(factor.view(np.uint32))
        # All rows have a state before others are found from it.
        opens = number == 0
        if opens:
            rows, first, base = count, 0, 3
        commands.append({
            "rounding": Rounding.ONNX, "softmax": 1, "opens": int(opens), "slope": slope, "n_count": 1,
            "m_count": rows * lines, "acc_base": first * lines, "acc_nstep": last % HALF, "bias_nstep": begin % HALF,
            "scale_nstep": 100 + number, "out_nstep": base, "low": bits % HALF, "high": bits // HALF,
            "out_base": at, "out_mstep": 2})
        scores = sums[first * lines:(first + rows) * lines].reshape(rows, columns)
        m, j = np.arange(rows)[:, None], np.arange(columns)
        masked = (j >= last + slope * m) | (j < begin + slope * m) | (scores < HIDDEN)
        place = base + np.arange(rows)
        old = SoftmaxState.empty(rows) if opens else SoftmaxState(state.maximum[place], state.total[place])
        numerators, amounts, new = softmax_block(scores_in_octaves(scores, scale), masked, old)
        state.maximum[place], state.total[place] = new.maximum, new.total
        quotients[place] = quotient(factor, new.total)
        shifts += list(zip((100 + number + np.arange(rows)).tolist(), amounts.tolist(), strict=True))
        wanted += numerators.reshape(-1).tolist()
        at += rows * columns
    # Tiles of two lines, each scaled by the quotient of its own row.
    commands.append({
        "rounding": Rounding.ONNX, "normalise": 1, "low": -128, "high": 127, "n_count": 8, "m_count": 2, "acc_base": 3,
        "acc_nstep": 3, "scale_base": 3, "scale_nstep": 1, "out_base": at, "out_nstep": 4, "out_mstep": 2})
    tiles = sums[3 + 3 * np.arange(8)[:, None] + np.arange(2)].reshape(8, 4)
    wanted += (golden.onnx(tiles, quotients[3:11], 0, -128, 127, 0).astype(np.int64) & 255).reshape(-1).tolist()
    written, seen = run(rng, target, np.stack([sums, sums]), memories, commands, stalls=bool(rng.integers(2)))
    assert [(row, amount) for row, amount, _ in seen["shifts"]] == shifts
    assert written[:len(wanted)].tolist() == wanted
