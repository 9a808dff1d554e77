"""What a workload is once it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..compiler.frontends.model import Model
from ..compiler.graph.graph import Graph

__all__ = ["Following", "Judgement", "Workload"]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What outputs are worth.

    Parameters
    ----------
    title : str
        What is compared with what.
    records : list of mappings
        Figures of each of several things, by the same names.
    summary : dict
        Figures of all.
    """

    title: str
    records: list[Mapping[str, object]]
    summary: dict[str, float]


@dataclass(frozen=True, eq=False)
class Following:
    """Runs of a graph behind another's: their name, and inputs of each but for what stays in memory."""

    name: str
    graph: Graph
    runs: list[dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Workload:
    """A graph and the inputs of one run.

    Parameters
    ----------
    name : str
        As the user wrote it.
    graph : Graph
        What to compute.
    inputs : dict of str to ndarray
        Inputs of the graph.
    labels : ndarray or None
        Digits that the inputs show, where that is known.
    settings : dict
        Settings of the array's mapper; see :func:`pearray.run`.
    judge : callable or None
        What outputs by name are worth, where there is something to compare them with.
    following : Following or None
        Runs behind it.
    notes : list of str
        What has been changed in a network when its file was read.
    model : Model or None
        The network of whose file the graph is, if the host computes what cannot be mapped of it.
    """

    name: str
    graph: Graph
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    judge: Callable[[Mapping[str, np.ndarray]], Judgement] | None = None
    following: Following | None = None
    notes: list[str] = field(default_factory=list)
    model: Model | None = None
