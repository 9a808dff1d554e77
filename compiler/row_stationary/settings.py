"""What users choose of a row-stationary mapping: a word, a file, or parameters by layer."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ...golden.row_stationary import Mapping as Parameters
from ...hdl.errors import PearrayError, unknown
from ..graph.graph import Graph

__all__ = ["read_mappings"]

_NAMES = [item.name for item in fields(Parameters)]
_NEEDED = [item.name for item in fields(Parameters) if item.default is MISSING]


def read_mappings(given: Any, graph: Graph) -> dict[str, Parameters]:
    """Read and check what a user gave.

    Parameters
    ----------
    given : str, path or mapping
        "own", the path of a TOML file, or parameters by name of the layer. A file has a table for each layer, such as
        ``[conv1]`` with ``m = 96``, ``n = 1`` and so on: all seven of the paper, and if wanted others of
        :class:`.golden.row_stationary.Mapping`.
    graph : Graph
        Graph whose layers are meant.

    Returns
    -------
    dict
        Mappings by layer. Other layers get their own.

    Raises
    ------
    PearrayError
        If a file cannot be read, there is no such layer or parameter, or a value is not allowed.
    """
    if isinstance(given, str) and given == "own":
        return {}
    tables = given if isinstance(given, Mapping) else _read(given)
    return {name: _parameters(name, table, graph) for name, table in tables.items()}


def _read(source: Any) -> dict[str, Any]:
    if not isinstance(source, str | PathLike) or not Path(source).is_file():
        raise PearrayError(f"mapping must be own, paper or the path of a file, not {source!r}")
    try:
        return tomllib.loads(Path(source).read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PearrayError(f"mapping {str(fspath(source))!r} cannot be read as TOML: {reason}") from None


def _parameters(layer: str, table: Any, graph: Graph) -> Parameters:
    layers = [node.name for node in graph.nodes]
    if layer not in layers:
        raise unknown("layer of the mapping", layer, layers)
    if not isinstance(table, Mapping):
        raise PearrayError(f"mapping of {layer} must be a table of parameters, not {table!r}")
    for name in table:
        if name not in _NAMES:
            raise unknown(f"parameter of the mapping of {layer}", name, _NAMES)
    for name in _NEEDED:
        if name not in table:
            raise PearrayError(f"{name} is missing from the mapping of {layer}: it must be an integer of at least 1")
    try:
        return Parameters(**table)
    except ValueError as error:
        raise PearrayError(f"mapping of {layer}: {error}") from None
