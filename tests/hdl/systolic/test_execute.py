"""Execute engine with its scratchpads against a NumPy model of its commands."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from arithmetics import ARITHMETICS, with_arithmetic
from execute_model import FIELDS, config, draw, draw_like, execute

from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.post.sums import AccumulatorRead
from pearray.hdl.shell.commands import ADDRESS_BITS
from pearray.hdl.systolic.accumulator import Accumulators
from pearray.hdl.systolic.execute import Events, Execute, execute_cycles
from pearray.hdl.systolic.slots import tile_slots
from pearray.sim.pysim import simulate


class Bench(wiring.Component):
    """Execute engine between two scratchpads."""

    done: Out(1)

    def __init__(self, cfg):
        self.execute = Execute(cfg)
        self.sizes = {name: getattr(cfg.scratchpads, f"{name}_bytes") // cfg.operand_bytes
                      for name in ("activation", "weight")}
        self.pads = {name: Scratchpad(cfg.banks, size // cfg.banks, 8 * cfg.operand_bytes)
                     for name, size in self.sizes.items()}
        super().__init__()

    def elaborate(self, platform):
        """Connect them."""
        m = Module()
        m.submodules.execute = self.execute
        for name, pad in self.pads.items():
            m.submodules[name] = pad
            wiring.connect(m, getattr(self.execute, name), pad.read)
        m.d.comb += self.done.eq(self.execute.done)
        return m


def run(cfg, rng, bodies, *, gap=0.0, pause=0):
    """Run commands on random scratchpads and compare; return what happened when.

    ``gap`` is the probability of waiting a while before a command, and ``pause`` the cycles
    behind each. The result holds the cycles in
    which commands were accepted and completed, and for each event the cycles in which it was set.
    """
    bench = Bench(cfg)
    engine = bench.execute
    commands, port = engine.commands, engine.accumulators
    depth, cols, bits = cfg.accumulators.depth, cfg.array.cols, cfg.accumulator_bits
    memories = {name: rng.integers(0, 1 << 8 * cfg.operand_bytes, size) for name, size in bench.sizes.items()}
    expected = np.zeros((2, depth, cols), np.int64)
    accepted, completed = [], []
    events = {name: [] for name, _ in Events.as_shape()}

    async def feed(ctx):
        for name, pad in bench.pads.items():
            ctx.set(pad.write.en, (1 << len(pad.write.en)) - 1)
            for line, values in enumerate(memories[name].reshape(-1, cfg.banks).tolist()):
                ctx.set(pad.write.line, [line] * cfg.banks)
                ctx.set(pad.write.data, values)
                await ctx.tick()
            ctx.set(pad.write.en, 0)
        for body in bodies:
            while rng.random() < gap:
                await ctx.tick().repeat(9)
            execute(cfg, body, memories["activation"], memories["weight"], expected)
            ctx.set(commands.payload, body)
            ctx.set(commands.valid, 1)
            await ctx.tick().until(commands.ready)
            ctx.set(commands.valid, 0)
            for _ in range(pause):
                await ctx.tick()

    async def check(ctx):
        for _ in bodies:
            await ctx.tick().until(engine.done)
        await ctx.tick().repeat(Accumulators.AHEAD)
        ctx.set(port.en, 1)
        got = np.zeros_like(expected)
        for index in range(2 * depth + port.signature.LATENCY):
            ctx.set(port.bank, index // depth % 2)
            ctx.set(port.row, index % depth)
            if index >= port.signature.LATENCY:
                bank, row = divmod(index - port.signature.LATENCY, depth)
                got[bank, row] = [ctx.get(port.data[col]) for col in range(cols)]
            await ctx.tick()
        got = (got + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        np.testing.assert_array_equal(got, expected)

    async def watch(ctx):
        cycle = 0
        async for _, _, valid, ready, done, event in ctx.tick().sample(
                commands.valid, commands.ready, engine.done, engine.events):
            if valid and ready:
                accepted.append(cycle)
            if done:
                completed.append(cycle)
            for name, cycles in events.items():
                if getattr(event, name):
                    cycles.append(cycle)
            cycle += 1

    simulate(bench, feed, check, background=[watch])
    return accepted, completed, events


KINDS = ("fold", "runs", "left", "diagonal", "outer")


@pytest.mark.parametrize("shape", [(4, 4), (1, 1), (8, 4), (3, 7), (2, 17), (6, 1), (1, 5)])
def test_commands(rng, shape):
    """A wrong address, mask, sign or hazard in any kind of walk, after any other, would give a wrong sum."""
    cfg = config(*shape, activation_bytes=512, weight_bytes=512)
    kinds = rng.permutation(KINDS * 2)
    run(cfg, rng, [draw(cfg, rng, str(kind), pixels=10, elements=2 * shape[0] + 5) for kind in kinds])


@pytest.mark.parametrize("operand_bits", [4, 16])
def test_operand_bits(rng, operand_bits):
    """Other widths take other bits of a bank, and other scratchpad lines."""
    cfg = config(4, 6, operand_bits=operand_bits)
    run(cfg, rng, [draw(cfg, rng, kind, pixels=10, elements=12) for kind in KINDS], gap=0.7)


@pytest.mark.parametrize(("arithmetic", "shape", "bits"), [
    ("direct", (1, 1), 8), ("direct", (4, 3), 8), ("slow-product", (4, 4), 16), ("slow-sum", (3, 5), 8),
    ("float-like", (1, 2), 8), ("float-like", (4, 3), 8), ("float-like", (6, 2), 12)])
def test_arithmetics(rng, arithmetic, shape, bits):
    """If a delay were typed in somewhere, sums would meet others' products, rows or banks."""
    cfg = with_arithmetic(config(*shape, operand_bits=bits, activation_bytes=512, weight_bytes=512),
                          ARITHMETICS[arithmetic](bits))
    kinds = rng.permutation(KINDS + KINDS[::2])
    run(cfg, rng, [draw(cfg, rng, str(kind), pixels=10, elements=2 * shape[0] + 5) for kind in kinds])


#: Command that goes back an operand from row of weights to row of weights.
BACK = {"fold": 1, "w_pitch": (1 << ADDRESS_BITS) - 1, "w_base": 50, "acc_nstep": 32}


@pytest.mark.parametrize(("arithmetic", "shape", "pixels"), [
    ("integer", (4, 4), 10), ("integer", (2, 5), 4), ("integer", (7, 2), 9), ("direct", (3, 4), 8),
    ("slow-product", (4, 3), 7), ("slow-sum", (3, 4), 6), ("float-like", (4, 3), 12)])
def test_toeplitz(rng, arithmetic, shape, pixels):
    """Weights passed on too early, too late, turned round or to a tile of another kind would give a wrong sum."""
    cfg = with_arithmetic(config(*shape, activation_bytes=512, weight_bytes=512, toeplitz=1),
                          ARITHMETICS[arithmetic](8))
    bodies = []
    for kind in rng.permutation(KINDS + ("toeplitz",) * 3):
        bodies.append(draw(cfg, rng, str(kind), pixels=pixels, elements=2 * shape[0] + 5))
        if kind == "toeplitz":
            bodies += [draw_like(cfg, rng, bodies[-1], pixels=pixels) for _ in range(3)]
    run(cfg, rng, bodies)


@pytest.mark.parametrize(("arithmetic", "least", "between"), [("integer", 3, 6), ("float-like", 5, 9)])
@pytest.mark.parametrize("pixels", [1, 3, 7])
def test_toeplitz_throughput(rng, arithmetic, least, between, pixels):
    """Tiles behind the first must not wait for rows of weights, and two vectors bring all of a tile."""
    cfg = with_arithmetic(config(6, 4, toeplitz=1), ARITHMETICS[arithmetic](8))
    body = command(m_count1=pixels, k_total=6, n_count=4, a_nstep=7, **BACK)
    _, _, events = run(cfg, rng, [body])
    first = events["active"][0]
    assert events["active"] == [
        first + tile * max(pixels, least) + pixel for tile in range(4) for pixel in range(pixels)]
    assert len(events["weight_read"]) == 6 + 3 * 2
    # A command that goes on in flight needs no rows of weights either.
    _, _, events = run(cfg, rng, [body, body | {"first": 0, "w_base": 9, "a_base": 3}, body | {"bank": 1}])
    assert len(events["weight_read"]) == 6 + 11 * 2
    assert [events["active"][tile * pixels] - events["active"][(tile - 1) * pixels] for tile in (4, 8)] == [
        max(between, pixels)] * 2


@pytest.mark.parametrize("other", [{"run": 99}, {"jump1": 8}, {"run_count": 2}, {"jump2": 8}])
def test_toeplitz_elsewhere(rng, other):
    """Rows that lie apart otherwise would be read where those of the command before lay."""
    cfg = config(6, 4, toeplitz=1)
    body = command(m_count1=3, k_total=6, n_count=2, **BACK)
    _, _, events = run(cfg, rng, [body, body | other])
    assert len(events["weight_read"]) == 2 * (6 + 2)


@pytest.mark.parametrize("pause", [0, 3, 4, 5, 6, 40])
def test_toeplitz_waits(rng, pause):
    """Sums of a command that was not held up long enough would come before the POST that it waited for has read."""
    cfg = config(16, 4, toeplitz=1)
    body = command(m_count1=30, k_total=16, **BACK)
    # The second is taken with the last tile of the first: as many cycles behind it as that is prepared and loaded.
    accepted, _, events = run(cfg, rng, [body, body | {"bank": 1}], pause=pause)
    held = max(0, 5 + 16 - 1 - pause)
    assert accepted[1] - accepted[0] == max(5 + 16, pause + 1)
    assert len(events["weight_read"]) == 16 + (2 if held >= 15 else 16)


def test_toeplitz_same_rows(rng):
    """Sums of the same rows, added to before they are written, would be lost."""
    cfg = config(6, 4, toeplitz=1)
    body = command(m_count1=3, k_total=6, n_count=4, **BACK | {"acc_nstep": 0})
    _, _, events = run(cfg, rng, [body])
    assert len(events["weight_read"]) == 4 * 6


def command(**fields):
    """Command that contracts one tile with one vector, but for the fields given."""
    plain = {"m_count0": 1, "m_count1": 1, "m_count2": 1, "n_count": 1, "k_total": 1, "run": 100,
             "run_count": 1, "w_pitch": 1, "m_step0": 1, "first": 1}
    return dict.fromkeys(FIELDS, 0) | plain | fields


@pytest.mark.parametrize(("arithmetic", "shape", "left", "more"), [
    ("integer", (7, 4), 0, -6), ("integer", (4, 7), 1, 0), ("integer", (2, 3), 0, 5), ("integer", (3, 8), 1, -2),
    ("direct", (2, 2), 0, -3), ("slow-product", (3, 2), 0, 1), ("float-like", (3, 4), 0, -2)])
def test_throughput(rng, arithmetic, shape, left, more):
    """An idle cycle between tiles or commands would show in every network's speed."""
    rows, cols = shape
    cfg = with_arithmetic(config(rows, cols), ARITHMETICS[arithmetic](8))
    slots = tile_slots(cfg, left=bool(left))
    pixels = slots + more
    fold = command(m_count0=pixels, k_total=5 * rows - 1, fold=1, run=3, jump1=cfg.banks, left=left)
    tall = command(m_count1=pixels, k_total=rows, run=rows, n_count=3, acc_nstep=32, left=left)
    accepted, completed, events = run(cfg, rng, [fold, tall, fold])
    # Preparing a command is hidden where a tile has enough vectors.
    pause = max(slots + 5 - pixels, 0) - max(slots - pixels, 0)
    first = events["active"][0]
    assert events["active"] == [
        first + tile * max(pixels, slots) + (tile >= 5) * pause + (tile >= 8) * pause + pixel
        for tile in range(13) for pixel in range(pixels)]
    assert completed[0] - accepted[0] == execute_cycles(cfg, 5, pixels, left=bool(left))
    assert completed[2] - accepted[0] == execute_cycles(cfg, 13, pixels, left=bool(left)) + 2 * pause


@pytest.mark.parametrize(("arithmetic", "turns"), [("integer", 1), ("slow-sum", 2), ("float-like", 4)])
def test_output_stationary_throughput(rng, arithmetic, turns):
    """Sums must leave behind the next tile's back, if that is long enough."""
    cfg = with_arithmetic(config(4, 3), ARITHMETICS[arithmetic](8))
    bodies = [command(output_stationary=1, m_count0=9, m_count1=2, n_count=3, acc_nstep=32, k_total=0,
                      run=0, run_count=0) for _ in range(2)]
    _, _, events = run(cfg, rng, bodies)
    first = events["active"][0]
    assert events["active"] == list(range(first, first + 2 * 3 * 18 * turns))
    assert len(events["accumulator_write"]) == 2 * 3 * 4 * turns


def test_events(rng):
    """Counters are made of these: one vector or row too many would be reported as energy and bandwidth."""
    cfg = config(6, 4)
    body = command(m_count0=7, k_total=10, n_count=2, acc_nstep=32)
    _, _, events = run(cfg, rng, [body])
    counts = {name: len(cycles) for name, cycles in events.items()}
    stall = counts.pop("stall_weights")
    assert counts == {"active": 28, "activation_read": 28, "weight_read": 20, "accumulator_read": 14,
                      "accumulator_write": 28}
    assert stall == events["active"][0] - events["stall_weights"][0] > 0


@pytest.mark.parametrize("mode", [0, 1])
def test_done(rng, mode):
    """Post-processing that hears of `done` must find the last column of the last row when it gets there."""
    cfg = config(3, 6)
    body = (command(output_stationary=1, m_count0=4, k_total=0, run=0, run_count=0) if mode else
            command(m_count0=5, k_total=3))
    bench = Bench(cfg)
    engine = bench.execute

    async def testbench(ctx):
        pad = {name: bench.pads[name].write for name in bench.pads}
        for write in pad.values():
            ctx.set(write.en, (1 << len(write.en)) - 1)
        for line in range(16):
            for write in pad.values():
                ctx.set(write.line, [line] * cfg.banks)
                ctx.set(write.data, [line * 8 + bank for bank in range(cfg.banks)])
            await ctx.tick()
        ctx.set(engine.commands.payload, body)
        ctx.set(engine.commands.valid, 1)
        await ctx.tick().until(engine.commands.ready)
        ctx.set(engine.commands.valid, 0)
        ctx.set(engine.accumulators.row, 0 if mode else 4)
        expected = np.zeros((2, cfg.accumulators.depth, 6), np.int64)
        memory = np.arange(128)
        execute(cfg, body, memory, memory, expected)
        await ctx.tick().until(engine.done)
        await ctx.tick().repeat(Accumulators.AHEAD - 1)
        ctx.set(engine.accumulators.en, 1)
        await ctx.tick().repeat(AccumulatorRead.LATENCY)
        got = [ctx.get(engine.accumulators.data[col]) for col in range(6)]
        assert got == expected[0, 0 if mode else 4].tolist()

    simulate(bench, testbench)
