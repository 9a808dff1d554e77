"""Pipelines without flow control: numbers in, one set a cycle, and what comes out of each."""

import numpy as np
from amaranth.hdl import Module
from amaranth.sim import Simulator


def run(pipeline, inputs, output, latency):
    """Return what a component makes of arrays of integers, by ports, as many cycles later as its latency says."""
    count = len(next(iter(inputs.values())))
    found = []

    async def drive(ctx):
        for cycle in range(count + latency):
            if cycle < count:
                for port, values in inputs.items():
                    ctx.set(getattr(pipeline, port), int(values[cycle]))
            if not latency:
                await ctx.delay(1e-6)
            if cycle >= latency:
                found.append(ctx.get(getattr(pipeline, output)))
            if latency:
                await ctx.tick()

    top = Module()
    top.submodules.pipeline = pipeline
    simulator = Simulator(top)
    if latency:
        simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return np.array(found, np.uint32)
