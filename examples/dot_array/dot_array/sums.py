"""Accumulators: two banks of rows of finished sums."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pearray.hdl.blocks.pipeline import delay
from pearray.hdl.post.sums import AccumulatorRead

from .config import DotConfig

__all__ = ["FinishedSums", "RowControl"]


class RowControl(data.Struct):
    """Where a row of sums goes, and what becomes of the row that stands there."""

    valid: unsigned(1)
    first: unsigned(1)
    maximum: unsigned(1)
    bank: unsigned(1)
    last: unsigned(1)
    row: unsigned(16)


class FinishedSums(wiring.Component):
    """Rows of N sums, which replace, raise or add to the rows that stand there.

    One row a cycle. The same row may come again after :attr:`PERIOD` cycles, another in the next. While rows of one
    bank come in, only the other may be read.

    Parameters
    ----------
    config : DotConfig
        Configuration of the accelerator.

    Members
    -------
    control : In(RowControl)
        Row whose sums arrive :attr:`LEAD` cycles later.
    sums : In(ArrayLayout(signed(accumulator_bits), N))
        The sums.
    read : In(AccumulatorRead(config))
        Port of post-processing.
    done : Out(1)
        The last row of a command can be read.
    """

    #: Cycles from a row's control to its sums: the memory and its output register.
    LEAD = 2
    #: Least number of cycles from a row to the same row.
    PERIOD = 4

    def __init__(self, config: DotConfig):
        self._config = config
        self._depth = config.accumulators.depth
        self._sum = signed(config.accumulator_bits)
        super().__init__({
            "control": In(RowControl),
            "sums": In(data.ArrayLayout(self._sum, config.array.rows)),
            "read": In(AccumulatorRead(config)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        """Build a bank of memories for each unit."""
        m = Module()

        units = len(self.sums.as_value()) // self._sum.width
        arrived = delay(m, self.control, self.LEAD, "arrived")
        written = delay(m, arrived, 1, "written")
        reading_bank = delay(m, self.read.bank, AccumulatorRead.LATENCY, "reading_bank")
        for unit in range(units):
            total = Signal(self._sum, name=f"total_{unit}", reset_less=True)
            outputs = []
            for bank in range(2):
                memory = Memory(shape=self._sum, depth=self._depth, init=[], attrs={"no_rw_check": 1})
                m.submodules[f"unit_{unit}_bank_{bank}"] = memory
                write, read = memory.write_port(), memory.read_port()
                ours = self.control.valid & (self.control.bank == bank)
                output = Signal(self._sum, name=f"output_{unit}_{bank}", reset_less=True)
                m.d.comb += [
                    read.en.eq(ours | self.read.en & (self.read.bank == bank)),
                    read.addr.eq(Mux(ours, self.control.row, self.read.row)),
                    write.en.eq(written.valid & (written.bank == bank)),
                    write.addr.eq(written.row),
                    write.data.eq(total),
                ]
                m.d.sync += output.eq(read.data)
                outputs.append(output)
            old, new = Mux(arrived.bank, outputs[1], outputs[0]), self.sums[unit]
            kept = Mux(arrived.maximum, Mux(new > old, new, old), old + new)
            m.d.sync += total.eq(Mux(arrived.first, new, kept))
            m.d.comb += self.read.data[unit].eq(Mux(reading_bank, outputs[1], outputs[0]))
        m.d.sync += self.done.eq(written.valid & written.last)

        return m
