"""Softmax of rows of scores: masks, each row's greatest exponent, numerators, and what is kept of rows."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.float_formats import FLOAT32
from ..blocks import unit
from ..blocks.pipeline import delay, taps
from ..blocks.rules import apart, never, rests
from ..blocks.tree import tree
from ..shell.commands import Rounding
from ..shell.config import Config
from .float_numerators import FloatNumerator, greatest_numerator
from .numerators import EXPONENT, NUDGES, SCORE_BITS, Numerator
from .states import FRACTION, RowStates
from .sums import ShiftWrite

__all__ = ["Softmax", "state_softmax_rules"]

#: Shape of a column's place relative to a limit, for any row.
_LIMIT = signed(18)

#: Fields of other functions, none of which can be combined with softmax or normalised rows.
_OTHERS = ("pair", "product", "average", "search", "transposed")


def state_softmax_rules(m: Module, command, valid) -> None:
    """State what commands of softmax and of normalised rows must not do."""
    fields = dict(data.Layout.cast(command.shape()))
    others = [getattr(command, name) for name in _OTHERS if name in fields] + [command.rounding != Rounding.ONNX]
    softmax = [*others, command.zero_point, command.table, command.per_channel, command.normalise,
               command.n_count != 1]
    softmax += [command.low_byte & ~command.two_bytes] if "low_byte" in fields else []
    softmax += [command.reduce] if "reduce" in fields else []
    never(m, "softmax", valid & command.softmax & Cat(softmax).any(), "a field is set that it has no place for")
    normalise = [*others, command.per_channel]
    # Of a kind whose rows of sums are tiles, quotients are walked by it.
    normalise += [] if "scale_mstep" in fields else [command.scale_nstep]
    never(m, "normalise", valid & command.normalise & Cat(normalise).any(), "a field is set that it has no place for")


class Softmax(wiring.Component):
    """Turn rows of scores into numerators, or bytes of them, and keep the greatest exponents and sums of rows.

    A row comes as ``score_columns / lanes`` groups, one a cycle. They wait until the last has told the greatest
    exponent of the row, so that a group's bytes leave :meth:`latency_of` cycles after it, at the rate at which groups
    come. The first group of a command comes at least :attr:`RowStates.APART` cycles after the last one of the command
    before, and ``wait_of + 10`` cycles after its first.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    command : :py:`In(PostBody)`
        Command; needed with the first group.
    valid : :py:`In(1)`
        Whether there is a group.
    first : :py:`In(1)`
        Whether it is the first of its command.
    score : :py:`In(ArrayLayout(signed(25), lanes))`
        Scores of the group, :attr:`SCORE` cycles later.
    hidden : :py:`In(lanes)`
        Scores that do not count, wherever they stand; with them.
    none : :py:`In(lanes)`
        With floats, scores that are no number; with them.
    output : :py:`Out(ArrayLayout(8, lanes))`
        Bytes of numerators; with floats numerators, of the operands' bits.
    shifts : :py:`Out(ShiftWrite(score_rows))`
        Shift of a row; earlier than its last byte.
    quotient_row : :py:`In(range(score_rows))`, quotient : :py:`Out(31)`
        Row, and its quotient, a positive float32 number, :attr:`QUOTIENT` cycles later.
    """

    #: Cycles from a group to its scores, from a score to its exponent, and from the number of a row to its quotient.
    SCORE, _EXPONENT, QUOTIENT = 2, 1, 2

    #: Cycles from the greatest exponent of lanes to that of a row.
    _ROW = 1

    def __init__(self, config: Config):
        self._config = config
        lanes, rows = config.post.lanes, config.score_rows
        super().__init__({
            "command": In(config.commands.post),
            "valid": In(1),
            "first": In(1),
            "score": In(data.ArrayLayout(signed(SCORE_BITS), lanes)),
            "hidden": In(lanes),
            **({"none": In(lanes)} if config.has_floats else {}),
            "output": Out(data.ArrayLayout(config.arithmetic.bits if config.has_floats else 8, lanes)),
            "shifts": Out(ShiftWrite(rows)),
            "quotient_row": In(range(rows)),
            "quotient": Out(31),
        })

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from a group to its bytes."""
        return cls.SCORE + cls._EXPONENT + cls.wait_of(config) + Numerator.VALUE + 1

    @classmethod
    def wait_of(cls, config: Config) -> int:
        """Return the cycles for which an exponent waits for the greatest of its row."""
        least = ceil_log2(config.post.lanes) + cls._groups_of(config) - 1 + cls._ROW
        # Behind each other by the cycles for which a command is kept, two commands may have the same rows.
        return max(least, RowStates.APART)

    @classmethod
    def settled_of(cls, config: Config) -> int:
        """Return the cycles from the last group of a row to the first in which its new quotient can be read."""
        states = RowStates.settled_of(cls.wait_of(config), cls._groups_of(config))
        return cls.SCORE + ceil_log2(config.post.lanes) + states

    @staticmethod
    def _groups_of(config: Config) -> int:
        """Groups of a row."""
        return config.score_columns // config.post.lanes

    def elaborate(self, platform):
        """Build the walk of rows, the lanes, and what they have in common."""
        m = Module()

        config = self._config
        groups, wait, levels = self._groups_of(config), self.wait_of(config), ceil_log2(config.post.lanes)
        # Cycles in which exponents of a group, and its numerators, have been reduced to one each.
        exponent = self.SCORE + self._EXPONENT + levels
        value = self.SCORE + self._EXPONENT + wait + Numerator.VALUE
        valid = taps(m, self.valid, value + levels, "valid")
        first = taps(m, self.valid & self.first, value - 2, "first")
        self._state_rules(m, wait)

        keep_flags = self._keep_opens if config.has_floats else self._keep_flags
        form, keeps, dividend = keep_flags(m, first[0], first[value - 2], first[exponent - 2])
        row, shift_row, masks = self._walk(m, groups)
        greatest = Signal(EXPONENT, reset_less=True)
        nudges = [] if config.has_floats else self._nudges(m, valid[value - 2], groups)
        lanes = self._lanes(m, platform, masks, greatest, form, nudges)
        begins, ends = self._places(m, "row", valid[exponent - 1], groups)
        opening = Signal()
        with m.If(valid[exponent - 1]):
            m.d.sync += opening.eq((first[exponent - 1] | opening) & ~ends)
        found = tree(m, "exponent", [lane.exponent for lane in lanes], self._greater)
        of_row = Signal(EXPONENT, reset_less=True)
        now = Mux(delay(m, begins, 1, "begins"), found, self._greater(found, of_row))
        m.d.sync += of_row.eq(now)
        with m.If(valid[exponent] & delay(m, ends, 1, "ends")):
            m.d.sync += greatest.eq(now)

        numerators = tree(m, "numerator", [lane.value for lane in lanes], self._sum)
        begins_sum, _ = self._places(m, "sum", valid[value + levels], groups)
        total = Signal(len(lanes[0].value) + ceil_log2(config.score_columns), reset_less=True)
        m.d.sync += total.eq(Mux(begins_sum, 0, total) + numerators)

        m.submodules.states = states = RowStates(config.score_rows, len(total), wait, groups,
                                                 0 if config.has_floats else FRACTION)
        wiring.connect(m, wiring.flipped(self.shifts), states.shifts)
        m.d.comb += [
            states.valid.eq(valid[exponent - 1] & ends & ~keeps[0]),
            states.row.eq(delay(m, row, exponent - 2, "row", reset_less=True)),
            states.shift_row.eq(delay(m, shift_row, exponent - 2, "shift_row", reset_less=True)),
            states.first.eq(first[exponent - 1] | opening),
            states.opens.eq(keeps[1]),
            states.dividend.eq(dividend),
            states.greatest.eq(greatest),
            states.total.eq(total),
            states.quotient_row.eq(self.quotient_row),
            self.quotient.eq(states.quotient),
        ]

        return m

    def _keep_flags(self, m, first, of_values, of_rows):
        """Keep what belongs to a command from its first group on.

        Return the form of its numerators, whether its rows keep their states, or begin, and its number that is divided.
        """
        command, flags = self.command, Signal(34, reset_less=True)
        with m.If(first):
            m.d.sync += flags.eq(Cat(command.two_bytes, command.low_byte, command.opens, command.low[:16],
                                     command.high[:15]))
        # What the command before still needs when its flags have changed.
        form, keeps = Signal(2, reset_less=True), Signal(2, reset_less=True)
        with m.If(of_values):
            m.d.sync += form.eq(flags[:2])
        with m.If(of_rows):
            m.d.sync += keeps.eq(flags[1:3])
        return form, keeps, flags[3:]

    def _keep_opens(self, m, first, of_values, of_rows):
        """Keep whether a command's rows begin, all that it says of floats; the rest is the same for all."""
        flag, opens = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(first):
            m.d.sync += flag.eq(self.command.opens)
        with m.If(of_rows):
            m.d.sync += opens.eq(flag)
        # Sums count half a bit of float32's significand; numerators may be greater than 1.
        form = self._config.arithmetic.format
        exponent = FLOAT32.bias + FLOAT32.fraction - greatest_numerator(form)
        return None, Cat(Const(0, 1), opens), Const(exponent << FLOAT32.fraction, 31)

    def _state_rules(self, m, wait):
        """State how far commands lie apart, since what lanes and rows are told of one changes on the way, and rests."""
        first, before = self.valid & self.first, delay(m, self.valid, 1, "before")
        apart(m, "softmax_commands", before, first, RowStates.APART - 1,
              "the first group of a command comes too soon after the last of another")
        apart(m, "softmax_rows", delay(m, first, 1, "first_before"), first, wait + 9,
              "the first group of a command comes too soon after that of another")
        rests(m, self.valid | self.command.normalise, self.shifts.en,
              max(self.latency_of(self._config), self.settled_of(self._config)) + 2)

    @staticmethod
    def _places(m, name, valid, groups):
        """Tell whether a group is the first, and the last, of its row."""
        if groups == 1:
            return Const(1), Const(1)
        place = Signal(range(groups), name=f"{name}_place")
        last = place == groups - 1
        with m.If(valid):
            m.d.sync += place.eq(Mux(last, 0, place + 1))
        return place == 0, last

    def _walk(self, m, groups):
        """Follow a command's rows: theirs and their shifts' numbers, a cycle after a group, and masks of lanes, two."""
        config, command = self._config, self.command
        first = self.first
        begins, _ = self._places(m, "walk", self.valid, groups)
        rows = []
        for name, base in (("row", command.out_nstep), ("shift_row", command.scale_nstep)):
            row = Signal(range(config.score_rows), name=f"{name}_number", reset_less=True)
            with m.If(self.valid & begins):
                m.d.sync += row.eq(Mux(first, base, row + 1))
            rows.append(row)

        slope, slope_held = Signal(), Signal(reset_less=True)
        m.d.comb += slope.eq(Mux(first, command.slope, slope_held))
        limits = []
        for name, field in (("last", command.acc_nstep), ("begin", command.bias_nstep)):
            # As seen from the group's first column.
            limit = Signal(_LIMIT, name=name, reset_less=True)
            start = Signal(_LIMIT, name=f"{name}_start")
            following = Signal(_LIMIT, name=f"{name}_next", reset_less=True)
            m.d.comb += start.eq(Mux(first, field.as_signed(), following))
            with m.If(self.valid & begins):
                m.d.sync += [limit.eq(start), following.eq(start + slope), slope_held.eq(slope)]
            with m.Elif(self.valid):
                m.d.sync += limit.eq(limit - config.post.lanes)
            limits.append(limit)
        last, begin = limits
        masks = Signal(config.post.lanes, reset_less=True)
        m.d.sync += [masks[lane].eq((last <= lane) | (begin > lane)) for lane in range(config.post.lanes)]
        return *rows, masks

    def _nudges(self, m, valid, groups):
        """What each lane adds to its numerators, a cycle after a group is valid: that of the column."""
        begins, _ = self._places(m, "nudge", valid, groups)
        place = Signal(range(max(groups, 2)), name="nudge_group", reset_less=True)
        following = Signal.like(place, name="nudge_next")
        m.d.comb += following.eq(Mux(begins, 0, place + 1))
        with m.If(valid):
            m.d.sync += place.eq(following)
        lanes = self._config.post.lanes
        return [Array(NUDGES[(group * lanes + lane) % len(NUDGES)] for group in range(groups))[place]
                for lane in range(lanes)]

    def _lanes(self, m, platform, masks, greatest, form, nudges):
        """Build the lanes."""
        groups, wait = self._groups_of(self._config), self.wait_of(self._config)
        least = ceil_log2(self._config.post.lanes) + groups - 1 + self._ROW
        greatest = delay(m, greatest, wait - least, "greatest", reset_less=True)
        has_floats, lanes = self._config.has_floats, self._config.post.lanes
        units = [FloatNumerator(wait, self._config.arithmetic.format) if has_floats else Numerator(wait)
                 for _ in range(lanes)]
        for index, lane in enumerate(units):
            unit.add(m, f"numerator_{index}", lane, platform)
            m.d.comb += [
                lane.score.eq(self.score[index]),
                lane.masked.eq(self.hidden[index] | masks[index]),
                lane.greatest.eq(greatest),
                *([lane.none.eq(self.none[index])] if has_floats else [
                    lane.two_bytes.eq(form[0]),
                    lane.nudge.eq(nudges[index]),
                    lane.low_byte.eq(form[1]),
                ]),
                self.output[index].eq(lane.output),
            ]
        return units

    @staticmethod
    def _greater(a, b):
        return Mux(a > b, a, b)

    @staticmethod
    def _sum(a, b):
        return a + b
