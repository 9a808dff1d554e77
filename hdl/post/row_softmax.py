"""Softmax of rows of bytes in three passes over their sums: the greatest, the sum of exponentials, and shares of it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.reciprocal import HEADROOM_BITS, Reciprocal
from ..blocks import unit
from ..blocks.pipeline import delay, taps
from ..blocks.rules import never
from ..blocks.tree import tree
from ..blocks.word_memory import word_memory
from ..shell.commands import Rounding
from ..shell.config import Config
from .float_rows import INVERSE_BITS, FloatShare, FloatTotals
from .pairs import PairSum

__all__ = ["STATES", "RowPass", "RowSoftmax", "state_row_rules"]

#: Rows of which something is kept.
STATES = 256

#: Bits of a byte of either type, as a number.
_BYTE = signed(9)

#: Lowest bits of a term that are rounded away before it is added, and bits that are left.
_CUT, _ADDEND = 12, 21

#: Cycles for which the unit that finds reciprocals is at work on a row: it reads the row's total, and waits for it.
_TURN = 2 + Reciprocal.LATENCY

#: Right shift of a share without zeros before a total; and the greatest that an entry of scales has.
_SHIFT, _MOST = 35, 31

#: Fields of other functions, none of which can be combined with a pass.
_OTHERS = ("pair", "product", "average", "search", "transposed", "reduce", "softmax", "normalise", "moments",
           "normed")


class RowPass(enum.IntEnum, shape=2):
    """What a POST finds of rows of a softmax."""

    NONE = 0
    GREATEST = 1
    TOTAL = 2
    SHARE = 3


def state_row_rules(m: Module, command, valid) -> None:
    """State what commands of passes must not do."""
    fields = dict(data.Layout.cast(command.shape()))
    wrong = [getattr(command, name).any() for name in _OTHERS if name in fields]
    wrong += [command.bias, command.per_channel, command.table, command.n_count != 1, command.acc_nstep == 0]
    is_float = command.float_row if "float_row" in fields else Const(0)
    wrong[-2] = (command.n_count != 1) & ~(is_float & (command.row_pass == RowPass.TOTAL))
    rounding = Mux(is_float, Rounding.ONNX, Rounding.TFLITE_DOUBLE)
    wrong += [(command.row_pass == RowPass.SHARE) & (command.rounding.as_value() != rounding)]
    never(m, "row_pass", valid & (command.row_pass != RowPass.NONE) & Cat(wrong).any(),
          "a field is set that it has no place for")


class RowSoftmax(wiring.Component):
    """Keep what passes find of rows, tell it to the lanes, and hold commands back until it is there.

    A row is as many rows of sums as a command says, each of ``C / lanes`` groups, one a cycle. The first pass keeps the
    greatest byte of each row. In the second lanes look terms up by how far bytes are below it, and those of a row are
    added. A reciprocal of each sum is found by a unit that works row by row, :data:`_TURN` cycles for each. In the
    third lanes look the same terms up, and scale them by it.

    With ``post.float_softmax`` commands may say that terms are float32 numbers. Their sums are made one after another,
    through the adders of all lanes (:class:`.FloatTotals`), by a pass that goes over one group of all rows after
    another, and shares are quotients (:class:`.FloatShare`).

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    sum_cycle : int
        Cycles from a group to its sums.

    Members
    -------
    command : :py:`In(PostBody)`
        Command.
    start : :py:`In(1)`
        Whether its first group comes in the next cycle.
    valid, group : :py:`In(1)`, :py:`In(range(C / lanes))`
        Whether there is a group, and which of its row of sums.
    total : :py:`In(ArrayLayout(signed(9), lanes))`
        Bytes of the group, ``sum_cycle`` cycles later.
    below, greatest : :py:`Out(1)`, :py:`Out(8)`
        Whether they are looked up by how far they are below the greatest byte of their row, and this, with them.
    term : :py:`In(ArrayLayout(32, lanes))`
        Terms of the group, :attr:`PairSum.LATENCY` cycles behind its bytes.
    inverse, shift : :py:`Out(31)`, :py:`Out(6)`
        Multiplier and right shift of its row, with them.
    ripe, working : :py:`Out(1)`
        Whether the command may begin in the next cycle, and whether something is being found.
    last_of_tile : :py:`In(1)`, tile_ripe : :py:`Out(1)`
        With ``post.float_softmax``, whether a group is the last of its tile, and whether the next tile may begin in the
        next cycle.
    share : :py:`Out(ArrayLayout(9, lanes))`
        With ``post.float_softmax``, shares of float32 numbers, :attr:`FloatShare.LATENCY` cycles behind their terms.
    """

    def __init__(self, config: Config, sum_cycle: int):
        self._config, self._sum_cycle = config, sum_cycle
        self._groups = config.sum_columns // config.post.lanes
        self._levels = ceil_log2(config.post.lanes)
        lanes = config.post.lanes
        super().__init__({
            "command": In(config.commands.post),
            "start": In(1),
            "valid": In(1),
            "group": In(range(max(self._groups, 2))),
            "total": In(data.ArrayLayout(_BYTE, lanes)),
            "below": Out(1),
            "greatest": Out(8),
            "term": In(data.ArrayLayout(32, lanes)),
            "inverse": Out(31),
            "shift": Out(6),
            "ripe": Out(1),
            "working": Out(1),
            **({"last_of_tile": In(1), "tile_ripe": Out(1), "share": Out(data.ArrayLayout(INVERSE_BITS, lanes))}
               if config.has_float_softmax else {}),
        })

    @staticmethod
    def seen_of(config: Config) -> int:
        """Return the cycles from the last group of the first pass to the first of another, at least."""
        return ceil_log2(config.post.lanes) + 3

    @staticmethod
    def settled_of(config: Config, sum_cycle: int, rows: int, period: int) -> int:
        """Return the cycles from the first group of the second pass to the first group that may follow it.

        Parameters
        ----------
        config : Config
            Configuration of the accelerator.
        sum_cycle : int
            Cycles from a group to its sums.
        rows, period : int
            Rows of the pass, and groups of each.
        """
        first = period - 1 + sum_cycle + PairSum.LATENCY + ceil_log2(config.post.lanes) + 3
        return first + (rows - 1) * max(period, _TURN) + _TURN + 1

    def elaborate(self, platform):
        """Build the walk of rows, the reductions over lanes, and the memories of what they find."""
        m = Module()

        command, sums = self.command, self._sum_cycle
        terms = sums + PairSum.LATENCY
        row, begins, ends, counts = self._walk(m)
        passes = {each: self.valid & (command.row_pass == each) for each in (RowPass.GREATEST, RowPass.TOTAL)}
        float_total = Const(0)
        if self._config.has_float_softmax:
            float_total = passes[RowPass.TOTAL] & command.float_row
            passes[RowPass.TOTAL] = passes[RowPass.TOTAL] & ~command.float_row
        row = taps(m, row, terms + self._levels + 2, "row", reset_less=True)
        flags = taps(m, Cat(begins, ends), terms + self._levels + 2, "flags", reset_less=True)
        counts = taps(m, counts, terms - 1, "counts", reset_less=True)

        found = sums + self._levels
        write, stored = word_memory(m, "greatest", 8, STATES, row[sums - 2])
        valid = delay(m, passes[RowPass.GREATEST], found, "greatest_valid")
        now = self._greatest(m, valid, flags[found], counts[sums - 1])
        below = delay(m, command.row_pass != RowPass.NONE, sums, "below", reset_less=True)
        m.d.comb += [
            self.below.eq(below),
            self.greatest.eq(stored),
            write.en.eq(valid & flags[found][1]),
            write.addr.eq(row[found]),
            write.data.eq(now),
        ]

        added = terms + self._levels + 1
        valid = delay(m, passes[RowPass.TOTAL], added, "total_valid")
        total = self._total(m, valid, flags[added], counts[terms - 1])
        summed = delay(m, valid & flags[added][1], 1, "summed")
        idle = self._divide(m, summed, row[added + 1], total, row[terms - 2], passes[RowPass.TOTAL])
        lanes = self._config.post.lanes
        if self._config.has_float_softmax:
            self._float(m, platform, delay(m, float_total, terms, "float_valid"), flags[terms][0], counts[terms - 1],
                        row[terms - 2:terms + 1])

        most = max(added + 1, FloatTotals.latency_of(lanes)) if self._config.has_float_softmax else added + 1
        unsettled = Signal(range(most + 1))
        with m.If(passes[RowPass.GREATEST]):
            m.d.sync += unsettled.eq(self._levels + 1)
        with m.Elif(passes[RowPass.TOTAL]):
            m.d.sync += unsettled.eq(added + 1)
        with m.Elif(float_total):
            m.d.sync += unsettled.eq(FloatTotals.latency_of(lanes))
        with m.Elif(unsettled != 0):
            m.d.sync += unsettled.eq(unsettled - 1)
        m.d.comb += [self.ripe.eq(~command.row_pass[1] | (idle & (unsettled == 0))),
                     self.working.eq(~idle | (unsettled != 0))]
        state_row_rules(m, command, self.valid)

        return m

    def _walk(self, m):
        """Tell a group's row, whether it is its first group, or its last, and, a cycle later, which lanes count."""
        command, groups, lanes = self.command, self._groups, self._config.post.lanes
        left, row = Signal(16, reset_less=True), Signal(range(STATES), name="row_number", reset_less=True)
        opens = Signal(reset_less=True)
        closes = left == 0
        at_last = Const(1) if groups == 1 else self.group == groups - 1
        at_begin = Const(1) if groups == 1 else self.group == 0
        at_end, goes_back = at_last, self.start
        goes_on = self.valid & at_end & closes
        if self._config.has_float_softmax:
            # A tile has the same group of all rows.
            rows_first = command.float_row & (command.row_pass == RowPass.TOTAL)
            at_end = at_last & (~rows_first | self.last_of_tile)
            goes_back = self.start | rows_first & self.last_of_tile
            goes_on = self.valid & (rows_first | at_end & closes)
            self._rest(m, rows_first)
        with m.If(goes_back):
            m.d.sync += row.eq(command.scale_nstep)
        with m.Elif(goes_on):
            m.d.sync += row.eq(row + 1)
        with m.If(self.start | self.valid & at_end & closes):
            m.d.sync += [left.eq(command.acc_nstep - 1), opens.eq(1)]
        with m.Elif(self.valid & at_end):
            m.d.sync += [left.eq(left - 1), opens.eq(0)]
        limit = Signal(16)
        m.d.comb += limit.eq(Mux(closes, command.bias_nstep, command.bias_mstep))
        counts = Signal(lanes, reset_less=True)
        first = self.group * lanes if groups > 1 else Const(0)
        m.d.sync += [counts[lane].eq(first + lane < limit) for lane in range(lanes)]
        return row, opens & at_begin, closes & at_end, counts

    def _rest(self, m, rows_first):
        """Tell when each row of a tile has got its total, so that the next tile may begin."""
        period = FloatTotals.period_of(self._config.post.lanes)
        age, fresh = Signal(range(period)), Signal()
        is_first, aged = self.valid & fresh, age == period - 1
        with m.If(is_first):
            m.d.sync += age.eq(1)
        with m.Elif(~aged):
            m.d.sync += age.eq(age + 1)
        m.d.sync += fresh.eq(self.start | self.last_of_tile | fresh & ~self.valid)
        m.d.comb += self.tile_ripe.eq(~rows_first | (aged & ~is_first))

    def _float(self, m, platform, valid, opens, counts, rows):
        """Add terms of float32, and divide by their sums; `rows` are those of groups in the last cycles before that."""
        lanes = self._config.post.lanes
        m.submodules.float_totals = totals = FloatTotals(lanes, STATES)
        m.d.comb += [totals.ahead.eq(rows[0]), totals.row.eq(rows[2]), totals.valid.eq(valid), totals.opens.eq(opens)]
        inverse = Signal(INVERSE_BITS, reset_less=True)
        m.d.sync += inverse.eq(self.command.bias_base)
        for lane in range(lanes):
            unit.add(m, f"float_share_{lane}", share := FloatShare(), platform)
            m.d.comb += [
                totals.term[lane].eq(Mux(counts[lane], self.term[lane], 0)),
                share.term.eq(self.term[lane]),
                share.total.eq(totals.stored),
                share.inverse.eq(inverse),
                self.share[lane].eq(share.share),
            ]

    def _greatest(self, m, valid, flags, counts):
        """Return the greatest byte of a row so far."""
        values = [Mux(counts[lane], self.total[lane], Const(-256, _BYTE)) for lane in range(len(counts))]
        found = tree(m, "byte", values, lambda a, b: Mux(a > b, a, b))
        before = Signal(_BYTE, name="greatest_before", reset_less=True)
        now = Signal(_BYTE, name="greatest_now")
        m.d.comb += now.eq(Mux(~flags[0] & (before > found), before, found))
        with m.If(valid):
            m.d.sync += before.eq(now)
        return now[:8]

    def _total(self, m, valid, flags, counts):
        """Return the sum of a row's terms so far, a cycle later."""
        rounded = []
        for lane in range(len(counts)):
            term, value = self.term[lane], Signal(_ADDEND, name=f"rounded_{lane}", reset_less=True)
            m.d.sync += value.eq(Mux(counts[lane], term[_CUT:] + term[_CUT - 1], 0))
            rounded.append(value)
        found = tree(m, "term", rounded, lambda a, b: a + b)
        total = Signal(32, name="sum", reset_less=True)
        with m.If(valid):
            m.d.sync += total.eq(Mux(flags[0], 0, total) + found)
        return total

    def _divide(self, m, summed, row, total, share_row, begins):
        """Find reciprocals of totals, one after another; return whether all have been found."""
        reads, waiting = Signal(), Signal()
        at, left = Signal(range(STATES), name="divided_row", reset_less=True), Signal(range(STATES + 1))
        write, stored = word_memory(m, "total", 32, STATES, at, cycles=1)
        m.d.comb += [write.en.eq(summed), write.addr.eq(row), write.data.eq(total)]
        m.submodules.reciprocal = divider = Reciprocal()
        m.d.comb += [reads.eq((left != 0) & ~waiting), divider.total.eq(stored),
                     divider.start.eq(delay(m, reads, 1, "total_read"))]
        m.d.sync += [left.eq(left + summed - divider.done), waiting.eq((waiting | reads) & ~divider.done)]
        with m.If(divider.done):
            m.d.sync += at.eq(at + 1)
        # It is idle when a pass begins.
        with m.If(self.start & (self.command.row_pass == RowPass.TOTAL)):
            m.d.sync += at.eq(self.command.scale_nstep)
        never(m, "row_totals", begins & (left == STATES), "there are more rows than states")

        width = 31 + HEADROOM_BITS
        write, stored = word_memory(m, "inverse", width, STATES, share_row)
        shift = Signal(range(_SHIFT + 1))
        m.d.comb += [
            write.en.eq(divider.done),
            write.addr.eq(at),
            write.data.eq(Cat(divider.inverse, divider.headroom)),
            shift.eq(_SHIFT - stored[31:]),
            # Of a share that is shifted further nothing is left.
            self.inverse.eq(Mux(shift > _MOST, 0, stored[:31])),
            self.shift.eq(Mux(shift > _MOST, _MOST, shift)),
        ]
        return ~waiting & (left == 0)
