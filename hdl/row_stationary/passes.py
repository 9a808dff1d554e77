"""Pass engine: feeds the array from the global buffer, pass by pass, and writes its sums back."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks.fifo import StreamFIFO
from ..blocks.rules import never
from ..errors import PearrayError
from ..post.sums import ShiftWrite
from .array import RowStationaryArray
from .buffer import ReadLines, line_write_layout
from .commands import JoiningBody, PassBody
from .drain import PsumDrain
from .feeders import FilterFeeder, IfmapFeeder, PsumFeeder
from .row import ArrayShape
from .setups import SetupFeeder
from .words import WordFilterFeeder

__all__ = ["PassEngine", "PassEvents"]


class PassEvents(data.Struct):
    """Accesses to the buffers in a cycle, for counters."""

    #: An ifmap word, and a line of filters, is read.
    ifmap_read: unsigned(1)
    filter_read: unsigned(1)
    #: Words of psums that are read, and written.
    psum_read: unsigned(5)
    psum_write: unsigned(5)


class PassEngine(wiring.Component):
    """The array with what feeds it; reads of a pass begin while those before it are still computed and written.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array. A beat of filters and one of psums are as wide as a line of the buffers.
    lines, filter_lines : int
        Lines of the global buffer and of the filter buffer.
    shift_rows : int
        Rows of sums that have a shift, with which passes may join sums (:class:`.commands.JoiningBody`); 0 if there are
        none.

    Members
    -------
    commands : In(stream.Signature(PassBody))
        Passes and setups.
    done : Out(1)
        A command has completed.
    filters_free, ifmap_free : Out(1)
        The filters, and the ifmap words, of the oldest command of which they had not yet been read have all been
        read: something else may take their place. A setup frees both when it completes.
    active : Out(1)
        A command is being worked on.
    setting, filling, streaming : Out(1)
        The array is being set up; filters, and ifmap words, are offered to its PEs.
    active_pes : Out(range(rows * cols + 1))
        PEs that the latest setup made active, when it has completed.
    ifmap, psums, filters : Out(ReadLines)
        Ports of the global buffer and, for filters, of the filter buffer.
    setups : Out(ReadLines)
        Another port of the filter buffer, never used together with ``filters``.
    result : Out(stream.Signature(line_write_layout(lines, width)))
        Write port of the global buffer.
    shifts : In(ShiftWrite(shift_rows))
        With `shift_rows`, shifts from post-processing.
    events : Out(PassEvents)
        Accesses, a cycle before.
    pe_events : Out(event_counts_layout(rows * cols))
        Events of the array.

    Raises
    ------
    PearrayError
        If a beat of filters and one of psums differ in width, or an operand has not 8 or 16 bits.
    """

    def __init__(self, shape: ArrayShape, lines: int, filter_lines: int, shift_rows: int = 0):
        width = shape.psum_lanes * shape.psum.width
        operand_bits = shape.arithmetic.bits
        if operand_bits not in (8, 16):
            raise PearrayError(f"bits of an operand must be 8 or 16, not {operand_bits!r}")
        if shape.filter_lanes * operand_bits != width:
            raise PearrayError(f"filter_lanes * operand_bits must be psum_lanes * psum_bits = {width}, "
                               f"not {shape.filter_lanes} * {operand_bits}")
        self._array = RowStationaryArray(shape)
        self._joins = shift_rows > 0
        self._ifmap = IfmapFeeder(shape, lines, width, self._joins)
        self._filters = (WordFilterFeeder if self._joins else FilterFeeder)(shape, filter_lines, width)
        self._psums = PsumFeeder(shape, lines, self._joins)
        self._drain = PsumDrain(shape, lines, shift_rows)
        self._setups = SetupFeeder(shape, filter_lines, width)
        super().__init__({
            **({"shifts": In(ShiftWrite(shift_rows))} if self._joins else {}),
            "commands": In(stream.Signature(JoiningBody if self._joins else PassBody)),
            "done": Out(1),
            "filters_free": Out(1),
            "ifmap_free": Out(1),
            "active": Out(1),
            "setting": Out(1),
            "filling": Out(1),
            "streaming": Out(1),
            "active_pes": Out(range(shape.rows * shape.cols + 1)),
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
        if self._joins:
            wiring.connect(m, self._psums.joined, self._drain.old)
            wiring.connect(m, wiring.flipped(self.shifts), self._drain.shifts)

        ready = self._queue(m, array, parts)
        self._control(m, array, ready)
        m.d.comb += self.pe_events.eq(array.events)
        m.d.sync += [
            self.events.ifmap_read.eq(self.ifmap.address.valid & self.ifmap.address.ready),
            self.events.filter_read.eq(self.filters.address.valid & self.filters.address.ready),
            self.events.psum_read.eq(self._psums.words),
            self.events.psum_write.eq(self._drain.words),
            self.filters_free.eq(self._filters.read | self._setups.done),
            self.ifmap_free.eq(self._ifmap.read | self._setups.done),
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
            "filters": (parts["filters"].i, {
                "base": command.filter_base, "last": command.filter_last, "rows": command.filter_height,
                "sets": command.filter_sets, "beats": command.filter_beats}),
            "psums": (parts["psums"].i, {
                "last": command.psum_last, "fresh": command.fresh, "bias": command.bias,
                "walk": self._psum_walk(command.psum_read, ~command.bias)}),
            "drain": (parts["drain"].i, self._psum_walk(command.psum_write, 1)),
        }
        if self._joins:
            self._join(m, entries)
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

    def _join(self, m, entries):
        """Let sums that join others begin at zero in the array, and those be read for the drain."""
        command = self.commands.payload
        entries["shapes"][1]["data"]["fresh"] = command.fresh | command.join
        entries["psums"][1]["join"] = command.join
        port, walk = entries["ifmap"]
        entries["ifmap"] = port, {"walk": walk, "no_sign": command.no_sign}
        channels = Mux(command.by_line, command.window[3:], command.window)
        channel_step = Mux(command.by_line, 8, command.ifmap_row_step)
        entries["filters"][1].update({
            "by_word": command.by_word, "by_line": command.by_line, "words": _walk(
                Cat(command.filter_last[:3], command.filter_base), (command.ifmap_sets, command.psum_row_step),
                (command.psum_sets, command.psum_image_step), (channels, channel_step),
                (command.filters, command.ifmap_line_step))})
        port, walk = entries["drain"]
        entries["drain"] = port, {"walk": walk, "join": command.join, "low": command.low_part,
                                  "shift_base": command.shift_base}
        others = command.fresh | command.bias | command.maximum | command.rows.any()
        passes = self.commands.valid & ~command.setup
        never(m, "join", passes & command.join & others, "fresh, bias, maximum and rows must be zero")
        never(m, "low_part", passes & command.low_part & ~command.join, "low_part needs join")
        loops = command.rows.any() | command.psum_rows.any() | command.ifmap_lines.any() | command.filter_height.any()
        never(m, "by_word", passes & command.by_word & loops, "counts whose steps filters use must be zero")

    def _psum_walk(self, base, steps):
        """Fields of a walk over psums; without ``steps`` there are none but those over beats and sets."""
        command = self.commands.payload
        row, window, image = (Mux(steps, command[f"psum_{name}_step"], 0) for name in ("row", "window", "image"))
        return _walk(base, (command.psum_rows, row), (command.psum_sets, command.psum_set_step),
                     (command.psum_beats, 1), (command.windows, window), (command.rows, image))

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
        maximum = Signal()
        ifmap = Signal.like(self._ifmap.how)
        filters = Signal.like(self._filters.how)
        m.d.comb += [
            array.shift.eq(shift),
            array.maximum.eq(maximum),
            self._ifmap.how.eq(ifmap),
            self._filters.how.eq(filters),
            self.active.eq((passes != 0) | setting),
            self.setting.eq(setting),
            self.filling.eq(self._filters.o.valid),
            self.streaming.eq(self._ifmap.o.valid),
        ]
        with m.If(self._setups.o.valid & self._setups.o.payload.active):
            m.d.sync += self.active_pes.eq(self.active_pes + 1)
        with m.If(self._setups.done):
            m.d.sync += setting.eq(0)
        with m.If(self.commands.valid & self.commands.ready & command.setup):
            m.d.sync += [
                setting.eq(1),
                self.active_pes.eq(0),
                shift.eq(command.shift),
                maximum.eq(command.maximum),
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
