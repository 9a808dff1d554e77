"""LSTMs: their products are programs, and their gates, numbers of 16 bits, are the host's.

The products of a whole sequence with the input's weights are one; those with the hidden state are one for each step,
between which the host makes the next state.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ....golden.lstm import Lstm
from ....hdl.errors import PearrayError
from ...graph.graph import Node, Tensor
from ...operators import Hosted, Linear, Sums
from ...operators.hosted import HostedKind
from ...operators.operator import Spec
from .builder import Builder, handles
from .file import FileOperator

__all__: list[str] = []

_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"

#: Places of inputs: weights of the input and of the hidden state, biases, and the two states.
_X, _HIDDEN, _BIASES, _STATES = range(1, 5), range(5, 9), range(12, 16), (18, 19)

#: Places of what is not known here, by what it is.
_OTHERS = {"peepholes": range(9, 12), "a projection": range(16, 18), "layer normalisation": range(20, 24)}

#: Number of the fused activation tanh.
_TANH = 4

_WHY = ("its gates are sigmoids and hyperbolic tangents of words of 16 bits, and the vector engine has functions of "
        "bytes alone, tables of 256 entries")


@dataclass(frozen=True)
class _Gates:
    """A step on the host: of sums of all inputs, sums of the hidden state, the cell state and what steps before made.

    Parameters
    ----------
    lstm : Lstm
        Scales.
    step : int
        Which step it is.
    steps : tuple of int
        Shape of the sequence: batch and steps, or steps and batch.
    axis : int
        Axis of the steps.
    names : tuple of str
        Names of what it gives: the two states, and behind the last step the output.
    """

    lstm: Lstm
    step: int
    steps: tuple[int, int]
    axis: int
    names: tuple[str, ...]

    def __call__(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        sums, hidden, cell, *before = given.values()
        x = np.take(sums.reshape(*self.steps, -1), self.step, self.axis)
        made = self.lstm.step(x, hidden, cell)
        whole = [np.stack([*before, made.hidden], self.axis)] if self.step == self.steps[self.axis] - 1 else []
        return dict(zip(self.names, (*made, *whole), strict=True))

    @property
    def rows(self) -> dict[str, int]:
        """Nothing is looked up."""
        return {}

    def write(self, stem: Path) -> Path:
        """Write what it computes, for who runs it elsewhere: fields of this class, and those of the scales."""
        path = stem.with_suffix(".json")
        path.write_text(json.dumps({"operator": f"a step of {_LSTM}"} | asdict(self), indent=1) + "\n")
        return path


@handles(_LSTM, several=True)
def _lstm(operator: FileOperator, graph: Builder) -> None:
    if not graph.hosts:
        raise PearrayError(f"{_WHY}: with fallback='host' (--fallback host) the host computes them, between products "
                           "on the array")
    lstm, zeros = _scales(operator, graph)
    number = graph.of(operator, 0, "x")
    shape = graph.shape(number)
    if len(shape) != 3:
        raise PearrayError(f"x must have 3 dimensions, not shape {shape}")
    steps, axis = (shape[0], shape[1]), 0 if graph.option(operator, "TimeMajor") else 1
    weights, biases = _matrices(operator, graph)
    name = graph.file.tensors[operator.outputs[0]].name
    constants = [graph.store(f"{name}:{what} weights", value) for what, value in zip(("input", "state"), weights,
                                                                                     strict=True)]
    state, cell = (graph.rows(operator.inputs[place]) for place in _STATES)
    batch, cells = steps[1 - axis], weights[1].shape[1]
    for each in (state, cell):
        if graph.tensor(each).shape != (batch, cells):
            raise PearrayError(f"{each!r} must have shape {(batch, cells)}, not {graph.tensor(each).shape}")
    sums = graph.append(operator, Linear(requant=Sums(zeros[0], 0)), {
        "x": graph.rows(number, (steps[0] * steps[1], shape[2])), "w": constants[0],
        "b": graph.store(f"{name}:biases", biases)}, "sums of the input")
    before: list[str] = []
    for step in range(steps[axis]):
        products = graph.append(operator, Linear(requant=Sums(zeros[1], 0)), {"x": state, "w": constants[1]},
                                f"sums of the state in step {step}")
        is_last = step == steps[axis] - 1
        takes = (sums, products, cell, *(before if is_last else ()))
        if is_last:
            state, cell = (graph.file.tensors[each].name for each in operator.outputs[1:])
        else:
            state, cell = (graph.inner(name, f"{what} of step {step}") for what in ("state", "cell"))
        gives: dict[str, Spec] = {state: ((batch, cells), np.dtype(np.int8)),
                                  cell: ((batch, cells), np.dtype(np.int16))}
        if is_last:
            gives[name] = (*steps, cells), np.dtype(np.int8)
        _append(graph, f"{name}:step {step}", _Gates(lstm, step, steps, axis, tuple(gives)), takes, gives)
        before.append(state)


def _append(graph: Builder, name: str, gates: _Gates, takes: tuple[str, ...], gives: dict[str, Spec]) -> None:
    """Append a step on the host."""
    operator = Hosted(gates, takes, gives, (HostedKind(f"gates of {_LSTM}", 1, name, _WHY),))
    graph.tensors |= {each: Tensor(each, *spec) for each, spec in gives.items()}
    graph.nodes.append(Node(name, operator, dict(zip(operator.required, takes, strict=True)),
                            dict(zip(operator.outputs, gives, strict=True))))


def _places(operator: FileOperator, places: range) -> list[int]:
    """Numbers of the inputs at some places that there are."""
    return [operator.inputs[place] for place in places if place < len(operator.inputs) and operator.inputs[place] >= 0]


def _scales(operator: FileOperator, graph: Builder) -> tuple[Lstm, tuple[int, int]]:
    """Scales of an LSTM, and zero points of its operands.

    Raises
    ------
    PearrayError
        If it is one of those that are not known here.
    """
    for what, places in _OTHERS.items():
        if _places(operator, places):
            raise PearrayError(f"it must be without {what}: only gates of the input and of the state are known")
    if graph.option(operator, "FusedActivationFunction") != _TANH:
        raise PearrayError("its activation must be TANH")
    x = graph.stored(graph.of(operator, 0, "x"), "x")
    hidden = graph.stored(graph.of(operator, _STATES[0], "its hidden state"), "its hidden state")
    cell = graph.entry(graph.of(operator, _STATES[1], "its cell state"))
    mantissa, exponent = np.frexp(cell.scale[0]) if cell.scale.size == 1 else (0, 0)
    if cell.kind != "INT16" or mantissa != 0.5 or not 9 <= 1 - exponent <= 15 or np.any(cell.zero_point):
        raise PearrayError(f"its cell state must be int16 with a scale of 2**-15 to 2**-9 and the zero point 0, not "
                           f"{cell.kind.lower()} with {cell.scale.tolist()} and {cell.zero_point.tolist()}")
    if len(operator.intermediates) != 5:
        raise PearrayError(f"it must have 5 intermediate tensors, which say how it stores results, not "
                           f"{len(operator.intermediates)}")
    made = graph.stored(operator.intermediates[4], "its result")
    groups = [_places(operator, places) for places in (_X, _HIDDEN, _BIASES)]
    if len({len(group) for group in groups}) > 1 or len(groups[0]) not in (3, 4):
        raise PearrayError(f"it must have weights and biases of 3 or 4 gates, not of {[len(each) for each in groups]}")
    x_scales, hidden_scales = (tuple(graph.stored(number, "weights").scale for number in group)
                               for group in groups[:2])
    clip = graph.option(operator, "CellClip")
    bound = int(min(clip / float(cell.scale[0]), 32767.0)) if clip > 0 else 0
    return Lstm(x.scale, hidden.scale, x_scales, hidden_scales, made.scale, int(made.zero_point), 1 - int(exponent),
                bound), (int(x.zero_point), int(hidden.zero_point))


def _matrices(operator: FileOperator, graph: Builder) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights of the input and of the hidden state, those of all gates below one another, and biases."""
    found = []
    for places in (_X, _HIDDEN, _BIASES):
        values = [graph.known(operator, place, "weights") for place in places if operator.inputs[place] >= 0]
        found.append(np.ascontiguousarray(np.concatenate(values)))
    return found[:2], found[2]
