"""Commands of sums and those of routines, which take turns in the vector engine."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks import rules
from ..shell.config import Config

__all__ = ["Turns"]


class Turns(wiring.Component):
    """Hands on each command to its part of the engine, and none while one of the other kind is on its way.

    Commands so complete in the order in which they come, and what either part writes meets nothing of the other.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator, with ``post.routines``.

    Members
    -------
    commands : :py:`In(stream.Signature(PostBody))`
        Commands.
    sums, routines : :py:`Out(stream.Signature(PostBody))`
        Those without ``routine``, and those with it.
    sums_done, routines_done : :py:`In(1)`
        High for one cycle for each that has been completed.
    done : :py:`Out(1)`
        Either.
    begun : :py:`Out(1)`
        A routine is taken.
    """

    #: Commands of each kind that may be on their way.
    MOST = 3

    def __init__(self, config: Config):
        commands = stream.Signature(config.commands.post)
        super().__init__({
            "commands": In(commands), "sums": Out(commands), "routines": Out(commands), "sums_done": In(1),
            "routines_done": In(1), "done": Out(1), "begun": Out(1)})

    def elaborate(self, platform):
        """Build the counters of what is on its way."""
        m = Module()

        is_routine = self.commands.p.routine
        idle, taken = {}, {}
        for name, part, done in (("sums", self.sums, self.sums_done), ("routines", self.routines, self.routines_done)):
            count = Signal(range(self.MOST + 1), name=f"{name}_on_their_way")
            taken[name] = part.valid & part.ready
            with m.If(taken[name] & ~done):
                m.d.sync += count.eq(count + 1)
            with m.If(done & ~taken[name]):
                m.d.sync += count.eq(count - 1)
            idle[name] = count == 0
            rules.outstanding(m, name, taken[name], done, self.MOST)
        m.d.comb += [
            self.sums.p.eq(self.commands.p),
            self.routines.p.eq(self.commands.p),
            self.sums.valid.eq(self.commands.valid & ~is_routine & idle["routines"]),
            self.routines.valid.eq(self.commands.valid & is_routine & idle["sums"]),
            self.commands.ready.eq(Mux(is_routine, self.routines.ready & idle["sums"],
                                       self.sums.ready & idle["routines"])),
            self.done.eq(self.sums_done | self.routines_done),
            self.begun.eq(taken["routines"]),
        ]

        return m
