"""Keys and values as filters of passes: LOADs that bring them in the order of beats, and where they stand."""

from collections.abc import Callable, Iterator, Mapping

from ...hdl.row_stationary.commands import Destination
from ..hazards import Region
from ..transfers import blocks, fill
from .attention_cut import Form

__all__ = ["FilterSlots", "filter_loads"]


def filter_loads(form: Form, dram: int, address: int, count: int, channels: int, filter_step: int,
                 channel_step: int) -> Iterator[Mapping[str, int]]:
    """LOADs of a matrix of bytes in memory as the filters of a pass.

    Parameters
    ----------
    form : Form
        The pass. A line of a PE holds ``lanes / q`` filters of q channels each.
    dram, address : int
        Of the first channel of the first filter, in bytes.
    count, channels : int
        Filters and channels that there are; places of others stay as they are.
    filter_step, channel_step : int
        Bytes in memory from a filter to the next, and from a channel.
    """
    lanes, sets, each = form.lanes[0], form.t * form.r, form.lanes[0] // form.q
    # Channels of all sets adjoin where each set has a line of its own for them.
    depth = channels if each == 1 else form.q
    for chain, chains, some in ((0, count // form.p, form.p), (count // form.p, 1, count % form.p)):
        for first, lines, beside in ((0, some // each, each), (some // each * each, 1, some % each)):
            for start in range(0, channels, depth):
                length, number = min(depth, channels - start), chain * form.p + first
                if not chains * lines * beside:
                    continue
                near = first // each * sets * lanes + (chain * form.r + start // form.q) * lanes
                dims = [(length, channel_step, 1), (beside, filter_step, form.q), *sorted((
                    (lines, each * filter_step, sets * lanes),
                    (chains, form.p * filter_step, form.r * lanes)), reverse=True)]
                yield from blocks(dram + number * filter_step + start * channel_step, address + near, 1, dims)


class FilterSlots:
    """Places of the filters of passes of one form, taken in turn.

    Parameters
    ----------
    form : Form
        Passes.
    first, count : int
        First line, and places.
    load : callable
        Emits a LOAD: its destination, its body, and the lines that it writes.
    """

    def __init__(self, form: Form, first: int, count: int,
                 load: Callable[[Destination, Mapping[str, int], Region], None]):
        self._form, self._load = form, load
        self._regions = [Region("filters", first + slot * form.filter_lines, first + (slot + 1) * form.filter_lines)
                         for slot in range(count)]
        self._stands: list[object] = [None] * count
        self._next = 0

    def clear(self, slots: range | None = None) -> None:
        """Fill places with zeros: channels that there are not must meet them."""
        for slot in slots or range(len(self._regions)):
            region, line = self._regions[slot], self._form.lanes[0]
            for body in fill(0, 1, address=region.first * line, length=(region.end - region.first) * line, dims=[]):
                self._load(Destination.FILTER_BUFFER, body, region)

    def bring(self, dram: int, count: int, channels: int, filter_step: int, channel_step: int) -> Region:
        """Load filters (see :func:`filter_loads`) if they don't stand, and return where they do."""
        wanted = dram, count, channels
        if wanted in self._stands:
            return self._regions[self._stands.index(wanted)]
        slot, self._next = self._next, (self._next + 1) % len(self._regions)
        region, form = self._regions[slot], self._form
        if form.parts > 1 and channels < form.depth:
            self.clear(range(slot, slot + 1))
        for body in filter_loads(form, dram, region.first * form.lanes[0], count, channels, filter_step, channel_step):
            self._load(Destination.FILTER_BUFFER, body, region)
        self._stands[slot] = wanted
        return region
