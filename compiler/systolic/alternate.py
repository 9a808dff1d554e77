"""Groups of two layers by turns, so that post-processing of one has its time while the array works on the other.

A layer of few products for each output keeps lanes busy for longer than the array, which waits for them; one of many
keeps the array busy, and lanes wait. If the second reads what the first makes, its groups follow as soon as what they
read has been stored for a while, and both take hardly longer than array or lanes have to do for both together. Since
there are two banks of sums, turns are worth most where a group of the one takes the array as long as lanes take for one
of the other.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise, product, starmap
from typing import NamedTuple

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.views import Buffer
from ..placement import MemoryPlan
from .layer import Layer
from .steps import ContractionStep
from .strips import Stage
from .timing import Latencies, execution

__all__ = ["Turns", "keeps_lanes_busy", "pairs"]

_Steps = Sequence[ContractionStep]

#: Share of the cycles of two layers that turns must be able to spare to be looked at.
_WORTH = 0.05

#: How much later than it could the second layer comes, in the time between two of its strips.
_LAGS = (0.5, 1.0)

#: Groups of the second layer, and other ones of the first, over what they would be.
_SECONDS, _FIRSTS = (1.0, 0.75, 0.5, 0.35), (0.75, 0.5)


class _Choice(NamedTuple):
    """Sizes of groups of both layers over what they would be, and the lag."""

    first: float = 1.0
    second: float = 1.0
    lag: float = _LAGS[0]


class Turns:
    """Two layers that follow one another, the second of which reads what the first makes.

    Parameters
    ----------
    first, second : Stage
        These.
    """

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, first: Stage, second: Stage):
        self.stages = first, second
        self._layers = [Layer(stage.problem, config, timing) for stage in self.stages]
        self._choice = _Choice()

    @property
    def between(self) -> Buffer:
        """What the first makes."""
        return self.stages[0].problem.y.buffer

    def lowered(self, plan: MemoryPlan) -> tuple[list[ContractionStep], list[ContractionStep]]:
        """Steps of both layers, with groups as chosen."""
        first, second = (stage.way.finer(share)(layer, plan)
                         for stage, share, layer in zip(self.stages, self._choice[:2], self._layers, strict=True))
        return first, second

    def steps(self, first: _Steps, second: _Steps) -> list[ContractionStep]:
        """Steps of both by turns."""
        return _alternated(first, second, self.between, self._choice.lag)

    def choose(self, price: Callable[[_Steps], float], has_time: Callable[[], bool]) -> float:
        """Choose sizes of groups and the lag, and return how many cycles less both take than one after the other.

        Nothing more is tried once there is no time left.
        """
        def priced(choice: _Choice) -> float:
            if not has_time():
                return float("inf")
            self._choice = choice
            try:
                return price(self.steps(*self.lowered(MemoryPlan(keep=False))))
            except PearrayError:
                return float("inf")

        usual = price([step for stage in self.stages for step in stage.steps])
        best, chosen = min((priced(choice), choice) for choice in starmap(_Choice, product((1.0,), _SECONDS, _LAGS)))
        for choice in [chosen._replace(first=share) for share in _FIRSTS]:
            best, chosen = min((best, chosen), (priced(choice), choice))
        self._choice = chosen
        return usual - best


def pairs(config: SystolicConfig, timing: MemoryTiming, stages: Sequence[Stage]) -> Iterator[Turns]:
    """Yield layers that may take turns, and of which the array has as much less to do than lanes as the other more."""
    busy = [_busy(config, stage.steps) for stage in stages]
    for (first, second), each in zip(pairwise(stages), pairwise(busy), strict=True):
        one_by_one = sum(int(cycles.max()) for cycles in each)
        if one_by_one - int(np.add(*each).max()) >= _WORTH * one_by_one and _may_alternate(first, second):
            yield Turns(config, timing, first, second)


def keeps_lanes_busy(config: SystolicConfig, steps: _Steps) -> bool:
    """Whether post-processing of a layer takes so much longer than the array that the next may take turns with it."""
    array, lanes = _busy(config, steps)
    return bool(lanes - array >= _WORTH * lanes)


def _may_alternate(first: Stage, second: Stage) -> bool:
    """Whether the second of two layers reads what the first makes, and stores nothing where that still reads."""
    between, last = first.problem.y.buffer, second.problem.y.buffer
    return (any(buffer is between for buffer in second.reads) and first.problem.name != second.problem.name
            and not any(buffer.address < last.address + last.nbytes and last.address < buffer.address + buffer.nbytes
                        for buffer in first.reads_all))


def _busy(config: SystolicConfig, steps: _Steps) -> np.ndarray:
    """Cycles in which the array is busy with some steps, and lanes with their outputs."""
    latencies = Latencies.of(config)
    array = [execution(config, step.body) for step in steps]
    outputs = [output for group in {id(step.group): step.group for step in steps}.values() for output in group.outputs]
    return np.array([sum(each.tiles * each.period for each in array),
                     sum(latencies.posting(output.body).walked for output in outputs)])


def _groups(steps: _Steps) -> list[list[ContractionStep]]:
    """Steps of each group."""
    return [list(group) for _, group in groupby(steps, key=lambda step: id(step.group))]


def _needs(before: Sequence[_Steps], behind: Sequence[_Steps], between: Buffer) -> np.ndarray:
    """Groups of the first layer that must have been computed before each of the second's."""
    made = np.zeros(between.rows, np.int64)
    for number, group in enumerate(before, start=1):
        for output in group[0].group.outputs:
            buffer, rows, _ = output.target
            if buffer is between:
                made[rows] = number
    needs = [max((int(made[first // between.columns:-(-end // between.columns)].max(initial=0))
                  for step in group for use in step.operands for piece in use.tile.pieces[:use.pieces]
                  for buffer, first, end in piece.sources if buffer is between), default=0) for group in behind]
    return np.maximum.accumulate(needs)


def _alternated(first: _Steps, second: _Steps, between: Buffer, lag: float) -> list[ContractionStep]:
    """Steps of two layers by turns.

    Groups of the second that could begin at once are spread over those of the first up to where others could, and all
    come later than that by `lag` of the time between these.
    """
    before, behind = _groups(first), _groups(second)
    begins, counts = np.unique(_needs(before, behind, between), return_counts=True)
    apart = np.diff(begins)
    apart = np.append(apart, apart[-1:] if len(apart) else [0])
    places = np.concatenate([begin + width * (lag + np.arange(count) / count)
                             for begin, width, count in zip(begins, apart, counts, strict=True)])
    found, at = list[ContractionStep](), 0
    for number, group in enumerate(before):
        while at < len(behind) and places[at] <= number:
            found += behind[at]
            at += 1
        found += group
    return found + [step for group in behind[at:] for step in group]
