"""Training of a graph in NumPy: forward and backward pass, the factor of the loss, and the optimiser's step.

It computes what hardware is to compute, to the last bit, and runs on none yet.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .compiler.graph.graph import Graph
from .compiler.graph.passes.backward import differentiated
from .compiler.graph.passes.narrow import operands_are_narrow
from .compiler.operators import SGD, Adam
from .golden.optimisers import LossScale
from .golden.rounding import key_of
from .hdl.errors import PearrayError

__all__ = ["Training"]

_KEY = "key of the step"


class Training:
    """A graph in training: its weights in float32, the state of the optimiser, and the factor of the loss.

    Parameters
    ----------
    graph : Graph
        Of operators on float32; its constants are where weights begin.
    loss : str
        Tensor of shape () that is to become small.
    weights : sequence of str
        Constants that change, each once.
    optimiser : SGD or Adam
        The step.
    format : str, optional
        Format of the operands of products, one of :data:`.golden.rounding.FORMATS`; float32 if absent.
    stochastic : bool
        Whether operands are rounded to `format` at random, with a key for each step.
    scale : LossScale, optional
        Factor of the loss; 1 if absent.
    seed : int
        Of random bits.
    budget : int, optional
        Bytes kept from forward for backward passes; see :func:`.differentiated`.

    Raises
    ------
    PearrayError
        If a weight is no constant of the graph or is named twice, random rounding has no format, or a pass over graphs
        has an error.
    """

    def __init__(self, graph: Graph, loss: str, weights: Sequence[str], optimiser: SGD | Adam, *,
                 format: str | None = None, stochastic: bool = False, scale: LossScale | None = None, seed: int = 0,
                 budget: int | None = None):
        if stochastic and format is None:
            raise PearrayError("stochastic must be False where format is None, not True: give a format, such as "
                               "'bfloat16'")
        for name in weights:
            if name not in graph.constants:
                raise PearrayError(f"weights must be constants of the graph, of {', '.join(graph.constants)}, not "
                                   f"{name!r}")
        key = _KEY if stochastic else None
        if format is not None:
            graph = operands_are_narrow(graph, format, key)
        self._backward = differentiated(graph, loss, weights, budget)
        self._loss, self._optimiser, self._seed = loss, optimiser, seed
        self._state = [role for role in optimiser.outputs if role != "w"]
        #: Weights by name, and what the optimiser keeps for each, by its roles.
        self.weights = {name: graph.constants[name].copy() for name in weights}
        self.kept = {name: {role: np.zeros_like(value) for role in self._state}
                     for name, value in self.weights.items()}
        self.scale = scale
        #: Steps done, and how many of these were lost to gradients that were not finite.
        self.steps, self.lost = 0, 0

    def step(self, inputs: Mapping[str, np.ndarray]) -> float:
        """Take a step, and return the loss before it.

        Gradients that are not all finite change no weight, only the factor of the loss.
        """
        number = self.steps
        factor = np.float32(1 if self.scale is None else self.scale.value)
        given = {**inputs, **self.weights, self._backward.seed: np.asarray(factor)}
        graph = self._backward.graph
        if _KEY in graph.inputs:
            given[_KEY] = np.asarray(key_of(self._seed, number), np.uint32)
        # What is beyond a format becomes infinite, or no number, and is noticed below.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            made = graph.golden(given)
        # The gradient of the loss itself is given, and that of a weight which is added to it is the same tensor.
        values = {**given, **made}
        gradients = {name: values[gradient] / factor for name, gradient in self._backward.gradients.items()}
        finite = all(np.isfinite(gradient).all() for gradient in gradients.values())
        if finite:
            self._update(gradients)
        self.steps, self.lost = number + 1, self.lost + (not finite)
        if self.scale is not None:
            self.scale = self.scale.after(finite)
        return float(made[self._loss])

    def _update(self, gradients: Mapping[str, np.ndarray]) -> None:
        numbered = {"step": np.asarray(self.steps - self.lost + 1)} if "step" in self._optimiser.required else {}
        for name, gradient in gradients.items():
            made = self._optimiser.golden({"w": self.weights[name], "dw": gradient, **self.kept[name], **numbered})
            self.weights[name] = made["w"]
            self.kept[name] = {role: made[role] for role in self._state}
