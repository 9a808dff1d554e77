"""Commands of routines: LOADs of instructions and elements, POSTs, and STOREs, tile by tile.

LOADs of the passes that come next run under the POST of those before, and so do STOREs of what has been made.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from ..hdl.errors import PearrayError
from ..hdl.routines.instructions import INSTRUCTION_BYTES
from ..hdl.shell.commands import ADDRESS_BITS, Opcode
from ..hdl.shell.config import Config
from .hazards import Hazards, Region
from .kernels.routine import Elements, Routine
from .moves import nested_rows
from .operators.moved import OUTSIDE
from .placement import MemoryPlan
from .program import Program
from .routine_layout import ABSENT, Layout, Stage

__all__ = ["routine_program"]

#: Most steps that are done in one pass.
_UNROLLED = 16

_NEAR = 1 << ADDRESS_BITS


def routine_program(kernel: Routine, config: Config, plan: MemoryPlan) -> Program:
    """Commands of a kernel of routines.

    Raises
    ------
    PearrayError
        If the accelerator's memories do not hold what it needs.
    """
    return _Emitter(_laid_out(kernel, config), plan).run()


def _laid_out(kernel: Routine, config: Config) -> Layout:
    """Layout of a kernel; one of few steps has them in one pass, if registers and memories have room for that."""
    usual = Layout(kernel, config)
    if kernel.is_flat or kernel.steps > _UNROLLED:
        return usual
    found = Layout(kernel.unrolled(), config)
    with suppress(PearrayError):
        if found.code and found.slots == usual.slots:
            return found
    return usual


class _Emitter:
    """Emits the commands of a kernel."""

    def __init__(self, layout: Layout, plan: MemoryPlan):
        self._layout, self._plan, self._kernel = layout, plan, layout.kernel
        config = layout.config
        self.program = Program(config.commands)
        self._hazards = Hazards(self.program)
        self._vector, self._routine = (config.commands.destination[name].value for name in ("VECTOR", "ROUTINE"))
        self._stages, self._instructions = layout.code
        self._number = self._outputs = 0
        #: What stands in each half of the vector memory: tile, and first step of each source.
        self._standing: list[dict[str, tuple[int, int]]] = [{}, {}]

    def run(self) -> Program:
        """Emit all."""
        self._load_instructions()
        for tile in range(self._layout.tiles):
            self._load_fixed(tile)
            for stage in self._stages:
                self._run_stage(stage, tile)
        return self.program

    def _load_instructions(self) -> None:
        code = b"".join(instruction.encode() for instruction in self._instructions)
        address = self._plan.constant(self._kernel.name, len(code), lambda: code)
        self.program.routines[address] = self._instructions
        body = {"destination": self._routine, "dram": address, "length": len(code), "count1": 1, "count2": 1}
        self._hazards.emit(Opcode.LOAD, body | dict.fromkeys(("dram_step1", "dram_step2", "address", "step1", "step2"),
                                                             0), writes=[Region("routine", 0, len(code))])

    def _load_fixed(self, tile: int) -> None:
        """Load what is the same in all steps of a tile."""
        layout = self._layout
        base, groups = layout.fixed_base(tile), layout.fixed_groups
        region = Region("vector", base * layout.group, (base + groups) * layout.group)
        for name, each in layout.fixed.items():
            if each.places.size > 1 or tile < 2:
                self._load(name, each, tile, 0, 1, base, region)

    def _load(self, name: str, each: Elements, tile: int, first: int, end: int, base: int, region: Region) -> None:
        """Load elements of steps from one to another, as they stand in a place from a group on."""
        layout, item = self._layout, each.buffer.item
        places = layout.places(each, tile, first, end).reshape(-1)
        start = (base + layout.areas[0][name].offset) * layout.group
        near = start + np.arange(places.size) * item
        inside, outside = places >= 0, places == OUTSIDE
        for body in _copies(each.buffer.address + places[inside] * item, near[inside], item):
            self._hazards.emit(Opcode.LOAD, {"destination": self._vector} | body, writes=[region])
        for body in _copies(near[outside], near[outside], item):
            fill = {"fill": 1, "value": 0, "dram": 0, "dram_step1": 0, "dram_step2": 0}
            self._hazards.emit(Opcode.LOAD, {"destination": self._vector} | body | fill, writes=[region])

    def _run_stage(self, stage: Stage, tile: int) -> None:
        layout = self._layout
        base = layout.fixed_base(tile)
        region = Region("vector", base * layout.group, (base + layout.fixed_groups) * layout.group)
        if stage.before:
            self._post(stage.before, base, 1, [region] if layout.fixed_groups else [])
        if not stage.phase.repeats:
            self._once(stage, tile, base, [region] if layout.fixed_groups else [])
            return
        for first in range(0, layout.steps, layout.passes):
            self._passes(stage, tile, first, min(first + layout.passes, layout.steps))

    def _once(self, stage: Stage, tile: int, base: int, reads: list[Region]) -> None:
        """Run instructions once, on what is the same in all steps, and store what they make."""
        if stage.each:
            writes, half = self._output(stage)
            self._post(stage.each, base, 1, reads, writes, half)
            self._store(stage, tile, 0, 1, half)

    def _passes(self, stage: Stage, tile: int, first: int, end: int) -> None:
        """Load what some passes need, if it does not stand, run them, and store what they make."""
        layout = self._layout
        known = [half for half in range(2) if all(self._standing[half].get(name) == (tile, first)
                                                  for name in stage.sources)]
        half = known[0] if known else self._number % 2
        region = Region("vector", layout.base(half) * layout.group, (layout.base(half) + layout.half) * layout.group)
        if not known:
            self._number += 1
            for name in stage.sources:
                if self._standing[half].get(name) != (tile, first):
                    self._load(name, layout.varying[name], tile, first, end, layout.base(half), region)
                    self._standing[half][name] = tile, first
        writes, out = self._output(stage)
        self._post(stage.each, layout.base(half), end - first, [region] if stage.sources else [], writes, out,
                   index=first * layout.units)
        self._store(stage, tile, first, end, out)

    def _output(self, stage: Stage) -> tuple[list[Region], int]:
        """Half of the output scratchpad for a stage's results, if it has any, and which."""
        if not stage.results:
            return [], 0
        self._outputs += 1
        half = self._outputs % 2
        first, end = self._layout.out_base(half), self._layout.out_base(half + 1)
        return [Region("output", first, end)], half

    def _post(self, instructions: range, base: int, passes: int, reads: Sequence[Region],
              writes: Sequence[Region] = (), half: int = 0, index: int = 0) -> None:
        layout = self._layout
        body = {"routine": 1, "scale_base": instructions.start, "scale_nstep": len(instructions), "n_count": passes,
                "m_count": layout.slots, "bias_base": base, "out_base": layout.out_base(half), "index": index}
        self._hazards.emit(Opcode.POST, body, [Region("routine", 0, len(self._instructions) * INSTRUCTION_BYTES),
                                               *reads], writes)

    def _store(self, stage: Stage, tile: int, first: int, end: int, half: int) -> None:
        layout = self._layout
        for name in stage.results:
            each = self._kernel.results[name]
            places, item = layout.places(each, tile, first, end).reshape(-1), each.buffer.item
            # One number for all units is every lane's, of which one stores it.
            if each.places.size == 1 or each.places.shape[1] == 1:
                places = np.where(np.arange(places.size) % layout.lanes, ABSENT, places)
            inside = places >= 0
            start = layout.out_base(half) + layout.areas[1][name].offset * layout.group
            near = start + np.arange(places.size) * item
            region = Region("output", layout.out_base(half), layout.out_base(half + 1))
            for body in _copies(each.buffer.address + places[inside] * item, near[inside], item):
                self._hazards.emit(Opcode.STORE, body, reads=[region])


def _copies(far: np.ndarray, near: np.ndarray, item: int) -> Iterator[dict[str, int]]:
    """Bodies of LOADs or STOREs of elements between places in memory and such on chip."""
    if not far.size:
        return
    for source, target, length, *nested in nested_rows(far, near, item):
        # Where steps go back in memory they go back on chip instead, from the end.
        dims = []
        for count, far_step, near_step in zip(nested[::3], nested[1::3], nested[2::3], strict=True):
            if far_step < 0:
                source, target = source + (count - 1) * far_step, target + (count - 1) * near_step
                far_step, near_step = -far_step, -near_step
            dims.append((count, far_step, near_step % _NEAR))
        (count1, far1, near1), (count2, far2, near2) = dims
        yield {"dram": source, "address": target, "length": length, "count1": count1, "dram_step1": far1,
               "step1": near1, "count2": count2, "dram_step2": far2, "step2": near2}
