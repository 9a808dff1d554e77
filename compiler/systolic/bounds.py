"""Fewest cycles that steps can take, however they are scheduled: what need not be timed to be refused.

The bound follows the array, the ports and post-processing in the order of the steps, each as busy as it can be. A tile
is loaded once at least, a bank of sums is free when its POSTs have read it, and the last outputs have to leave.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ...hdl.systolic.slots import CONTINUATION
from ...memory import MemoryTiming
from ..steps import Group
from ..timing.bursts import bursts, data_cycles
from .handover import release
from .steps import ContractionStep
from .timing import Execution, Latencies, execution, is_toeplitz

__all__ = ["Bounds"]


class Bounds:
    """Bounds of steps of one configuration and memory; what a body of a command costs is found once.

    Parameters
    ----------
    hands_over : bool
        Whether rows may be handed over while a POST reads the last ones (:mod:`.handover`). Without, what lives of it
        may take fewer cycles than its bound.
    """

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, *, hands_over: bool = True):
        self._config, self._timing, self._hands_over = config, timing, hands_over
        self._c, self._cycles = Latencies.of(config), data_cycles(config, timing)
        #: Bodies are kept, lest another takes the identity of one.
        self._costs: dict[int, tuple[Mapping[str, int], Any]] = {}
        #: Cycles for which a POST keeps an EXECUTE from its bank, by both.
        self._kept: dict[tuple[int, int], tuple[Mapping[str, int], Mapping[str, int], int]] = {}

    def least_cycles(self, steps: Sequence[ContractionStep]) -> int:
        """Cycles from the start write to the done flag, at least."""
        c, timing = self._c, self._timing
        # The first command is fetched, put into its slot, taken and walked; its first beat comes a latency later.
        loaded = 2 * timing.read_latency + 3 + c.needed[0] + BlockWalker.LATENCY
        seen: dict[int, int] = {}
        tiles_ready = array_end = posted = written = last = 0
        #: Of each bank, when the POST that has read it last began, and its body.
        reads: list[tuple[int, Mapping[str, int]] | None] = [None, None]
        free = 0
        group: Group | None = None
        bank = 1
        for index, step in enumerate(steps):
            for use in step.operands:
                pieces = seen.get(id(use.tile), 0)
                if pieces < use.pieces:
                    seen[id(use.tile)] = use.pieces
                    loaded += sum(self._once(body, self._beats) for piece in use.tile.pieces[pieces:use.pieces]
                                  for body in piece.loads)
            if step.group is not group:
                group, bank = step.group, bank ^ 1
                free = 0 if (read := reads[bank]) is None else read[0] + self._keeps(read[1], step.body)
            time = max(loaded + c.load_done + TokenGates.DONE_LATENCY, tiles_ready, free)
            pixels, tiles, period, slots, leaving = self._once(step.body, self._execution)
            tiles_ready = max(time + c.prepare + slots, array_end + 1) + (tiles - 1) * period
            array_end = tiles_ready + pixels - 1
            last = max(last, done := array_end + c.through + leaving)
            if index + 1 < len(steps) and steps[index + 1].group is group:
                continue
            begun = done + TokenGates.DONE_LATENCY
            for output in group.outputs:
                posting = self._once(output.body, c.posting)
                begun = max(begun, posted)
                posted = begun + posting.ready
                reads[bank] = begun, output.body
                last = max(last, stored := begun + posting.done)
                for body in output.stores:
                    written = max(written, stored + TokenGates.DONE_LATENCY + BlockWalker.LATENCY + c.store_data)
                    written += self._once(body, self._beats)
                    last = max(last, written + timing.write_latency)
        return last + TokenGates.DONE_LATENCY + 2

    def load_beats(self, steps: Sequence[ContractionStep]) -> int:
        """Cycles of the data channel for what steps load, each tile once."""
        tiles = {id(use.tile): use.tile for step in steps for use in step.operands}
        return sum(self._once(body, self._beats) for tile in tiles.values() for piece in tile.pieces
                   for body in piece.loads)

    def _keeps(self, post: Mapping[str, int], execute: Mapping[str, int]) -> int:
        """Cycles from the beginning of a POST until the first EXECUTE behind it may come to its bank."""
        key = id(post), id(execute)
        if key not in self._kept:
            rows = release(self._config, post, execute) if self._hands_over else 0
            released = self._c.posting({**post, "release": rows}).released
            self._kept[key] = post, execute, released + TokenGates.DONE_LATENCY
        return self._kept[key][2]

    def _once(self, body: Mapping[str, int], price: Callable[[Mapping[str, int]], Any]) -> Any:
        known = self._costs.get(id(body))
        if known is None:
            known = self._costs[id(body)] = body, price(body)
        return known[1]

    def _execution(self, body: Mapping[str, int]) -> Execution:
        found = execution(self._config, body)
        # It may continue the tiles of the one before.
        slots = self._c.slots_continuing + CONTINUATION - self._c.prepare
        return found._replace(slots=slots) if is_toeplitz(self._config, body) else found

    def _beats(self, body: Mapping[str, int]) -> int:
        if body.get("fill"):
            return 0
        return sum(map(self._cycles.__getitem__, bursts(self._config, body).sizes))
