"""What the accelerator's shell and the core of a kind of array know of each other."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data

from ..blocks import rules
from .commands import Opcode
from .ledger import ArrayState

__all__ = ["Core", "Happening", "event_names", "let_moved"]


@dataclass(frozen=True, kw_only=True)
class Happening:
    """What the shell knows of a cycle.

    Parameters
    ----------
    start : Value
        A run starts: counts begin at zero.
    fetched : Value
        A command has been fetched.
    take, done : Value
        A bit for each queue: its oldest command starts; one of its commands completes.
    """

    start: Any
    fetched: Any
    take: Any
    done: Any


class Core:
    """Engines of the queues and their memories, all of which stand in the accelerator's module.

    A core is no component: it adds parts to the module of the shell (``hdl/accelerator.py``), which holds what
    all kinds of array have in common.

    Parameters
    ----------
    engines : dict of Opcode to Component
        Engine of each queue, in the queues' order; a queue whose commands are refused has none. Each takes
        ``commands``, and pulses ``done``. The loader has ``request``, ``response`` and ``progress``, the storer
        ``request``, ``data``, ``sent``, ``marked`` and ``recorded``.
    """

    def __init__(self, engines: dict[Opcode, Any]):
        self.engines = engines

    @staticmethod
    def counters(config: Any) -> dict[str, int]:
        """Counters of the core, in the order of their registers, and the bits of what each counts in a cycle."""
        raise NotImplementedError

    def connect(self, m: Any, gates: Any) -> None:
        """Add the memories, and connect the engines to them and to what the gates want to know besides ``done``."""
        raise NotImplementedError

    def record(self, m: Any, happening: Happening) -> tuple[list[Any], list[Any]]:
        """Return words of the profile record behind its first three: amounts to total since start, and the rest."""
        raise NotImplementedError

    def state(self, m: Any) -> ArrayState:
        """Return what the array did in the cycle before, or what it waited for itself: its events, registered.

        It works in as many cycles as the compiler's ``ahead`` counts, and never in fewer than the operator's products
        would take on all PEs.
        """
        raise NotImplementedError

    def count(self, m: Any) -> tuple[list[Any], list[Any]]:
        """Return what :meth:`counters` count in this cycle, and what says that something moved."""
        raise NotImplementedError


def event_names(struct: Any) -> list[str]:
    """Names of the fields of a structure of events."""
    return [str(name) for name, _ in data.Layout.cast(struct)]


def let_moved(m: Module, name: str, destination: Any, target: Any, loaded: Any, moved: Any) -> None:
    """Let moved beats into a memory to which the loader's go; the loader keeps its own away.

    Parameters
    ----------
    m : Module
        Module of the core.
    name : str
        Name of the memory.
    destination : enum member
        Which memory of those that LOADs and MOVEs write.
    target : Component
        Port of the memory, with ``load``.
    loaded, moved : LoadWrite
        What the loader and the mover write.
    """
    here = Signal(name=f"{name}_moved")
    m.d.comb += here.eq(moved.valid & (moved.destination == destination))
    with m.If(here):
        for member in target.load.signature.members:
            m.d.comb += getattr(target.load, member).eq(getattr(moved, member))
    rules.never(m, f"{name}_write_port", here & loaded.valid & (loaded.destination == destination),
                "a loaded beat was lost under a moved one")
