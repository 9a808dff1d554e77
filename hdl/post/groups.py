"""What belongs to each group of a post-processing command, in the cycle in which its sums are on their way."""

from dataclasses import dataclass, replace

from amaranth.hdl import Cat, Module, Mux, Value

from ..blocks.pipeline import delay, taps
from ..shell.config import Config
from .average import AverageWalk
from .float_rows import FloatShare
from .row_softmax import RowPass
from .walk import PostWalk

__all__ = ["Groups", "follow_groups"]


@dataclass(frozen=True)
class Groups:
    """Groups as the parts of the engine behind the walk get to know them, one a cycle.

    Parameters
    ----------
    valid, first, last, unit : Value
        As of :class:`PostWalk`.
    averages : AverageWalk or None
        What the lanes do with states, of each group as it is walked.
    writes : Value or None
        Whether a group has outputs; None: always.
    window : Value or None
        With ``post.maxima``, whether its row opens a window, and whether it closes one.
    """

    valid: Value
    first: Value
    last: Value
    unit: Value
    averages: AverageWalk | None = None
    writes: Value | None = None
    window: Value | None = None

    @property
    def output(self) -> Value:
        """Whether a group has outputs."""
        return self.valid if self.writes is None else self.valid & self.writes


def follow_groups(m: Module, config: Config, walk: PostWalk, late: int, softmax_late: int = 0,
                  norm_late: int = 0) -> Groups:
    """Tell what belongs to each group, as its outputs come.

    Of a pair or an average that is `late` cycles later than of others, of softmax `softmax_late` cycles, and of rows
    that are normalised `norm_late`.
    """
    window = Cat(walk.opens, walk.closes) if config.has_maxima else None
    groups = Groups(walk.valid, walk.first, walk.last, walk.unit, window=window)
    if late:
        pair, averages, writes = _is_pair(config, walk.command), None, None
        if config.has_averages:
            m.submodules.averages = averages = AverageWalk(config)
            m.d.comb += [
                averages.command.eq(walk.command),
                averages.start.eq(walk.start),
                averages.valid.eq(walk.valid),
                averages.last_of_tile.eq(walk.last_of_tile),
                *([] if config.has_float_softmax else [walk.ripe.eq(averages.ripe)]),
            ]
            pair = pair | walk.command.average | walk.command.search
            writes = ~pair | delay(m, averages.writes, late, "writes")
        if config.has_row_softmax:
            row_pass = walk.command.row_pass
            pair = pair | (row_pass != RowPass.NONE)
            shares = (row_pass == RowPass.NONE) | (row_pass == RowPass.SHARE)
            writes = shares if writes is None else writes & shares
        groups = _postponed(m, "pair", walk, replace(groups, averages=averages, writes=writes), pair, late)
        if config.has_float_softmax:
            share = walk.command.float_row & (walk.command.row_pass == RowPass.SHARE)
            groups = _postponed(m, "share", walk, groups, share, late + FloatShare.LATENCY)
    if softmax_late:
        groups = _postponed(m, "softmax", walk, groups, walk.command.softmax, softmax_late)
    if norm_late:
        has_outputs = ~walk.command.moments
        writes = has_outputs if groups.writes is None else groups.writes & has_outputs
        groups = _postponed(m, "norm", walk, replace(groups, writes=writes), walk.command.normed, norm_late)
    return groups


def _postponed(m, name, walk, groups, chosen, late):
    """What belongs to groups, of those of a chosen command `late` cycles after its walk."""
    valid = taps(m, walk.valid & chosen, late, f"{name}_valid")
    first, last = (delay(m, signal, late, f"{name}_{signal.name}") for signal in (walk.first, walk.last))
    unit, window = delay(m, walk.unit, late, f"{name}_unit", reset_less=True), groups.window
    if window is not None:
        walked = Cat(walk.opens, walk.closes)
        window = Mux(chosen, delay(m, walked, late, f"{name}_window", reset_less=True), window)
    return replace(groups, valid=Mux(chosen, valid[-1], groups.valid), first=Mux(chosen, first, groups.first),
                   last=Mux(chosen, last, groups.last), unit=Mux(chosen, unit, groups.unit), window=window)


def _is_pair(config, command):
    """Whether something made of a pair takes the place of each sum."""
    if not config.has_products:
        return command.pair
    return command.pair | command.product if config.has_pairs else command.product
