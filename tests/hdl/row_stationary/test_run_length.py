# amaranth: UnusedElaboratable=no
"""Run-length coder and decoder against the golden code, with stalls."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from pearray.golden import run_length
from pearray.hdl.row_stationary.run_length import RunLengthDecoder, RunLengthEncoder


def pipe(dut, items, stall, rng):
    """Send items through a component until its last one has come out."""
    seen = []

    async def source(ctx):
        for item in items:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.i.payload, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def sink(ctx):
        last, cycles = 0, 0
        while not last:
            ctx.set(dut.o.ready, int(rng.random() >= stall))
            *_, valid, ready, payload = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                seen.append(payload)
                last = payload.last
            cycles += 1
            assert cycles < 100_000

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source, background=True)
    simulator.add_testbench(sink)
    simulator.run()
    return seen


def maps(rng):
    """Feature maps: runs around the longest one, partial last code words, zeros at the end, single words."""
    for run in (31, 32, 63, 64, 65):
        yield np.array([0] * run + [9], np.uint16)
        yield np.array([7] + [0] * run, np.uint16)
    for length in (1, 2, 3, 4, 5, 200):
        yield (rng.integers(1, 1 << 16, length) * (rng.random(length) < 0.4)).astype(np.uint16)


def several(words, lanes):
    """Words as the coder takes them where many come at once: beats of `lanes`, zeros beside another word left out."""
    for start in range(0, len(words), lanes):
        beat, at = words[start:start + lanes], 0
        end = start + lanes >= len(words)
        while at < len(beat):
            other = np.flatnonzero(beat[at:])
            pick = at + int(other[0]) if other.size else len(beat) - 1
            after = len(beat) - 1 - pick if other.size == 1 and not end else 0
            yield {"word": int(beat[pick]), "zeros": pick - at, "after": after,
                   "last": int(end and pick == len(beat) - 1)}
            at = pick + 1 + after


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("lanes", [2, 4, 32])
def test_several_words(rng, lanes, stall):
    """If it failed, a coder that takes zeros with the word beside them would write another code."""
    for words in maps(rng):
        code = pipe(RunLengthEncoder(lanes), list(several(words, lanes)), stall, rng)
        values = np.array([beat.as_bits() for beat in code], np.uint64)
        np.testing.assert_array_equal(values, run_length.encode(words))


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_round_trip(rng, stall):
    """If it failed, what the chip writes would not be the code, or it could not read its own maps back."""
    for words in maps(rng):
        items = [{"word": int(word), "last": int(at == len(words) - 1)} for at, word in enumerate(words)]
        code = pipe(RunLengthEncoder(), items, stall, rng)
        values = np.array([beat.as_bits() for beat in code], np.uint64)
        np.testing.assert_array_equal(values, run_length.encode(words))
        decoded = pipe(RunLengthDecoder(), code, stall, rng)
        assert [word.word for word in decoded[:len(words)]] == words.tolist()
        assert not any(word.word for word in decoded[len(words):])
        assert len(decoded) - len(words) < 3
