"""Execute engine: operands from the scratchpads through the units to the accumulators."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pearray.hdl.blocks.banks import BankRead
from pearray.hdl.blocks.pipeline import delay
from pearray.hdl.blocks.unit import add
from pearray.hdl.post.sums import AccumulatorRead

from .commands import DotBody
from .config import DotConfig
from .sums import FinishedSums
from .unit import DotUnit, LineControl
from .walk import LineWalk

__all__ = ["DotArray", "DotEngine", "Events"]


class Events(data.Struct):
    """What happened in this cycle, for counters."""

    #: Operands were given to the units.
    active: unsigned(1)
    #: A command waits for sums that are on their way.
    stall_sums: unsigned(1)
    #: A row of sums was written.
    accumulator_write: unsigned(1)


class DotArray(wiring.Component):
    """N dot-product units, all of which see the same activations. There is no flow control.

    Parameters
    ----------
    config : DotConfig
        Configuration of the accelerator.

    Members
    -------
    a : In(ArrayLayout(signed(operand_bits + 1), K))
        Activations.
    w : In(ArrayLayout(signed(operand_bits + 1), K * N))
        Weights: that of product k and unit u is number ``k * N + u``.
    control : In(LineControl)
        What goes along with them.
    sums : Out(ArrayLayout(signed(accumulator_bits), N))
        Sum of each unit, :attr:`latency` cycles later.
    """

    def __init__(self, config: DotConfig):
        self._config = config
        self._units, self._products = config.array.rows, config.array.cols
        operand = signed(config.array.operand_bits + 1)
        self._unit = self._products, operand.width, config.accumulator_bits
        super().__init__({
            "control": In(LineControl),
            "a": In(data.ArrayLayout(operand, self._products)),
            "w": In(data.ArrayLayout(operand, self._products * self._units)),
            "sums": Out(data.ArrayLayout(signed(config.accumulator_bits), self._units)),
        })

    @property
    def latency(self) -> int:
        """Cycles from operands to sums."""
        return DotUnit.latency_of(self._products)

    def elaborate(self, platform):
        """Build the units."""
        m = Module()

        for number in range(self._units):
            unit = DotUnit(*self._unit)
            add(m, f"unit_{number}", unit, platform)
            m.d.comb += [unit.control.eq(self.control), unit.a.eq(self.a), self.sums[number].eq(unit.sum)]
            m.d.comb += [unit.w[k].eq(self.w[k * self._units + number]) for k in range(self._products)]

        return m


class DotEngine(wiring.Component):
    """Engine of EXECUTE commands.

    A line of operands a cycle. Commands follow one another with a cycle between them; one that adds to sums waits
    until those on their way have been written.

    Parameters
    ----------
    config : DotConfig
        Configuration of the accelerator.

    Members
    -------
    commands : In(stream.Signature(DotBody))
        Commands.
    done : Out(1)
        A command has been completed: its last sums can be read.
    activation, weight : Out(BankRead)
        Ports of the scratchpads.
    accumulators : In(AccumulatorRead(config))
        Port of post-processing.
    events : Out(Events)
        What happened.
    """

    def __init__(self, config: DotConfig):
        self._config = config
        bits = 8 * config.operand_bytes
        super().__init__({
            "commands": In(stream.Signature(DotBody)),
            "done": Out(1),
            "activation": Out(BankRead(config.array.cols, config.activation_lines, bits)),
            "weight": Out(BankRead(config.pes, config.weight_lines, bits)),
            "accumulators": In(AccumulatorRead(config)),
            "events": Out(Events),
        })

    @staticmethod
    def latency_of(config: DotConfig) -> int:
        """Cycles from a line's address to the completion of the command that it ends."""
        return BankRead.LATENCY + 1 + DotUnit.latency_of(config.array.cols) + 2

    def elaborate(self, platform):
        """Connect the parts."""
        m = Module()

        config = self._config
        m.submodules.walk = walk = LineWalk()
        m.submodules.array = array = DotArray(config)
        m.submodules.sums = sums = FinishedSums(config)
        wiring.connect(m, wiring.flipped(self.commands), walk.commands)
        wiring.connect(m, wiring.flipped(self.accumulators), sums.read)

        place = walk.place
        for port, line in ((self.activation, place.a_line), (self.weight, place.w_line)):
            m.d.comb += port.en.eq(walk.valid)
            m.d.comb += [bank.eq(line) for bank in port.line]

        read = delay(m, place, BankRead.LATENCY, "read")
        for operands, port, plain, zero_point in (
                (array.a, self.activation, read.a_unsigned, read.a_zero_point),
                (array.w, self.weight, read.w_unsigned, read.w_zero_point)):
            for index, stored in enumerate(port.data):
                m.d.sync += operands[index].eq(_value(stored, config.array.operand_bits, plain) - zero_point)
        valid = delay(m, walk.valid, BankRead.LATENCY + 1, "valid")
        given = delay(m, read, 1, "given")
        m.d.comb += [
            array.control.valid.eq(valid),
            array.control.begin.eq(given.begin),
            array.control.maximum.eq(given.maximum),
        ]

        # The row is looked up while the units add.
        ahead = delay(m, given, array.latency - sums.LEAD, "ahead")
        arriving = delay(m, valid, array.latency - sums.LEAD, "arriving")
        m.d.comb += sums.control.valid.eq(arriving & ahead.end)
        m.d.comb += [sums.control[name].eq(ahead[name]) for name in ("first", "maximum", "bank", "last", "row")]
        m.d.comb += [sums.sums.eq(array.sums), self.done.eq(sums.done)]

        in_flight = Signal(8)
        accepted = self.commands.valid & self.commands.ready
        m.d.sync += in_flight.eq(in_flight + accepted - self.done)
        m.d.comb += walk.quiet.eq(in_flight == 0)
        m.d.sync += [
            self.events.active.eq(valid),
            self.events.stall_sums.eq(self.commands.valid & ~walk.valid & ~self.commands.ready),
            self.events.accumulator_write.eq(sums.control.valid),
        ]

        return m


def _value(stored, bits, plain):
    """Value of a stored operand, whose upper bits do not count."""
    low = stored[:bits]
    return Mux(plain, low.as_unsigned(), low.as_signed())
