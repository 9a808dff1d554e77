# amaranth: UnusedElaboratable=no
"""Softmax of floats: scores, numerators, and the post engine with them, against the golden model."""

import numpy as np
import pytest
from drawn_floats import float_configuration
from float_draws import draw, from_bits, to_bits
from post_commands import DEPTH, OUTPUT_BYTES, run
from slow import slow

from pearray.golden import float_attention as golden
from pearray.golden.floating import rounded
from pearray.golden.fused_attention import EMPTY, SoftmaxState, quotient
from pearray.hdl.arithmetic.float_formats import BFLOAT16, E4M3, E5M2, FLOAT16, FLOAT32
from pearray.hdl.post.float_lane import bound_of
from pearray.hdl.post.float_numerators import FloatNumerator, FloatScore, greatest_numerator
from pearray.hdl.shell.commands import Parameter, Rounding
from pearray.sim.pysim import simulate

FORMATS = [BFLOAT16, FLOAT16, E4M3, E5M2]


def test_scores_are_rounded_to_integers(rng):
    """A half that goes the other way, a bit lost on the way or a wrap at the ends would move a maximum."""
    near = np.concatenate([to_bits((rng.integers(-(1 << 24), 1 << 24, 600) / 2.0 ** rng.integers(0, 26, 600)
                                    ).astype(np.float32)), to_bits(np.arange(-9, 9, dtype=np.float32) / 2)])
    ends = to_bits(np.float32([2 ** 23, 2 ** 24 - 1, 2 ** 24, -np.inf]))
    bits, most = np.concatenate([near, draw(rng, FLOAT32, 300), ends]), 2 ** 24 - 1
    with np.errstate(invalid="ignore"):
        values = from_bits(bits, FLOAT32)
    expected = np.clip(np.rint(np.where(np.isnan(values), np.copysign(np.inf, values), values)), -most, most)
    dut, found = FloatScore(), []

    async def testbench(ctx):
        for number in [*bits, *[0] * FloatScore.LATENCY]:
            ctx.set(dut.number, int(number))
            found.append(ctx.get(dut.score))
            await ctx.tick()

    simulate(dut, testbench)
    np.testing.assert_array_equal(found[FloatScore.LATENCY:], expected)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_numerators_in_both_forms(rng, form):
    """A wrong entry, a lost bit of a distance, or what is far or masked and counts would show."""
    wait, lane_bits = 7, f"u{form.bits // 8}"
    top = rng.integers(-60000, 60000, 1400)
    below = np.concatenate([np.arange(256), rng.integers(0, 36 * 256, 1044), rng.integers(0, 1 << 24, 100)])
    score = np.maximum(top * 256 - below, 1 - (1 << 24))
    masked, none = rng.random((2, len(top))) < 0.1
    top = np.where((masked | none) & (rng.random(len(top)) < 0.5), EMPTY, top)
    dut, exponents, values, outputs = FloatNumerator(wait, form), [], [], []
    at = 1 + wait

    async def drive(ctx):
        for cycle in range(len(top) + at + FloatNumerator.VALUE + 2):
            for port, numbers, late in ((dut.score, score, 0), (dut.masked, masked, 0), (dut.none, none, 0),
                                        (dut.greatest, top, at)):
                if 0 <= cycle - late < len(top):
                    ctx.set(port, int(numbers[cycle - late]))
            for port, found, late in ((dut.exponent, exponents, 1), (dut.value, values, at + FloatNumerator.VALUE),
                                      (dut.output, outputs, at + FloatNumerator.VALUE + 1)):
                if 0 <= cycle - late < len(top):
                    found.append(ctx.get(port))
            await ctx.tick()

    simulate(dut, drive)
    absent = masked | none
    np.testing.assert_array_equal(exponents, np.where(absent, EMPTY, -(-score // 256)))
    # A row of two, of which the other one is the greatest.
    total = np.where(none, np.nan, np.stack([top * 256, score])).T.astype(np.float32)
    hidden = np.stack([np.zeros_like(masked), masked], axis=1)
    total[:, 0] = np.where(top == EMPTY, 0, top * 256)
    numerators, _, state = golden.float_softmax_block(total, np.float32(1), hidden, SoftmaxState.empty(len(top)),
                                                      form.dtype)
    np.testing.assert_array_equal(outputs, numerators[:, 1].view(lane_bits) & np.where(
        np.isnan(numerators[:, 1].astype(np.float32)), form.no_number, (1 << form.bits) - 1))
    np.testing.assert_array_equal(values, state.total - (1 << golden.FRACTION))
    assert golden.greatest_numerator(form.dtype) == greatest_numerator(form)


# --- In the engine ----------------------------------------------------------------------------------------------------

class Model:
    """Golden model of the engine: states, shifts and quotients of rows, and outputs."""

    def __init__(self, target, sums, biases):
        self.target, self.sums, self.biases = target, sums, biases.view("<f4").reshape(-1, target.post.lanes)
        self.maxima, self.totals = np.full(DEPTH, EMPTY), np.zeros(DEPTH, np.int64)
        self.quotients = np.zeros(DEPTH, np.float32)
        self.shifts, self.written = [], np.full(OUTPUT_BYTES, -1)

    def apply(self, c):
        """Apply one command."""
        form, m, j = self.target.arithmetic.format, np.arange(c["m_count"]), np.arange(self.target.sum_columns)
        for n in range(c["n_count"]):
            total = self.sums[c["bank"], (c["acc_base"] + n * c["acc_nstep"] * (not c["softmax"]) + m) % DEPTH]
            if c["bias"]:
                line = c["bias_base"] + m[:, None] * c["bias_mstep"] + np.arange(len(j) // self.target.post.lanes)
                with np.errstate(all="ignore"):
                    total = total + self.biases[line % len(self.biases)].reshape(total.shape)
            found = self.softmax(total, m, j, c) if c["softmax"] else self.plain(total, m, c)
            raw = to_bits(found.astype(np.float32), FLOAT32 if c["rounding"] == Rounding.NONE else form)
            raw = raw.astype("<u4" if c["rounding"] == Rounding.NONE else f"<u{form.bits // 8}").view(np.uint8)
            for row, data in zip(m, raw.reshape(len(m), -1), strict=True):
                at = c["out_base"] + (not c["softmax"]) * n * c["out_nstep"] + row * c["out_mstep"]
                self.written[(at + np.arange(len(data))) % OUTPUT_BYTES] = data

    def softmax(self, total, m, j, c):
        """Numerators; states, shifts and quotients change."""
        last, begin = (value - ((value & 1 << 15) << 1) + c["slope"] * m[:, None]
                       for value in (c["acc_nstep"], c["bias_nstep"]))
        place = c["out_nstep"] + m
        state = SoftmaxState.empty(len(m)) if c["opens"] else SoftmaxState(self.maxima[place], self.totals[place])
        scale, kind = np.uint32(c["high"] << 16 | c["low"]).view(np.float32), self.target.arithmetic.format.dtype
        numerators, shifts, state = golden.float_softmax_block(total, scale, (j >= last) | (j < begin), state, kind)
        self.maxima[place], self.totals[place] = state.maximum, state.total
        self.quotients[place] = quotient(golden.quotient_dividend(kind), state.total)
        self.shifts += list(zip((c["scale_nstep"] + m).tolist(), shifts.tolist(), strict=True))
        return numerators

    def plain(self, total, m, c):
        """Sums, those of rows scaled by their quotients, and within their bounds."""
        if c["rounding"] == Rounding.NONE:
            return np.where(total < 0, 0, total) if c["table"] else total
        if c["normalise"]:
            with np.errstate(all="ignore"):
                total = total * self.quotients[c["scale_base"] + m][:, None]
        form = self.target.arithmetic.format
        for name, limit in (("low", np.maximum), ("high", np.minimum)):
            bits, is_set = bound_of(c[name])
            if is_set:
                total = np.where(np.isnan(total), total, limit(total, from_bits(np.array([bits]), form)))
        return rounded(total, form.dtype)


def command(rng, target, **fields):
    """Draw a command."""
    columns, lanes, size = target.sum_columns, target.post.lanes, target.operand_bytes
    m_count = int(rng.choice([1, 2, rng.integers(1, 12)]))
    row = columns * (4 if fields.get("rounding") == Rounding.NONE else size)
    count = 1 if fields["softmax"] else int(rng.integers(1, 4))
    return {
        "rounding": Rounding.ONNX, "bank": int(rng.integers(2)), "bias": int(rng.random() < 0.5), "m_count": m_count,
        "n_count": count, "acc_base": int(rng.integers(DEPTH)), "acc_nstep": m_count, "bias_base": 0,
        "bias_mstep": columns // lanes * int(rng.integers(2)), "out_base": int(rng.integers(0, 9)) * lanes * 4,
        "out_nstep": m_count * row, "out_mstep": row, "normalise": 0, "table": 0, "low": 0, "high": 0} | fields


def softmax_command(rng, target, **fields):
    """Draw a command of softmax, of which some columns, or none, count."""
    found = command(rng, target, softmax=1)
    columns, slope = target.sum_columns, int(rng.integers(2))
    last, begin = columns, -(1 << 15)
    if rng.random() < 0.6:
        last, begin = (int(rng.integers(-found["m_count"], columns + 3)) for _ in range(2))
    scale = int(np.float32(2.0 ** rng.uniform(-12, 12)).view(np.uint32))
    rows = DEPTH - found["m_count"] + 1
    return found | {
        "opens": int(rng.random() < 0.3), "slope": slope, "acc_nstep": last % (1 << 16),
        "bias_nstep": begin % (1 << 16), "scale_nstep": int(rng.integers(rows)), "out_nstep": int(rng.integers(rows)),
        "low": scale & 0xFFFF, "high": scale >> 16} | fields


def opening(rng, target):
    """Commands that give all states a value."""
    return [softmax_command(rng, target, opens=1, m_count=8, acc_nstep=target.sum_columns, bias_nstep=0, slope=0,
                            scale_nstep=first, out_nstep=first) for first in range(0, DEPTH, 8)]


@pytest.mark.parametrize(("lanes", "cols", "form", "cycles"), [
    (2, 4, "bfloat16", 3), slow(4, 4, "float16", 1), slow(1, 6, "float8_e4m3fn", 8)])
def test_engine(rng, lanes, cols, form, cycles):
    """Commands of softmax among others: a wrong mask, maximum, entry, shift, quotient, factor or delay would show."""
    target = float_configuration(post__lanes=lanes, array__cols=cols, array__operands=form, array__sum_cycles=cycles,
                                 scratchpads__output_bytes=OUTPUT_BYTES).hardware
    spread = 2.0 ** rng.integers(-4, 7, (2, DEPTH, 1))
    sums = (rng.standard_normal((2, DEPTH, cols)) * spread).astype(np.float32)
    sums = np.where(rng.random(sums.shape) < 0.02, rng.choice(np.float32([np.inf, -np.inf, np.nan, 1e38]), sums.shape),
                    sums)
    biases = rng.standard_normal(target.scratchpads.channels).astype("<f4")
    biases[rng.random(len(biases)) < 0.1] = -np.inf
    commands = opening(rng, target)
    for kind in rng.permutation([0] * 8 + [1] * 4 + [2] * 3):
        rows = {"scale_base": int(rng.integers(DEPTH - 12)), "normalise": 1}
        raw = {"rounding": Rounding.NONE, "table": int(rng.integers(2))}
        commands.append(softmax_command(rng, target) if kind == 0 else command(
            rng, target, softmax=0, **rows if kind == 1 else raw))
    commands.append(command(rng, target, softmax=0, normalise=1, scale_base=commands[-1]["acc_base"] % 20))
    bits = to_bits(sums).astype(np.int64)
    written, seen = run(rng, target, bits, {Parameter.BIAS: biases.view(np.uint8)}, commands,
                        stalls=bool(rng.integers(2)))
    model = Model(target, from_bits(bits, FLOAT32), biases)
    for each in commands:
        model.apply(each)
    assert [(row, amount) for row, amount, _ in seen["shifts"]] == model.shifts
    wrong = np.flatnonzero(written != model.written)
    assert not len(wrong), f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]}"
