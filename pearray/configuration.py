"""Configurations by name or from TOML files, with overrides."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .hdl.config import Accumulators, Array, Config, Memory, Post, Scratchpads
from .hdl.errors import PearrayError
from .messages import unknown

__all__ = ["SECTIONS", "configuration_keys", "load_config", "presets"]

#: Tables of a configuration file, each with the dataclass that holds it.
SECTIONS: dict[str, type[Any]] = {
    "array": Array,
    "scratchpads": Scratchpads,
    "accumulators": Accumulators,
    "post": Post,
    "memory": Memory,
}

_PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """Names of the built-in configurations, smallest array first."""
    def size(path: Path) -> tuple[int, str]:
        array = tomllib.loads(path.read_text())["array"]
        return array["rows"] * array["cols"], path.stem

    return [path.stem for path in sorted(_PRESETS.glob("*.toml"), key=size)]


def configuration_keys() -> list[str]:
    """Every key of a configuration, as ``section.key``."""
    return [f"{section}.{item.name}" for section, kind in SECTIONS.items() for item in fields(kind)]


def load_config(source: str | PathLike[str] | Config, overrides: Mapping[str, Any] | None = None) -> Config:
    """Load a configuration.

    Parameters
    ----------
    source : str, path or Config
        Name of a preset (see :func:`presets`), path of a TOML file with the tables ``array``,
        ``scratchpads``, ``accumulators``, ``post`` and ``memory``, or a configuration to start from.
    overrides : mapping, optional
        Values that replace those of the source, by ``section.key``: ``{"array.rows": 8}``.

    Returns
    -------
    Config
        The checked configuration. Its name is the preset's, or the file's without ``.toml``.

    Raises
    ------
    PearrayError
        If there is no such configuration, the file is not TOML, or a key or value is not allowed.
    """
    if isinstance(source, Config):
        name = origin = source.name
        tables = {key: asdict(getattr(source, key)) for key in SECTIONS}
    else:
        path = _locate(source)
        name, origin, tables = path.stem, _origin(path), _read(path)
    for key, value in (overrides or {}).items():
        section, _, item = str(key).partition(".")
        if section not in SECTIONS or not item:
            raise unknown("configuration key", key, configuration_keys())
        tables.setdefault(section, {})[item] = value
    sections = {key: _section(origin, key, kind, tables.get(key, {})) for key, kind in SECTIONS.items()}
    return Config(name=name, **sections)


def _locate(source: object) -> Path:
    if not isinstance(source, str | PathLike):
        raise PearrayError(f"configuration must be a preset's name, the path of a TOML file or a Config, "
                           f"not {source!r}")
    text = str(fspath(source))
    if text in presets():
        return _PRESETS / f"{text}.toml"
    path = Path(text)
    if path.is_file():
        return path
    if path.suffix == ".toml":
        raise PearrayError(f"configuration {text!r} is not a file")
    raise unknown("configuration", text, [*presets(), "the path of a TOML file"])


def _origin(path: Path) -> str:
    return path.stem if path.parent == _PRESETS else str(path)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PearrayError(f"configuration {str(path)!r} cannot be read as TOML: {reason}") from None
    for section, table in document.items():
        if section not in SECTIONS:
            raise unknown(f"table of {path}", section, SECTIONS)
        if not isinstance(table, dict):
            raise PearrayError(f"{section} of {path} must be a table of keys, not {table!r}")
    return document


def _section(origin: str, section: str, kind: type[Any], table: Mapping[str, Any]) -> Any:
    known = {item.name: item for item in fields(kind)}
    for key in table:
        if key not in known:
            raise unknown(f"key of {origin}", f"{section}.{key}", [f"{section}.{name}" for name in known])
    for name, item in known.items():
        if item.default is MISSING and name not in table:
            low, high = item.metadata["low"], item.metadata["high"]
            allowed = "a power of two" if item.metadata["power"] else "an integer"
            raise PearrayError(f"{section}.{name} is missing from {origin}: "
                               f"it must be {allowed} in {low}..{high}")
    return kind(**table)
