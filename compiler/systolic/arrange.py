"""Order of all steps, and what stays on chip: whole tensors, and strips of those between the layers of a chain."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import COMMAND_BYTES, Opcode
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.views import Buffer
from ..placement import MemoryPlan
from ..program import Program
from ..residency import NEVER, Arrangement, Price, Search
from ..steps import Step, all_of
from ..timing.latencies import UnendingError
from .alternate import Turns, pairs
from .layer import Layer
from .schedule import schedule
from .steps import ContractionStep
from .strips import Chain, Stage, chains
from .timeline import timeline

__all__ = ["arrange", "price_of", "rooms"]

#: Scratchpads that MOVEs reach, and their sizes among those of a configuration.
_OPERANDS = {Destination.ACTIVATION.value: "activation_bytes", Destination.WEIGHT.value: "weight_bytes"}

#: Stages of a chain at most, and numbers of strips that are tried from the least on that may do.
_LONGEST, _TRIES = 4, 6

#: Steps of programs that are timed to find what stays on chip and chains, which bounds the time it takes; programs that
#: are timed for that in any case; and how many times as many steps are timed to find layers that take turns.
_MOST_STEPS, _LEAST_TRIES, _FOR_TURNS = 8_000, 3, 4

#: Share of a program's cycles that layers must spare by turns: what each takes can't be told then.
_WORTH = 0.005


#: Steps of stages that have been lowered anew, by the identity of these.
_Made = dict[int, list[ContractionStep]]

#: Steps of two stages.
_Both = tuple[list[ContractionStep], list[ContractionStep]]


class _Cut(NamedTuple):
    """A chain, how it is cut, and what that saves of its price."""

    saved: float
    chain: Chain
    strips: int
    lags: tuple[int, ...]
    parts: int = 2

    def steps(self, plan: MemoryPlan) -> list[list[list[ContractionStep]]]:
        """Steps of the strips of all stages."""
        return self.chain.strips(self.strips, self.parts, plan)


def _turns(count: int, lags: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stage and strip of each turn, where stage k is ``lags[k]`` strips behind the first."""
    for turn in range(count + lags[-1]):
        for stage, lag in enumerate(lags):
            if 0 <= turn - lag < count:
                yield stage, turn - lag


def _lags(stages: int) -> list[tuple[int, ...]]:
    """How far stages may be behind one another: not at all, the last by a strip, each by a strip."""
    return list(dict.fromkeys([(0,) * stages, (*[0] * (stages - 1), 1), tuple(range(stages))]))


def _in_turn(strips: Sequence[Sequence[list[ContractionStep]]], lags: Sequence[int]) -> list[Step]:
    """Steps of a chain's strips in the order of their turns."""
    return [step for stage, strip in _turns(len(strips[0]), lags) for step in strips[stage][strip]]


def rooms(config: SystolicConfig) -> dict[int, int]:
    """Scratchpads that MOVEs reach, and their bytes."""
    return {memory: getattr(config.scratchpads, name) for memory, name in _OPERANDS.items()}


def price_of(config: SystolicConfig, timing: MemoryTiming, program: Program) -> Price:
    """Cycles of a program, and the beats that it moves through memory."""
    beat = config.beat_bytes
    traffic = program.length * COMMAND_BYTES / beat
    for stream, _, body, _, _ in program.entries():
        if stream.opcode in (Opcode.LOAD, Opcode.STORE) and not body.get("fill") and not body.get("profile"):
            traffic += -(-body["length"] // beat) * body["count1"] * body["count2"]
    try:
        return Price(float(timeline(config, program, timing).cycles), traffic)
    except UnendingError:
        return NEVER


class _Arranger:
    """Looks for the best arrangement of some stages."""

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, stages: Sequence[Stage],
                 wanted: Collection[Buffer]):
        self._config, self._timing, self._stages = config, timing, stages
        self._wanted = wanted
        self.search = Search(wanted, rooms(config), self._price, self.has_time)
        self._left = max(_MOST_STEPS, _LEAST_TRIES * sum(len(stage.steps) for stage in stages))

    def has_time(self) -> bool:
        """Whether more may be tried."""
        return self._left > 0

    def _price(self, steps: Sequence[Step]) -> Price:
        """Cycles of the program of some steps, and the beats that it moves through memory."""
        self._left -= len(steps)
        return price_of(self._config, self._timing,
                     schedule(self._config, self._timing, all_of(ContractionStep, steps)))

    def _overlaps(self, chain: Chain) -> bool:
        """Whether the chain's output stands in memory where it still reads something when it is half done."""
        last = chain.stages[-1].problem.y.buffer
        read = {id(buffer): buffer for stage in chain.stages for buffer in stage.reads
                if not any(buffer is each for each in chain.between)}
        return any(buffer.address < last.address + last.nbytes and last.address < buffer.address + buffer.nbytes
                   for buffer in read.values())

    def cuts(self, kept: Collection[Buffer]) -> list[_Cut]:
        """Chains that are worth to be cut, no two of which share a stage, the best first.

        Those between whose layers all tensors are `kept` as they are need not be.
        """
        found: list[_Cut] = []
        for run in chains(self._stages, self._wanted, _LONGEST):
            chain = Chain(run, [Layer(stage.problem, self._config, self._timing) for stage in run])
            is_whole = all(buffer in kept for buffer in chain.between)
            if self.has_time() and not is_whole and not self._overlaps(chain):
                cut = self._best_cut(chain)
                found += [cut] if cut is not None else []
        chosen: list[_Cut] = []
        for cut in sorted(found, key=lambda cut: -cut.saved):
            if not any(stage in other.chain.stages for other in chosen for stage in cut.chain.stages):
                chosen.append(cut)
        return chosen

    def _best_cut(self, chain: Chain) -> _Cut | None:
        """The best number and order of strips of a chain, if it is no slower alone than layer by layer."""
        whole = [step for stage in chain.stages for step in stage.steps]
        usual = self.search.price(whole, [])
        least, _ = self.search.most(whole, usual)
        best: _Cut | None = None
        choices = [(count, lags, 2) for count in self._counts(chain) for lags in _lags(len(chain.stages))]
        for choice in choices:
            best = self._better(_Cut(0.0, chain, *choice), best, usual, least)
        for parts in (1, 3, 4):
            if best is not None:
                best = self._better(best._replace(parts=parts), best, usual, least)
        return best

    def _better(self, cut: _Cut, best: _Cut | None, usual: Price, least: Price) -> _Cut | None:
        """A cut that saves more of the `least` price than the `best` so far, or that."""
        try:
            strips = cut.steps(MemoryPlan(keep=False))
        except PearrayError:
            return best
        price = self.search.price(_in_turn(strips, cut.lags), cut.chain.between) if self.has_time() else NEVER
        cut = cut._replace(saved=least.total - price.total)
        return cut if price.cycles <= usual.cycles and cut.saved > (best.saved if best is not None else 0) else best

    def _counts(self, chain: Chain) -> list[int]:
        """Numbers of strips to try: of the fewest, what all stages read of two may just stand together."""
        room = self._config.scratchpads.activation_bytes
        size = sum(buffer.nbytes for stage in chain.stages for buffer in stage.reads)
        least = max(2, size // room)
        return [count for count in (*range(least, least + _TRIES), 2 * least + _TRIES) if 2 * count <= chain.lines]

    def spliced(self, cuts: Sequence[_Cut], strips: Sequence[list[list[list[ContractionStep]]]]) -> list[Step]:
        """All steps, those of chains strip by strip."""
        steps: list[Step] = []
        firsts = {id(cut.chain.stages[0]): (cut, each) for cut, each in zip(cuts, strips, strict=True)}
        inside = {id(stage) for cut in cuts for stage in cut.chain.stages}
        for stage in self._stages:
            if id(stage) in firsts:
                cut, each = firsts[id(stage)]
                steps += _in_turn(each, cut.lags)
            elif id(stage) not in inside:
                steps += stage.steps
        return steps

    def by_turns(self, steps: Sequence[Step], kept: Collection[Buffer], made: Collection[int],
                 plan: MemoryPlan) -> tuple[_Made, list[Step]]:
        """Steps of layers that take turns, and all of these; of none if turns make the program no faster.

        Layers that have been `made` anew, or between which a tensor is `kept`, go on one behind the other, and so do
        those that there is no time to look at.
        """
        chosen: list[Turns] = []
        self._left = _FOR_TURNS * _MOST_STEPS
        names = Counter(stage.problem.name for stage in self._stages)
        for turns in pairs(self._config, self._timing, self._stages):
            if not self.has_time():
                break
            if (turns.between in kept or turns.between in self._wanted
                    or any(id(stage) in made or names[stage.problem.name] > 1
                           or any(stage in other.stages for other in chosen) for stage in turns.stages)):
                continue
            if turns.choose(lambda some: self.search.price(some, []).cycles, self.has_time) > 0:
                chosen.append(turns)
        if not chosen:
            return {}, list(steps)
        before = self.search.price(steps, kept)
        found = self._turned(steps, [(turns, turns.lowered(MemoryPlan(keep=False))) for turns in chosen])
        if self.search.price(found, kept).cycles > (1 - _WORTH) * before.cycles:
            return {}, list(steps)
        for turns in chosen:
            for stage in turns.stages:
                plan.unpack(stage.problem.name)
        lowered = [(turns, turns.lowered(plan)) for turns in chosen]
        anew = {id(stage): own for turns, both in lowered for stage, own in zip(turns.stages, both, strict=True)}
        return anew, self._turned(steps, lowered)

    @staticmethod
    def _turned(steps: Sequence[Step], lowered: Sequence[tuple[Turns, _Both]]) -> list[Step]:
        """Steps with those of layers that take turns in the place of theirs."""
        inside = {id(step) for turns, _ in lowered for stage in turns.stages for step in stage.steps}
        firsts = {id(turns.stages[0].steps[0]): turns.steps(*both) for turns, both in lowered}
        found: list[Step] = []
        for step in steps:
            found += firsts.get(id(step), [] if id(step) in inside else [step])
        return found


def arrange(config: SystolicConfig, timing: MemoryTiming, plan: MemoryPlan, stages: Sequence[Stage],
            layers: Sequence[Sequence[Step]], wanted: Collection[Buffer]) -> Arrangement:
    """Arrange the steps of all layers so that they are no slower than one after the other through memory.

    Parameters
    ----------
    plan : MemoryPlan
        Where constants go that have to be packed anew.
    stages : sequence of Stage
        Parts of the layers, in order.
    layers : sequence of sequence of Step
        Steps of each layer.
    wanted : collection of Buffer
        Tensors that must be in memory at the end.
    """
    order = Arrangement.in_order(layers)
    if not any(buffer.is_made for stage in stages for buffer in stage.reads_all):
        return order
    arranger = _Arranger(config, timing, stages, wanted)
    search = arranger.search
    usual = search.price(order.steps, [])
    price, kept = search.most(order.steps, usual)
    cuts, made = arranger.cuts(kept), _Made()
    while cuts:
        steps = arranger.spliced(cuts, [cut.steps(MemoryPlan(keep=False)) for cut in cuts])
        between = [buffer for cut in cuts for buffer in cut.chain.between]
        found, held = search.most(steps, usual, between)
        if found.cycles <= usual.cycles and found.total < price.total:
            kept = held
            made, steps = _cut(arranger, cuts, plan)
            order = Arrangement(_anew(stages, layers, made), steps)
            break
        cuts.pop()
    again, steps = arranger.by_turns(order.steps, kept, made, plan)
    if again:
        order = Arrangement(_anew(stages, layers, made | again), steps)
    return order.renewed(search.arranged(order.steps, kept))


def _cut(arranger: _Arranger, cuts: Sequence[_Cut], plan: MemoryPlan) -> tuple[_Made, list[Step]]:
    """Cut chains for good: steps of stages, and of all."""
    strips = []
    for cut in cuts:
        for stage in cut.chain.stages:
            plan.unpack(stage.problem.name)
        strips.append(cut.steps(plan))
    made = {id(stage): [step for strip in each for step in strip] for cut, found in zip(cuts, strips, strict=True)
            for stage, each in zip(cut.chain.stages, found, strict=True)}
    return made, arranger.spliced(cuts, strips)


def _anew(stages: Sequence[Stage], layers: Sequence[Sequence[Step]], made: _Made) -> list[list[Step]]:
    """Steps of each layer, those `made` anew of stages by their identity."""
    found, at = [], 0
    for layer in layers:
        own: list[Step] = []
        left = len(layer)
        while left > 0:
            stage = stages[at]
            own += made.get(id(stage), stage.steps)
            left, at = left - len(stage.steps), at + 1
        found.append(own)
    return found
