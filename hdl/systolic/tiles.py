"""Tiles of an execute command: what the feeder loads and the streamer then streams against."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .fold import FoldWalk
from .slots import (
    CONTINUATION,
    PREPARATION,
    continues_diagonally,
    continuing_slots,
    continuing_wait,
    drain_cycles,
    follows_diagonally,
    tile_slots,
    toeplitz_slots,
)
from .tile_layouts import line_bits, tile_layout, weight_vector_layout
from .tile_plan import TilePlan
from .walker import COUNT_BITS, AddressStart

__all__ = ["TileWalker"]


class _Walk:
    """Signals that the parts of the walker share: those of the command, and of the tile at hand."""

    def __init__(self, config: Config):
        self.command = Signal(config.commands.execute, reset_less=True)
        self.stationary = Signal()
        #: Bit i is high i + 1 cycles after the command was accepted.
        self.prepare = Signal(3)
        #: The first tile of the command has begun.
        self.begun = Signal()
        #: Tiles are left to begin; so they are, and a tile is offered; the first one begins.
        self.more = Signal()
        self.offered_with_more = Signal()
        self.begins = Signal()
        #: The next tile begins in the cycle after this one; there is one before it in the command.
        self.go = Signal()
        self.step = Signal()
        #: The tile is in its slots; in the first one.
        self.loading = Signal()
        self.first_slot = Signal()
        #: The tile has the last elements, the last columns, both.
        self.last_k = Signal()
        self.last_n = Signal()
        #: A tile with the last elements has begun.
        self.ends_k = Signal()
        self.finish = Signal()
        #: The tile after this one has the last columns.
        self.last_n_next = Signal()
        #: Number of elements; they are the first ones.
        self.elements = Signal(range(config.array.rows + 1), reset_less=True)
        self.first_k = Signal(reset_less=True)
        #: Weights are passed on diagonally: of tiles behind the first, of the first, of the next one, and of this one.
        self.follows = Signal() if config.has_toeplitz else Const(0)
        self.continues = Signal() if config.has_toeplitz else Const(0)
        self.passes = Mux(self.begun, self.follows, self.continues)
        self.passed = Signal(reset_less=True) if config.has_toeplitz else Const(0)
        #: Where the tile's columns begin.
        self.weight_base = Signal(ADDRESS_BITS, reset_less=True)
        self.activation_base = Signal(ADDRESS_BITS, reset_less=True)
        self.row_base = Signal(range(config.accumulators.depth), reset_less=True)


class TileWalker(wiring.Component):
    """Cuts commands into tiles, in the order in which the array contracts them.

    A command takes :attr:`PREPARATION` cycles to prepare. Each of its tiles then takes :func:`tile_slots` cycles,
    in which one weight vector a cycle is asked for and, in weight-stationary mode, the addresses
    of the tile's activations are found, one row a cycle. The tile is offered in the last of them,
    and the next begins in the cycle after it was taken, that is, together with its first
    activation vector. When the last tile is taken, the next command is accepted. Tiles whose weights are passed on
    diagonally (:func:`follows_diagonally`) take :func:`toeplitz_slots`, the first of a command :func:`continuing_slots`
    after a shorter preparation: the streamer asks for their weights, and displacements are those of the tile before.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    commands : In(stream.Signature(config.commands.execute))
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
    PREPARATION = PREPARATION
    #: The same for one whose first tile gets weights passed on diagonally.
    CONTINUATION = CONTINUATION

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(config.commands.execute)),
            "quiet": In(1),
            "output_stationary": Out(1),
            "busy": Out(1),
            "vector": Out(weight_vector_layout(config)),
            "tile": Out(stream.Signature(tile_layout(config))),
        })

    def elaborate(self, platform):
        """Build the control, then the walks."""
        m = Module()

        walk = _Walk(self._config)
        self._accept(m, walk)
        self._give_slots(m, walk)
        self._choose_next(m, walk)
        planned = self._plan_elements(m, walk)
        in_element, in_column, in_row = self._count_in_slots(m, walk, planned)
        self._ask_for_weights(m, walk, in_element, in_column)
        start, displacement = self._find_activations(m, walk, in_element, in_row)
        self._offer(m, walk, start, displacement)

        return m

    def _accept(self, m, walk):
        """Take the next command when the one before has been cut; when all are done, if its mode is another."""
        accepted = Signal()
        m.d.comb += [
            self.output_stationary.eq(walk.stationary),
            self.commands.ready.eq(~self.busy & (self.quiet
                                                 | (self.commands.p.output_stationary == walk.stationary))),
            accepted.eq(self.commands.valid & self.commands.ready),
        ]
        m.d.sync += walk.prepare.eq(Cat(accepted, walk.prepare))
        continues = self._continues(m, walk) if self._config.has_toeplitz else None
        with m.If(accepted):
            m.d.sync += self.busy.eq(1)
            if continues is not None:
                m.d.sync += walk.continues.eq(~self.quiet & continues)
            m.d.sync += [
                walk.command.eq(self.commands.payload),
                walk.stationary.eq(self.commands.p.output_stationary),
            ]

    def _continues(self, m, walk):
        """Return whether the command offered has been held up long enough to go on with the tiles of the one before.

        Both are compared in the cycle before, in which they were the same.
        """
        most = continuing_wait(self._config)
        waited = Signal(range(most + 1))
        same, same_bank = Signal(), Signal()
        with m.If(~self.commands.valid | self.commands.ready):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != most):
            m.d.sync += waited.eq(waited + 1)
        m.d.sync += [
            same.eq(continues_diagonally(self._config, self.commands.p, walk.command)),
            same_bank.eq(self.commands.p.bank == walk.command.bank),
        ]
        return same & ((waited == most) | (waited != 0) & same_bank)

    def _give_slots(self, m, walk):
        """Give each tile its slots, hold it until it is taken, and begin the next one then."""
        slots_top = tile_slots(self._config, left=False)
        slots_left = tile_slots(self._config, left=True)
        slots_passed = Mux(walk.begun, toeplitz_slots(self._config) - 2, continuing_slots(self._config) - 2)
        most = max(slots_top, slots_left, continuing_slots(self._config) if self._config.has_toeplitz else 0)
        slot = Signal(signed(ceil_log2(most) + 1), reset_less=True)
        taken = Signal()
        offered_next = Signal()
        # Much depends on `go`, and it depends on the streamer: what else it does comes from few registers. Nothing is
        # offered when the first tile of a command begins; all others begin when the one before is taken.
        m.d.comb += [
            walk.finish.eq(walk.last_k & walk.last_n),
            taken.eq(self.tile.valid & self.tile.ready),
            walk.go.eq(walk.begins | walk.offered_with_more & self.tile.ready),
            walk.step.eq(walk.go & walk.begun),
            offered_next.eq(walk.loading & (slot == 0) | self.tile.valid & ~self.tile.ready),
        ]
        m.d.sync += [
            walk.first_slot.eq(walk.go),
            walk.loading.eq(walk.go | walk.loading & ~slot[-1]),
            self.tile.valid.eq(offered_next),
            walk.offered_with_more.eq(offered_next & walk.more),
            slot.eq(slot - 1),
        ]
        with m.If(walk.go):
            m.d.sync += slot.eq(self._unless_passed(walk, Mux(walk.command.left, slots_left - 2, slots_top - 2),
                                                    slots_passed))
        if self._config.has_toeplitz:
            m.d.sync += walk.follows.eq(follows_diagonally(self._config, walk.command))
            with m.If(walk.go):
                m.d.sync += walk.passed.eq(walk.passes)
        # What continues has the plan of the command before.
        prepared = walk.prepare[-1]
        if self._config.has_toeplitz:
            prepared = Mux(walk.continues, walk.prepare[self.CONTINUATION - 3], prepared)
        m.d.sync += walk.begins.eq(prepared)
        with m.If(prepared):
            m.d.sync += [walk.begun.eq(0), walk.ends_k.eq(0), walk.more.eq(1)]
        with m.Elif(walk.go):
            m.d.sync += walk.begun.eq(1)
        with m.If(taken & walk.finish):
            m.d.sync += self.busy.eq(0)

    def _unless_passed(self, walk, value, otherwise):
        """Return a value, or another for a tile whose weights are passed on diagonally."""
        return Mux(walk.passes, otherwise, value) if self._config.has_toeplitz else value

    def _choose_next(self, m, walk):
        """Go on to the next columns after the last elements."""
        command = walk.command
        n_left = Signal(signed(COUNT_BITS), reset_less=True)
        n_fewer = Signal.like(n_left)
        m.d.comb += [
            walk.last_n.eq(n_left[-1]),
            n_fewer.eq(n_left - 1),
            walk.last_n_next.eq(Mux(walk.ends_k, n_fewer[-1], n_left[-1])),
        ]
        # Written so that `go`, which comes late, decides last.
        with m.If(walk.prepare[0] | walk.go & walk.ends_k):
            with m.If(walk.prepare[0]):
                m.d.sync += [
                    n_left.eq(command.n_count - 2),
                    walk.weight_base.eq(command.w_base),
                    walk.activation_base.eq(command.a_base),
                    walk.row_base.eq(command.acc_base),
                ]
            with m.Else():
                m.d.sync += [
                    n_left.eq(n_fewer),
                    walk.weight_base.eq(walk.weight_base + command.w_nstep),
                    walk.activation_base.eq(walk.activation_base + command.a_nstep),
                    walk.row_base.eq(walk.row_base + command.acc_nstep),
                ]

    def _plan_elements(self, m, walk):
        """Have the tile after this one planned; return the number of its elements."""
        m.submodules.plan = plan = TilePlan(self._config)
        m.d.comb += [
            plan.command.eq(walk.command),
            plan.restart.eq(walk.prepare[0] | walk.first_slot & walk.last_k),
            plan.advance.eq(walk.first_slot & ~walk.last_k),
        ]
        with m.If(walk.go):
            m.d.sync += [
                walk.elements.eq(plan.elements),
                walk.last_k.eq(plan.last),
                walk.ends_k.eq(plan.last),
                walk.more.eq(~(plan.last & walk.last_n_next)),
            ]
        with m.If(walk.prepare[0] | walk.go & walk.ends_k):
            m.d.sync += walk.first_k.eq(1)
        with m.Elif(walk.step):
            m.d.sync += walk.first_k.eq(0)
        return plan.elements

    def _count_in_slots(self, m, walk, planned):
        """Return whether the slot is one of the tile's elements, of its columns, and of its displacements."""
        rows, cols = self._config.array.rows, self._config.array.cols
        # An output-stationary tile has no weights of its own, and displacements of zero.
        return (self._countdown(m, walk, planned - 1, rows, "element") & ~walk.stationary,
                self._countdown(m, walk, cols - 1, cols, "column") & ~walk.stationary,
                self._countdown(m, walk, rows - 2, rows, "row"))

    def _countdown(self, m, walk, start, most, name):
        """Count what is left minus one, from the first slot on; return whether some is left."""
        left = Signal(signed(ceil_log2(most + 1) + 1), name=f"{name}_left", reset_less=True)
        running = Signal(name=f"{name}_running")
        m.d.comb += running.eq(walk.loading & ~left[-1])
        with m.If(walk.go):
            m.d.sync += left.eq(self._unless_passed(walk, start, -1))
        with m.Elif(running):
            m.d.sync += left.eq(left - 1)
        return running

    def _ask_for_weights(self, m, walk, in_element, in_column):
        """Ask for a weight vector in each slot that has one. A tile from the top ends where the next one begins."""
        command, last_k = walk.command, walk.last_k
        offset = Signal(ADDRESS_BITS, reset_less=True)
        tile_offset = Signal(ADDRESS_BITS, reset_less=True)
        next_offset = Signal(ADDRESS_BITS, reset_less=True)
        with m.If(walk.first_slot):
            m.d.sync += tile_offset.eq(offset)
        m.d.sync += next_offset.eq(Mux(last_k, 0, tile_offset + Mux(command.left, walk.elements, command.w_pitch)))
        with m.If(walk.prepare[0]):
            m.d.sync += offset.eq(0)
        with m.Elif(walk.go & (walk.ends_k | walk.begun & (command.left | command.diagonal))):
            m.d.sync += offset.eq(next_offset)
        with m.Elif(Mux(command.left, in_column, in_element & ~command.diagonal)):
            m.d.sync += offset.eq(offset + command.w_pitch)
        valid = Signal(name="vector_valid")
        vector = Signal.like(self.vector, name="vector_asked", reset_less=True)
        m.d.comb += [self.vector.eq(vector), self.vector.valid.eq(valid)]
        m.d.sync += [
            valid.eq(Mux(command.left, in_column, in_element)),
            vector.first.eq(walk.first_slot & ~walk.stationary),
            vector.left.eq(command.left),
            vector.diagonal.eq(command.diagonal),
            vector.unsigned.eq(command.w_unsigned),
            vector.zero_point.eq(command.w_zero_point),
            vector.elements.eq(walk.elements),
            vector.address.eq(walk.weight_base + offset),
        ]

    def _find_activations(self, m, walk, in_element, in_row):
        """Return where the walk over the tile's pixels starts, and the displacements of its rows."""
        m.submodules.fold = fold = FoldWalk(self._config, line_bits(self._config,
                                                                    self._config.scratchpads.activation_bytes))
        m.d.comb += [
            fold.command.eq(walk.command),
            fold.restart.eq(walk.prepare[1] | walk.go & walk.ends_k),
            fold.tile.eq(walk.go),
            fold.step.eq(in_element),
            fold.shift.eq(in_row),
        ]
        start = Signal(AddressStart, reset_less=True)
        with m.If(walk.first_slot):
            m.d.sync += start.now.eq(walk.activation_base + fold.offset)
        m.d.sync += [
            start.row.eq(start.now + walk.command.m_step1),
            start.plane.eq(start.now + walk.command.m_step2),
        ]
        return start, fold.displacement

    def _offer(self, m, walk, start, displacement):
        """Offer the tile, with the weights and rows of output-stationary ones, and what all tiles have in common."""
        config, command, tile = self._config, walk.command, self.tile.p
        weight = Signal(AddressStart, reset_less=True)
        row = Signal.like(walk.row_base)
        counts = Signal.like(tile.counts, reset_less=True)
        long = Signal()
        m.d.sync += [
            weight.now.eq(walk.weight_base),
            weight.row.eq(walk.weight_base + command.jump1),
            weight.plane.eq(walk.weight_base + command.jump2),
            row.eq(walk.row_base + Mux(walk.stationary, config.array.rows - 1, 0)),
            long.eq(~walk.stationary),
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
            tile.displacement.eq(displacement),
            tile.a_unsigned.eq(command.a_unsigned),
            tile.a_zero_point.eq(command.a_zero_point),
            tile.row.eq(row),
            tile.first.eq(command.first & walk.first_k),
            tile.maximum.eq(command.maximum),
            tile.bank.eq(command.bank),
            tile.last.eq(walk.finish),
            tile.output_stationary.eq(walk.stationary),
            tile.long.eq(long),
            tile.weight.eq(weight),
            tile.weight_steps.step0.eq(command.w_pitch),
            tile.weight_steps.step1.eq(command.jump1),
            tile.weight_steps.step2.eq(command.jump2),
            tile.w_unsigned.eq(command.w_unsigned),
            tile.w_zero_point.eq(command.w_zero_point),
        ]
        if config.has_softmax:
            m.d.comb += [
                tile.rescale.eq(command.rescale),
                tile.low_part.eq(command.low_part),
                # Once for each of the rows, and not where they are overwritten.
                tile.shifts_old.eq(walk.first_k & ~command.low_part & ~command.first),
                tile.shift_base.eq(command.shift_base),
            ]
        if config.has_toeplitz:
            m.d.comb += tile.passed.eq(walk.passed)
