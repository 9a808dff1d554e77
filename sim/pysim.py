"""Testbenches for the simulator built into Amaranth."""

from contextlib import nullcontext, suppress
from typing import Any

from amaranth.hdl import Value
from amaranth.sim import Simulator

__all__ = ["PERIOD", "simulate", "stream_check", "stream_get", "stream_put"]

#: Seconds of a clock cycle.
PERIOD = 1e-6


async def stream_put(ctx, stream, payload):
    """Offer one payload, and return once it has been taken."""
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    await ctx.tick().until(stream.ready)
    ctx.set(stream.valid, 0)


async def stream_get(ctx, stream):
    """Take one payload and return it."""
    ctx.set(stream.ready, 1)
    payload, = await ctx.tick().sample(stream.payload).until(stream.valid)
    ctx.set(stream.ready, 0)
    return payload


def stream_check(stream):
    """Make a background testbench which checks that an offered payload stays until it is taken."""
    async def testbench(ctx):
        offered = None
        async for _, _, valid, ready, payload in ctx.tick().sample(stream.valid, stream.ready,
                                                                   Value.cast(stream.payload)):
            assert offered is None or (valid and payload == offered), f"payload {offered:#x} was withdrawn"
            offered = payload if valid and not ready else None
    return testbench


def simulate(dut: Any, *testbenches: Any, background: Any = (), timeout: float = 20_000,
             vcd: str | None = None) -> None:
    """Run testbenches to their ends.

    Parameters
    ----------
    dut : elaboratable
        Design in the domain ``sync``.
    *testbenches : coroutine function
        Testbenches that must end.
    background : sequence of coroutine function
        Testbenches that need not.
    timeout : float
        Cycles within which the testbenches must end.
    vcd : str, optional
        File for a trace.

    Raises
    ------
    TimeoutError
        If they do not.
    """
    async def watchdog(ctx):
        await ctx.delay(timeout * PERIOD)
        raise TimeoutError(f"testbenches did not end within {timeout} cycles")

    coroutines = []

    def kept(testbench):
        async def wrapper(ctx):
            coroutine = testbench(ctx)
            coroutines.append(coroutine)
            await coroutine
        return wrapper

    simulator = Simulator(dut)
    simulator.add_clock(PERIOD)
    for testbench in testbenches:
        simulator.add_testbench(kept(testbench))
    for testbench in (*background, watchdog):
        simulator.add_testbench(kept(testbench), background=True)
    try:
        with nullcontext() if vcd is None else simulator.write_vcd(vcd):
            simulator.run()
    finally:
        # Before Python 3.13 a coroutine that is closed inside `ctx.tick().until(...)` raises. Left to
        # the garbage collector it would raise in the middle of some other test.
        for coroutine in coroutines:
            with suppress(RuntimeError):
                coroutine.close()
