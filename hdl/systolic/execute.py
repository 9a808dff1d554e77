"""Execute engine: contracts activations with weights into the accumulators."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks import rules
from ..blocks.banks import BankRead
from ..blocks.pipeline import delay
from ..errors import PearrayError
from ..post.sums import AccumulatorRead, ShiftWrite
from ..shell.config import Config
from ..shell.tokens import TokenGates
from .accumulator import Accumulators, DrainRows
from .array import SystolicArray
from .feeder import Feeder
from .slots import drain_cycles, tile_slots, toeplitz_slots
from .streamer import Streamer
from .tile_layouts import line_bits
from .tiles import TileWalker

__all__ = ["Events", "Execute", "execute_cycles"]


def execute_cycles(config: Config, tiles: int, vectors: int, *, left: bool = False) -> int:
    """Cycles from the acceptance of a weight-stationary command to its completion, in an idle engine.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    tiles : int
        Tiles of the command: those of elements times those of columns.
    vectors : int
        Pixels.
    left : bool
        Weights enter from the left.

    Returns
    -------
    int
        Preparation, the first tile's weights, the tiles, and the way of the last vector through
        streamer, array and accumulators.
    """
    slots = tile_slots(config, left=left)
    return (TileWalker.PREPARATION + slots + (tiles - 1) * max(vectors, slots) + vectors - 1
            + Execute.through_of(config))


class Events(data.Struct):
    """What happened in this cycle, one bit an event, for counters."""

    #: An activation vector was given to the array.
    active: unsigned(1)
    #: A command is there, but the array waits for weights (or, output-stationary, for a drain).
    stall_weights: unsigned(1)
    #: A vector of R activations was read from the scratchpad.
    activation_read: unsigned(1)
    #: A vector of weights was read from the scratchpad.
    weight_read: unsigned(1)
    #: A row of C sums was read from the accumulators, to be added to or compared.
    accumulator_read: unsigned(1)
    #: A row of C sums was written to the accumulators.
    accumulator_write: unsigned(1)


class Execute(wiring.Component):
    """Execute engine: array, the walks that feed it, and the accumulators below it.

    Commands are worked through in order and overlap: while the vectors of one tile stream through
    the array, the weights of the next one load, be it of the same command or of the next one.
    Tiles follow one another every ``max(M, S)`` cycles, where M is the number of vectors of a tile
    and S, the cycles in which weights load, is ``max(R, P)`` from the top and ``max(R, C, P)`` from
    the left. (A sum can be added to every P cycles: 6 with integers.) Between two commands, S is five cycles
    longer. With ``array.toeplitz``, S is :func:`.slots.toeplitz_slots` where weights are passed on diagonally.
    Between commands of different modes the array runs empty. With A the cycles of an addition, each vector of
    an output-stationary tile takes A of them. Such tiles follow one another without an idle cycle if one of the
    three loops has at least ``max(A R, P) / A`` turns, else drains are kept ``max(A R, P)`` cycles apart.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    commands : In(stream.Signature(config.commands.execute))
        Commands.
    done : Out(1)
        A command has been completed, in the order of acceptance: its last sum can be read
        :attr:`Accumulators.AHEAD` cycles later.
    activation, weight : Out(BankRead)
        Ports of the scratchpads.
    accumulators : In(AccumulatorRead(config))
        Port of post-processing, for the bank that no command in flight names.
    output_stationary : Out(1)
        Mode of the command accepted last.
    events : Out(Events)
        What happened.
    shifts : In(ShiftWrite(rows))
        Only with ``post.softmax``: by how much rows of sums are shifted by commands that rescale.

    Raises
    ------
    PearrayError
        If the array is too slow to take weights for this engine's schedule.
    """

    def __init__(self, config: Config):
        array = config.array
        self._config = config
        self._array = SystolicArray(array.rows, array.cols, config.arithmetic, config.os_depth, config.has_toeplitz)
        for name, value, most in (
                ("swap_lead_top", self._array.swap_lead_top, tile_slots(config, left=False)),
                ("swap_lead_left", self._array.swap_lead_left, tile_slots(config, left=True)),
                ("toeplitz_interval", self._array.toeplitz_interval, toeplitz_slots(config)),
                ("turn_gap", self._array.turn_gap, 4),
                ("os_latency", self._array.os_latency, self._array.ws_latency),
                ("drain_interval", self._array.drain_interval, drain_cycles(config)),
                ("os_weight_lead", self._array.os_weight_lead, 1)):
            if value > most:
                raise PearrayError(f"{name} of the array must be at most {most}, not {value}")
        scratchpads = config.scratchpads
        width = 8 * config.operand_bytes
        activation_lines = 1 << line_bits(config, scratchpads.activation_bytes)
        weight_lines = 1 << line_bits(config, scratchpads.weight_bytes)
        super().__init__({
            "commands": In(stream.Signature(config.commands.execute)),
            "done": Out(1),
            "activation": Out(BankRead(config.banks, activation_lines, width)),
            "weight": Out(BankRead(config.banks, weight_lines, width)),
            "accumulators": In(AccumulatorRead(config)),
            "output_stationary": Out(1),
            "events": Out(Events),
            **({"shifts": In(ShiftWrite(config.sum_rows))} if config.has_softmax else {}),
        })

    @staticmethod
    def through_of(config: Config) -> int:
        """Return the cycles from the last vector's address to completion of a weight-stationary command.

        They are those of streamer, array and accumulators.
        """
        return (Execute._to_sums_of(config) + Accumulators.period_of(config.arithmetic) - 1 + config.array.cols
                - Accumulators.AHEAD)

    @staticmethod
    def untouched_of(config: Config) -> int:
        """Return the cycles behind a token for which no command that waited for it reads or writes sums."""
        return (TokenGates.DONE_LATENCY + TileWalker.PREPARATION + tile_slots(config, left=False)
                + Execute._to_sums_of(config) - 1)

    @staticmethod
    def _to_sums_of(config: Config) -> int:
        """Cycles from a vector's address to its row of sums."""
        return (Streamer.latency_of(config) + SystolicArray.ws_latency_of(config.array.rows, config.arithmetic)
                - Accumulators.LEAD)

    @staticmethod
    def _state_rule(m, accumulators):
        """State that rows which overwrite follow behind those that a POST still reads."""
        written, read = (Cat(each.row, each.bank) for each in (accumulators.control, accumulators.read))
        rules.places_kept(m, "unread", accumulators.control.valid, written, accumulators.read.en, read,
                          "a row is read that has been written over since reading began")

    def elaborate(self, platform):
        """Connect the parts."""
        m = Module()

        config = self._config
        m.submodules.tile_walker = tiles = TileWalker(config)
        m.submodules.feeder = feeder = Feeder(config)
        m.submodules.streamer = streamer = Streamer(config)
        m.submodules.array = array = self._array
        m.submodules.drain_rows = rows = DrainRows(config.array.rows, config.accumulators.depth, array.os_sums,
                                                   rescales=config.has_softmax)
        m.submodules.accumulators = accumulators = Accumulators(config)

        wiring.connect(m, wiring.flipped(self.commands), tiles.commands)
        wiring.connect(m, tiles.tile, streamer.tile)
        wiring.connect(m, streamer.read, wiring.flipped(self.activation))
        wiring.connect(m, feeder.read, wiring.flipped(self.weight))
        wiring.connect(m, wiring.flipped(self.accumulators), accumulators.read)
        self._state_rule(m, accumulators)
        if config.has_softmax:
            wiring.connect(m, wiring.flipped(self.shifts), streamer.shifts)
        m.d.comb += [
            self.output_stationary.eq(tiles.output_stationary),
            tiles.quiet.eq(self._quiet(m)),
            streamer.output_stationary.eq(tiles.output_stationary),
            feeder.tiles.eq(tiles.vector),
            feeder.elements.eq(streamer.weight),
            array.a.eq(streamer.a),
            array.control.eq(streamer.control),
            array.w_top.eq(feeder.w_top),
            array.w_left.eq(feeder.w_left),
            array.w_control.eq(feeder.w_control),
        ]

        # Both latencies of the array are the same; DrainRows takes one cycle of it.
        wait = array.ws_latency - Accumulators.LEAD - 1
        m.d.comb += [
            rows.i.eq(delay(m, streamer.sums, wait, "sums")),
            rows.drain.eq(tiles.output_stationary),
            accumulators.control.eq(rows.o),
            accumulators.psum.eq(array.psum),
            self.done.eq(accumulators.done),
        ]

        events = Signal(Events)
        m.d.comb += [
            events.active.eq(streamer.busy),
            events.stall_weights.eq(tiles.busy & ~streamer.busy),
            events.activation_read.eq(self.activation.en),
            events.weight_read.eq(self.weight.en),
            events.accumulator_read.eq(rows.o.valid & ~rows.o.first),
            events.accumulator_write.eq(rows.o.valid),
        ]
        m.d.sync += self.events.eq(events)

        return m

    def _quiet(self, m):
        """Build the count of commands at work; return whether there is none, from a register."""
        in_flight = Signal(8)
        accepted = Signal()
        quiet = Signal(init=1)
        ended = delay(m, self.done, Accumulators.AHEAD, "done")
        m.d.comb += accepted.eq(self.commands.valid & self.commands.ready)
        m.d.sync += [
            in_flight.eq(in_flight + accepted - ended),
            quiet.eq(~accepted & Mux(ended, in_flight == 1, in_flight == 0)),
        ]
        return quiet
