"""Elements of the tiles of an execute command: how many, and which are the last."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..shell.config import Config

__all__ = ["TilePlan"]


class TilePlan(wiring.Component):
    """Number of elements of the next tile.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    command : In(config.commands.execute)
        Command; uses ``k_total``, ``run``, ``fold`` and ``output_stationary``.
    restart : In(1)
        Plan the first tile.
    advance : In(1)
        Plan the tile after the one that was planned last. :attr:`LATENCY` cycles after either, the plan
        stands; until a cycle before, the one before it.
    elements : Out(range(rows + 1))
        Elements of the planned tile.
    last : Out(1)
        No element is left after it.
    """

    #: Cycles from ``restart`` or ``advance`` to the plan.
    LATENCY = 3

    def __init__(self, config: Config):
        self._rows = rows = config.array.rows
        super().__init__({
            "command": In(config.commands.execute),
            "restart": In(1),
            "advance": In(1),
            "elements": Out(range(rows + 1)),
            "last": Out(1),
        })

    def elaborate(self, platform):
        """Build a step of what is left, a comparison, and a choice, in a cycle each."""
        m = Module()

        k_left = Signal(16, reset_less=True)
        run_left = Signal(16, reset_less=True)
        run_ends = Signal(reset_less=True)
        with m.If(self.restart):
            m.d.sync += [k_left.eq(self.command.k_total), run_left.eq(self.command.run)]
        with m.Elif(self.advance):
            m.d.sync += [
                k_left.eq(k_left - self.elements),
                run_left.eq(Mux(run_ends, self.command.run, run_left - self.elements)),
            ]

        compare = Signal()
        choose = Signal()
        k_short = Signal(reset_less=True)
        run_short = Signal(reset_less=True)
        k_first = Signal(reset_less=True)
        m.d.sync += [
            compare.eq(self.restart | self.advance),
            choose.eq(compare),
            k_short.eq(k_left <= self._rows),
            run_short.eq(~self.command.fold & (run_left <= self._rows)),
            # Matters only where both are short.
            k_first.eq(k_left[:self.elements.shape().width] <= run_left[:self.elements.shape().width]),
        ]
        ends = Signal()
        m.d.comb += ends.eq(k_short & (~run_short | k_first))
        with m.If(choose):
            m.d.sync += [
                self.last.eq(ends | self.command.output_stationary),
                run_ends.eq(run_short),
                self.elements.eq(Mux(ends, k_left, Mux(run_short, run_left, self._rows))),
            ]

        return m
