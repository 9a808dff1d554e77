"""Compiled programs: commands, memory image and tensor map, and how values go in and out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError, unknown
from ..hdl.shell.commands import COMMAND_BYTES
from ..hdl.shell.config import Config
from ..memory import DEFAULT_MEMORY, MemoryTiming
from .graph.graph import Graph, Node
from .graph.host_steps import host_steps
from .kernels.context import check_range
from .operators import MaskBias
from .operators.operator import check_position
from .placed import Placed
from .placement import MemoryPlan
from .positions import Position
from .program import Program

__all__ = ["LEVELS", "Compiled", "PlannedLayer"]

#: Levels of a compilation that can be printed.
LEVELS = ("graph", "kernels", "placement", "commands")


@dataclass(frozen=True)
class PlannedLayer:
    """One node as it runs.

    Parameters
    ----------
    name, kind : str
        Node and operator.
    macs : int
        Multiply-accumulates, unpadded.
    shape : tuple of int
        Of the first output.
    outputs : tuple of str
        Tensors it makes.
    packed_bytes : int
        Constants that the host packed for it.
    profile : int or None
        Address of its profile record; None for the last layer, which ends with the run, where the kind of array
        leaves none.
    notes : mapping
        How it was mapped; see :meth:`.kinds.LayerPlanner.notes`.
    work : int
        Work that it gives the array; see :meth:`.kinds.ArrayCompiler.work`.
    """

    name: str
    kind: str
    macs: int
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    packed_bytes: int
    profile: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    work: int = 0


@dataclass
class Compiled:
    """A program with everything around it.

    Members
    -------
    program : Program
        Commands, for reading.
    program_address : int
        What the host writes to the start register's companion.
    segments : list of (int, bytes)
        Packed constants, and the program if it is the same at every run.
    inputs, outputs : dict of str to Placed
        Tensors that the host writes and reads.
    layers : list of PlannedLayer
        In program order.
    host_packed_bytes : int
        Bytes of constants that were packed.
    memory_bytes : int
        First address beyond everything.
    device : Graph
        The graph behind all passes, with what the host computes marked.
    kernels : list of str
        Kernels in order, for reading.
    placement : MemoryPlan
        What stands where in memory, and for how long.
    memory : MemoryTiming
        Memory that it was planned for.
    positions : dict of str to Position
        What of the program follows from inputs that are positions; if there are any, it is among what
        :meth:`bind` gives.
    """

    config: Config
    graph: Graph
    program: Program
    program_address: int
    segments: list[tuple[int, bytes]]
    inputs: dict[str, Placed]
    outputs: dict[str, Placed]
    layers: list[PlannedLayer]
    host_packed_bytes: int
    memory_bytes: int
    device: Graph
    kernels: list[str]
    placement: MemoryPlan
    memory: MemoryTiming = DEFAULT_MEMORY
    positions: dict[str, Position] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.positions:
            self._template = dict(self.segments)[self.program_address]
            self.segments = [segment for segment in self.segments if segment[0] != self.program_address]

    def _host(self, before: bool) -> list[Node]:
        """What the host computes before a run, or after it."""
        return [node for node in self.device.nodes if node.on_host and node.operator.at_edge == before]

    def given(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs of a run, with what the host makes of them before it."""
        values = dict(inputs)
        for node in self._host(before=True):
            try:
                made = node.operator.golden({role: values[name] for role, name in node.inputs.items()})
            except PearrayError:
                raise
            except ValueError as error:
                raise PearrayError(f"{node.name}: {error}") from None
            values |= {node.outputs[role]: value for role, value in made.items()}
        return values

    @property
    def varies(self) -> bool:
        """Whether inputs of a run say how many products there are."""
        return bool(self.positions) or any(isinstance(node.operator, MaskBias) for node in self._host(before=True))

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """Tensor map: a description of every tensor that the host writes or reads."""
        return ([placed.describe() | {"role": "input"} for placed in self.inputs.values()]
                + [position.describe(name, self.config.commands) for name, position in self.positions.items()]
                + [placed.describe() | {"role": "output"} for placed in self.outputs.values()])

    @property
    def commands(self) -> str:
        """Listing of the program."""
        return self.program.listing()

    def dump(self, level: str) -> str:
        """Print one of the :data:`LEVELS`."""
        if level not in LEVELS:
            raise unknown("level", level, LEVELS)
        return {"graph": lambda: str(self.device), "kernels": lambda: "\n".join(self.kernels),
                "placement": lambda: str(self.placement), "commands": self.program.listing}[level]()

    def bind(self, inputs: Mapping[str, np.ndarray]) -> list[tuple[int, bytes]]:
        """Segments of the inputs of one run, in memory's layout, and of a program that depends on them.

        Raises
        ------
        PearrayError
            If an input is missing or wrong, or has values beyond the configuration's operands.
        """
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        self.graph.check_inputs(arrays)
        for name, position in self.positions.items():
            check_position(f"input {name!r} of this program", arrays[name], position.most)
        arrays = self.given(arrays)
        segments = []
        for name, placed in self.inputs.items():
            if not self.config.has_floats:
                is_operand, is_unsigned = placed.item == self.config.operand_bytes, arrays[name].dtype.kind == "u"
                check_range(name, arrays[name], *(self.config.arithmetic.operand_range(is_unsigned) if is_operand
                                                  else (-(1 << 31), (1 << 31) - 1)))
            segments.append((placed.address, placed.to_bytes(arrays[name])))
        if self.positions:
            segments.append((self.program_address, self.program_at(arrays)))
        return segments

    def program_at(self, positions: Mapping[str, Any]) -> bytes:
        """Program of some positions, by name; all are 0 that are left out."""
        commands = np.frombuffer(self._template, np.uint8).reshape(-1, COMMAND_BYTES).copy()
        for name, position in self.positions.items():
            position.apply(commands, self.config.commands, int(positions.get(name, 0)))
        return commands.tobytes()

    def extract(self, name: str, read: Callable[[int, int], bytes],
                inputs: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Tensor `name` in ONNX's layout, by ``read(address, length)`` from memory after a run.

        What the host makes of inputs of the run needs these.
        """
        known = {**self.device.constants, **(inputs or {})}
        if name in known:
            return known[name]
        if name in self.outputs:
            placed = self.outputs[name]
            return placed.from_bytes(read(placed.address, placed.nbytes))
        [node] = [node for node in self.device.nodes if node.on_host and name in node.outputs.values()]
        made = node.operator.golden({role: self.extract(source, read, inputs) for role, source in node.inputs.items()})
        return next(made[role] for role, output in node.outputs.items() if output == name)

    @property
    def output_names(self) -> list[str]:
        """Tensors that :meth:`extract` knows."""
        made = [name for node in self._host(before=True) for name in node.outputs.values()
                if name in self.graph.outputs]
        made += [name for node in self._host(before=False) for name in node.outputs.values()]
        return [*self.outputs, *(name for name in made if name not in self.outputs)]

    def write(self, folder: str | Path, inputs: Mapping[str, np.ndarray] | None = None) -> None:
        """Write program.bin, memory.bin (from address zero, inputs included if given) and tensors.json.

        The last tells where tensors stand, and what the host computes before a run and after it
        (:mod:`.graph.host_steps`).
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        segments = list(self.segments)
        if inputs is not None:
            segments += self.bind(inputs)
        elif self.positions:
            segments.append((self.program_address, self.program_at({})))
        image = bytearray(self.memory_bytes)
        for address, data in segments:
            image[address:address + len(data)] = data
        program = next(data for address, data in segments if address == self.program_address)
        (target / "program.bin").write_bytes(program)
        (target / "memory.bin").write_bytes(image)
        (target / "tensors.json").write_text(json.dumps({
            "config": self.config.name, "program_address": self.program_address, "program_bytes": len(program),
            "memory_bytes": self.memory_bytes, "host_packed_bytes": self.host_packed_bytes,
            "layers": [{"name": layer.name, "kind": layer.kind, "macs": layer.macs, "profile": layer.profile}
                       for layer in self.layers],
            "tensors": self.tensors,
            "host": {when: host_steps(self.device, self._host(before=when == "before"))
                     for when in ("before", "after")},
        }, indent=2) + "\n")
