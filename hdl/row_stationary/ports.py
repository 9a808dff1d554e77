"""What stands between the line buffers and the engines that know bytes and rows of sums."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from ..blocks.banks import BankWrite
from ..blocks.pipeline import delay
from ..shell.config import Config
from ..shell.load_port import LoadWrite
from .buffer import WideRead, buffer_ways
from .commands import Destination

__all__ = ["LINE_BYTES", "LineLoadPort", "LineSums"]

#: Bytes of a line of the global buffer and of the filter buffer.
LINE_BYTES = 8


class LineLoadPort(wiring.Component):
    """Adapter from the loader's bus to the load port of a buffer of lines.

    A beat at any alignment lies in two neighbouring beats of the buffer. The ways are as many as the lines of two
    beats (of two lines, if a beat is half a line), so that no way is asked for two of its lines.

    Latency is :attr:`LATENCY` cycles from ``load`` to ``write``, and a byte can be read (its line's address given)
    ``LATENCY + 1`` cycles after it was given. Throughput is one beat a cycle.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator; its ``beat_bytes`` are the lanes of the bus.
    destination : Destination
        Memory whose loads are taken; the others are ignored.
    lines : int
        Lines of the buffer.

    Members
    -------
    load : In(LoadWrite(config))
        Bus from the loader.
    write : Out(BankWrite(ways, lines / ways, 64))
        Load port of the buffer; the ways are ``buffer_ways(beat_bytes)``.
    """

    #: Cycles from ``load`` to ``write``.
    LATENCY = 1

    def __init__(self, config: Config, destination: Destination, lines: int):
        self._beat_bytes = config.beat_bytes
        self._destination = destination
        self._ways = buffer_ways(config.beat_bytes)
        super().__init__({
            "load": In(LoadWrite(config)),
            "write": Out(BankWrite(self._ways, lines // self._ways, 8 * LINE_BYTES)),
        })

    def elaborate(self, platform):
        """Build the adapter: the lines of both halves of the ways, and an enable for each byte."""
        m = Module()

        # A window is a line of each way, in which the beats have their places.
        beats = self._ways * LINE_BYTES // self._beat_bytes
        beat_bits = exact_log2(beats)
        word = self.load.word
        window = Signal(len(word) - beat_bits)
        beat = Signal(beat_bits)
        selected = Signal()
        m.d.comb += [
            Cat(beat, window).eq(word),
            selected.eq(self.load.valid & (self.load.destination == self._destination)),
        ]
        # A beat that begins in the last place of a window goes on in the first one of the next.
        line = Signal.like(self.write.line[0], reset_less=True)
        line_wrapped = Signal.like(line)
        m.d.sync += [line.eq(window), line_wrapped.eq(window + (beat == beats - 1))]
        value = Signal(data.ArrayLayout(8, self._beat_bytes), reset_less=True)
        m.d.sync += value.eq(self.load.data)
        enable = Signal(self._ways * LINE_BYTES)
        for byte in range(len(enable)):
            place, lane = divmod(byte, self._beat_bytes)
            here = Mux(self.load.wrap[lane], beat == (place - 1) % beats, beat == place)
            m.d.sync += enable[byte].eq(selected & self.load.mask[lane] & here)
        m.d.comb += self.write.en.eq(enable)
        for way in range(self._ways):
            lanes = [(LINE_BYTES * way + byte) % self._beat_bytes for byte in range(LINE_BYTES)]
            m.d.comb += [
                self.write.line[way].eq(line_wrapped if way < self._ways // 2 else line),
                self.write.data[way].eq(Cat(value[lane] for lane in lanes)),
            ]

        return m


class LineSums(wiring.Component):
    """Adapter from the rows of sums that post-processing reads to lines of the global buffer.

    Parameters
    ----------
    ways, lines : int
        Ways of the buffer, and lines of a way.
    sums : ArrayLayout
        Sums of a line.

    Members
    -------
    en, row : In(1), In(range(ways * lines))
        Whether to read, and which line.
    data : Out(sums)
        Its sums, :attr:`WideRead.LATENCY` cycles later.
    port : Out(WideRead(ways, lines, 64))
        Port of the buffer.
    """

    def __init__(self, ways: int, lines: int, sums: data.ArrayLayout):
        self._ways = ways
        super().__init__({
            "en": In(1),
            "row": In(range(ways * lines)),
            "data": Out(sums),
            "port": Out(WideRead(ways, lines, 8 * LINE_BYTES)),
        })

    def elaborate(self, platform):
        """Build the choice of the way."""
        m = Module()

        way_bits = ceil_log2(self._ways)
        way = self.row[:way_bits]
        for index in range(self._ways):
            m.d.comb += [
                self.port.en[index].eq(self.en & (way == index)),
                self.port.line[index].eq(self.row[way_bits:]),
            ]
        late = delay(m, way, WideRead.LATENCY, "way", reset_less=True)
        m.d.comb += self.data.as_value().eq(self.port.data[late])

        return m
