"""Tiles of an execute command: what the feeder loads and the streamer then streams against."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .accumulator import Accumulators
from .array import SystolicArray
from .commands import ExecuteBody
from .fold import FoldWalk
from .walker import COUNT_BITS, AddressStart, AddressSteps

__all__ = ["TilePlan", "TileWalker", "drain_cycles", "line_bits", "tile_layout", "tile_slots", "weight_vector_layout"]


def line_bits(config: Config, scratchpad_bytes: int) -> int:
    """Bits of a line number of a bank of the activation or weight scratchpad."""
    return ceil_log2(scratchpad_bytes // (config.banks * config.operand_bytes))


def tile_slots(config: Config, *, left: bool) -> int:
    """Cycles in which a tile's weights are loaded: the least distance between two tiles.

    Rows of accumulators may not come again sooner, and the next tile must have been planned.
    """
    vectors = max(config.array.rows, config.array.cols) if left else config.array.rows
    return max(vectors, Accumulators.period_of(config.arithmetic), TilePlan.LATENCY + 1)


def drain_cycles(config: Config) -> int:
    """Least number of cycles from an output-stationary tile's drain to the next one's."""
    return max(SystolicArray.drain_interval_of(config.array.rows, config.arithmetic),
               Accumulators.period_of(config.arithmetic))


def tile_layout(config: Config) -> data.StructLayout:
    """Layout of what the streamer must know of a tile."""
    return data.StructLayout({
        # Turns of each loop over pixels, minus two.
        "counts": data.ArrayLayout(signed(COUNT_BITS), 3),
        "activation": AddressStart,
        "activation_steps": AddressSteps,
        # Lines by which the element of a row lies further than the number of the row says. That of
        # row 0 is zero.
        "displacement": data.ArrayLayout(line_bits(config, config.scratchpads.activation_bytes),
                                         config.array.rows),
        "a_unsigned": 1,
        "a_zero_point": signed(9),
        # First row of accumulators; in output-stationary mode that of the array's last row.
        "row": range(config.accumulators.depth),
        "first": 1,
        "maximum": 1,
        "bank": 1,
        # Last tile of the command.
        "last": 1,
        "output_stationary": 1,
        # The tile is weight-stationary, or long enough to drain all sums of the one before.
        "long": 1,
        # Output-stationary: the weights, which then walk with the activations.
        "weight": AddressStart,
        "weight_steps": AddressSteps,
        "w_unsigned": 1,
        "w_zero_point": signed(9),
    })


def weight_vector_layout(config: Config) -> data.StructLayout:
    """Layout of a weight vector to be read."""
    return data.StructLayout({
        "valid": 1,
        # First vector of a tile; each vector in output-stationary mode.
        "first": 1,
        "left": 1,
        "diagonal": 1,
        "unsigned": 1,
        "zero_point": signed(9),
        # Elements of the tile, 1 ... rows.
        "elements": range(config.array.rows + 1),
        # Of its first operand.
        "address": ADDRESS_BITS,
    })


class TilePlan(wiring.Component):
    """Number of elements of the next tile.

    Members
    -------
    command : In(ExecuteBody)
        Command; uses ``k_total``, ``run``, ``fold`` and ``output_stationary``.
    restart : In(1)
        Plan the first tile.
    advance : In(1)
        Plan the tile after the one that was planned last. :attr:`LATENCY` cycles after either, the plan
        stands; until a cycle before, the one before it.
    elements : Out(range(rows + 1))
        Elements of the planned tile.
    last : Out(1)
        No element is left after it.
    """

    #: Cycles from ``restart`` or ``advance`` to the plan.
    LATENCY = 3

    def __init__(self, rows: int):
        self._rows = rows
        super().__init__({
            "command": In(ExecuteBody),
            "restart": In(1),
            "advance": In(1),
            "elements": Out(range(rows + 1)),
            "last": Out(1),
        })

    def elaborate(self, platform):
        """Build a step of what is left, a comparison, and a choice, in a cycle each."""
        m = Module()

        k_left = Signal(16, reset_less=True)
        run_left = Signal(16, reset_less=True)
        run_ends = Signal(reset_less=True)
        with m.If(self.restart):
            m.d.sync += [k_left.eq(self.command.k_total), run_left.eq(self.command.run)]
        with m.Elif(self.advance):
            m.d.sync += [
                k_left.eq(k_left - self.elements),
                run_left.eq(Mux(run_ends, self.command.run, run_left - self.elements)),
            ]

        compare = Signal()
        choose = Signal()
        k_short = Signal(reset_less=True)
        run_short = Signal(reset_less=True)
        k_first = Signal(reset_less=True)
        m.d.sync += [
            compare.eq(self.restart | self.advance),
            choose.eq(compare),
            k_short.eq(k_left <= self._rows),
            run_short.eq(~self.command.fold & (run_left <= self._rows)),
            # Matters only where both are short.
            k_first.eq(k_left[:self.elements.shape().width] <= run_left[:self.elements.shape().width]),
        ]
        ends = Signal()
        m.d.comb += ends.eq(k_short & (~run_short | k_first))
        with m.If(choose):
            m.d.sync += [
                self.last.eq(ends | self.command.output_stationary),
                run_ends.eq(run_short),
                self.elements.eq(Mux(ends, k_left, Mux(run_short, run_left, self._rows))),
            ]

        return m


class TileWalker(wiring.Component):
    """Cuts commands into tiles, in the order in which the array contracts them.

    A command takes :attr:`PREPARATION` cycles to prepare. Each of its tiles then takes :func:`tile_slots` cycles,
    in which one weight vector a cycle is asked for and, in weight-stationary mode, the addresses
    of the tile's activations are found, one row a cycle. The tile is offered in the last of them,
    and the next begins in the cycle after it was taken, that is, together with its first
    activation vector. When the last tile is taken, the next command is accepted.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    commands : In(stream.Signature(ExecuteBody))
        Commands.
    quiet : In(1)
        No command is on its way between ``tile`` and the accumulators. Only then is a command
        accepted whose mode (output- or weight-stationary) is another than that of the one before.
    output_stationary : Out(1)
        Mode of the command accepted last.
    busy : Out(1)
        A command is being cut into tiles.
    vector : Out(weight_vector_layout(config))
        Weight vector to read, one cycle after its slot. None in output-stationary mode, where
        weights walk with the activations.
    tile : Out(stream.Signature(tile_layout(config)))
        Tile whose weights are loaded, up to the latencies on both ways into the array.
    """

    #: Cycles from the acceptance of a command to the first slot of its first tile.
    PREPARATION = TilePlan.LATENCY + 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(ExecuteBody)),
            "quiet": In(1),
            "output_stationary": Out(1),
            "busy": Out(1),
            "vector": Out(weight_vector_layout(config)),
            "tile": Out(stream.Signature(tile_layout(config))),
        })

    def elaborate(self, platform):
        """Build the control, then the walks."""
        m = Module()

        config = self._config
        rows, cols = config.array.rows, config.array.cols
        slots_top = tile_slots(config, left=False)
        slots_left = tile_slots(config, left=True)
        tile = self.tile.p

        command = Signal(ExecuteBody, reset_less=True)
        stationary = Signal()
        accepted = Signal()
        prepare = Signal(3)
        cutting = Signal()
        m.d.comb += [
            self.output_stationary.eq(stationary),
            self.busy.eq(cutting | prepare.any()),
            self.commands.ready.eq(~self.busy & (self.quiet
                                                 | (self.commands.p.output_stationary == stationary))),
            accepted.eq(self.commands.valid & self.commands.ready),
        ]
        m.d.sync += prepare.eq(Cat(accepted, prepare))
        with m.If(accepted):
            m.d.sync += [
                command.eq(self.commands.payload),
                stationary.eq(self.commands.p.output_stationary),
            ]

        # The tile at hand: `loading` in its slots, then `held` until it is taken.
        begun = Signal()
        last_k = Signal()
        last_n = Signal()
        finish = Signal()
        slot = Signal(signed(ceil_log2(max(slots_top, slots_left)) + 1), reset_less=True)
        loading = Signal()
        held = Signal()
        first_slot = Signal()
        more = Signal()
        go = Signal()
        step = Signal()
        taken = Signal()
        m.d.comb += [
            finish.eq(last_k & last_n),
            self.tile.valid.eq(loading & slot[-1] | held),
            taken.eq(self.tile.valid & self.tile.ready),
            more.eq(cutting & (~begun | ~finish)),
            go.eq(more & (taken | ~loading & ~held)),
            step.eq(go & begun),
        ]
        m.d.sync += [
            first_slot.eq(go),
            loading.eq(go | loading & ~slot[-1]),
            held.eq(self.tile.valid & ~self.tile.ready),
            slot.eq(slot - 1),
        ]
        with m.If(go):
            m.d.sync += slot.eq(Mux(command.left, slots_left - 2, slots_top - 2))
        with m.If(prepare[-1]):
            m.d.sync += [cutting.eq(1), begun.eq(0)]
        with m.Elif(go):
            m.d.sync += begun.eq(1)
        with m.Elif(taken & finish):
            m.d.sync += cutting.eq(0)

        # From this tile to the next: to the next elements (and perhaps back to the first tile of
        # columns), or to the next tile of columns with the same or the first elements.
        advance = Signal()
        restart = Signal()
        repeat = Signal()
        moves = Signal()
        m.d.comb += [
            advance.eq(Mux(command.k_outer, last_n, ~last_k)),
            restart.eq(~command.k_outer & last_k),
            repeat.eq(command.k_outer & ~last_n),
            moves.eq(begun & (command.k_outer | last_k)),
        ]

        n_left = Signal(signed(COUNT_BITS), reset_less=True)
        weight_base = Signal(ADDRESS_BITS, reset_less=True)
        activation_base = Signal(ADDRESS_BITS, reset_less=True)
        row_base = Signal(range(config.accumulators.depth), reset_less=True)
        m.d.comb += last_n.eq(n_left[-1])
        # Written so that `go`, which comes late, decides last.
        with m.If(prepare[0] | go & moves):
            with m.If(prepare[0] | command.k_outer & last_n):
                m.d.sync += [
                    n_left.eq(command.n_count - 2),
                    weight_base.eq(command.w_base),
                    activation_base.eq(command.a_base),
                    row_base.eq(command.acc_base),
                ]
            with m.Else():
                m.d.sync += [
                    n_left.eq(n_left - 1),
                    weight_base.eq(weight_base + command.w_nstep),
                    activation_base.eq(activation_base + command.a_nstep),
                    row_base.eq(row_base + command.acc_nstep),
                ]

        m.submodules.plan = plan = TilePlan(rows)
        first_k = Signal(reset_less=True)
        again = Signal(reset_less=True)
        elements = Signal.like(plan.elements, reset_less=True)
        m.d.comb += [
            plan.command.eq(command),
            plan.restart.eq(prepare[0] | first_slot & restart),
            plan.advance.eq(first_slot & advance),
        ]
        with m.If(go):
            m.d.sync += [elements.eq(plan.elements), last_k.eq(plan.last), again.eq(begun & repeat)]
        with m.If(prepare[0] | step & restart):
            m.d.sync += first_k.eq(1)
        with m.Elif(step & advance):
            m.d.sync += first_k.eq(0)

        # Slots of elements, of columns and of displacements: what is left minus one.
        def countdown(start, count, name):
            left = Signal(signed(ceil_log2(count + 1) + 1), name=f"{name}_left", reset_less=True)
            running = Signal(name=f"{name}_running")
            m.d.comb += running.eq(loading & ~left[-1])
            with m.If(go):
                m.d.sync += left.eq(start)
            with m.Elif(running):
                m.d.sync += left.eq(left - 1)
            return running

        # An output-stationary tile has no weights of its own, and displacements of zero.
        in_element = countdown(plan.elements - 1, rows, "element") & ~stationary
        in_column = countdown(cols - 1, cols, "column") & ~stationary
        in_row = countdown(rows - 2, rows, "row")

        # Weight vectors. A tile from the top ends where the next one begins.
        offset = Signal(ADDRESS_BITS, reset_less=True)
        tile_offset = Signal(ADDRESS_BITS, reset_less=True)
        next_offset = Signal(ADDRESS_BITS, reset_less=True)
        with m.If(first_slot):
            m.d.sync += tile_offset.eq(offset)
        m.d.sync += next_offset.eq(Mux(restart, 0, tile_offset)
                                   + Mux(advance, Mux(command.left, elements, command.w_pitch), 0))
        with m.If(prepare[0]):
            m.d.sync += offset.eq(0)
        with m.Elif(step & ~(advance & ~command.left & ~command.diagonal)):
            m.d.sync += offset.eq(next_offset)
        with m.Elif(Mux(command.left, in_column, in_element & ~command.diagonal)):
            m.d.sync += offset.eq(offset + command.w_pitch)
        vector = self.vector
        m.d.sync += [
            vector.valid.eq(Mux(command.left, in_column, in_element)),
            vector.first.eq(first_slot & ~stationary),
            vector.left.eq(command.left),
            vector.diagonal.eq(command.diagonal),
            vector.unsigned.eq(command.w_unsigned),
            vector.zero_point.eq(command.w_zero_point),
            vector.elements.eq(elements),
            vector.address.eq(weight_base + offset),
        ]

        # Activations.
        m.submodules.fold = fold = FoldWalk(config, line_bits(config, config.scratchpads.activation_bytes))
        m.d.comb += [
            fold.command.eq(command),
            fold.restart.eq(prepare[1] | step & restart),
            fold.tile.eq(go),
            fold.step.eq(in_element & ~again),
            fold.shift.eq(in_row & ~again),
        ]
        tile_fold = Signal(ADDRESS_BITS, reset_less=True)
        start = Signal(AddressStart, reset_less=True)
        with m.If(first_slot):
            m.d.sync += start.now.eq(activation_base + Mux(again, tile_fold, fold.offset))
            with m.If(~again):
                m.d.sync += tile_fold.eq(fold.offset)
        m.d.sync += [
            start.row.eq(start.now + command.m_step1),
            start.plane.eq(start.now + command.m_step2),
        ]

        # Weights and rows of output-stationary tiles; numbers that are the same in all tiles.
        weight = Signal(AddressStart, reset_less=True)
        row = Signal.like(row_base)
        counts = Signal.like(tile.counts, reset_less=True)
        long = Signal()
        m.d.sync += [
            weight.now.eq(weight_base),
            weight.row.eq(weight_base + command.jump1),
            weight.plane.eq(weight_base + command.jump2),
            row.eq(row_base + Mux(stationary, rows - 1, 0)),
            long.eq(~stationary),
        ]
        for loop in range(3):
            count = command[f"m_count{loop}"]
            m.d.sync += counts[loop].eq(count - 2)
            with m.If(count >= -(-drain_cycles(config) // config.arithmetic.add_latency)):
                m.d.sync += long.eq(1)

        m.d.comb += [
            tile.counts.eq(counts),
            tile.activation.eq(start),
            tile.activation_steps.step0.eq(command.m_step0),
            tile.activation_steps.step1.eq(command.m_step1),
            tile.activation_steps.step2.eq(command.m_step2),
            tile.displacement.eq(fold.displacement),
            tile.a_unsigned.eq(command.a_unsigned),
            tile.a_zero_point.eq(command.a_zero_point),
            tile.row.eq(row),
            tile.first.eq(command.first & first_k),
            tile.maximum.eq(command.maximum),
            tile.bank.eq(command.bank),
            tile.last.eq(finish),
            tile.output_stationary.eq(stationary),
            tile.long.eq(long),
            tile.weight.eq(weight),
            tile.weight_steps.step0.eq(command.w_pitch),
            tile.weight_steps.step1.eq(command.jump1),
            tile.weight_steps.step2.eq(command.jump2),
            tile.w_unsigned.eq(command.w_unsigned),
            tile.w_zero_point.eq(command.w_zero_point),
        ]

        return m
