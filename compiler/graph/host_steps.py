"""What the host computes beside programs, as an exported folder tells whoever runs it without pearray."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from .graph import Graph, Node

__all__ = ["host_steps"]


def host_steps(graph: Graph, nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Nodes of a graph in the order in which they follow one another.

    Returns
    -------
    list of dict
        Of each node ``name``, ``operator``, tensors by role as ``inputs`` and ``outputs``, ``types`` (shape and dtype
        of what it makes, by tensor) and ``parameters``. These are None if one of them is a function, which no file
        states.
    """
    return [{"name": node.name, "operator": node.operator.kind, "inputs": node.inputs, "outputs": node.outputs,
             "types": {name: {"shape": list(graph.tensors[name].shape), "dtype": str(graph.tensors[name].dtype)}
                       for name in node.outputs.values()},
             "parameters": _parameters(node.operator)} for node in nodes]


def _parameters(of: Any) -> dict[str, Any] | None:
    """Fields of an operator as JSON has them, or None."""
    values = {item.name: getattr(of, item.name) for item in fields(of)}
    if any(callable(value) and not isinstance(value, type) for value in values.values()):
        return None
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays as lists, types and numbers that are not finite by name."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (float, np.dtype, type)):
        return str(np.dtype(value)) if isinstance(value, type) else str(value)
    raise AssertionError(f"{type(value).__name__} has no form in JSON")
