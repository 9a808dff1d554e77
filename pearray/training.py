"""Training of a graph: steps of forward pass, backward pass and optimiser, in NumPy and on the generated hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from . import report
from .api import system_of
from .compiler.frontends.model import Model
from .compiler.graph.graph import Graph
from .compiler.graph.names import Names
from .compiler.graph.passes.step import training_step
from .compiler.operators import Optimiser, SoftmaxCrossEntropy
from .compiler.operators.fields import is_number
from .configuration import System
from .divided import divided
from .golden import optimisers
from .golden.rounding import FORMATS, key_of
from .handle import Handle, arrays
from .hdl.arithmetic.floating import FloatArithmetic
from .hdl.errors import PearrayError, check_choice, check_count, check_names
from .hdl.shell.config import Config
from .parts import Parts
from .results import HostWork, Result
from .sim.engine import ENGINES

__all__ = ["LossScale", "Snapshot", "Training", "train_step"]


def _count(name: str, value: object, least: int = 0) -> int:
    """Return an integer, which may be NumPy's, after checking that it is one, and not too small."""
    return check_count(name, int(value) if isinstance(value, np.integer) else value, least)


class LossScale(optimisers.LossScale):
    """Factor of a loss, a power of two, which keeps gradients within a narrow format.

    A step whose new weights or state would not all be finite is lost, and the factor is multiplied by a half; after
    some steps without such, it is doubled.

    Parameters
    ----------
    value : float
        The factor; 2**-14 to 2**24.
    interval : int
        Steps in a row without a loss after which it is doubled.
    good : int
        How many there have been.

    Raises
    ------
    PearrayError
        If a value is out of range.
    """

    def __post_init__(self) -> None:
        if not is_number(self.value):
            raise PearrayError(f"value must be a number, not {self.value!r}")
        for name, least in (("interval", 1), ("good", 0)):
            _count(name, getattr(self, name), least)
        try:
            super().__post_init__()
        except ValueError as error:
            raise PearrayError(str(error)) from None


@dataclass(frozen=True)
class Snapshot:
    """All that a training is, besides what it was made of: from it, it goes on to the same bits.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Weights and the optimiser's state.
    steps, lost : int
        Steps done, and those of them that were lost.
    scale : (float, int) or None
        Factor of the loss, and steps since its last change.
    """

    tensors: dict[str, np.ndarray]
    steps: int
    lost: int
    scale: tuple[float, int] | None

    def __post_init__(self) -> None:
        if not isinstance(self.tensors, dict) or not all(
                isinstance(value, np.ndarray) for value in self.tensors.values()):
            raise PearrayError(f"tensors must be a dict of arrays by name, not {type(self.tensors).__name__}")
        if _count("lost", self.lost) > _count("steps", self.steps):
            raise PearrayError(f"lost must be at most steps, {self.steps}, not {self.lost}")
        if self.scale is not None:
            if not isinstance(self.scale, tuple) or len(self.scale) != 2:
                raise PearrayError(f"scale must be None or a pair of a factor and a count, not {self.scale!r}")
            LossScale(self.scale[0], good=self.scale[1])


class Training:
    """A graph in training: its weights, an optimiser's state, and the factor of the loss; see :func:`train_step`.

    Members
    -------
    weights, state : dict of str to ndarray
        Weights by name, and what the optimiser keeps, by the weight's name, a colon and the role.
    steps, lost : int
        Steps done, and how many of these changed nothing because something was not finite.
    scale : LossScale or None
        Factor of the next loss.
    outputs : dict of str to ndarray
        What the network made in the last step.
    host : HostWork or None
        What the host computes of a step on the accelerator, and why; None if that is nothing, or there is none.
    checked_steps, checked, mismatches : int
        Steps that ran on the RTL, too; elements that were compared, and those that differed.
    first_difference : str or None
        The first of these.
    result : Result or None
        Cycles and counters of the last step on the RTL.
    """

    def __init__(self, graph: Graph, loss: str, weights: Sequence[str], optimiser: Optimiser, *,
                 format: str | None = None, stochastic: bool = False, scale: optimisers.LossScale | None = None,
                 seed: int = 0, budget: int | None = None, on: System | None = None, engine: str = "verilator",
                 check_every: int = 1, **settings: Any):
        if format is not None:
            check_choice("format", format, (*FORMATS,))
        if not isinstance(stochastic, (bool, np.bool_)):
            raise PearrayError(f"stochastic must be True or False, not {stochastic!r}")
        if scale is not None and not isinstance(scale, optimisers.LossScale):
            raise PearrayError(f"scale must be None or a pearray.LossScale, not {scale!r}")
        check_choice("engine", engine, ENGINES)
        if budget is not None:
            _count("budget", budget)
        if on is None and settings:
            raise PearrayError(f"{next(iter(settings))} is a setting of an accelerator, and there is none: give on")
        self._seed, self._check_every = _count("seed", seed), _count("check_every", check_every)
        self._step = training_step(graph, loss, weights, optimiser, format=_format_of(on, format),
                                   stochastic=bool(stochastic), budget=budget)
        self._optimiser, self._engine, self._names = optimiser, engine, [*graph.inputs]
        self._handle: Handle | Parts | None = None if on is None else divided(self._step.graph, on, **settings)
        self._golden = self._step.graph if self._handle is None else self._handle.golden_graph
        self.weights = {name: graph.constants[name].copy() for name in weights}
        self.state = {name: np.zeros(self._step.graph.tensors[name].shape, np.float32) for name in self._step.state}
        self.scale = scale
        self.steps = self.lost = 0
        self.outputs: dict[str, np.ndarray] = {}
        self.host: HostWork | None = getattr(self._handle, "host", None)
        self.checked_steps = self.checked = self.mismatches = 0
        self.first_difference: str | None = None
        self.result: Result | None = None

    @property
    def graph(self) -> Graph:
        """The step: forward and backward pass, and the optimiser."""
        return self._step.graph

    def step(self, inputs: Mapping[str, Any], lr: float | None = None) -> float:
        """Take a step, and return the loss before it.

        Parameters
        ----------
        inputs : mapping of str to array_like
            Inputs of the network, with its labels.
        lr : float, optional
            Learning rate, instead of the optimiser's.

        Raises
        ------
        PearrayError
            If an input or the rate does not fit.
        """
        given = self._given(inputs, lr)
        # What is beyond a format becomes infinite, or no number, and is noticed below.
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            made = self._golden.golden(given)
            if self._handle is not None and self._check_every and self.steps % self._check_every == 0:
                self._check(self._handle, given, made)
        step = self._step
        weights, state = ({name: made[new] for name, new in pairs.items()} for pairs in (step.weights, step.state))
        finite = all(np.isfinite(value).all() for value in (*weights.values(), *state.values()))
        if finite:
            self.weights, self.state = weights, state
        self.steps, self.lost = self.steps + 1, self.lost + (not finite)
        if self.scale is not None:
            self.scale = self.scale.after(finite)
        changed = {*step.weights.values(), *step.state.values()}
        self.outputs = {name: made[name] for name in step.graph.outputs if name not in changed}
        return float(made[step.loss])

    def _given(self, inputs: Mapping[str, Any], lr: float | None) -> dict[str, np.ndarray]:
        """Inputs of the step's graph."""
        if lr is not None and not (is_number(lr) and lr >= 0):
            raise PearrayError(f"lr must be None or a number of at least 0, not {lr!r}")
        given, step = arrays(inputs, self.graph.masks), self._step
        for name in given:
            if name not in self._names:
                raise PearrayError(f"{name!r} is no input of the network, which takes {', '.join(self._names)}")
        factor = 1.0 if self.scale is None else self.scale.value
        # A step that was lost has not been one for the optimiser.
        scalars = self._optimiser.scalars_of(self.steps - self.lost + 1, lr)
        for role, value in scalars.items():
            if not abs(value) <= float(np.finfo(np.float32).max):
                raise PearrayError(f"lr must be so small that float32 holds the {role} of a step, not "
                                   f"{self._optimiser.lr if lr is None else lr!r}")
        numbers = {step.factor: factor, step.unscaled: 1 / factor,
                   **{name: scalars[role] for role, name in step.scalars.items()}}
        given |= self.weights | self.state | {name: np.asarray(value, np.float32) for name, value in numbers.items()}
        if step.key is not None:
            given[step.key] = np.asarray(key_of(self._seed, self.steps), np.uint32)
        self.graph.check_inputs(given)
        return given

    def _check(self, handle: Handle | Parts, given: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> None:
        """Run the step on the accelerator, and compare what it gives."""
        self.result = handle.run(given, self._engine)
        counts = report.compare(self.result.outputs, made).values()
        self.checked_steps += 1
        self.checked += sum(count for count, _ in counts)
        self.mismatches += sum(wrong for _, wrong in counts)
        if self.first_difference is None and any(wrong for _, wrong in counts):
            self.first_difference = f"step {self.steps}: {report.first_difference(self.result.outputs, made)}"

    def snapshot(self) -> Snapshot:
        """What the training is now."""
        scale = None if self.scale is None else (self.scale.value, self.scale.good)
        return Snapshot({**self.weights, **self.state}, self.steps, self.lost, scale)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from what a training of the same network and optimiser was.

        Raises
        ------
        PearrayError
            If it was one of another.
        """
        if not isinstance(snapshot, Snapshot):
            raise PearrayError(f"snapshot must be a pearray.Snapshot, not {type(snapshot).__name__}")
        own = {**self.weights, **self.state}
        if {*own} != {*snapshot.tensors} or (self.scale is None) != (snapshot.scale is None):
            raise PearrayError(f"a training must go on from tensors {', '.join(own)}, not "
                               f"{', '.join(snapshot.tensors)}, and from a factor of the loss if it has one")
        for name, value in own.items():
            other = snapshot.tensors[name]
            if (other.shape, other.dtype) != (value.shape, value.dtype):
                raise PearrayError(f"{name} must be {value.dtype} of shape {value.shape}, not {other.dtype} of shape "
                                   f"{other.shape}")
        self.weights = {name: snapshot.tensors[name].copy() for name in self.weights}
        self.state = {name: snapshot.tensors[name].copy() for name in self.state}
        self.steps, self.lost = snapshot.steps, snapshot.lost
        if self.scale is not None and snapshot.scale is not None:
            factor, good = snapshot.scale
            self.scale = type(self.scale)(factor, self.scale.interval, good)


def _format_of(on: System | None, format: str | None) -> str | None:
    """Format of the operands of products: the accelerator's, if there is one."""
    if on is None:
        return format
    arithmetic = on.hardware.arithmetic
    if not isinstance(arithmetic, FloatArithmetic):
        raise PearrayError(f"on must be an array of floats, such as systolic-8x8-bf16, not {on.name} of "
                           f"{on.hardware.arithmetic.operands}")
    if format not in (None, arithmetic.format.name):
        raise PearrayError(f"format must be that of {on.name}, {arithmetic.format.name!r}, not {format!r}")
    return arithmetic.format.name


def train_step(model: Graph | Model, loss: str | SoftmaxCrossEntropy, optimiser: Optimiser, *,
               weights: Sequence[str] | None = None, on: str | PathLike[str] | System | Config | None = None,
               batch: int | None = None, format: str | None = None, stochastic: bool = False,
               scale: optimisers.LossScale | None = None, seed: int = 0, budget: int | None = None,
               engine: str = "verilator", check_every: int = 1, **settings: Any) -> Training:
    """Compile one step of training: forward pass, backward pass, and the step of an optimiser.

    A step is computed by golden models in NumPy. With `on` they add in the order of that accelerator, and steps are
    also run on its RTL and compared element by element: what it has programs for by the programs, the rest by the same
    golden models between them; the handle's `host` says what the rest is.

    Parameters
    ----------
    model : Graph or Model
        Network on float32: a graph of public operators, whose constants are where weights begin, or a file that
        :func:`pearray.load_onnx` has read.
    loss : str or SoftmaxCrossEntropy
        Tensor of shape () that is to become small; or the loss of the network's one output, scores (N, K), for which
        each step is given ``labels`` (N,) int64, too.
    optimiser : SGD or Adam
        The step; weights are float32, whatever the format.
    weights : sequence of str, optional
        Constants that are learned. If absent, all of float32 on which the loss depends, but for those of shape ().
    on : str, path, System or Config, optional
        Accelerator of floats; see :func:`pearray.load_config`.
    batch : int, optional
        First dimension of the inputs of a model, if it is not the file's.
    format : str, optional
        Format to which operands of products are rounded: ``bfloat16``, ``float16``, ``float8_e4m3fn`` or
        ``float8_e5m2``; that of the accelerator, or float32 without one.
    stochastic : bool
        Whether they are rounded at random, by bits that follow from `seed`, the step and the place, or to the nearest.
    scale : LossScale, optional
        Factor of the loss; 1 if absent.
    seed : int
        Of random bits.
    budget : int, optional
        Bytes that may be kept from the forward for the backward pass, which computes the rest again; all are if absent.
    engine : str
        Engine for the RTL; see :func:`pearray.run`.
    check_every : int
        Every how many steps the RTL runs, the first included; 0 for never.
    **settings
        Settings of the array's mapper, such as ``effort``.

    Returns
    -------
    Training
        Whose ``step(inputs, lr=None)`` takes a step and returns the loss before it.

    Raises
    ------
    PearrayError
        If an operator has no derivative, a name, a shape or a value does not fit, or the accelerator can't hold it.
    """
    graph, name = _network(model, loss, batch)
    chosen = _learned(graph, name) if weights is None else check_names("weights", weights)
    return Training(graph, name, chosen, optimiser, format=format, stochastic=stochastic, scale=scale, seed=seed,
                    budget=budget, on=None if on is None else system_of(on), engine=engine, check_every=check_every,
                    **settings)


def _network(model: object, loss: object, batch: int | None) -> tuple[Graph, str]:
    """Graph that is trained, and the tensor that is its loss."""
    graph = model.float_graph(batch) if isinstance(model, Model) else model
    if not isinstance(graph, Graph):
        raise PearrayError(f"model must be a pearray.Graph or a model of pearray.load_onnx, not "
                           f"{type(model).__name__}")
    if batch is not None and not isinstance(model, Model):
        raise PearrayError(f"batch must be None for a graph, whose inputs have shapes, not {batch!r}")
    if isinstance(loss, SoftmaxCrossEntropy):
        return _with_loss(graph, loss)
    if not isinstance(loss, str):
        raise PearrayError(f"loss must be the name of a tensor or a pearray.SoftmaxCrossEntropy(), not {loss!r}")
    return graph, loss


def _with_loss(graph: Graph, loss: SoftmaxCrossEntropy) -> tuple[Graph, str]:
    """A graph with a loss of its one output, and the name of that."""
    if len(graph.outputs) != 1:
        raise PearrayError(f"the network must have one output, scores (N, K), for its loss, not {len(graph.outputs)}: "
                           "name a tensor of shape () as the loss")
    made, names = graph.changed(), Names(graph)
    [scores] = graph.outputs
    if "labels" in graph.tensors:
        raise PearrayError("labels must not be the name of a tensor of the network where a loss is added to it")
    made.input("labels", graph.tensors[scores].shape[:1], np.int64)
    name = names.free("loss")
    made.output(made.add(name, loss, x=scores, labels="labels"))
    return made, name


def _learned(graph: Graph, loss: str) -> list[str]:
    """Constants of float32 on which a tensor depends, but for single numbers."""
    reached = {loss}
    for node in reversed(graph.nodes):
        if not reached.isdisjoint(node.outputs.values()):
            reached.update(node.inputs.values())
    return [name for name, value in graph.constants.items()
            if name in reached and value.dtype == np.float32 and value.ndim]
