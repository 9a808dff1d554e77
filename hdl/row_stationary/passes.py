"""Pass engine: feeds the array from the global buffer, pass by pass, and writes its sums back."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..commands import PassBody
from ..errors import PearrayError
from ..fifo import StreamFIFO
from .array import RowStationaryArray
from .buffer import ReadLines, line_write_layout
from .feeders import FilterFeeder, IfmapFeeder, PsumDrain, PsumFeeder, SetupFeeder
from .row import ArrayShape

__all__ = ["PassEngine", "PassEvents"]


class PassEvents(data.Struct):
    """Accesses in a cycle, for counters."""

    #: An ifmap word, a line of filters, and a line of psums is read.
    ifmap_read: unsigned(1)
    filter_read: unsigned(1)
    psum_read: unsigned(1)
    #: A line of psums is written.
    psum_write: unsigned(1)


class PassEngine(wiring.Component):
    """The array with what feeds it; reads of a pass begin while those before it are still computed and written.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array. A beat of filters and one of psums are as wide as a line of the buffers.
    operand_bits : int
        Width of an operand in the buffers, 8 or 16. Words are as wide, or one bit wider if they lose zero points.
    lines, filter_lines : int
        Lines of the global buffer and of the filter buffer.

    Members
    -------
    commands : In(stream.Signature(PassBody))
        Passes and setups.
    done : Out(1)
        A command has completed.
    ifmap, psums, filters : Out(ReadLines)
        Ports of the global buffer and, for filters, of the filter buffer.
    setups : Out(ReadLines)
        Another port of the filter buffer, never used together with ``filters``.
    result : Out(stream.Signature(line_write_layout(lines, width)))
        Write port of the global buffer.
    events : Out(PassEvents)
        Accesses in this cycle.
    pe_events : Out(event_counts_layout(rows * cols))
        Events of the array.

    Raises
    ------
    PearrayError
        If a beat of filters and one of psums differ in width, or words don't fit operands.
    """

    def __init__(self, shape: ArrayShape, operand_bits: int, lines: int, filter_lines: int):
        width = shape.psum_lanes * shape.psum_bits
        if operand_bits not in (8, 16) or shape.word_bits - operand_bits not in (0, 1):
            raise PearrayError(f"operand_bits must be 8 or 16 and word_bits that or one more, not {operand_bits!r} and "
                               f"{shape.word_bits}")
        if shape.filter_lanes * operand_bits != width:
            raise PearrayError(f"filter_lanes * operand_bits must be psum_lanes * psum_bits = {width}, "
                               f"not {shape.filter_lanes} * {operand_bits}")
        self._array = RowStationaryArray(shape)
        self._ifmap = IfmapFeeder(shape, operand_bits, lines, width)
        self._filters = FilterFeeder(shape, operand_bits, filter_lines, width)
        self._psums = PsumFeeder(shape, lines)
        self._drain = PsumDrain(shape, lines)
        self._setups = SetupFeeder(shape, filter_lines, width)
        super().__init__({
            "commands": In(stream.Signature(PassBody)),
            "done": Out(1),
            "ifmap": Out(ReadLines(lines, width)),
            "psums": Out(ReadLines(lines, width)),
            "filters": Out(ReadLines(filter_lines, width)),
            "setups": Out(ReadLines(filter_lines, width)),
            "result": Out(stream.Signature(line_write_layout(lines, width))),
            "events": Out(PassEvents),
            "pe_events": Out(self._array.events.shape()),
        })

    def elaborate(self, platform):
        """Build the queues of each part, and let setups wait until all is done."""
        m = Module()

        array = self._array
        parts = {"ifmap": self._ifmap, "filters": self._filters, "psums": self._psums, "drain": self._drain}
        m.submodules.array = array
        m.submodules.setup_feeder = self._setups
        for name, part in parts.items():
            m.submodules[f"{name}_feeder"] = part
        for name in ("ifmap", "filters", "psums"):
            wiring.connect(m, parts[name].o, getattr(array, name))
            wiring.connect(m, parts[name].port, wiring.flipped(getattr(self, name)))
        wiring.connect(m, self._setups.o, array.setup)
        wiring.connect(m, self._setups.port, wiring.flipped(self.setups))
        wiring.connect(m, self._drain.wants, array.wants)
        wiring.connect(m, array.out, self._drain.beats)
        wiring.connect(m, self._drain.result, wiring.flipped(self.result))
        m.d.comb += [self._psums.written.eq(self._drain.written), self._psums.ended.eq(self._drain.ended)]

        ready = self._queue(m, array, parts)
        self._control(m, array, ready)
        m.d.comb += [
            self.events.ifmap_read.eq(self.ifmap.address.valid & self.ifmap.address.ready),
            self.events.filter_read.eq(self.filters.address.valid & self.filters.address.ready),
            self.events.psum_read.eq(self.psums.address.valid & self.psums.address.ready),
            self.events.psum_write.eq(self._drain.written),
            self.pe_events.eq(array.events),
        ]

        return m

    def _queue(self, m, array, parts):
        """Give each part its own queue of passes, so that one may be ahead of another."""
        command = self.commands.payload
        entries = {
            "shapes": (array.shapes, {"data": {
                name: command[name] for name in ("window", "kept", "moved", "filters", "windows", "rows", "fresh")}}),
            "ifmap": (parts["ifmap"].i, _walk(
                command.ifmap_base, (command.ifmap_channels, 1), (command.ifmap_lines, command.ifmap_line_step),
                (command.ifmap_sets, command.ifmap_set_step), (command.ifmap_columns, command.ifmap_column_step),
                (command.rows, command.ifmap_row_step))),
            "filters": (parts["filters"].i, {"last": command.filter_last, "walk": _walk(
                command.filter_base, (command.filter_height, 0), (command.filter_sets, 0),
                (command.filter_beats, 0))}),
        }
        for name, base in (("psums", command.psum_read), ("drain", command.psum_write)):
            entries[name] = parts[name].i, {"last": command.psum_last, "fresh": command.fresh, "walk": _walk(
                base, (command.psum_rows, command.psum_row_step), (command.psum_sets, command.psum_set_step),
                (command.psum_beats, 1), (command.windows, command.psum_window_step),
                (command.rows, command.psum_image_step))}
        queues = []
        for name, (port, fields) in entries.items():
            queue = StreamFIFO(port.payload.shape(), 2)
            m.submodules[f"{name}_queue"] = queue
            wiring.connect(m, queue.o, port)
            _assign(m, queue.i.payload, fields)
            queues.append(queue)
        ready = Cat(queue.i.ready for queue in queues).all()
        m.d.comb += [
            queue.i.valid.eq(self.commands.valid & self.commands.ready & ~command.setup) for queue in queues
        ]
        return ready

    def _control(self, m, array, ready):
        """Take commands, and count passes until their last sums are written."""
        command = self.commands.payload
        passes = Signal(4)
        setting = Signal()
        begun = Signal()
        setup = Signal()
        m.d.comb += [
            setup.eq(command.setup & (passes == 0) & ~setting),
            self._setups.i.valid.eq(self.commands.valid & setup),
            self._setups.i.payload.eq(command.filter_base),
            self.commands.ready.eq(Mux(command.setup, setup & self._setups.i.ready,
                                       ready & ~setting & (passes != 15))),
            begun.eq(self.commands.valid & self.commands.ready & ~command.setup),
            self.done.eq(self._drain.ended | self._setups.done),
        ]
        m.d.sync += passes.eq(passes + begun - self._drain.ended)
        shift = Signal.like(array.shift)
        ifmap = Signal.like(self._ifmap.how)
        filters = Signal.like(self._filters.how)
        m.d.comb += [array.shift.eq(shift), self._ifmap.how.eq(ifmap), self._filters.how.eq(filters)]
        with m.If(self._setups.done):
            m.d.sync += setting.eq(0)
        with m.If(self.commands.valid & self.commands.ready & command.setup):
            m.d.sync += [
                setting.eq(1),
                shift.eq(command.shift),
                ifmap.unsigned.eq(command.ifmap_unsigned),
                ifmap.zero_point.eq(command.ifmap_zero_point),
                filters.unsigned.eq(command.filter_unsigned),
                filters.zero_point.eq(command.filter_zero_point),
            ]


def _walk(base, *loops):
    """Fields of a walk from its base and the count and step of each loop, innermost first."""
    fields = {"base": base}
    for loop, (count, step) in enumerate(loops):
        fields |= {f"count_{loop}": count, f"step_{loop}": step}
    return fields


def _assign(m, target, fields):
    for name, value in fields.items():
        if isinstance(value, dict):
            _assign(m, target[name], value)
        else:
            m.d.comb += target[name].eq(value)
