"""Core of the accelerator with the systolic array: scratchpads, array, post-processing."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring

from ..blocks.scratchpad import Scratchpad
from ..post.engine import Post, PostEvents
from ..shell.commands import Opcode
from ..shell.config import Config
from ..shell.core import Core, Happening, event_names, let_moved
from ..shell.ledger import ArrayState
from ..shell.load_port import LoadPort
from ..shell.loader import Loader
from ..shell.mover import Mover
from ..shell.storer import Storer
from .commands import Destination
from .execute import Events as ExecuteEvents
from .execute import Execute
from .tile_layouts import line_bits

__all__ = ["SystolicCore"]


class SystolicCore(Core):
    """Loads go to activation and weight scratchpads, sums to accumulators, outputs to a scratchpad of their own.

    Parameters
    ----------
    config : SystolicConfig
        Configuration of the accelerator.
    """

    def __init__(self, config: Config):
        self._config = config
        self._loader = Loader(config)
        self._execute = Execute(config)
        self._post = Post(config, Execute.untouched_of(config))
        self._storer = Storer(config, config.output_banks)
        engines = {Opcode.LOAD: self._loader, Opcode.EXECUTE: self._execute, Opcode.POST: self._post,
                   Opcode.STORE: self._storer}
        self._mover: Any = None
        if config.has_moves:
            self._mover = engines[Opcode.MOVE] = Mover(config, config.output_banks)
        super().__init__(engines)

    @staticmethod
    def counters(config: Any) -> dict[str, int]:
        """Events of execute and post, beats loaded into each memory, beats of outputs stored, and moved."""
        return dict.fromkeys([
            *(f"execute_{name}" for name in event_names(ExecuteEvents)),
            *(f"post_{name}" for name in event_names(PostEvents)),
            "activation_write_beats", "weight_write_beats", "parameter_write_beats", "output_read_beats",
            *(["moved_beats"] if config.has_moves else []),
        ], 1)

    def connect(self, m: Any, gates: Any) -> None:
        """Add the scratchpads."""
        config, loader, execute, post = self._config, self._loader, self._execute, self._post
        wiring.connect(m, execute.accumulators, post.accumulators)
        if config.has_softmax:
            wiring.connect(m, post.shifts, execute.shifts)
        _load(m, loader, post)
        width = 8 * config.operand_bytes
        for destination, size, port in (
                (Destination.ACTIVATION, config.scratchpads.activation_bytes, execute.activation),
                (Destination.WEIGHT, config.scratchpads.weight_bytes, execute.weight)):
            name = destination.name.lower()
            lines = 1 << line_bits(config, size)
            pad = Scratchpad(config.banks, lines, width)
            load = LoadPort(config, destination, config.banks, lines, width)
            m.submodules[f"{name}_scratchpad"] = pad
            m.submodules[f"{name}_load"] = load
            _load(m, loader, load)
            if self._mover is not None:
                let_moved(m, name, destination, load, loader.load, self._mover.move)
            wiring.connect(m, load.write, pad.write)
            wiring.connect(m, port, pad.read)
        pad = Scratchpad(config.output_banks, config.output_lines, 8)
        m.submodules.output_scratchpad = pad
        wiring.connect(m, post.output, pad.write)
        wiring.connect(m, self._storer.read, pad.read)
        if self._mover is not None:
            wiring.connect(m, self._mover.reads, self._storer.reads)
            wiring.connect(m, self._mover.hold, loader.hold)
            m.d.comb += self._mover.read.eq(self._storer.moved)

    def record(self, m: Any, happening: Happening) -> tuple[list[Any], list[Any]]:
        """Word of the record: cycles in which the array gets an operand vector."""
        return [self._execute.events.active], []

    def state(self, m: Any) -> ArrayState:
        """It works on an operand vector, or waits for a tile's weights to enter, or for another tile's drain."""
        events, stationary = self._execute.events, self._execute.output_stationary
        return ArrayState(work=events.active, weights=events.stall_weights & ~stationary,
                          fill=events.stall_weights & stationary)

    def count(self, m: Any) -> tuple[list[Any], list[Any]]:
        """Events of this cycle, of the engines and on chip."""
        loader, execute, post = self._loader, self._execute, self._post
        moved = [] if self._mover is None else [self._mover.move.valid]
        on_chip = Signal(4 + len(moved))
        destination = loader.load.destination
        to_operands = [destination == each for each in (Destination.ACTIVATION, Destination.WEIGHT)]
        m.d.sync += on_chip.eq(Cat(
            *(loader.load.valid & each for each in to_operands), loader.load.valid & ~Cat(to_operands).any(),
            self._storer.data.valid, *moved))
        events = [execute.events.as_value(), post.events.as_value()]
        return [*events, on_chip], [*events, *moved]


def _load(m, loader, target):
    for name in target.load.signature.members:
        m.d.comb += getattr(target.load, name).eq(getattr(loader.load, name))
