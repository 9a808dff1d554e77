"""Execute engine with its scratchpads against a NumPy model of its commands."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from execute_model import config, draw, execute, sums

from pearray.hdl.execute import Events, Execute
from pearray.hdl.scratchpad import Scratchpad
from pearray.hdl.tiles import tile_slots
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
        m = Module()
        m.submodules.execute = self.execute
        for name, pad in self.pads.items():
            m.submodules[name] = pad
            wiring.connect(m, getattr(self.execute, name), pad.read)
        m.d.comb += self.done.eq(self.execute.done)
        return m


def run(cfg, rng, bodies, *, gap=0.0):
    """Run commands on random scratchpads and compare; return what happened when.

    ``gap`` is the probability of waiting a while before a command. The result holds the cycles in which commands
    were accepted and completed, and for each event the cycles in which it was set.
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
            ctx.set(pad.write.en, (1 << cfg.banks) - 1)
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

    async def check(ctx):
        for _ in bodies:
            await ctx.tick().until(engine.done)
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


SHAPES = [(4, 4), (1, 1), (8, 4), (3, 7), (2, 9), (6, 1), (1, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["fold", "runs", "left", "diagonal", "outer"])
def test_commands(rng, shape, kind):
    """A wrong address, mask, bank, sign or hazard in any kind of walk would give a wrong sum."""
    cfg = config(*shape)
    run(cfg, rng, [draw(cfg, rng, kind) for _ in range(6)])


@pytest.mark.parametrize("shape", SHAPES)
def test_back_to_back(rng, shape):
    """State left by one command, of whatever kind, must not reach the next one."""
    cfg = config(*shape)
    run(cfg, rng, [draw(cfg, rng, pixels=12, elements=12) for _ in range(14)])


@pytest.mark.parametrize("operand_bits", [4, 5, 16])
def test_operand_bits(rng, operand_bits):
    """Other widths take other bits of a bank, and other scratchpad lines."""
    cfg = config(4, 6, operand_bits=operand_bits)
    run(cfg, rng, [draw(cfg, rng) for _ in range(12)], gap=0.7)
