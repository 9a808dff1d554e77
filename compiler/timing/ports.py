"""When bursts pass the ports of memory: the shared read channel, the loader's bursts on it, and the write channel.

A long row of equal bursts soon repeats itself: once all that decides when the next one goes has moved on by the same
number of cycles, so will all that follows, and is not walked one by one.
"""

from collections import deque
from dataclasses import dataclass
from itertools import accumulate

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.config import Config
from ...hdl.shell.reader import IN_FLIGHT
from ...memory import MemoryTiming
from .bursts import Bursts, data_cycles

__all__ = ["NEVER", "Block", "MovePort", "ReadPort", "WritePort"]

NEVER = 1 << 62


@dataclass(slots=True)
class Block:
    """Bursts of a LOAD, number `number` of the program, on their way to the port since cycle `accepted`."""

    accepted: int
    bursts: Bursts
    fill: bool
    number: int


def _moved(old: list[int], new: list[int], shift: int) -> bool:
    """Whether all has moved on by as many cycles."""
    return len(old) == len(new) and all(then + shift == now for then, now in zip(old, new, strict=True))


class ReadPort:
    """Read channel: bursts of fetches and of LOADs, in the order in which they are taken.

    Members
    -------
    free : int
        First cycle in which a burst can enter the address register.
    load_at : int
        First cycle in which a LOAD's next burst can, but for the address register.
    fills : bool
        Whether that burst is filled on chip, and needs no address.
    taken : list of int
        Cycle in which each burst of all LOADs was taken.
    load_end : int
        Cycle of the last beat of the LOADs' bursts taken so far.
    """

    def __init__(self, config: Config, timing: MemoryTiming):
        outstanding = timing.outstanding
        self._latency, self._cycles, self._period = timing.read_latency, data_cycles(config, timing), outstanding
        self.free = 0
        self.load_at, self.fills = NEVER, False
        self.taken: list[int] = []
        self.load_end = -1
        self._data_free = 0
        #: Last beats of the bursts that may still be in flight, and of those that the loader may still wait for.
        self._ends: deque[int] = deque([-1] * outstanding, outstanding)
        self._load_ends: deque[int] = deque([-1] * (IN_FLIGHT + 1), IN_FLIGHT + 1)
        self._blocks: deque[Block] = deque()
        self._burst = 0

    def add(self, block: Block) -> None:
        """Let a LOAD's bursts follow those before."""
        self._blocks.append(block)
        if len(self._blocks) == 1:
            self._begin(self.taken[-1] if self.taken else -1)

    def _begin(self, time: int) -> None:
        """Let the oldest LOAD's bursts follow one that was taken in cycle `time`."""
        block = self._blocks[0]
        self.load_at = max(time + 1, block.accepted + BlockWalker.LATENCY, self._load_ends[0] + 1)
        self.fills = block.fill

    def fetch(self, time: int, beats: int) -> tuple[int, int]:
        """Take the burst of a fetch; return the cycles of its first and last beat."""
        handshake = max(time, self._ends[0]) + 1
        self.free = handshake
        start = max(handshake + self._latency, self._data_free)
        end = start + self._cycles[beats] - 1
        self._data_free = end + 1
        self._ends.append(end)
        return start, end

    def fill(self, time: int) -> Block | None:
        """Take a burst of the oldest LOAD, which fills; return the LOAD if it was its last."""
        block = self._blocks[0]
        self._load_ends.append(self.load_end)
        self.load_end = max(time + 2, self.load_end + 1) + block.bursts.sizes[self._burst] - 1
        self.taken.append(time)
        self._burst += 1
        return self._advance(block, time)

    def load(self, time: int, limit: int, fetch_at: int, stop: int) -> Block | None:
        """Take bursts of the oldest LOAD from cycle `time` on; return the LOAD if its last burst was taken.

        Parameters
        ----------
        limit : int
            Cycle from which on something else may be decided.
        fetch_at : int
            Cycle from which on a fetch takes the channel when no LOAD's burst can.
        stop : int
            Number of the burst after which somebody waits to be told.
        """
        block = self._blocks[0]
        sizes, cycles, latency = block.bursts.sizes, self._cycles, self._latency
        ends, load_ends, taken = self._ends, self._load_ends, self.taken
        number, load_end, data_free = self._burst, self.load_end, self._data_free
        left = len(sizes) - number
        if len(taken) <= stop < len(taken) + left:
            left = stop + 1 - len(taken)
        check, mark = left - self._period if block.bursts.even else -1, [0]
        while True:
            free = (time if time > ends[0] else ends[0]) + 1
            start = free + latency
            if start < data_free:
                start = data_free
            load_ends.append(load_end)
            if start <= load_end:
                start = load_end + 1
            load_end = start + cycles[sizes[number]] - 1
            data_free = load_end + 1
            ends.append(load_end)
            taken.append(time)
            number += 1
            left -= 1
            if not left:
                break
            if left == check:
                now = [time, free, load_end, *load_ends, *ends]
                turns = self._repeat(mark, now, left, limit if fetch_at <= mark[0] else min(limit, fetch_at))
                time, ahead = taken[-1], taken[-1] - time
                number, left, free = number + turns * self._period, left - turns * self._period, free + ahead
                load_end, data_free = load_end + ahead, data_free + ahead
                check, mark = left - self._period, now
            ready = (time if time > load_ends[0] else load_ends[0]) + 1
            following = ready if ready > free else free
            if following >= limit or (following > free and ready > fetch_at):
                break
            time = following
        self.free, self.load_end, self._data_free, self._burst = free, load_end, data_free, number
        return self._advance(block, time)

    def _repeat(self, old: list[int], new: list[int], left: int, limit: int) -> int:
        """Repeat the last bursts if all has moved on by the same number of cycles since; return how often.

        `old` and `new` decide about the next burst, as many bursts ago as are in flight at most, and now. Of `left`
        bursts one is left, and the last must be taken before cycle `limit`.
        """
        period, shift = self._period, new[0] - old[0]
        if not _moved(old, new, shift):
            return 0
        turns = max(0, min((left - 1) // period, (limit - 1 - new[0]) // shift))
        last = self.taken[-period:]
        for turn in range(1, turns + 1):
            self.taken += [each + turn * shift for each in last]
        for cycles in (self._ends, self._load_ends):
            cycles.extend([each + turns * shift for each in cycles])
        return turns

    def _advance(self, block: Block, time: int) -> Block | None:
        """Go to the next LOAD if all bursts of the oldest have been taken; return it then."""
        if self._burst < len(block.bursts.sizes):
            self.load_at = max(time, self._load_ends[0]) + 1
            return None
        self._blocks.popleft()
        self._burst = 0
        if self._blocks:
            self._begin(time)
        else:
            self.load_at, self.fills = NEVER, False
        return block


class WritePort:
    """Write channel: bursts of STOREs, in order."""

    def __init__(self, config: Config, timing: MemoryTiming, data_delay: int):
        outstanding = timing.outstanding
        self._latency, self._cycles, self._period = timing.write_latency, data_cycles(config, timing), outstanding
        self._data_delay = data_delay
        self._beat = self._address_free = self._data_free = 0
        self._response = -1
        self._acknowledged: deque[int] = deque([-1] * outstanding, outstanding)

    def store(self, time: int, bursts: Bursts, wanted: int) -> tuple[int, int]:
        """Move the bursts of a STORE that the storer takes in cycle `time`.

        Returns
        -------
        (int, int)
            Cycle of the request of burst `wanted`, counted from one, for which the storer waits before it takes another
            STORE, and of the response to the last burst.
        """
        sizes, period, delay = bursts.sizes, self._period, self._data_delay
        latency, cycles = self._latency, self._cycles
        acknowledged, requested, found = self._acknowledged, time + BlockWalker.LATENCY - 1, self._beat
        beat, address, free, response = self._beat, self._address_free, self._data_free, self._response
        number, mark, count = 0, [0], len(sizes)
        check = period if bursts.even else -1
        while number < count:
            # The burst before has been read, and the address register is free.
            requested += 1
            if requested < beat:
                requested = beat
            if requested < address:
                requested = address
            address = (requested if requested > acknowledged[0] else acknowledged[0]) + 1
            beat = requested + sizes[number]
            if free < requested + delay:
                free = requested + delay
            free += cycles[sizes[number]]
            response += 1
            last = (free - 1 if free > address else address) + latency
            if response < last:
                response = last
            acknowledged.append(response)
            number += 1
            if number == wanted:
                found = requested
            if number == check:
                now = [requested, address, free, response, *acknowledged]
                shift = requested - mark[0]
                if _moved(mark, now, shift):
                    turns = ((wanted - 1 if number < wanted else count) - number) // period
                    ahead = turns * shift
                    number, requested, beat, address = number + turns * period, requested + ahead, beat + ahead, \
                        address + ahead
                    free, response = free + ahead, response + ahead
                    acknowledged.extend([each + ahead for each in acknowledged])
                    now = [0]
                check, mark = number + period, now
        self._beat, self._address_free, self._data_free, self._response = beat, address, free, response
        return found, response


class MovePort:
    """Mover: bursts of MOVEs, in order.

    That their beats take turns with those of STOREs, and hold up those of LOADs, is left out.

    Members
    -------
    ready : int
        Cycle from which on it takes another MOVE.
    """

    def __init__(self) -> None:
        self.ready = self._free = 0
        #: When it took its last bursts: as many as stand between the rows of a MOVE and what is read.
        self._taken = [-1] * 3

    def move(self, time: int, bursts: Bursts, rows: int) -> int:
        """Read the bursts of a MOVE that it takes in cycle `time`; return the cycle of the last beat."""
        *starts, self._free = accumulate(bursts.sizes, initial=max(time + BlockWalker.LATENCY, self._free))
        taken = self._taken + starts
        # The next one is taken when this one's last row has left the first stage.
        self.ready = max(time + rows, taken[-bursts.last_row - 3] + 1) + 1
        self._taken = taken[-3:]
        return self._free
