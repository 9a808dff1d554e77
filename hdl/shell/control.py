"""Course of a run: start, end, errors, and time without progress."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.axi import Response
from .registers import Cause

__all__ = ["Control"]


class Control(wiring.Component):
    """Starts and ends a run.

    ``run`` is high from the cycle after ``start`` until the program has finished or failed; while
    it is low, the engines are in reset and the memory ports drain. After a failure, done waits
    until the memory ports are idle, or until they have made no progress for ``timeout`` cycles. If
    the memory answers later after all, the ports go on draining, also under the next run.

    The first error of a run is reported; of several in one cycle, the first in the order below.

    Members
    -------
    start : In(1)
        Start a run. Ignored while busy.
    finished : In(1)
        The program has ended.
    read_error, write_error : In(1)
        An error response.
    read_response, write_response : In(Response)
        The response.
    read_address, write_address : In(32)
        Address of its burst.
    bad_command : In(1)
        The program holds an unknown command.
    command_address : In(32)
        Its address.
    progress : In(1)
        Something moved in this cycle.
    timeout : In(32)
        Cycles without progress after which a run fails; 0: never.
    ports_idle : In(1)
        Nothing is in flight to or from memory.
    run : Out(1)
        The engines may work.
    reset : Out(1)
        They may not. A register of its own, since it has the longest ways of all.
    busy, done, error : Out(1)
        Status: done stays until the next start, error too.
    cause : Out(Cause)
        Cause of the error.
    error_address : Out(32)
        Its address, or zero.
    """

    start: In(1)
    finished: In(1)
    read_error: In(1)
    read_response: In(Response)
    read_address: In(32)
    write_error: In(1)
    write_response: In(Response)
    write_address: In(32)
    bad_command: In(1)
    command_address: In(32)
    progress: In(1)
    timeout: In(32)
    ports_idle: In(1)
    run: Out(1)
    reset: Out(1, init=1)
    busy: Out(1)
    done: Out(1)
    error: Out(1)
    cause: Out(Cause)
    error_address: Out(32)

    def elaborate(self, platform):
        """Build the states and the timer."""
        m = Module()

        waited, moved, expired = self._watch(m)
        failed, cause, address = self._find_error(m, expired)
        draining = Signal()
        m.d.comb += self.busy.eq(self.run | draining)
        with m.If(self.run):
            with m.If(failed):
                m.d.sync += [
                    self.run.eq(0),
                    self.reset.eq(1),
                    draining.eq(1),
                    self.error.eq(1),
                    self.cause.eq(cause),
                    self.error_address.eq(address),
                    # The ports have as long again to drain, from now.
                    waited.eq(0),
                    expired.eq(0),
                ]
            with m.Elif(self.finished):
                m.d.sync += [self.run.eq(0), self.reset.eq(1), self.done.eq(1)]
        with m.Elif(draining):
            with m.If(self.ports_idle | expired):
                m.d.sync += [draining.eq(0), self.done.eq(1)]
        with m.Elif(self.start):
            m.d.sync += [
                self.run.eq(1),
                self.reset.eq(0),
                self.done.eq(0),
                self.error.eq(0),
                self.cause.eq(Cause.NONE),
                self.error_address.eq(0),
                waited.eq(0),
                expired.eq(0),
                moved.eq(0),
            ]

        return m

    def _watch(self, m):
        """Count the cycles without progress; return them, whether there was any, and whether they are too many."""
        # Progress and expiry are registered: a timeout may come two cycles late.
        waited = Signal(32)
        moved = Signal()
        expired = Signal()
        m.d.sync += [
            moved.eq(self.progress),
            waited.eq(waited + 1),
            expired.eq((waited == self.timeout) & (self.timeout != 0) & ~moved),
        ]
        with m.If(moved | expired):
            m.d.sync += waited.eq(0)
        return waited, moved, expired

    def _find_error(self, m, expired):
        """Return whether something failed, why, and at which address."""
        failed = Signal()
        cause = Signal(Cause)
        address = Signal(32)
        with m.If(self.read_error):
            m.d.comb += [
                failed.eq(1),
                cause.eq(Mux(self.read_response == Response.DECERR, Cause.READ_DECERR, Cause.READ_SLVERR)),
                address.eq(self.read_address),
            ]
        with m.Elif(self.write_error):
            m.d.comb += [
                failed.eq(1),
                cause.eq(Mux(self.write_response == Response.DECERR, Cause.WRITE_DECERR, Cause.WRITE_SLVERR)),
                address.eq(self.write_address),
            ]
        with m.Elif(self.bad_command):
            m.d.comb += [failed.eq(1), cause.eq(Cause.BAD_COMMAND), address.eq(self.command_address)]
        with m.Elif(expired):
            m.d.comb += [failed.eq(1), cause.eq(Cause.TIMEOUT)]
        return failed, cause, address
