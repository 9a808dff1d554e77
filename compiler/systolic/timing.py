"""What the engines of an accelerator with the systolic array take, in cycles, and the bursts of its transfers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple
from weakref import ref

from ...hdl.errors import PearrayError
from ...hdl.post.average import SEARCH, AverageWalk
from ...hdl.post.engine import Post, output_banks
from ...hdl.post.float_rows import FloatShare, FloatTotals
from ...hdl.post.norms import Norms
from ...hdl.post.row_softmax import RowPass
from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import ADDRESS_BITS, COMMAND_BYTES
from ...hdl.shell.config import Config
from ...hdl.shell.fetch import Fetch
from ...hdl.shell.loader import Loader
from ...hdl.shell.mover import Mover
from ...hdl.shell.queues import slot_bits
from ...hdl.shell.storer import Storer
from ...hdl.shell.writer import Writer
from ...hdl.systolic.array import SystolicArray
from ...hdl.systolic.execute import Execute
from ...hdl.systolic.slots import (
    PREPARATION,
    continues_diagonally,
    continuing_slots,
    continuing_wait,
    drain_cycles,
    follows_diagonally,
    tile_slots,
    toeplitz_slots,
)
from ...memory import MemoryTiming

__all__ = ["Bursts", "Execution", "LateError", "Latencies", "Limit", "Posting", "UnendingError", "bursts", "continues",
           "contraction_tiles", "data_cycles", "execution", "is_toeplitz", "row_bursts"]

#: ``w_pitch`` of rows of weights that stand one operand before the row before.
_BACK = (1 << ADDRESS_BITS) - 1


def contraction_tiles(rows: int, k_total: int, run: int, fold: int) -> int:
    """Tiles into which a weight-stationary contraction is cut."""
    if fold or run >= k_total:
        return -(-k_total // rows)
    whole, rest = divmod(k_total, run)
    return whole * -(-run // rows) + -(-rest // rows)


class UnendingError(PearrayError):
    """A program that would never end, as far as the model of time can tell."""


class LateError(UnendingError):
    """A program that takes more cycles than it may."""


class Limit(NamedTuple):
    """How many cycles a program may take."""

    most: float
    #: Cycles, at least, from the last operand vector of each EXECUTE, and from where each POST begins, to the done
    #: flag: what is behind them in the same queue takes its time.
    executes: Sequence[int]
    posts: Sequence[int]


class Bursts(NamedTuple):
    """Bursts of a LOAD, STORE or MOVE."""

    #: Beats of each, in order.
    sizes: tuple[int, ...]
    #: Bursts of the last row.
    last_row: int
    #: Whether all have the same beats.
    even: bool


def _row_bursts(beat: int, burst: int, start: int, length: int) -> tuple[int, ...]:
    """Beats of each burst of a row of `length` bytes at byte `start` of a block of `burst` beats."""
    first, last = start // beat, (start + length - 1) // beat
    sizes = []
    while first <= last:
        end = min(last, first // burst * burst + burst - 1)
        sizes.append(end - first + 1)
        first = end + 1
    return tuple(sizes)


@lru_cache(1 << 11)
def _block_bursts(beat: int, burst: int, start: int, length: int, inner: tuple[int, int],
                  outer: tuple[int, int]) -> Bursts:
    """Bursts of rows whose (count, step) are `inner` and `outer`, steps modulo a block of `burst` beats."""
    modulus, rows = beat * burst, {}
    sizes: list[int] = []
    row: tuple[int, ...] = ()
    for second in range(outer[0]):
        for first in range(inner[0]):
            at = (start + second * outer[1] + first * inner[1]) % modulus
            if at not in rows:
                rows[at] = _row_bursts(beat, burst, at, length)
            row = rows[at]
            sizes += row
    return Bursts(tuple(sizes), len(row), min(sizes) == max(sizes))


def row_bursts(config: Config, start: int, length: int, rows: tuple[int, int]) -> Bursts:
    """Bursts of rows of `length` bytes from address `start` on: how many, and how far from one to the next."""
    beat, burst = config.beat_bytes, burst_beats(config)
    return _block_bursts(beat, burst, start % (beat * burst), length, (rows[0], rows[1] % (beat * burst)), (1, 0))


def bursts(config: Config, body: Mapping[str, int]) -> Bursts:
    """Bursts of a LOAD, STORE or MOVE.

    A fill is cut by its addresses on chip, a MOVE by those of its target, all others by those in memory.
    """
    beat, burst = config.beat_bytes, burst_beats(config)
    modulus = beat * burst
    if body.get("profile"):
        return _block_bursts(beat, burst, body["dram"] % modulus, 16, (1, 0), (1, 0))
    if body.get("fill"):
        start, step1, step2 = body["address"], body["step1"], body["step2"]
    elif "target" in body:
        start, step1, step2 = body["target"], body["target_step1"], body["target_step2"]
    else:
        start, step1, step2 = body["dram"], body["dram_step1"], body["dram_step2"]
    return _block_bursts(beat, burst, start % modulus, body["length"], (body["count1"], step1 % modulus),
                         (body["count2"], step2 % modulus))


def data_cycles(config: Config, timing: MemoryTiming) -> list[int]:
    """Cycles of the data channel for a burst of as many beats as the index says."""
    rate, most = timing.beats_per_cycle, max(burst_beats(config), COMMAND_BYTES // config.beat_bytes, 1)
    return [beats if rate == 1 else max(beats, round(beats / rate)) for beats in range(most + 1)]


@dataclass(frozen=True)
class Latencies:
    """What a configuration's engines take, in cycles."""

    #: Beats of a command, and for each queue the number of that with the last bit of its commands.
    beats: int
    needed: tuple[int, ...]
    #: Commands in flight.
    ahead: int
    #: From a beat that was read to its place in a scratchpad.
    load_done: int
    #: From the last operand vector of an EXECUTE to its completion.
    through: int
    #: Of preparing an EXECUTE; of a tile's weights, from the top and from the left.
    prepare: int
    slots_top: int
    slots_left: int
    #: From one tile of Toeplitz matrices to the next at least, and of the first of an EXECUTE that continues another's.
    slots_toeplitz: int
    slots_continuing: int
    #: Cycles that the latter must have been held up if it names another bank.
    wait_continuing: int
    #: Output-stationary: sums that take turns in a PE, from the first to the last row of sums that leave, and
    #: between two drains at least.
    turns: int
    leaving: int
    drain: int
    #: Groups of lanes in a row; from a POST's acceptance to its first group; from a group to its output; from the
    #: first group to where the next POST may be accepted at least; rows of a POST's last tile with which its bank may
    #: be taken; by how much later all but that is if its sums are those of pairs or averages, and if it makes
    #: numerators of softmax, or of elements normalised by their row's root; cycles from a tile of an average, or of
    #: sums of rows in float32, to the next at least; from the last group of softmax to the first of normalised rows;
    #: and from that of a row whose root a command waits for to its first, and from a root to the next.
    groups: int
    start: int
    post: int
    settings: int
    few: int
    #: Cycles before an EXECUTE that was let go comes to its first sum.
    untouched: int
    pair: int
    softmax: int
    norm: int
    average: int
    float_row: int
    quotient: int
    root: int
    root_period: int
    #: From a burst of a STORE to its first beat on the bus.
    store_data: int
    #: From a beat of a MOVE that is read to its place.
    move_done: int

    @staticmethod
    def of(config: Config) -> "Latencies":
        """Latencies of a configuration, found once for each."""
        found = _FOUND.get(id(config))
        if found is None or found[0]() is not config:
            # Asked for at each command: by identity, since to hash a configuration takes longer than all else of that.
            found = _FOUND[id(config)] = ref(config, partial(_forget, id(config))), Latencies._of(config)
        return found[1]

    @staticmethod
    def _of(config: Config) -> "Latencies":
        beats = max(1, COMMAND_BYTES // config.beat_bytes)
        width = config.memory.data_width
        rows, arithmetic, untouched = config.array.rows, config.arithmetic, Execute.untouched_of(config)
        return Latencies(
            beats, tuple((slot_bits(queue, config.commands) - 1) // width for queue in config.commands.queues),
            Fetch.ahead_of(config),
            Loader.latency_of(config), Execute.through_of(config),
            PREPARATION, tile_slots(config, left=False), tile_slots(config, left=True),
            toeplitz_slots(config), continuing_slots(config), continuing_wait(config),
            arithmetic.add_latency, SystolicArray.drain_interval_of(rows, arithmetic) - 1, drain_cycles(config),
            config.array.cols // config.post.lanes, Post.START, Post.latency_of(config),
            Post.settings_cycle_of(config), Post.few_of(config, untouched), untouched,
            Post.pair_delay_of(config), Post.softmax_delay_of(config), Post.norm_delay_of(config),
            AverageWalk.PERIOD, FloatTotals.period_of(config.post.lanes),
            Post.quotient_delay_of(config) if config.has_softmax else 0,
            Post.root_delay_of(config), Norms.PERIOD,
            Storer.latency_of(config, output_banks(config)) + Writer.LATENCY,
            Mover.latency_of(config, output_banks(config)))

    def of_row(self, body: Mapping[str, int]) -> int:
        """Groups of lanes of which a POST makes a row."""
        if self.rows_first(body):
            return 1
        return body["last_group"] + 1 if body.get("transposed") else self.groups

    @staticmethod
    def rows_first(body: Mapping[str, int]) -> bool:
        """Whether a POST goes over one group of all rows after another."""
        return bool(body.get("float_row")) and body["row_pass"] == RowPass.TOTAL

    def posting(self, body: Mapping[str, int]) -> "Posting":
        """What a POST takes: one group a cycle, but for the states of averages."""
        row_pass, of_row = body.get("row_pass", RowPass.NONE), self.of_row(body)
        tiles, tile = body["n_count"], body["m_count"] * of_row
        searches = SEARCH * bool(body.get("search"))
        averages = bool(body.get("average") or searches)
        late = self.pair if averages or body.get("pair") or body.get("product") or row_pass else 0
        if body.get("float_row") and row_pass == RowPass.SHARE:
            late += FloatShare.LATENCY
        late = self.softmax if body.get("softmax") else self.norm if body.get("normed") else late
        period = self.average if averages else self.float_row if self.rows_first(body) else 0
        groups = (tiles - 1) * max(tile, period) + tile
        read, written = (tiles - searches) * tile, tiles * tile // (body.get("reduce", 0) + 1)
        if averages:
            written = tile if searches else 0
        if body.get("moments") or row_pass not in (RowPass.NONE, RowPass.SHARE):
            written = 0
        # An EXECUTE need only wait until the sums will have been read when it reaches them.
        left = max(min(body["m_count"], max(self.few, body.get("release", 0))) * of_row, 1)
        return Posting(self.start - 1 + max(groups, self.settings + 1) + late, self.start + groups - left,
                       self.start + groups + self.post + late, read, written, groups)


#: Configurations that there are, and their latencies, by identity.
_FOUND: dict[int, tuple[ref[Config], Latencies]] = {}


def _forget(identity: int, _: object) -> None:
    """Forget a configuration that is no more."""
    _FOUND.pop(identity, None)


class Posting(NamedTuple):
    """Cycles from a POST's acceptance."""

    #: To when the next one may be accepted.
    ready: int
    #: Until it counts for EXECUTEs that wait for it.
    released: int
    #: To its completion.
    done: int
    #: Groups whose sums are read, and groups of outputs that are written.
    read: int
    written: int
    #: Cycles from the first group to that behind the last.
    walked: int


class Execution(NamedTuple):
    """What an EXECUTE takes."""

    #: Operand vectors of a tile, one a cycle.
    vectors: int
    #: Tiles.
    tiles: int
    #: Cycles from one tile to the next.
    period: int
    #: Cycles in which the first tile's weights are loaded.
    slots: int
    #: Cycles in which sums still leave the array when the last of them would otherwise be done.
    leaving: int

    @property
    def active(self) -> int:
        """Cycles in which the array is given an operand vector."""
        return self.vectors * self.tiles


def execution(config: Config, body: Mapping[str, int]) -> Execution:
    """What an EXECUTE of the systolic array takes."""
    constants = Latencies.of(config)
    vectors, tiles = body["m_count0"] * body["m_count1"] * body["m_count2"], body["n_count"]
    if body.get("output_stationary"):
        turns, slots = constants.turns, constants.slots_top
        vectors *= turns
        period = max(vectors, slots)
        # A tile that may be too short waits until the one before has drained.
        if turns * max(body["m_count0"], body["m_count1"], body["m_count2"]) < constants.drain:
            period = vectors - turns + constants.drain + 2
        # Sums that leave row by row begin to with the first of the last vectors that take turns.
        return Execution(vectors, tiles, period, slots, constants.leaving - (turns - 1))
    tiles *= contraction_tiles(config.array.rows, body["k_total"], body["run"], body.get("fold", 0))
    slots = constants.slots_left if body.get("left") else constants.slots_top
    following = constants.slots_toeplitz if is_toeplitz(config, body) else slots
    return Execution(vectors, tiles, max(vectors, following), slots, 0)


def is_toeplitz(config: Config, body: Mapping[str, int]) -> bool:
    """Whether tiles of an EXECUTE, all but the first, get their weights passed on diagonally."""
    # Of most bodies the first comparison tells it.
    return body.get("w_pitch") == _BACK and bool(follows_diagonally(config, _Fields(body)))


def continues(config: Config, body: Mapping[str, int], before: Mapping[str, int]) -> bool:
    """Whether the first tile of an EXECUTE can get its weights so, too, if the one before it is in flight then."""
    return is_toeplitz(config, body) and bool(continues_diagonally(config, _Fields(body), _Fields(before)))


class _Fields(dict[str, int]):
    """Fields of a body, zero where it does not name them."""

    def __missing__(self, name: str) -> int:
        return 0
