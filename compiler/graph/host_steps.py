"""What the host computes beside programs, as an exported folder tells whoever runs it without pearray."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from .graph import Node

__all__ = ["host_steps"]


def host_steps(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Operators in the order in which they follow one another, each with its tensors by role and its parameters."""
    return [{"name": node.name, "operator": node.operator.kind, "inputs": node.inputs, "outputs": node.outputs,
             "parameters": {item.name: _plain(getattr(node.operator, item.name)) for item in fields(node.operator)}}
            for node in nodes]


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
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
