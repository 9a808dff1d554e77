"""Configurations by name or from TOML files, with overrides."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .hdl.errors import PearrayError, is_file, unknown
from .hdl.kinds import kind as kind_named
from .hdl.kinds import kinds
from .hdl.shell.config import Array, Config
from .memory import DEFAULT_MEMORY, MemoryTiming

__all__ = ["System", "configuration_keys", "load_config", "presets"]

_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class System:
    """An accelerator and the memory behind it.

    Parameters
    ----------
    hardware : Config
        What is generated.
    memory : MemoryTiming
        What programs are planned for and simulated with; the Verilog knows nothing of it.
    """

    hardware: Config
    memory: MemoryTiming = DEFAULT_MEMORY

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return self.hardware.name

    @property
    def array(self) -> Array:
        """The array."""
        return self.hardware.array

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.hardware.pes


def presets() -> list[str]:
    """Names of the built-in configurations by kind, smallest array first."""
    def size(path: Path) -> tuple[int, int, str]:
        array = tomllib.loads(path.read_text())["array"]
        return list(kinds()).index(array["kind"]), array["rows"] * array["cols"], path.stem

    return [path.stem for path in sorted(_PRESETS.glob("*.toml"), key=size)]


def configuration_keys(kind: str | None = None) -> list[str]:
    """Every key of a configuration of a kind of array, by default the first, as ``section.key``."""
    sections = _class_of(kind).SECTIONS
    return [f"{section}.{name}" for section in sections for name in _keys(sections, section)]


def _keys(sections: Mapping[str, type[Any]], section: str) -> list[str]:
    """Keys of a table: those of the hardware, and in that of the memory those of its timing."""
    tables = [sections[section], *([MemoryTiming] if section == MemoryTiming.SECTION else [])]
    return [item.name for table in tables for item in fields(table)]


def _class_of(kind: object = None) -> type[Config]:
    """Class of the configurations of a kind of array; of the first, if it has no name."""
    return (next(iter(kinds().values())) if kind is None else kind_named(kind)).config


def load_config(source: str | PathLike[str] | System | Config,
                overrides: Mapping[str, Any] | None = None) -> System:
    """Load a configuration.

    Parameters
    ----------
    source : str, path, System or Config
        Name of a preset (see :func:`presets`), path of a TOML file, or a configuration to start from.
        ``array.kind`` decides which tables there are: ``array``, ``memory``, and those of the kind
        (``SECTIONS`` of the class of its configurations).
    overrides : mapping, optional
        Values that replace those of the source, by ``section.key``: ``{"array.rows": 8}``.

    Returns
    -------
    System
        The checked configuration: the hardware, and the timing of its memory. Its name is the preset's, or the
        file's without ``.toml``.

    Raises
    ------
    PearrayError
        If there is no such configuration, the file is not TOML, or a key or value is not allowed.
    """
    if isinstance(source, Config):
        source = System(source)
    if isinstance(source, System):
        name = origin = source.name
        made: type[Config] = type(source.hardware)
        tables = {key: asdict(getattr(source.hardware, key)) for key in made.SECTIONS}
        tables[MemoryTiming.SECTION] |= asdict(source.memory)
    else:
        path = _locate(source)
        name, origin = path.stem, _origin(path)
        made, tables = _read(path)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise PearrayError(f"overrides must be a dict of values by section.key, not {overrides!r}")
    for key, value in (overrides or {}).items():
        section, _, item = str(key).partition(".")
        if section not in made.SECTIONS or not item:
            raise unknown("configuration key", key, configuration_keys(made.KIND))
        if key == "array.kind" and kind_named(value).name != made.KIND:
            raise PearrayError(f"array.kind of {origin} is {made.KIND!r} and cannot be overridden with {value!r}, "
                               "which has other tables")
        tables.setdefault(section, {})[item] = value
    sections = {}
    for section, table in made.SECTIONS.items():
        given, known = tables.get(section, {}), _keys(made.SECTIONS, section)
        for item in given:
            if item not in known:
                raise unknown(f"key of {origin}", f"{section}.{item}", [f"{section}.{name}" for name in known])
        sections[section] = _section(origin, section, table, given)
    timing = _section(origin, MemoryTiming.SECTION, MemoryTiming, tables[MemoryTiming.SECTION])
    return System(made(name=name, **sections), timing)


def _locate(source: object) -> Path:
    if not isinstance(source, str | PathLike):
        raise PearrayError(f"configuration must be a preset's name, the path of a TOML file, a System or a "
                           f"Config, not {source!r}")
    text = str(fspath(source))
    if text in presets():
        return _PRESETS / f"{text}.toml"
    path = Path(text)
    if is_file(path):
        return path
    if path.suffix == ".toml":
        raise PearrayError(f"configuration {text!r} is not a file")
    raise unknown("configuration", text, [*presets(), "the path of a TOML file"])


def _origin(path: Path) -> str:
    return path.stem if path.parent == _PRESETS else str(path)


def _read(path: Path) -> tuple[type[Config], dict[str, dict[str, Any]]]:
    """Read a file: class of the configurations of its kind of array, and its tables."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PearrayError(f"configuration {str(path)!r} cannot be read as TOML: {reason}") from None
    array = document.get("array")
    made = _class_of(array.get("kind") if isinstance(array, dict) else None)
    for section, table in document.items():
        if section not in made.SECTIONS:
            raise unknown(f"table of {path}", section, made.SECTIONS)
        if not isinstance(table, dict):
            raise PearrayError(f"{section} of {path} must be a table of keys, not {table!r}")
    return made, document


def _section(origin: str, section: str, kind: type[Any], table: Mapping[str, Any]) -> Any:
    """Make a section of those of a table's values that are its own."""
    known = {item.name: item for item in fields(kind)}
    for name, item in known.items():
        if item.default is MISSING and name not in table:
            low, high = item.metadata["low"], item.metadata["high"]
            allowed = "a power of two" if item.metadata["power"] else "an integer"
            raise PearrayError(f"{section}.{name} is missing from {origin}: "
                               f"it must be {allowed} in {low}..{high}")
    return kind(**{name: value for name, value in table.items() if name in known})
