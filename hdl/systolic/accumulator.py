"""Accumulators below the array: two banks of rows, one block RAM a bank and column."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks import rules
from ..blocks.pipeline import delay
from ..blocks.unit import Unit, add
from ..post.engine import Post
from ..post.sums import AccumulatorRead
from ..shell.config import Config
from ..shell.tokens import TokenGates
from .shifts import ROW_SHIFT

__all__ = ["AccumulatorColumn", "Accumulators", "DrainRows", "control_layout"]


def control_layout(depth: int, *, rescales: bool = False) -> data.StructLayout:
    """Layout of what happens to a row of sums that leaves the array."""
    return data.StructLayout({
        "valid": 1,
        "bank": 1,
        "row": range(depth),
        # Overwrite; else add, or, with `maximum`, keep the greater.
        "first": 1,
        "maximum": 1,
        # Last row of the command.
        "last": 1,
        **({"shift": ROW_SHIFT} if rescales else {}),
    })


class DrainRows(wiring.Component):
    """Makes the rows of an output-stationary drain of its one drain vector.

    A weight-stationary row passes through. A drain becomes ``turns * rows`` rows in consecutive cycles. Those that
    the PEs of a row of the array hold lie ``rows`` apart, from ``i.row`` upwards; those of the rows of the array
    above follow, each a row further down. Latency is one cycle.

    Parameters
    ----------
    rows, depth : int
        Rows of the array and of a bank of accumulators.
    turns : int
        Sums that take turns in a PE.
    rescales : bool
        Rows may be shifted.

    Members
    -------
    drain : In(1)
        ``i`` is a drain.
    i, o : In(control_layout), Out(control_layout)
        Control of a vector, and of a row of sums.
    """

    def __init__(self, rows: int, depth: int, turns: int = 1, *, rescales: bool = False):
        self._rows = rows
        self._turns = turns
        super().__init__({
            "drain": In(1),
            "i": In(control_layout(depth, rescales=rescales)),
            "o": Out(control_layout(depth, rescales=rescales)),
        })

    def elaborate(self, platform):
        """Build the row counter."""
        m = Module()

        count = self._turns * self._rows
        left = Signal(range(max(count, 2)))
        last = Signal()
        following = self.o.row - 1
        if self._turns > 1:
            turn = Signal(range(self._turns))
            end = turn == self._turns - 1
            following = Mux(end, self.o.row - (self._turns - 1) * self._rows - 1, self.o.row + self._rows)
            m.d.sync += turn.eq(Mux(self.i.valid | end, 0, turn + 1))
        with m.If(self.i.valid):
            m.d.sync += [
                self.o.eq(self.i),
                left.eq(Mux(self.drain, count - 1, 0)),
                last.eq(self.i.last),
            ]
            if count > 1:
                m.d.sync += self.o.last.eq(self.i.last & ~self.drain)
        with m.Else():
            m.d.sync += [
                self.o.valid.eq(left != 0),
                self.o.row.eq(following),
                self.o.last.eq(last & (left == 1)),
            ]
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)

        return m


class AccumulatorColumn(Unit):
    """One column of accumulators.

    A sum is read, combined and written back, so the same row may come again after
    :attr:`Accumulators.period` cycles, and other rows every cycle. Post-processing reads a bank :attr:`period` cycles
    after the array's last row that is read, or before the first: a rule sees to that, since the array's reads take
    precedence. Rows that overwrite are not, and post-processing may read others of the bank meanwhile.

    Parameters
    ----------
    depth : int
        Rows of a bank.
    arithmetic : Arithmetic
        Numbers of the accelerator; says what a row's accumulator and a sum from the array become.
    products : int
        Products that a sum from the array can hold.
    rescales : bool
        Rows may be shifted before they are combined.

    Members
    -------
    reading, writing : In(control_layout)
        Row whose sum arrives :attr:`Accumulators.LEAD` cycles later, valid if what stands there is to be read, and row
        to write, ``period - 1`` cycles after its reading.
    reading_next, writing_next : Out(control_layout)
        The same one cycle later, for the column to the right.
    psum : In(psum)
        Sum from the array.
    read_en, read_bank, read_row, read_data : In, Out
        Port of post-processing, see :class:`AccumulatorRead`.
    """

    unit_name = "accumulator_column"

    def __init__(self, depth: int, arithmetic: Arithmetic, products: int, rescales: bool = False):
        self._depth = depth
        self._rescales = rescales
        self._arithmetic = arithmetic
        self._accumulator = arithmetic.accumulator
        self._psum = arithmetic.psum(products)
        control = control_layout(depth, rescales=rescales)
        super().__init__({
            "reading": In(control),
            "writing": In(control),
            "reading_next": Out(control),
            "writing_next": Out(control),
            "psum": In(self._psum),
            "read_en": In(1),
            "read_bank": In(1),
            "read_row": In(range(depth)),
            "read_data": Out(self._accumulator),
        })

    def elaborate(self, platform):
        """Build the two banks and the pipeline from reading to writing."""
        m = Module()

        m.d.sync += [self.reading_next.eq(self.reading), self.writing_next.eq(self.writing)]

        total = Signal(self._accumulator)
        outputs = []
        for bank in range(2):
            memory = Memory(shape=self._accumulator, depth=self._depth, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"bank_{bank}"] = memory
            write = memory.write_port()
            read = memory.read_port()
            ours = Signal(name=f"ours_{bank}")
            output = Signal(self._accumulator, name=f"output_{bank}", reset_less=True)
            m.d.comb += [
                ours.eq(self.reading.valid & (self.reading.bank == bank)),
                read.en.eq(ours | self.read_en & (self.read_bank == bank)),
                read.addr.eq(Mux(ours, self.reading.row, self.read_row)),
                write.en.eq(self.writing.valid & (self.writing.bank == bank)),
                write.addr.eq(self.writing.row),
                write.data.eq(total),
            ]
            rules.apart(m, f"bank_{bank}", ours, self.read_en & (self.read_bank == bank),
                        Accumulators.period_of(self._arithmetic), "sums are read that the array works on")
            m.d.sync += output.eq(read.data)
            outputs.append(output)

        read_bank = delay(m, self.read_bank, AccumulatorRead.LATENCY, "read_bank")
        m.d.comb += self.read_data.eq(Mux(read_bank, outputs[1], outputs[0]))

        # The choice of the bank takes a cycle; then the accumulator meets the sum.
        control = delay(m, self.reading, AccumulatorRead.LATENCY, "reading")
        old = Signal(self._accumulator, reset_less=True)
        m.d.sync += old.eq(Mux(control.bank, outputs[1], outputs[0]))
        control = delay(m, control, 1, "reading_compare")
        accumulate = self._arithmetic.accumulate_shifted if self._rescales else self._arithmetic.accumulate
        m.d.comb += total.eq(accumulate(m, old, self.psum, control))

        return m


class Accumulators(wiring.Component):
    """Two banks of ``depth`` rows of C sums.

    Sums of the array enter one bank while post-processing reads the other. They arrive skewed,
    column c one cycle after column c - 1, and their control goes along. Rows that overwrite may enter the bank that is
    read, as long as the rows are others.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    control : In(control_layout)
        Row whose sum of column 0 arrives :attr:`LEAD` cycles later, one a cycle. The same row may
        come again after :attr:`period` cycles.
    psum : In(ArrayLayout(psum, C))
        Sums from the array.
    read : In(AccumulatorRead(config))
        Port of post-processing. While a row of one bank is added to, only the other can be read.
    done : Out(1)
        The last row of a command can be read :attr:`AHEAD` cycles later.
    """

    #: Cycles from ``control`` to ``psum`` of column 0: reading, and the choice of the bank.
    LEAD = AccumulatorRead.LATENCY + 1
    #: Cycles by which ``done`` comes before all sums stand: those from it to the first read of a POST that waits for
    #: it.
    AHEAD = TokenGates.DONE_LATENCY + Post.START

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "control": In(control_layout(config.accumulators.depth, rescales=config.has_softmax)),
            "psum": In(data.ArrayLayout(config.arithmetic.psum(config.os_depth), config.array.cols)),
            "read": In(AccumulatorRead(config)),
            "done": Out(1),
        })

    @property
    def period(self) -> int:
        """Least number of cycles from a row to the same row."""
        return self.period_of(self._config.arithmetic)

    @classmethod
    def period_of(cls, arithmetic: Arithmetic) -> int:
        """Return the least number of cycles from a row to the same row: until it has been written and can be read."""
        return cls.LEAD + arithmetic.accumulate_latency + 1

    def elaborate(self, platform):
        """Build the columns."""
        m = Module()

        config = self._config
        row, read = Cat(self.control.row, self.control.bank), Cat(self.read.row, self.read.bank)
        rules.places_apart(m, "rows", self.control.valid, row, self.read.en, read, self.period + config.array.cols - 1,
                           "a row is read that is on its way")
        # What is written over need not be read, and leaves the port to post-processing.
        reading = Signal.like(self.control, name="reading")
        m.d.comb += [reading.eq(self.control), reading.valid.eq(self.control.valid & ~self.control.first)]
        writing = delay(m, self.control, self.period - 1, "writing")
        for index in range(config.array.cols):
            column = AccumulatorColumn(config.accumulators.depth, config.arithmetic, config.os_depth,
                                       config.has_softmax)
            add(m, f"column_{index}", column, platform)
            m.d.comb += [
                column.reading.eq(reading),
                column.writing.eq(writing),
                column.psum.eq(self.psum[index]),
                column.read_en.eq(self.read.en),
                column.read_bank.eq(self.read.bank),
                column.read_row.eq(self.read.row),
                self.read.data[index].eq(column.read_data),
            ]
            reading, writing = column.reading_next, column.writing_next
        m.d.comb += self.done.eq(delay(
            m, self.control.valid & self.control.last, self.period - 1 + config.array.cols - self.AHEAD, "done"))

        return m
