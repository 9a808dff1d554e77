"""Runs that follow the first one of a workload, each with what the one before has left in memory."""

from collections.abc import Callable, Mapping

import numpy as np

from .configuration import System
from .handle import Handle
from .results import Result, joined
from .workloads.made import Following

__all__ = ["follow"]


def follow(following: Following, system: System, engine: str, first: Result, golden: Mapping[str, np.ndarray],
           progress: Callable[[int], None] | None = None) -> tuple[Result, dict[str, np.ndarray]]:
    """Run what follows a run from one compiled program.

    Parameters
    ----------
    following : Following
        Graph and inputs.
    system : System
        Accelerator and memory.
    engine, progress
        As for :func:`pearray.run`.
    first : Result
        What the run before gave.
    golden : mapping of str to ndarray
        What it should have given.

    Returns
    -------
    Result
        Of all runs; see :func:`.results.joined`.
    dict of str to ndarray
        The golden model's outputs of all, which goes on with its own state.
    """
    handle, made = Handle(following.graph, system), following.graph.states
    session = handle.session({name: first.outputs[left] for name, left in made.items()})
    state = {name: golden[left] for name, left in made.items()}
    graph, results, wanted = handle.compiled().graph, [], []
    for inputs in following.runs:
        results.append(session.run(inputs, engine, progress))
        wanted.append(graph.golden(inputs | state))
        state = {name: wanted[-1][left] for name, left in made.items()}
    stacked = {f"{following.name}:{name}": np.stack([each[name] for each in wanted]) for name in graph.outputs}
    return joined(first, following.name, results), dict(golden) | stacked
