"""Accumulators below the array: two banks of rows, one block RAM a bank and column."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay
from ..blocks.unit import Unit, add
from ..post.sums import AccumulatorRead
from ..shell.config import Config

__all__ = ["AccumulatorColumn", "Accumulators", "DrainRows", "control_layout"]


def control_layout(depth: int) -> data.StructLayout:
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
    })


class DrainRows(wiring.Component):
    """Makes the rows of an output-stationary drain of its one drain vector.

    A weight-stationary row passes through. A drain becomes ``rows`` rows in consecutive cycles,
    from ``i.row`` downwards. Latency is one cycle.

    Parameters
    ----------
    rows, depth : int
        Rows of the array and of a bank of accumulators.

    Members
    -------
    drain : In(1)
        ``i`` is a drain.
    i, o : In(control_layout(depth)), Out(control_layout(depth))
        Control of a vector, and of a row of sums.
    """

    def __init__(self, rows: int, depth: int):
        self._rows = rows
        super().__init__({
            "drain": In(1),
            "i": In(control_layout(depth)),
            "o": Out(control_layout(depth)),
        })

    def elaborate(self, platform):
        """Build the row counter."""
        m = Module()

        left = Signal(range(max(self._rows, 2)))
        last = Signal()
        with m.If(self.i.valid):
            m.d.sync += [
                self.o.eq(self.i),
                left.eq(Mux(self.drain, self._rows - 1, 0)),
                last.eq(self.i.last),
            ]
            if self._rows > 1:
                m.d.sync += self.o.last.eq(self.i.last & ~self.drain)
        with m.Else():
            m.d.sync += [
                self.o.valid.eq(left != 0),
                self.o.row.eq(self.o.row - 1),
                self.o.last.eq(last & (left == 1)),
            ]
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)

        return m


class AccumulatorColumn(Unit):
    """One column of accumulators.

    A sum is read, combined and written back in five cycles, so the same row may come again after
    :attr:`Accumulators.PERIOD` cycles, and other rows every cycle. The bank that post-processing
    reads must be another than the one at work: the latter's reads take precedence.

    Parameters
    ----------
    depth : int
        Rows of a bank.
    accumulator_bits, psum_bits : int
        Bits of a sum in the accumulators and of one from the array; additions wrap around.

    Members
    -------
    reading, writing : In(control_layout(depth))
        Row whose sum arrives three cycles later, and row to write, five cycles after its reading.
    reading_next, writing_next : Out(control_layout(depth))
        The same one cycle later, for the column to the right.
    psum : In(signed(psum_bits))
        Sum from the array.
    read_en, read_bank, read_row, read_data : In, Out
        Port of post-processing, see :class:`AccumulatorRead`.
    """

    unit_name = "accumulator_column"

    def __init__(self, depth: int, accumulator_bits: int, psum_bits: int):
        self._depth = depth
        self._accumulator = signed(accumulator_bits)
        self._psum = signed(psum_bits)
        control = control_layout(depth)
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
            m.d.sync += output.eq(read.data)
            outputs.append(output)

        read_bank = delay(m, self.read_bank, AccumulatorRead.LATENCY, "read_bank")
        m.d.comb += self.read_data.eq(Mux(read_bank, outputs[1], outputs[0]))

        # One step a cycle: choice of the bank, comparison, clearing of what must not enter the sum
        # (which costs registers' reset inputs instead of logic), addition.
        control = delay(m, self.reading, 2, "reading")
        old = Signal(self._accumulator, reset_less=True)
        m.d.sync += old.eq(Mux(control.bank, outputs[1], outputs[0]))
        control = delay(m, control, 1, "reading_compare")
        old_after = Signal(self._accumulator, reset_less=True)
        new_after = Signal(self._psum, reset_less=True)
        below = Signal(reset_less=True)
        m.d.sync += [old_after.eq(old), new_after.eq(self.psum), below.eq(old < self.psum)]
        control = delay(m, control, 1, "reading_clear")
        kept = Signal(self._accumulator, reset_less=True)
        added = Signal(self._psum, reset_less=True)
        m.d.sync += [kept.eq(old_after), added.eq(new_after)]
        with m.If(control.first | control.maximum & below):
            m.d.sync += kept.eq(0)
        with m.If(~control.first & control.maximum & ~below):
            m.d.sync += added.eq(0)
        m.d.comb += total.eq(kept + added)

        return m


class Accumulators(wiring.Component):
    """Two banks of ``depth`` rows of C sums.

    Sums of the array enter one bank while post-processing reads the other. They arrive skewed,
    column c one cycle after column c - 1, and their control goes along.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    control : In(control_layout(depth))
        Row whose sum of column 0 arrives :attr:`LEAD` cycles later, one a cycle. The same row may
        come again after :attr:`PERIOD` cycles.
    psum : In(ArrayLayout(signed(psum_bits), C))
        Sums from the array.
    read : In(AccumulatorRead(config))
        Port of post-processing. While a row of one bank comes in, only the other can be read.
    done : Out(1)
        The last row of a command can be read.
    """

    #: Cycles from ``control`` to ``psum`` of column 0.
    LEAD = 3
    #: Least number of cycles from a row to the same row.
    PERIOD = 6

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "control": In(control_layout(config.accumulators.depth)),
            "psum": In(data.ArrayLayout(signed(config.psum_bits), config.array.cols)),
            "read": In(AccumulatorRead(config)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        """Build the columns."""
        m = Module()

        config = self._config
        reading = self.control
        writing = delay(m, self.control, self.PERIOD - 1, "writing")
        for index in range(config.array.cols):
            column = AccumulatorColumn(config.accumulators.depth, config.accumulator_bits, config.psum_bits)
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
        m.d.comb += self.done.eq(writing.valid & writing.last)

        return m
