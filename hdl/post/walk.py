"""Addresses of a post-processing command, one group of lanes per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..shell.commands import Rounding
from ..shell.config import Config
from .maxima import Windows
from .row_softmax import RowPass

__all__ = ["PostWalk"]


class PostWalk(wiring.Component):
    """Walk the groups s, rows m and tiles n of one command, s innermost, without a pause.

    With ``post.float_softmax`` there are commands whose tiles have one group of each of some rows, which stand
    ``acc_nstep`` apart; the tiles go through the groups of all rows of sums between them.

    The first group stands on the outputs in the cycle after :py:`start`, and then one group per
    cycle. The command must be held until the last. Addresses wrap at their memory's size; counts
    of zero are not allowed. There are no multipliers: an address adds the step of the loop that
    advances to where that loop last stood.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    bias_lines, scale_lines, output_units : int
        Lines of the bias and scale memories, and groups of requantised outputs that the output
        scratchpad holds; with ``post.transposed`` their entries, and outputs.
    output_banks : int
        Outputs of a line of the output scratchpad; matters with ``post.transposed`` only.
    few : int
        Rows with which ``ending`` begins, if the command does not say with more; 0: with the last group.

    Members
    -------
    command : :py:`In(PostBody)`
        Command.
    start : :py:`In(1)`
        Whether to begin with the command; only while ``valid`` is clear or ``last`` is set.
    valid : :py:`Out(1)`
        Whether the outputs are a group's.
    first, last : :py:`Out(1)`
        Whether it is the first, or last, group of the command.
    ending : :py:`Out(1)`
        Whether this is the last tile, and ``few`` rows of it are left at most, or as many as ``release`` of the
        command says, this one among them.
    row : :py:`Out(range(sum_rows))`
        Row of sums.
    group : :py:`Out(range(sum_columns / lanes))`
        Group s.
    bias_line, scale_line : :py:`Out(range(bias_lines))`, :py:`Out(range(scale_lines))`
        Lines, or entries, of the bias and scale memories.
    unit : :py:`Out(range(output_units))`
        Place in the output scratchpad, in groups of requantised outputs, or in outputs.
    last_of_tile : :py:`Out(1)`
        Whether a group is the last of its tile, with ``post.averages`` or ``post.float_softmax``, as what follows, or
        ``post.norms``.
    ripe : :py:`In(1)`
        Whether the next tile may begin in the next cycle.
    resting : :py:`Out(1)`
        Whether a tile waits for that.
    opens, closes : :py:`Out(1)`
        With ``post.maxima``, whether the row is the first, or last, of its window.
    """

    def __init__(self, config: Config, bias_lines: int, scale_lines: int, output_units: int, output_banks: int = 1,
                 few: int = 0):
        self._config, self._few = config, few
        self._output_banks = output_banks
        self._groups = config.sum_columns // config.post.lanes
        rests = config.has_averages or config.has_float_softmax
        held = {"ripe": In(1), "last_of_tile": Out(1), "resting": Out(1)} if rests else {}
        held |= {"last_of_tile": Out(1)} if config.has_norms else {}
        super().__init__({
            **held,
            "command": In(config.commands.post),
            "start": In(1),
            "valid": Out(1),
            "first": Out(1),
            "last": Out(1),
            "ending": Out(1),
            "row": Out(range(config.sum_rows)),
            "group": Out(range(max(self._groups, 2))),
            "bias_line": Out(range(bias_lines)),
            "scale_line": Out(range(scale_lines)),
            "unit": Out(range(output_units)),
            **({"opens": Out(1), "closes": Out(1)} if config.has_maxima else {}),
        })

    def elaborate(self, platform):
        """Build the counters and the walkers."""
        m = Module()

        command, valid = self.command, self.valid
        transposed = self._config.has_transposed
        end_row = Signal(init=self._groups == 1)
        last_group = Mux(command.transposed, command.last_group, self._groups - 1) if transposed else None
        end_tile = Signal()
        end_command = Signal()
        groups_end, rows_first = end_row, None
        if self._config.has_float_softmax:
            rows_first = command.float_row & (command.row_pass == RowPass.TOTAL)
            end_row = groups_end | rows_first
        m.d.comb += self.last.eq(end_row & end_tile & end_command)

        # Each counter knows one step ahead whether it's at its end, so no zero test stands before an adder.
        rows_left = Signal(16)
        tiles_left = Signal(16)
        ending = end_command & (rows_left <= self._few) if self._few else self.last
        if "release" in dict(data.Layout.cast(self._config.commands.post)):
            # No more rows are left than there are.
            bits = self._config.sum_rows.bit_length()
            ending = ending | end_command & (rows_left[:bits] == command.release[:bits])
        m.d.comb += self.ending.eq(ending)
        with m.If(self.start):
            m.d.sync += [
                valid.eq(1),
                self.first.eq(1),
                rows_left.eq(command.m_count),
                end_tile.eq(command.m_count == 1),
                tiles_left.eq(command.n_count),
                end_command.eq(command.n_count == 1),
            ]
            if transposed:
                m.d.sync += [self.group.eq(0), groups_end.eq(last_group == 0)]
        with m.Elif(valid):
            m.d.sync += self.first.eq(0)
            self._go_on(m, groups_end, last_group, None if rows_first is None else ~rows_first | end_tile)
            with m.If(end_row):
                with m.If(end_tile):
                    m.d.sync += [
                        rows_left.eq(command.m_count),
                        end_tile.eq(command.m_count == 1),
                        tiles_left.eq(tiles_left - 1),
                        end_command.eq(tiles_left == 2),
                    ]
                with m.Else():
                    m.d.sync += [rows_left.eq(rows_left - 1), end_tile.eq(rows_left == 2)]
            with m.If(self.last):
                m.d.sync += valid.eq(0)
        if self._config.has_averages or self._config.has_float_softmax:
            self._rest(m, end_row, end_tile)
        elif self._config.has_norms:
            m.d.comb += self.last_of_tile.eq(valid & end_row & end_tile)
        out_mstep = self._follow_windows(m, end_row, end_tile) if self._config.has_maxima else command.out_mstep
        self._find_addresses(m, end_row, end_tile, out_mstep, *self._sum_steps(rows_first, groups_end))

        return m

    def _sum_steps(self, rows_first, groups_end):
        """Steps of rows of sums from a row to the next, and from a tile to the next."""
        step = self.command.acc_nstep
        if rows_first is None:
            return Const(1), step
        return Mux(rows_first, step, 1), Mux(rows_first, groups_end, step)

    def _go_on(self, m, end_row, last_group, where):
        """Count groups, everywhere or where this is set."""
        if where is None:
            self._go_on_in_row(m, end_row, last_group)
            return
        with m.If(where):
            self._go_on_in_row(m, end_row, last_group)

    def _go_on_in_row(self, m, end_row, last_group):
        """Count groups; `last_group` is that of a row where commands may make fewer than there are, or None."""
        if last_group is not None:
            following = Mux(end_row, 0, self.group + 1)
            m.d.sync += [self.group.eq(following), end_row.eq(following == last_group)]
        elif self._groups > 1:
            m.d.sync += [
                self.group.eq(Mux(end_row, 0, self.group + 1)),
                end_row.eq(self.group == self._groups - 2),
            ]

    def _rest(self, m, end_row, end_tile):
        """Pause behind a tile until the next may begin."""
        m.d.comb += self.last_of_tile.eq(self.valid & end_row & end_tile)
        with m.If(self.last_of_tile & ~self.last & ~self.ripe):
            m.d.sync += [self.valid.eq(0), self.resting.eq(1)]
        with m.If(self.resting & self.ripe):
            m.d.sync += [self.valid.eq(1), self.resting.eq(0)]

    def _follow_windows(self, m, end_row, end_tile):
        """Tell where windows of maxima begin and end; return the step of outputs from a row to the next."""
        m.submodules.windows = windows = Windows()
        m.d.comb += [
            windows.start.eq(self.start),
            windows.row_end.eq(self.valid & end_row),
            windows.last.eq(self.valid & end_row & end_tile),
            windows.reduce.eq(self.command.reduce),
            self.opens.eq(windows.opens),
            self.closes.eq(windows.closes),
        ]
        # The rows of a window share an output.
        return Mux(windows.closes, self.command.out_mstep, 0)

    def _find_addresses(self, m, end_row, end_tile, out_mstep, row_step, tile_step):
        """Walk the addresses of sums, whose rows and tiles have these steps, of their parameters and of outputs."""
        command = self.command

        def walk(name, current, base, group_step, row_step, tile_step):
            bits = len(current)
            row = Signal(bits, name=f"{name}_of_row", reset_less=True)
            tile = Signal(bits, name=f"{name}_of_tile", reset_less=True)
            origin = Signal(bits, name=f"{name}_origin")
            step = Signal(bits, name=f"{name}_step")
            following = Signal(bits, name=f"{name}_next")
            m.d.comb += [
                origin.eq(Mux(end_row, Mux(end_tile, tile, row), current)),
                step.eq(Mux(end_row, Mux(end_tile, tile_step, row_step), group_step)),
                following.eq(origin + step),
            ]
            with m.If(self.start):
                m.d.sync += [current.eq(base), row.eq(base), tile.eq(base)]
            with m.Elif(self.valid):
                m.d.sync += current.eq(following)
                with m.If(end_row):
                    m.d.sync += row.eq(following)
                    with m.If(end_tile):
                        m.d.sync += tile.eq(following)

        sum_units = self._config.sum_bytes // self._config.operand_bytes
        walk("row", self.row, command.acc_base, Const(0), row_step, tile_step)
        if self._config.has_transposed:
            self._find_entries(walk, sum_units, out_mstep)
            return
        unit_bits = (self._config.post.lanes * self._config.operand_bytes).bit_length() - 1
        bias_nstep, scale_nstep = self._tile_steps()
        walk("bias_line", self.bias_line, command.bias_base, Const(1), command.bias_mstep, bias_nstep)
        # Where a row holds the sums of some channels only, the next row may be that of the next channels; a kind of
        # array for which this is so has a bit for it.
        steps = "scale_mstep" in dict(data.Layout.cast(self._config.commands.post))
        scale_mstep = command.scale_mstep if steps else self._scale_step(1)
        walk("scale_line", self.scale_line, command.scale_base, command.per_channel, scale_mstep, scale_nstep)
        walk("unit", self.unit, command.out_base[unit_bits:],
             Mux(command.rounding == Rounding.NONE, sum_units, 1),
             out_mstep[unit_bits:], command.out_nstep[unit_bits:])

    def _scale_step(self, line):
        """Step of scales from a row to the next, zero but for quotients of rows, a line each, and for gains."""
        step = Mux(self.command.normalise, line, 0) if self._config.has_softmax else Const(0)
        return Mux(self.command.normed, self._groups * line, step) if self._config.has_norms else step

    def _tile_steps(self):
        """Steps of biases and scales from a tile to the next, whose fields hold a scale where rows are normalised."""
        steps = self.command.bias_nstep, self.command.scale_nstep
        return [Mux(self.command.normed, 0, step) for step in steps] if self._config.has_norms else steps

    def _find_entries(self, walk, sum_units, out_mstep):
        """Walk entries and outputs, of which a line or a group has as many as there are lanes."""
        command, config = self.command, self._config
        lane_bits, item_bits = ceil_log2(config.post.lanes), ceil_log2(config.operand_bytes)

        def entries(value):
            return Mux(command.transposed, value, value << lane_bits)

        group = Mux(command.transposed, 0, config.post.lanes)
        # A lane writes `lane_lines` lines and one operand behind the lane before it.
        apart = Cat(Const(1, ceil_log2(self._output_banks)), command.lane_lines)
        plain = Mux(command.rounding == Rounding.NONE, sum_units, 1)
        bias_nstep, scale_nstep = self._tile_steps()
        walk("bias_line", self.bias_line, entries(command.bias_base), group, entries(command.bias_mstep),
             entries(bias_nstep))
        walk("scale_line", self.scale_line, entries(command.scale_base), Mux(command.per_channel, group, 0),
             self._scale_step(config.post.lanes), entries(scale_nstep))
        walk("unit", self.unit, command.out_base[item_bits:], Mux(command.transposed, apart, plain) << lane_bits,
             out_mstep[item_bits:], command.out_nstep[item_bits:])
