"""What the engines that all kinds of array share take, in cycles: the shell's, and post-processing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...hdl.errors import PearrayError
from ...hdl.post.average import SEARCH, AverageWalk
from ...hdl.post.engine import Post
from ...hdl.post.float_rows import FloatShare, FloatTotals
from ...hdl.post.norms import Norms
from ...hdl.post.row_softmax import RowPass
from ...hdl.shell.commands import COMMAND_BYTES
from ...hdl.shell.config import Config
from ...hdl.shell.fetch import Fetch
from ...hdl.shell.loader import Loader
from ...hdl.shell.mover import Mover
from ...hdl.shell.queues import slot_bits
from ...hdl.shell.storer import Storer
from ...hdl.shell.writer import Writer

__all__ = ["LateError", "Limit", "Posting", "SharedLatencies", "UnendingError"]


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


@dataclass(frozen=True, kw_only=True)
class SharedLatencies:
    """What a configuration's shell and post-processing take, in cycles."""

    #: Beats of a command, and for each queue the number of that with the last bit of its commands.
    beats: int
    needed: tuple[int, ...]
    #: Commands in flight.
    ahead: int
    #: From a beat that was read to its place in a scratchpad.
    load_done: int
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
    def shared(config: Config, untouched: int) -> dict[str, Any]:
        """What is no array's, where nothing that waits for a POST touches sums for some cycles more."""
        beats = max(1, COMMAND_BYTES // config.beat_bytes)
        width = config.memory.data_width
        return {
            "beats": beats, "ahead": Fetch.ahead_of(config), "load_done": Loader.latency_of(config),
            "needed": tuple((slot_bits(queue, config.commands) - 1) // width for queue in config.commands.queues),
            "groups": config.sum_columns // config.post.lanes, "start": Post.START, "post": Post.latency_of(config),
            "settings": Post.settings_cycle_of(config), "few": Post.few_of(config, untouched),
            "pair": Post.pair_delay_of(config), "softmax": Post.softmax_delay_of(config),
            "norm": Post.norm_delay_of(config), "average": AverageWalk.PERIOD,
            "float_row": FloatTotals.period_of(config.post.lanes),
            "quotient": Post.quotient_delay_of(config) if config.has_softmax else 0,
            "root": Post.root_delay_of(config), "root_period": Norms.PERIOD,
            "store_data": Storer.latency_of(config, config.output_banks) + Writer.LATENCY,
            "move_done": Mover.latency_of(config, config.output_banks)}

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
