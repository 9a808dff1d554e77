"""Kinds of array: what each brings to the hardware, and how installed ones are found.

A kind is a plug-in. A package names it in the table of entry points ``pearray.array_hardware`` of its
``pyproject.toml``, under the value of ``array.kind``; pearray's own kinds stand in the same table.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from amaranth.lib import wiring

from .errors import PearrayError
from .shell.config import Config
from .shell.core import Core

__all__ = ["GROUP", "ArrayHardware", "kind", "kinds", "load_kind", "origin_of"]

Part = TypeVar("Part")

#: Group of entry points.
GROUP = "pearray.array_hardware"


def _nothing(config: Any, body: Mapping[str, Any]) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class ArrayHardware:
    """Hardware of a kind of array.

    What the compiler must know as well stands in the class of its configurations: its name and number, the tables of
    its files, and the commands of its programs (:class:`~pearray.hdl.shell.config.Config`).

    Parameters
    ----------
    config : type of Config
        Its configurations.
    core : type of Core
        Its array, with the memories around it and the engines of the queues; made of a configuration.
    pe, array : callable
        Make of a configuration one processing element, and the array alone.
    execute_cycles : callable
        Cycles that an EXECUTE takes at most, of a configuration and the fields of its body. A generous bound: a run
        counts as stuck after some multiple of all these.
    transfer_cycles : callable
        The same for a LOAD or a STORE, besides what its rows take on the memory bus.
    row_module : str
        Name of a Verilog module whose instances are rows of equal processing elements with paths through them; the
        native engine makes loops of them (:mod:`pearray.sim.replicas`). Empty: there is none.
    """

    config: type[Config]
    core: type[Core]
    pe: Callable[[Any], wiring.Component]
    array: Callable[[Any], wiring.Component]
    execute_cycles: Callable[[Any, Mapping[str, Any]], int]
    transfer_cycles: Callable[[Any, Mapping[str, Any]], float] = _nothing
    row_module: str = ""

    @property
    def name(self) -> str:
        """Value of ``array.kind``."""
        return self.config.KIND

    @property
    def package(self) -> str:
        """Name of the package that brings it."""
        return self.core.__module__.partition(".")[0]

    @property
    def sources(self) -> tuple[Path, ...]:
        """Folders and files outside of ``hdl`` that decide its Verilog: those of the plug-in's package."""
        if self.package == __name__.partition(".")[0]:
            return ()
        module = sys.modules[self.package]
        places = getattr(module, "__path__", None) or [module.__file__]
        return tuple(Path(str(place)) for place in places)


@cache
def kinds() -> dict[str, ArrayHardware]:
    """Installed kinds of array by name, in the order of their numbers.

    Raises
    ------
    PearrayError
        If there are none, if a plug-in cannot be loaded or is none, or if two have the same name or number.
    """
    found: dict[str, ArrayHardware] = {}
    origins: dict[str | int, str] = {}
    for entry in entry_points(group=GROUP):
        hardware, origin = load_kind(entry, ArrayHardware), origin_of(entry)
        if hardware.name != entry.name:
            raise PearrayError(f"kind of array {entry.name!r} ({entry.value}) of {origin} must be named as its "
                               f"configurations' KIND = {hardware.name!r}")
        for what, value in (("name", hardware.name), ("number", hardware.config.NUMBER)):
            if value in origins:
                raise PearrayError(f"{what} of a kind of array must be its own, but {origins[value]} and {origin} both "
                                   f"have {value!r}: uninstall one of them")
            origins[value] = origin
        found[hardware.name] = hardware
    if not found:
        raise PearrayError("there are no kinds of array: install pearray again, so that its entry points are known")
    return dict(sorted(found.items(), key=lambda item: item[1].config.NUMBER))


def origin_of(entry: EntryPoint) -> str:
    """Package that an entry point comes from."""
    return entry.dist.name if entry.dist is not None else entry.value


def load_kind(entry: EntryPoint, wanted: type[Part]) -> Part:
    """Load a part of a kind of array, its hardware or its compiler.

    Raises
    ------
    PearrayError
        If it cannot be imported or is none, naming the package.
    """
    context = f"kind of array {entry.name!r} ({entry.value}) of {origin_of(entry)}"
    try:
        part = entry.load()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise PearrayError(f"{context} cannot be loaded: {type(error).__name__}: {reason}; repair or uninstall "
                           f"{origin_of(entry)}") from error
    if not isinstance(part, wanted):
        raise PearrayError(f"{context} must be an {wanted.__name__}, not {part!r}")
    return part


def kind(name: object) -> ArrayHardware:
    """Hardware of a kind of array by its name.

    Raises
    ------
    PearrayError
        If no such kind is installed.
    """
    if not isinstance(name, str) or name not in kinds():
        raise PearrayError(f"array.kind must be {' or '.join(map(repr, kinds()))}, not {name!r}")
    return kinds()[name]
