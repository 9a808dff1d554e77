"""Passes over rows of a softmax in the post engine, against LiteRT's rule, and their time."""

import numpy as np
import pytest
from post_commands import DEPTH, OUTPUT_BYTES, config, random_memories, run

from pearray.golden import litert
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.shell.commands import Rounding


def memories(rng, target, scale):
    """Memories of drawn constants, and tables of pairs of which the first has exponentials."""
    words = np.zeros((256, pair_words(target)), np.int32)
    words[:, 0] = litert.softmax_terms(scale)
    words[:, 2:] = rng.integers(-(1 << 31), 1 << 31, words[:, 2:].shape)
    return random_memories(rng, target) | {target.pair_memory: words.view(np.uint8).reshape(-1)}


class Block:
    """Rows of scores in a bank, of some columns of each row of sums, with states and outputs of their own."""

    def __init__(self, rng, target, bank, out_base, most):
        self.cols, self.bank, self.out_base = target.sum_columns, bank, out_base
        self.width = int(rng.integers(1, self.cols + 1))
        self.each = int(rng.integers(1, 5))
        self.rows = int(rng.integers(1, most // self.each + 1))
        self.last = int(rng.integers(1, self.width + 1))
        self.state, self.base = int(rng.integers(0, 256 - self.rows)), int(rng.integers(0, DEPTH - most + 1))
        self.dtype = (np.int8, np.uint8)[rng.integers(2)]
        info = np.iinfo(self.dtype)
        bytes_ = rng.integers(info.min, info.max + 1, (self.rows, self.each, self.cols)) // rng.choice([1, 4, 40])
        # What does not count is as great as any.
        self.sums = bytes_
        columns = np.arange(self.cols)
        self.counts = np.broadcast_to(columns < self.width, (self.each, self.cols)).copy()
        self.counts[-1] = columns < self.last

    def put(self, sums):
        """Put the block's rows in a bank."""
        sums[self.bank, self.base:self.base + self.rows * self.each] = self.sums.reshape(-1, self.cols)

    def command(self, number):
        """One of the three passes."""
        low = int(np.iinfo(self.dtype).min)
        return {
            "rounding": Rounding.TFLITE_DOUBLE, "row_pass": number, "bank": self.bank, "n_count": 1,
            "m_count": self.rows * self.each, "acc_base": self.base, "acc_nstep": self.each, "bias_nstep": self.last,
            "bias_mstep": self.width, "scale_nstep": self.state, "zero_point": low, "low": low, "high": low + 255,
            "out_base": self.out_base, "out_mstep": self.cols}

    def expected(self, scale):
        """Places in the output scratchpad, and bytes there, of the scores that count."""
        where = self.out_base + np.arange(self.rows * self.each * self.cols).reshape(self.sums.shape)
        x = self.sums[:, self.counts].astype(self.dtype)
        return where[:, self.counts] % OUTPUT_BYTES, litert.softmax(x, scale).view(np.uint8)


@pytest.mark.parametrize(("lanes", "cols", "width", "averages"), [
    (2, 8, 64, 0), (4, 4, 32, 1), (1, 4, 64, 0), (4, 8, 128, 0)])
def test_passes(rng, lanes, cols, width, averages):
    """A greatest byte, a total or a reciprocal of another row, or one that is late, gives other shares."""
    target = config(lanes, cols, data_width=width, pairs=1, averages=averages, row_softmax=1)
    scale = float(np.exp2(rng.uniform(-8, 1)))
    blocks = [Block(rng, target, bank, 1024 * bank, 16) for bank in range(2)]
    while (blocks[0].state < blocks[1].state + blocks[1].rows) and (
            blocks[1].state < blocks[0].state + blocks[0].rows):
        blocks[1].state = int(rng.integers(0, 256 - blocks[1].rows))
    sums = rng.integers(-128, 256, (2, DEPTH, cols))
    for block in blocks:
        block.put(sums)
    order = [(0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (1, 3)] if rng.random() < 0.7 else [
        (block, number) for block in range(2) for number in (1, 2, 3)]
    commands = [blocks[block].command(number) for block, number in order]
    written, seen = run(rng, target, sums, memories(rng, target, scale), commands, stalls=bool(rng.integers(2)))
    for block in blocks:
        where, wanted = block.expected(scale)
        np.testing.assert_array_equal(written[where], wanted)
    groups = [block.rows * block.each * cols // lanes for block in blocks]
    assert (seen["groups"], seen["output_writes"]) == (3 * sum(groups), sum(groups))
