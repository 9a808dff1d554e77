"""Where a routine's elements stand on chip, and its instructions: how units are spread over lanes, slots and passes.

Lanes times slots make the units of a tile, which go through their steps together, a pass for each. What units load in
each step stands in one of two halves of the vector memory, that of the next passes comes into the other meanwhile. What
is the same in all steps is loaded once, into a place of its own, and read before the first pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..hdl.errors import PearrayError
from ..hdl.routines.instructions import ELEMENT_BITS, INSTRUCTIONS, SLOTS, Instruction, Operation
from ..hdl.shell.config import Config
from .kernels.routine import Elements, Phase, Routine
from .operators.moved import OUTSIDE
from .routines.assembler import Assembled, Line, assemble
from .routines.values import Lane

__all__ = ["ABSENT", "Area", "Layout", "Stage"]

#: Place of what is neither loaded nor stored.
ABSENT = OUTSIDE - 1


@dataclass(frozen=True)
class Area:
    """Where elements of a source or result stand on chip, in groups of as many as there are lanes.

    Parameters
    ----------
    offset : int
        First group of words behind the base of a command.
    step, slot_step : int
        Groups of elements from one pass, and slot, to the next.
    item : int
        Bytes of an element.
    """

    offset: int
    step: int
    slot_step: int
    item: int

    def instruction(self, line: Line) -> Instruction:
        """Instruction of memory of a line."""
        operation = line.operation
        if operation is Operation.STORE_WORD and self.item < 4:
            operation = Operation.STORE_NARROW
        fields = {"offset": self.offset * 4 // self.item, "step": self.step, "slot_step": self.slot_step}
        if operation.is_store:
            return Instruction(op=operation, a=line.arguments[0], **fields)
        return Instruction(op=operation, dst=line.dst, **fields)


@dataclass(frozen=True)
class Stage:
    """Instructions of a phase.

    Parameters
    ----------
    phase : Phase
        The phase.
    before, each : range
        Instructions that run once before it, and those of each pass.
    sources, fixed, results : tuple of str
        What is loaded in each pass, what before the first, and what is stored.
    """

    phase: Phase
    before: range
    each: range
    sources: tuple[str, ...]
    fixed: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """A kernel of routines on a configuration.

    Raises
    ------
    PearrayError
        If the vector memory or the output scratchpad cannot hold what one pass needs, or there are too few registers,
        or instructions.
    """

    kernel: Routine
    config: Config

    @property
    def lanes(self) -> int:
        """Lanes."""
        return self.config.post.lanes

    @property
    def group(self) -> int:
        """Bytes of a group of words."""
        return 4 * self.lanes

    @cached_property
    def assembled(self) -> list[tuple[Phase, Assembled]]:
        """Instructions of each phase, whose places in memories nobody knows yet."""
        kernel, found = self.kernel, []
        narrow = {name: each.buffer.item < 4 for name, each in (*kernel.sources.items(), *kernel.results.items())}
        fixed = {name for name, each in kernel.sources.items() if self._stays(each)}
        for phase in kernel.phases:
            lane = Lane(narrow)
            phase.body(lane)
            found.append((phase, assemble(kernel.name, lane, kernel.states, fixed, phase.repeats)))
        return found

    @cached_property
    def slots(self) -> int:
        """Slots that are used: as many as there are units for, and room."""
        slots = min(SLOTS, -(-self.kernel.units // self.lanes))
        while slots > 1 and (self._half(slots) < self._in_pass(slots, self.varying)
                             or self._half_out < self._in_pass(slots, self.kernel.results)):
            slots -= 1
        config, name = self.config, self.kernel.name
        for key, room, given in (("vector_bytes", self._half(slots), self.varying),
                                 ("output_bytes", self._half_out, self.kernel.results)):
            if room < self._in_pass(slots, given):
                raise PearrayError(f"{name}: scratchpads.{key} must be greater to hold {len(given)} groups of "
                                   f"{self.lanes} numbers twice, not {getattr(config.scratchpads, key)}")
        return slots

    @property
    def varying(self) -> dict[str, Elements]:
        """Sources that are loaded for each pass."""
        return {name: each for name, each in self.kernel.sources.items() if not self._stays(each)}

    @property
    def fixed(self) -> dict[str, Elements]:
        """Sources that are loaded once for each tile, or once."""
        return {name: each for name, each in self.kernel.sources.items() if self._stays(each)}

    @property
    def fixed_groups(self) -> int:
        """Groups of words of what is loaded once."""
        return self._in_pass(self.slots, self.fixed)

    def _fixed_places(self) -> int:
        """Places of what is loaded once for a tile: two that take turns if that is more than numbers for all."""
        return 2 if any(each.places.size > 1 for each in self.fixed.values()) else min(1, len(self.fixed))

    def _half(self, slots: int) -> int:
        """Groups of words of a half of the vector memory, behind what is loaded once."""
        whole = self.config.vector_bytes // self.group
        return min((whole - self._fixed_places() * self._in_pass(slots, self.fixed)) // 2, self._most_groups)

    @property
    def _most_groups(self) -> int:
        """Groups of words of which the shortest elements' numbers fit an instruction, and rows of one a command."""
        return min((1 << ELEMENT_BITS) // 4 - 1, ((1 << 16) - 1) // self.lanes)

    @property
    def half(self) -> int:
        """Groups of words of a half of the vector memory."""
        return self._half(self.slots)

    @property
    def _half_out(self) -> int:
        return min(self.config.scratchpads.output_bytes // self.group // 2, self._most_groups)

    def base(self, half: int) -> int:
        """First group of words of a half."""
        return self._fixed_places() * self.fixed_groups + half * self.half

    def fixed_base(self, tile: int) -> int:
        """First group of words of what is loaded once for a tile."""
        return tile % max(self._fixed_places(), 1) * self.fixed_groups

    def out_base(self, half: int) -> int:
        """First byte of a half of the output scratchpad."""
        return half * self._half_out * self.group

    def _in_pass(self, slots: int, elements: Mapping[str, Elements], passes: int = 1) -> int:
        """Groups of words of elements in some passes."""
        return sum(self._groups(each, slots, passes) for each in elements.values())

    def _groups(self, each: Elements, slots: int, passes: int) -> int:
        many = (1 if each.places.shape[1] == 1 else slots) * (1 if self._stays(each) else passes)
        return -(-many * each.buffer.item // 4)

    def _stays(self, each: Elements) -> bool:
        """Whether an element is the same in all passes."""
        return each.places.size == 1 or (each.is_fixed and not self.kernel.is_flat)

    @cached_property
    def units(self) -> int:
        """Units of a tile."""
        return self.slots * self.lanes

    @cached_property
    def passes(self) -> int:
        """Passes of what half of the memories holds."""
        steps = self.steps
        while steps > 1 and (self.half < self._in_pass(self.slots, self.varying, steps)
                             or self._half_out < self._in_pass(self.slots, self.kernel.results, steps)):
            steps = steps - 1 if steps < 64 else steps * 63 // 64
        return min(steps, (1 << 16) - 1)

    @cached_property
    def steps(self) -> int:
        """Steps of a tile."""
        return -(-self.kernel.units // self.units) if self.kernel.is_flat else self.kernel.steps

    @cached_property
    def tiles(self) -> int:
        """Tiles."""
        return 1 if self.kernel.is_flat else -(-self.kernel.units // self.units)

    @cached_property
    def areas(self) -> tuple[dict[str, Area], dict[str, Area]]:
        """Where each source and each result stands."""
        found: tuple[dict[str, Area], dict[str, Area]] = {}, {}
        for side, some, passes in ((0, self.fixed, 1), (0, self.varying, self.passes),
                                   (1, self.kernel.results, self.passes)):
            offset = 0
            for name, each in some.items():
                slot_step = 0 if each.places.shape[1] == 1 else 1
                step = 0 if self._stays(each) else self.slots if slot_step else 1
                found[side][name] = Area(offset, step, slot_step, each.buffer.item)
                offset += self._groups(each, self.slots, passes)
        return found

    @cached_property
    def code(self) -> tuple[list[Stage], list[Instruction]]:
        """Stages of all phases, and their instructions."""
        stages, whole = list[Stage](), list[Instruction]()
        for phase, assembled in self.assembled:
            ranges, read, made = list[range](), dict[str, None](), dict[str, None]()
            for lines in (assembled.before, assembled.each):
                first = len(whole)
                whole += map(self._instruction, lines)
                ranges.append(range(first, len(whole)))
                for line in lines:
                    if line.name:
                        (made if line.operation.is_store else read)[line.name] = None
            before, each = ranges
            stages.append(Stage(
                phase, before, each, sources=tuple(name for name in read if name in self.varying),
                fixed=tuple(name for name in read if name in self.fixed), results=tuple(made)))
        if len(whole) > INSTRUCTIONS:
            raise PearrayError(f"{self.kernel.name}: a routine must have at most {INSTRUCTIONS} instructions, not "
                               f"{len(whole)}")
        return stages, whole

    def _instruction(self, line: Line) -> Instruction:
        if line.operation is Operation.INDEX:
            return Instruction(op=line.operation, dst=line.dst, step=self.slots, slot_step=1)
        if line.operation.is_memory:
            return self.areas[line.operation.is_store][line.name].instruction(line)
        registers = dict(zip("abc", line.arguments, strict=False))
        return Instruction(op=line.operation, dst=line.dst, literal=line.literal, **registers)

    def places(self, each: Elements, tile: int, first: int, end: int) -> np.ndarray:
        """Places of elements of a tile in steps from one to another: (steps, slots or 1, lanes), as they stand on chip.

        Those that stand for several units are there for each lane.
        """
        if each.places.size == 1:
            return np.full((1, 1, self.lanes), each.places.item())
        if self.kernel.is_flat:
            flat = each.places[0, first * self.units:end * self.units]
            found = np.full((end - first) * self.units, ABSENT)
            found[:flat.size] = flat
            return found.reshape(end - first, self.slots, self.lanes)
        rows = each.places if each.is_fixed else each.places[first:end]
        if each.places.shape[1] == 1:
            return np.repeat(rows[:, :, None], self.lanes, axis=2)
        own = rows[:, tile * self.units:(tile + 1) * self.units]
        padded = np.full((len(own), self.units), ABSENT)
        padded[:, :own.shape[1]] = own
        return padded.reshape(len(own), self.slots, self.lanes)
