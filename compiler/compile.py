"""Compile a graph for a configuration: plan memory, lower each node, schedule, and hand out the bytes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError, unknown
from ..hdl.shell.config import Config
from .graph.graph import Graph, Node
from .kernels.context import Context, Located
from .kernels.lowerings import LOWERINGS
from .kinds import compiler_for
from .operators import Dequantize, Quantize, Reshape
from .placed import Placed
from .placement import MemoryPlan
from .program import Program
from .steps import Step
from .validate import validate

__all__ = ["Compiled", "PlannedLayer", "compile_graph"]


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
        Of the output.
    output : str
        Tensor it makes.
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
    output: str
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
        Program and packed constants.
    inputs, outputs : dict of str to Placed
        Tensors that the host writes and reads.
    layers : list of PlannedLayer
        In program order.
    host_packed_bytes : int
        Bytes of constants that were packed.
    memory_bytes : int
        First address beyond everything.
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
    constants: dict[str, Placed] = field(default_factory=dict)
    host_before: list[Node] = field(default_factory=list)
    host_after: list[Node] = field(default_factory=list)

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """Tensor map: a description of every tensor that the host writes or reads."""
        return ([placed.describe() | {"role": "input"} for placed in self.inputs.values()]
                + [placed.describe() | {"role": "output"} for placed in self.outputs.values()])

    @property
    def commands(self) -> str:
        """Listing of the program."""
        return self.program.listing()

    def bind(self, inputs: Mapping[str, np.ndarray]) -> list[tuple[int, bytes]]:
        """Segments of the inputs of one run, in memory's layout.

        Raises
        ------
        PearrayError
            If an input is missing or wrong, or has values beyond the configuration's operands.
        """
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        self.graph.check_inputs(arrays)
        for node in self.host_before:
            results = node.operator.golden({role: arrays[name] for role, name in node.inputs.items()})
            arrays |= {node.outputs[role]: value for role, value in results.items()}
        segments = []
        for name, placed in self.inputs.items():
            _check_range(name, arrays[name], self.config, placed.item)
            segments.append((placed.address, placed.to_bytes(arrays[name])))
        return segments

    def extract(self, name: str, read: Callable[[int, int], bytes]) -> np.ndarray:
        """Tensor `name` in ONNX's layout, by ``read(address, length)`` from memory after a run."""
        for node in self.host_after:
            if name in node.outputs.values():
                source = self.extract(next(iter(node.inputs.values())), read)
                return node.operator.golden({next(iter(node.inputs)): source})["y"]
        placed = self.outputs[name]
        return placed.from_bytes(read(placed.address, placed.nbytes))

    @property
    def output_names(self) -> list[str]:
        """Tensors that :meth:`extract` knows."""
        return [*self.outputs, *(name for node in self.host_after for name in node.outputs.values())]

    def write(self, folder: str | Path, inputs: Mapping[str, np.ndarray] | None = None) -> None:
        """Write program.bin, memory.bin (from address zero, inputs included if given) and tensors.json."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        segments = self.segments + (self.bind(inputs) if inputs is not None else [])
        image = bytearray(self.memory_bytes)
        for address, data in segments:
            image[address:address + len(data)] = data
        program = next(data for address, data in self.segments if address == self.program_address)
        (target / "program.bin").write_bytes(program)
        (target / "memory.bin").write_bytes(image)
        (target / "tensors.json").write_text(json.dumps({
            "config": self.config.name, "program_address": self.program_address, "program_bytes": len(program),
            "memory_bytes": self.memory_bytes, "host_packed_bytes": self.host_packed_bytes,
            "layers": [{"name": layer.name, "kind": layer.kind, "macs": layer.macs, "profile": layer.profile}
                       for layer in self.layers],
            "tensors": self.tensors,
        }, indent=2) + "\n")


def _check_range(name: str, values: np.ndarray, config: Config, item: int) -> None:
    if item != config.operand_bytes:
        low, high = -(1 << 31), (1 << 31) - 1
    else:
        low, high = config.arithmetic.operand_range(values.dtype.kind == "u")
    if values.size and (values.min() < low or values.max() > high):
        wrong = values.min() if values.min() < low else values.max()
        raise PearrayError(f"{name} must have values in {low}..{high} for this accelerator, not {wrong}")


class _Compiler:
    """Compilation of one graph: host edges, kernels, placement and steps node by node, commands."""

    def __init__(self, graph: Graph, config: Config, keep: str, settings: Mapping[str, Any]):
        if keep not in ("outputs", "all"):
            raise PearrayError(f"keep must be 'outputs' or 'all', not {keep!r}")
        self._graph, self._config, self._keep = graph, config, keep
        self._plan = MemoryPlan()
        self._host_before, self._device, self._host_after = self._split()
        self._kind = compiler_for(config)
        self._planner = self._kind.planner(config, graph, **settings)
        self._context = Context(graph, config, self._kind.is_fixed_point(config))

    def _split(self) -> tuple[list[Node], list[Node], list[Node]]:
        """Take quantisation at the graph's edges to the host."""
        graph = self._graph
        before = [node for node in graph.nodes if isinstance(node.operator, Quantize)
                  and all(name in graph.inputs for name in node.inputs.values())]
        rest = [node for node in graph.nodes if node not in before]
        read = {name for node in rest for name in node.inputs.values()}
        after = [node for node in rest if isinstance(node.operator, Dequantize)
                 and not read & set(node.outputs.values())]
        return before, [node for node in rest if node not in after], after

    def run(self) -> Compiled:
        graph, config, context = self._graph, self._config, self._context
        self._check_lowerings()
        inputs = self._place_inputs()
        steps: list[Step] = []
        layers: list[PlannedLayer] = []
        ends: list[Step] = []
        for node in self._device:
            if isinstance(node.operator, Reshape):
                source = context.located[node.inputs["x"]]
                name = node.outputs["y"]
                context.located[name] = Located(source.buffer, source.layout.reshaped(graph.tensors[name].shape))
                continue
            packed = self._plan.packed_bytes
            made = self._lower(node)
            if not made:
                continue
            steps += made
            ends.append(made[-1])
            output = next(iter(node.outputs.values()))
            layers.append(PlannedLayer(
                node.name, node.operator.kind, graph.macs(node), graph.tensors[output].shape, output,
                self._plan.packed_bytes - packed, notes=self._planner.notes(node.name),
                work=sum(self._kind.work(config, step) for step in made)))
        for index, step in enumerate(ends if self._kind.records_last else ends[:-1]):
            step.group.profile = self._plan.reserve("profile", 64)
            layers[index] = replace(layers[index], profile=step.group.profile)
        program = self._planner.schedule(steps)
        encoded = program.encode()
        validate(encoded)
        address = self._plan.reserve("program", len(encoded))
        placed = {name: Placed(name, found.buffer.address, found.layout, graph.tensors[name].dtype, found.buffer.item,
                               config.arithmetic) for name, found in context.located.items()}
        placed |= self._planner.recoded(placed)
        return Compiled(config, graph, program, address, [*self._plan.segments, (address, encoded)],
                        {name: placed[name] for name in inputs}, {name: placed[name] for name in self._wanted()},
                        layers, self._plan.packed_bytes, self._plan.end, host_before=self._host_before,
                        host_after=self._host_after)

    def _check_lowerings(self) -> None:
        for node in self._device:
            if type(node.operator) not in LOWERINGS and not isinstance(node.operator, Reshape):
                where = f"{node.name}: " if len(self._graph.nodes) > 1 else ""
                raise PearrayError(f"{where}{node.operator.kind} has no lowering for this accelerator yet")

    def _place_inputs(self) -> list[str]:
        """Give the tensors that the host writes their places, and return their names."""
        made_before = {name for node in self._host_before for name in node.outputs.values()}
        given = [name for name in self._graph.inputs
                 if any(name in node.inputs.values() for node in self._device + self._host_after)]
        biases = {node.inputs[role] for node in self._device for role in ("b", "c") if role in node.inputs
                  if role != "b" or "a" not in node.inputs}
        for name in (*given, *made_before):
            self._context.locate(name, bias=name in biases)
        self._place()
        return [*given, *made_before]

    def _place(self) -> None:
        """Give buffers that want one their place."""
        for buffer in self._context.made:
            buffer.address = self._plan.reserve(buffer.name, buffer.nbytes)
            if buffer.values is not None:
                stored = self._config.arithmetic.to_memory(buffer.values, buffer.item)
                self._plan.segments.append((buffer.address, stored.tobytes()))
                self._plan.packed_bytes += buffer.nbytes
        self._context.made.clear()

    def _lower(self, node: Node) -> list[Step]:
        """Steps of a node: its kernels, with their buffers placed, as the kind of array maps them."""
        kernels = LOWERINGS[type(node.operator)](self._context, node)
        self._place()
        for kernel in kernels:
            kernel.check()
        return [step for kernel in kernels for step in self._planner.lower(kernel, self._plan)]

    def _wanted(self) -> list[str]:
        made = {name for node in self._device for name in node.outputs.values()}
        host = {name for node in self._host_before for name in node.outputs.values()}
        sources = {name for node in self._host_after for name in node.inputs.values()}
        located = self._context.located
        if self._keep == "all":
            return [name for name in located if name in made | host]
        wanted = sources | set(self._graph.outputs)
        return [name for name in located if name in made | host and name in wanted]


def compile_graph(graph: Graph, config: Config, keep: str = "outputs", *,
                  inputs: Mapping[str, np.ndarray] | None = None, **settings: Any) -> Compiled:
    """Compile a graph.

    Parameters
    ----------
    graph : Graph
        What to compute.
    config : Config
        Accelerator.
    keep : {"outputs", "all"}
        Whether intermediate tensors can be extracted after a run.
    inputs : mapping of str to ndarray, optional
        Inputs of a run, of which the kind of array may observe what helps it with others that are like them.
    **settings
        Settings of the kind of array; see :attr:`.kinds.ArrayCompiler.settings`.

    Returns
    -------
    Compiled
        Program, memory image and tensor map.

    Raises
    ------
    PearrayError
        If an operator has no lowering, the accelerator can't hold a layer, an input is wrong, or the kind of array has
        no such setting.
    """
    kind = compiler_for(config)
    for name in settings:
        if name not in kind.settings:
            raise unknown(f"setting of a {config.array.kind} array", name, kind.settings)
    chosen = {name: kind.settings[name].read(value, graph) for name, value in settings.items() if value is not None}
    kind.check(graph, config)
    if inputs is not None:
        graph.check_inputs(inputs)
        chosen = kind.observe(graph, config, inputs) | chosen
    return _Compiler(graph, config, keep, chosen).run()
