"""From what a routine computes to instructions: which values outlive passes, in which order, in which registers.

Values that are alike in all passes, as constants, are made once, by instructions of their own that run before; there
may not be enough registers for all of them, and then constants that fewest instructions read are set again where they
are read, and after them loads are done again.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ...hdl.errors import PearrayError
from ...hdl.routines.instructions import REGISTERS, Operation
from .values import Effect, Lane, Value

__all__ = ["Assembled", "Line", "assemble"]

_LOADS = Operation.LOAD_WORD, Operation.LOAD_NARROW


@dataclass(frozen=True, kw_only=True)
class Line:
    """An instruction; one of memory names what it loads or stores, of which nobody knows the place yet."""

    operation: Operation
    dst: int = 0
    arguments: tuple[int, ...] = ()
    literal: int = 0
    name: str = ""


@dataclass(frozen=True)
class Assembled:
    """Instructions of a routine.

    Parameters
    ----------
    before : list of Line
        Those that run once before all passes.
    each : list of Line
        Those of each pass.
    """

    before: list[Line]
    each: list[Line]


class _NoRegisterError(Exception):
    """There are not enough registers."""


def assemble(name: str, lane: Lane, states: Sequence[str], fixed: Collection[str], repeats: bool) -> Assembled:
    """Assemble a routine.

    Parameters
    ----------
    name : str
        For messages.
    lane : Lane
        What it computes.
    states : sequence of str
        Names of all states, which have the last registers.
    fixed : collection of str
        Sources that have the same element in all passes.
    repeats : bool
        Whether there may be several passes, so that what is alike in all is done before.

    Raises
    ------
    PearrayError
        If there are not enough registers.
    """
    homes = {state: REGISTERS - 1 - number for number, state in enumerate(states)}
    if len(homes) > REGISTERS:
        raise PearrayError(f"{name}: a routine must have at most {REGISTERS} states, not {len(homes)}")
    effects = [effect for effect in _apart(lane) if not effect.is_state or effect.name in homes]
    kept = _invariant(effects, fixed) if repeats else []
    readers = Counter(argument for value in _reached(effects) for argument in value.arguments)
    constants = sorted((value for value in kept if value.operation is Operation.SET), key=lambda each: readers[each])
    others = [value for value in kept if value.operation is not Operation.SET]
    for again in ((), (Operation.SET,), (Operation.SET, *_LOADS)):
        for count in range(len(constants) + 1):
            try:
                return _assembled(effects, others + constants[count:], homes, again)
            except _NoRegisterError:
                continue
    raise PearrayError(f"{name}: a routine must need at most {REGISTERS} registers, {len(homes)} of them for states")


def _apart(lane: Lane) -> list[Effect]:
    """Effects of a lane, in which no state becomes what another was without a copy of that."""
    return [Effect(each.name, lane.bit_or(each.value, each.value), True)
            if each.is_state and each.value.operation is None else each for each in lane.effects]


def _reached(effects: Sequence[Effect]) -> Iterator[Value]:
    """All values that effects need, each once."""
    found, waiting = set[Value](), [effect.value for effect in effects]
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += value.arguments
            yield value


def _invariant(effects: Sequence[Effect], fixed: Collection[str]) -> list[Value]:
    """Values that are alike in all passes and are read by others, or by effects."""
    known: dict[Value, bool] = {}

    def is_same(value: Value) -> bool:
        if value not in known:
            if value.operation in _LOADS:
                known[value] = value.name in fixed
            else:
                known[value] = (value.operation not in (None, Operation.INDEX)
                                and all(map(is_same, value.arguments)))
        return known[value]

    found = dict[Value, None]()
    for value in _reached(effects):
        if not is_same(value):
            found |= dict.fromkeys(filter(is_same, value.arguments))
    found |= dict.fromkeys(effect.value for effect in effects if is_same(effect.value))
    return [*found]


def _assembled(effects: Sequence[Effect], kept: Sequence[Value], homes: dict[str, int],
               again: Collection[Operation]) -> Assembled:
    free = [register for register in range(REGISTERS) if register not in homes.values()]
    before = _Writer(free, {}, {}, again)
    for value in kept:
        before.keep(value)
    places = {value: before.registers[value] for value in kept}
    each = _Writer([register for register in free if register not in places.values()], homes, places, again)
    each.write(effects)
    return Assembled(before.lines, each.lines)


class _Writer:
    """Writes instructions, with registers for what they make.

    Parameters
    ----------
    free : list of int
        Registers that are free.
    homes : dict of str to int
        Those of states.
    kept : dict of Value to int
        Those of values that stand all the time.
    again : collection of Operation
        What is done again for each reader.
    """

    def __init__(self, free: list[int], homes: dict[str, int], kept: dict[Value, int],
                 again: Collection[Operation]):
        self.lines: list[Line] = []
        self.registers = dict(kept)
        self._free, self._homes, self._kept = sorted(free, reverse=True), homes, set(kept)
        self._again = again
        #: Readers that are left of each value, and of what states were.
        self._left: Counter[Value] = Counter()
        #: Values that become states, and states that have become theirs.
        self._becoming: dict[Value, str] = {}
        self._needs: dict[Value, int] = {}

    def keep(self, value: Value) -> None:
        """Compute a value that stays."""
        self._kept.add(value)
        if value not in self.registers:
            self._count([value])
            self._make(value, is_shared=True)

    def write(self, effects: Sequence[Effect]) -> None:
        """Compute what effects need, one after another, and let states become what they do."""
        self._count([effect.value for effect in effects])
        for effect in effects:
            if effect.is_state and effect.value not in self._kept and effect.value not in self._becoming:
                self._becoming[effect.value] = effect.name
        for effect in effects:
            register = self._make(effect.value)
            if not effect.is_state:
                operation = Operation.STORE_WORD
                self.lines.append(Line(operation=operation, arguments=(register,), name=effect.name))
                self._release(effect.value, register)
        for effect in effects:
            if effect.is_state:
                home, register = self._homes[effect.name], self._make(effect.value)
                if register != home:
                    self.lines.append(Line(operation=Operation.OR, dst=home, arguments=(register, register)))

    def _count(self, values: Sequence[Value]) -> None:
        """Count the readers of all that values need; those of states' ends never end."""
        waiting, found = list(values), set[Value]()
        self._left.update(values)
        while waiting:
            value = waiting.pop()
            if value in found or value in self.registers:
                continue
            found.add(value)
            self._left.update(value.arguments)
            waiting += value.arguments

    def _needed(self, value: Value) -> int:
        """About how many registers it takes to compute a value (Sethi and Ullman 1970)."""
        if value not in self._needs:
            needs = sorted((self._needed(each) for each in value.arguments if each not in self._kept), reverse=True)
            self._needs[value] = max([1, *(need + place for place, need in enumerate(needs))])
        return self._needs[value]

    def _make(self, value: Value, is_shared: bool = False) -> int:
        """Register of a value, which is computed if it does not stand."""
        if value in self.registers:
            return self.registers[value]
        if value.operation is None:
            return self._homes[value.name]
        found: dict[Value, int] = {}
        for argument in sorted(dict.fromkeys(value.arguments), key=self._needed, reverse=True):
            found[argument] = self._make(argument)
        for argument in value.arguments:
            self._release(argument, found[argument])
        register = self._place(value)
        self.lines.append(Line(operation=value.operation, dst=register, literal=value.literal, name=value.name,
                               arguments=tuple(found[argument] for argument in value.arguments)))
        if is_shared or not (value.operation in self._again and value not in self._becoming):
            self.registers[value] = register
        return register

    def _place(self, value: Value) -> int:
        """Register for a value: a state's own, if that is what it becomes and nobody reads what the state was."""
        state = self._becoming.get(value)
        if state is not None and not any(each.operation is None and each.name == state and count > 0
                                         for each, count in self._left.items()):
            return self._homes[state]
        if not self._free:
            raise _NoRegisterError
        return self._free.pop()

    def _release(self, value: Value, register: int) -> None:
        """Note that a reader of a value has read it."""
        self._left[value] -= 1
        if value in self._kept or value.operation is None or register in self._homes.values():
            return
        if value not in self.registers or self._left[value] <= 0:
            # What is made again for the next reader has a register of its own.
            self.registers.pop(value, None)
            if register not in self._free:
                self._free.append(register)
