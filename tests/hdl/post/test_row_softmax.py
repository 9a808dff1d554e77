"""Passes over rows of a softmax in the post engine, against the golden models of LiteRT's and onnxruntime's rule."""

import numpy as np
import pytest
from post_commands import DEPTH, OUTPUT_BYTES, config, random_memories, run

from pearray.golden import litert, quantised
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.shell.commands import Rounding


class Block:
    """Rows of scores in a bank, of some columns of each row of sums, with states and outputs of their own."""

    def __init__(self, rng, target, bank, most):
        self.cols, self.groups, self.bank = target.sum_columns, target.sum_columns // target.post.lanes, bank
        self.width = int(rng.integers(max(self.cols - 2, 1), self.cols + 1))
        self.each = int(rng.integers(1, 5))
        self.rows = int(rng.integers(1, most // self.each + 1))
        self.last = int(rng.integers(1, max(self.width, 2)))
        self.state = 128 * bank + int(rng.integers(0, 128 - self.rows))
        self.base = int(rng.integers(0, DEPTH - most + 1))
        self.dtype = (np.int8, np.uint8)[rng.integers(2)]
        self.low, high = int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max)
        columns = np.arange(self.cols)
        self.counts = np.broadcast_to(columns < self.width, (self.each, self.cols)).copy()
        self.counts[-1] = columns < self.last
        scores = self.low + rng.integers(0, 128, (self.rows, self.each, self.cols)) // rng.choice([1, 4, 40])
        # What does not count is so far above that nothing of the others would be left.
        self.sums = np.where(self.counts, scores, high)

    def put(self, sums):
        """Put the block's rows in a bank."""
        sums[self.bank, self.base:self.base + self.rows * self.each] = self.sums.reshape(-1, self.cols)

    @property
    def length(self):
        """Scores of a row."""
        return int(self.counts.sum())

    @property
    def out_base(self):
        """Where outputs begin."""
        return self.bank * OUTPUT_BYTES // 2

    def command(self, number, is_float):
        """One of the three passes."""
        body = {
            "rounding": Rounding.TFLITE_DOUBLE, "row_pass": number, "bank": self.bank, "n_count": 1,
            "m_count": self.rows * self.each, "acc_base": self.base, "acc_nstep": self.each, "bias_nstep": self.last,
            "bias_mstep": self.width, "scale_nstep": self.state, "zero_point": self.low, "low": self.low,
            "high": self.low + 255, "out_base": self.out_base, "out_mstep": self.cols}
        if is_float:
            body |= {"rounding": Rounding.ONNX, "float_row": 1, "bias_base": 256}
            if number == 2:
                body |= {"m_count": self.rows, "n_count": self.each * self.groups}
        return body

    def expected(self, scale, is_float):
        """Places in the output scratchpad, and bytes there, of the scores that count."""
        where = self.out_base + np.arange(self.rows * self.each * self.cols).reshape(self.sums.shape)
        x = self.sums[:, self.counts].astype(self.dtype)
        y = quantised.softmax(x, scale, 0, 1 / 256, self.low) if is_float else litert.softmax(x, scale)
        return where[:, self.counts], y.view(np.uint8)


def check(rng, target, is_float, order):
    """Run passes over two blocks, each a block and the number of its pass, and compare what they write."""
    scale = float(np.exp2(rng.uniform(-2, 1)))
    blocks = [Block(rng, target, bank, 16) for bank in range(2)]
    sums = rng.integers(-128, 256, (2, DEPTH, target.sum_columns))
    for block in blocks:
        block.put(sums)
    words = np.zeros((256, pair_words(target)), np.int32)
    # One table serves rows of any length, though onnxruntime's begins lower where there are more terms.
    words[:, 0] = (quantised.softmax_terms(scale, blocks[0].length).view(np.int32) if is_float
                   else litert.softmax_terms(scale))
    words[:, 2:] = rng.integers(-(1 << 31), 1 << 31, words[:, 2:].shape)
    memories = random_memories(rng, target) | {target.pair_memory: words.view(np.uint8).reshape(-1)}
    commands = [blocks[block].command(number, is_float) for block, number in order]
    written, seen = run(rng, target, sums, memories, commands, stalls=bool(rng.integers(2)))
    for number in {block for block, _ in order}:
        where, wanted = blocks[number].expected(scale, is_float)
        np.testing.assert_array_equal(written[where], wanted)
    groups = [block.rows * block.each * block.groups for block in blocks]
    assert seen["groups"] == sum(groups[block] for block, _ in order)
    assert seen["output_writes"] == sum(groups[block] for block, number in order if number == 3)


#: Passes over a block under those over another, and one after the other.
ORDERS = [[(0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (1, 3)], [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]]


@pytest.mark.parametrize(("lanes", "cols", "width", "averages"), [
    (2, 8, 64, 0), (4, 4, 32, 1), (1, 4, 64, 0), (4, 8, 128, 0)])
def test_passes(rng, lanes, cols, width, averages):
    """A greatest byte, a total or a reciprocal of another row, or one that is late, gives other shares."""
    target = config(lanes, cols, data_width=width, pairs=1, averages=averages, row_softmax=1)
    check(rng, target, False, ORDERS[rng.integers(2)])


@pytest.mark.parametrize(("lanes", "cols", "averages"), [(2, 8, 0), (4, 4, 1), (1, 4, 0)])
def test_float_passes(rng, lanes, cols, averages):
    """Terms in another order, of another row, or of one whose sum was late, or a quotient cut off give other shares."""
    target = config(lanes, cols, pairs=1, averages=averages, row_softmax=1, float_softmax=1)
    # Totals begin again, whatever stood there.
    check(rng, target, True, [(0, number) for number in (1, 2, 2, 3)])
    check(rng, target, False, [(0, number) for number in (1, 2, 2, 3)])
