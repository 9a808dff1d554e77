# amaranth: UnusedElaboratable=no
"""Softmax in the post engine against the golden model: numerators, shifts, and rows scaled by their quotients."""

import numpy as np
import pytest
from post_commands import (
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
from slow import slow

from pearray.golden import requantise as golden
from pearray.golden.fused_attention import EMPTY, HIDDEN, SoftmaxState, quotient, scores_in_octaves, softmax_block
from pearray.hdl.post.engine import Post as Engine
from pearray.hdl.shell.commands import Parameter, Rounding

#: Fields that commands of softmax have no place for.
NONE = {"n_count": 1, "zero_point": 0, "per_channel": 0, "table": 0, "rounding": Rounding.ONNX}


def random_softmax(rng, target, groups=60, m_count=None, **fields):
    """Draw a command of softmax; rows keep to the memories of states."""
    command = random_command(rng, target, Rounding.ONNX, groups)
    columns = target.sum_columns
    if m_count is None:
        m_count = min(command["m_count"], DEPTH) if rng.random() < 0.7 else int(rng.integers(1, 4))
    two_bytes = int(rng.random() < 0.5)
    slope = int(rng.random() < 0.5)
    # Limits that leave all, some and no columns of rows.
    last = int(rng.integers(-m_count if slope else -1, columns + 3)) if rng.random() < 0.6 else columns
    begin = int(rng.integers(-m_count if slope else -1, columns + 1)) if rng.random() < 0.4 else -(1 << 15)
    factor = int(np.float32(2.0 ** rng.uniform(-12, 24) if rng.random() < 0.8 else 2.0 ** rng.uniform(-40, 60))
                 .view(np.uint32))
    command |= NONE | {
        "m_count": m_count, "softmax": 1, "opens": int(rng.random() < 0.3), "slope": slope, "two_bytes": two_bytes,
        "low_byte": int(two_bytes and rng.random() < 0.3), "acc_nstep": last % (1 << 16),
        "bias_nstep": begin % (1 << 16), "scale_nstep": int(rng.integers(0, DEPTH - m_count + 1)),
        "out_nstep": int(rng.integers(0, DEPTH - m_count + 1)), "low": factor & 0xFFFF, "high": factor >> 16}
    return command | fields


def random_normalised(rng, target, groups=60, m_count=None, **fields):
    """Draw a command that scales rows by quotients."""
    command = random_command(rng, target, Rounding.ONNX, groups)
    m_count = min(command["m_count"], DEPTH) if m_count is None else m_count
    return command | {
        "normalise": 1, "per_channel": 0, "scale_nstep": 0, "m_count": m_count,
        "scale_base": int(rng.integers(0, DEPTH - m_count + 1))} | fields


def opening(target):
    """Commands that give all states a value."""
    count = min(DEPTH, OUTPUT_BYTES // target.sum_columns)
    factor = int(np.float32(1.5 * 2 ** 16).view(np.uint32))
    return [NONE | {
        "softmax": 1, "opens": 1, "slope": 0, "two_bytes": 0, "low_byte": 0, "m_count": count, "bank": 0, "bias": 0,
        "acc_base": base, "acc_nstep": target.sum_columns, "bias_nstep": 0, "bias_base": 0, "bias_mstep": 0,
        "scale_base": 0, "scale_nstep": base, "out_base": 0, "out_nstep": base, "out_mstep": target.sum_columns,
        "low": factor & 0xFFFF, "high": factor >> 16} for base in range(0, DEPTH, count)]


def scores(rng, target):
    """Sums of which some rows lie close together, some far apart, and some are alike."""
    sums, columns = random_sums(rng, target), target.sum_columns
    spread = rng.integers(0, 31, (2, DEPTH, 1))
    base = rng.integers(-(1 << 30), 1 << 30, (2, DEPTH, 1)) >> rng.integers(0, 30, (2, DEPTH, 1))
    near = base + (rng.integers(-(1 << 30), 1 << 30, (2, DEPTH, columns)) >> spread)
    return np.where(rng.random((2, DEPTH, 1)) < 0.9, near, sums)


def with_scales(rng, target, memories):
    """Put scales of scores into the first half of the scale memory, most of them the same for all lanes."""
    lanes, channels = target.post.lanes, target.scratchpads.channels
    scale = memories[Parameter.SCALE].reshape(-1, lanes, 8).copy()
    lines = max(1, channels // 2 // lanes)
    factors = np.exp2(rng.uniform(-22, -4, (lines, 1))) * np.where(rng.random((lines, 1)) < 0.8, 1, np.exp2(
        rng.uniform(-4, 4, (lines, lanes))))
    scale[:lines, :, :4] = factors.astype("<f4").view(np.uint8).reshape(lines, lanes, 4)
    return memories | {Parameter.SCALE: scale.reshape(-1)}


class Model:
    """Golden model of the engine with states, shifts and quotients of rows."""

    def __init__(self, target, sums, memories):
        self.target, self.sums, self.memories = target, sums, memories
        self.maxima, self.totals = np.full(DEPTH, EMPTY), np.zeros(DEPTH, np.int64)
        self.quotients = np.zeros(DEPTH, np.float32)
        self.shifts, self.written = [], np.full(OUTPUT_BYTES, -1)

    def apply(self, c):
        """Apply one command."""
        if not (c.get("softmax") or c.get("normalise")):
            some, _ = expected_bytes(self.target, self.sums, self.memories, [c])
            self.written = np.where(some >= 0, some, self.written)
            return
        for n in range(c["n_count"]):
            tile = c["acc_base"] + n * c["acc_nstep"] * (not c.get("softmax"))
            rows = self.sums[c["bank"], (tile + np.arange(c["m_count"])) % DEPTH]
            total = rows + self.bias(n, c) if c["bias"] else rows
            total = (total + (1 << 31)) % (1 << 32) - (1 << 31)
            outputs = self.softmax(total, c) if c.get("softmax") else self.normalised(total, c)
            for m, row in enumerate(outputs):
                start = c["out_base"] + (n * c["out_nstep"] if not c.get("softmax") else 0) + m * c["out_mstep"]
                self.written[(start + np.arange(len(row))) % OUTPUT_BYTES] = row & 255

    def bias(self, n, c):
        """Biases of a tile's rows and columns."""
        lanes = self.target.post.lanes
        bias = self.memories[Parameter.BIAS].view("<i4").reshape(-1, lanes)
        line = c["bias_base"] + (n * c["bias_nstep"] if not c.get("softmax") else 0)
        line = line + np.arange(c["m_count"])[:, None] * c["bias_mstep"] + np.arange(self.target.sum_columns // lanes)
        return bias[line % len(bias)].reshape(c["m_count"], -1).astype(np.int64)

    def softmax(self, total, c):
        """Bytes of numerators; states, shifts and quotients change."""
        signed = [value - ((value & 1 << 15) << 1) for value in (c["acc_nstep"], c["bias_nstep"])]
        m, j = np.arange(c["m_count"])[:, None], np.arange(self.target.sum_columns)
        last, begin = (limit + c["slope"] * m for limit in signed)
        lanes = self.target.post.lanes
        scale = self.memories[Parameter.SCALE].reshape(-1, lanes, 8)[c["scale_base"], :, :4].copy().view("<f4")
        t = scores_in_octaves(total, np.tile(scale.reshape(-1), self.target.sum_columns // lanes))
        place = c["out_nstep"] + np.arange(c["m_count"])
        state = (SoftmaxState.empty(c["m_count"]) if c["opens"]
                 else SoftmaxState(self.maxima[place], self.totals[place]))
        numerators, shifts, state = softmax_block(t, (j >= last) | (j < begin) | (total < HIDDEN), state,
                                                  two_bytes=bool(c["two_bytes"]))
        if c["low_byte"]:
            return numerators & 255
        self.maxima[place], self.totals[place] = state.maximum, state.total
        factor = np.uint32(c["high"] << 16 | c["low"]).view(np.float32)
        self.quotients[place] = quotient(factor, state.total)
        self.shifts += list(zip((c["scale_nstep"] + np.arange(c["m_count"])).tolist(), shifts.tolist(), strict=True))
        return numerators >> 8 if c["two_bytes"] else numerators

    def normalised(self, total, c):
        """Outputs scaled by quotients."""
        scales = self.quotients[c["scale_base"] + np.arange(c["m_count"])]
        found = golden.onnx(total, scales, c["zero_point"], c["low"], c["high"], 0)
        if not c["table"]:
            return found
        return self.memories[Parameter.TABLE].reshape(-1, 256)[np.arange(found.shape[1]), found.astype(int) & 255]


def check(rng, target, commands, **options):
    """Run commands behind ones that open all rows, and compare all that the engine says with the model."""
    sums, memories = scores(rng, target), with_scales(rng, target, random_memories(rng, target))
    commands = opening(target) + commands
    written, seen = run(rng, target, sums, memories, commands, **options)
    model = Model(target, sums, memories)
    for command in commands:
        model.apply(command)
    found = [(row, amount) for row, amount, _ in seen["shifts"]]
    assert found == model.shifts, next(
        (index, *pair) for index, pair in enumerate(zip(found, model.shifts, strict=False)) if pair[0] != pair[1])
    wrong = np.flatnonzero(written != model.written)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]} "
                            f"instead of {model.written[wrong[0]]}")
    groups = [c["n_count"] * c["m_count"] * (target.sum_columns // target.post.lanes) for c in commands]
    assert seen["done"] == np.cumsum(groups).tolist(), "a command was not done after its own last write"
    assert seen["reads"] == seen["groups"] == sum(groups)
    return seen, groups, model


@pytest.mark.parametrize(("lanes", "cols", "data_width", "functions"), [
    (2, 8, 64, {}), (1, 1, 32, {}), (4, 4, 64, {"pairs": 1, "averages": 1}), (2, 6, 64, {"transposed": 1}),
    slow(4, 12, 128, {"maxima": 1}), slow(1, 20, 32, {"products": 1}), (8, 8, 64, {}),
])
def test_softmax(rng, lanes, cols, data_width, functions):
    """Softmax among others: a wrong mask, maximum, entry, shift, state or delay leaves wrong bytes or shifts."""
    target = config(lanes, cols, data_width=data_width, softmax=1, **functions)
    kinds = [random_softmax, random_softmax, random_softmax, random_normalised, random_command]
    kinds += [random_pair] * functions.get("pairs", 0)
    commands = [kinds[rng.integers(len(kinds))](rng, target, groups=int(rng.choice([2, 20, 40]))) for _ in range(12)]
    # What was drawn before, scaled by what has just been found.
    commands += [random_softmax(rng, target, low_byte=0), random_normalised(rng, target, bias=0)]
    check(rng, target, commands, stalls=bool(rng.integers(0, 2)))


@pytest.mark.parametrize(("lanes", "cols"), [(2, 8), (4, 4), (1, 6)])
def test_masks(rng, lanes, cols):
    """Keys behind, or before, what a row sees would count; here all scores are alike, so that each leaves a byte."""
    target = config(lanes, cols, softmax=1)
    sums, memories = np.full((2, DEPTH, cols), 77), random_memories(rng, target)
    memories[Parameter.SCALE] = np.tile(np.float32([256, 0]).view(np.uint8), len(memories[Parameter.SCALE]) // 8)
    limits = [(1, -3, 1), (-2, -9, 1), (3, 1, 0), (0, 0, 0), (99, -99, 0), (1, -3, 1)]
    commands = [random_softmax(rng, target, m_count=9, acc_nstep=last % (1 << 16), bias_nstep=begin % (1 << 16),
                               slope=slope, two_bytes=0, low_byte=0, out_base=9 * cols * index, out_mstep=cols, bias=0,
                               scale_base=0) for index, (last, begin, slope) in enumerate(limits)]
    written, _ = run(rng, target, sums, memories, commands)
    m, j = np.arange(9)[:, None], np.arange(cols)
    for index, (last, begin, slope) in enumerate(limits):
        visible = (j < last + slope * m) & (j >= begin + slope * m)
        found = written[9 * cols * index:9 * cols * (index + 1)].reshape(9, cols)
        assert found.tolist() == (255 * visible).tolist(), limits[index]


def test_hidden_scores(rng):
    """Masks that are biases hide a key if its sum is less than -2**29, not if it is just that."""
    target = config(2, 8, softmax=1)
    some = [-(1 << 29), -(1 << 29) - 1, -(1 << 30), -(3 << 29), -(1 << 31), (1 << 31) - 1, 0, -(1 << 29) + 1]
    sums, memories = np.tile(some, (2, DEPTH, 1)), with_scales(rng, target, random_memories(rng, target))
    memories[Parameter.SCALE] = np.tile(np.float32([2.0 ** -24, 0]).view(np.uint8), len(memories[Parameter.SCALE]) // 8)
    command = random_softmax(rng, target, m_count=2, acc_nstep=8, bias_nstep=0, slope=0, two_bytes=0, low_byte=0,
                             out_base=0, out_mstep=8, bias=0, scale_base=0)
    written, _ = run(rng, target, sums, memories, [command])
    assert (written[:16] > 0).reshape(2, 8).tolist() == [[True, False, False, False, False, True, True, True]] * 2


def test_rows_of_blocks(rng):
    """Rows of one block after another, as attention has them: states must come from the command right before."""
    target = config(4, 4, softmax=1)
    # The second block's rows begin with the last of the first's.
    commands = [random_softmax(rng, target, m_count=count, out_nstep=base, low_byte=0, opens=0, scale_nstep=base)
                for count, base in ((8, 0), (8, 7), (1, 14), (1, 14), (8, 14), (8, 14), (8, 21), (2, 28), (3, 27))]
    _, _, model = check(rng, target, commands * 2)
    assert len({amount for _, amount in model.shifts}) > 3


def test_bytes_of_numerators(rng):
    """Two commands over the same scores write the upper and the lower bytes; the second changes no state."""
    target = config(2, 8, softmax=1)
    first = random_softmax(rng, target, m_count=8, two_bytes=1, low_byte=0, acc_nstep=8, bias_nstep=0, slope=0)
    second = first | {"low_byte": 1, "out_base": (first["out_base"] + 8 * first["out_mstep"]) % OUTPUT_BYTES,
                      "opens": 1, "scale_nstep": 0}
    normalised = [random_normalised(rng, target, m_count=8, n_count=1, scale_base=first["out_nstep"], zero_point=0,
                                    low=-128, high=127) for _ in range(2)]
    check(rng, target, [first, second, normalised[0], first | {"opens": 0}, second, normalised[1]])


def test_time_of_softmax(rng):
    """The compiler reads these delays: of outputs, of the next command, and of rows scaled by quotients."""
    for lanes, columns in ((2, 8), (4, 4)):
        target = config(lanes, columns, softmax=1)
        groups, late = columns // lanes, Engine.softmax_delay_of(target)
        assert groups + 5 > late > 0
        sums, memories = scores(rng, target), with_scales(rng, target, random_memories(rng, target))
        plain = random_command(rng, target, Rounding.ONNX) | {"n_count": 1, "m_count": 30}
        softmax = random_softmax(rng, target, m_count=30)
        for commands, late_first, idle in (([plain, plain], 0, 1), ([softmax, softmax], late, late + 1),
                                           ([softmax, plain], late, late + 1)):
            _, seen = run(rng, target, sums, memories, commands)
            writes = np.array(seen["writes"])
            assert writes[0] - seen["first_read"] == seen["latency"] + late_first
            # Groups of a command come without a pause, and the next begins when it may.
            reads = writes - np.where(np.arange(len(writes)) < 30 * groups, late_first,
                                      late if commands[1] is softmax else 0)
            assert np.diff(reads).tolist() == [1] * (30 * groups - 1) + [idle + 1] + [1] * (30 * groups - 1)
        normalised = random_normalised(rng, target, m_count=30, n_count=1)
        _, seen = run(rng, target, sums, memories, [softmax, normalised])
        writes = seen["writes"]
        assert writes[30 * groups] - (writes[30 * groups - 1] - late) == Engine.quotient_delay_of(target)


def test_shifts_come_before_bytes(rng):
    """An EXECUTE that waits for a command would read shifts that have not been written."""
    for lanes, columns in ((2, 8), (4, 4), (1, 16)):
        target = config(lanes, columns, softmax=1)
        sums, memories = scores(rng, target), with_scales(rng, target, random_memories(rng, target))
        command = random_softmax(rng, target, m_count=9, low_byte=0)
        _, seen = run(rng, target, sums, memories, [command])
        groups = columns // lanes
        assert [row for row, *_ in seen["shifts"]] == list(range(command["scale_nstep"], command["scale_nstep"] + 9))
        assert all(writes < (index + 1) * groups for index, (*_, writes) in enumerate(seen["shifts"]))


def test_fields_without_a_place(rng):
    """A command of softmax with a zero point, which nothing would add, breaks a rule."""
    target = config(2, 4, softmax=1)
    sums, memories = scores(rng, target), with_scales(rng, target, random_memories(rng, target))
    with pytest.raises(AssertionError, match=r"softmax: a field is set that it has no place for"):
        run(rng, target, sums, memories, [random_softmax(rng, target, zero_point=1)])
