"""Core of the accelerator: scratchpads, dot-product units, post-processing."""

from typing import Any

from amaranth.hdl import Cat, Signal
from amaranth.lib import wiring

from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.post.engine import Post, PostEvents
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.core import Core, Happening, event_names
from pearray.hdl.shell.ledger import ArrayState
from pearray.hdl.shell.load_port import LoadPort
from pearray.hdl.shell.loader import Loader
from pearray.hdl.shell.storer import Storer

from .commands import Destination
from .config import DotConfig
from .engine import DotEngine, Events

__all__ = ["DotCore"]


class DotCore(Core):
    """Loads go to two scratchpads of operands, sums to accumulators, outputs to a scratchpad of their own.

    Parameters
    ----------
    config : DotConfig
        Configuration of the accelerator.
    """

    def __init__(self, config: DotConfig):
        self._config = config
        self._loader = Loader(config)
        self._execute = DotEngine(config)
        self._post = Post(config)
        self._storer = Storer(config, config.output_banks)
        super().__init__({Opcode.LOAD: self._loader, Opcode.EXECUTE: self._execute, Opcode.POST: self._post,
                          Opcode.STORE: self._storer})

    @staticmethod
    def counters(config: Any) -> dict[str, int]:
        """Events of execute and post, beats written to each scratchpad and to parameters, beats of outputs read."""
        return dict.fromkeys([
            *(f"execute_{name}" for name in event_names(Events)),
            *(f"post_{name}" for name in event_names(PostEvents)),
            "activation_write_beats", "weight_write_beats", "parameter_write_beats", "output_read_beats",
        ], 1)

    def connect(self, m: Any, gates: Any) -> None:
        """Add the scratchpads."""
        config, execute, post = self._config, self._execute, self._post
        wiring.connect(m, execute.accumulators, post.accumulators)
        self._load(m, post)
        for destination, banks, lines, port in (
                (Destination.ACTIVATION, config.array.cols, config.activation_lines, execute.activation),
                (Destination.WEIGHT, config.pes, config.weight_lines, execute.weight)):
            name = destination.name.lower()
            bits = 8 * config.operand_bytes
            pad = Scratchpad(banks, lines, bits)
            load = LoadPort(config, destination, banks, lines, bits)
            m.submodules[f"{name}_scratchpad"] = pad
            m.submodules[f"{name}_load"] = load
            self._load(m, load)
            wiring.connect(m, load.write, pad.write)
            wiring.connect(m, port, pad.read)
        pad = Scratchpad(config.output_banks, config.output_lines, 8)
        m.submodules.output_scratchpad = pad
        wiring.connect(m, post.output, pad.write)
        wiring.connect(m, self._storer.read, pad.read)

    def _load(self, m: Any, target: Any) -> None:
        for name in target.load.signature.members:
            m.d.comb += getattr(target.load, name).eq(getattr(self._loader.load, name))

    def record(self, m: Any, happening: Happening) -> tuple[list[Any], list[Any]]:
        """Word of the record: cycles in which the units were given operands."""
        return [self._execute.events.active], []

    def state(self, m: Any) -> ArrayState:
        """It works on a line of operands, or lets sums come before it adds to them."""
        return ArrayState(work=self._execute.events.active, fill=self._execute.events.stall_sums)

    def count(self, m: Any) -> tuple[list[Any], list[Any]]:
        """Events of this cycle, of the engines and on chip."""
        loader = self._loader
        on_chip = Signal(4)
        to_operands = [loader.load.destination == each for each in (Destination.ACTIVATION, Destination.WEIGHT)]
        m.d.sync += on_chip.eq(Cat(
            *(loader.load.valid & each for each in to_operands), loader.load.valid & ~Cat(to_operands).any(),
            self._storer.data.valid))
        events = [self._execute.events.as_value(), self._post.events.as_value()]
        return [*events, on_chip], events
