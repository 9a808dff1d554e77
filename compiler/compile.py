"""Compile a graph for a configuration: passes, kernels, placement, steps, commands, each level verified."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError, check_choice, unknown
from ..hdl.shell.block_walk import burst_beats
from ..hdl.shell.config import Config
from ..memory import DEFAULT_MEMORY, MemoryTiming
from .compiled import Compiled, PlannedLayer
from .graph.graph import Graph, Node
from .graph.passes import run_passes
from .graph.passes.array import for_array
from .kernels import float_windows, moves
from .kernels.context import Context, Located
from .kernels.float_layouts import wanted_layouts
from .kernels.fusion import fuse_pools, fuse_sums
from .kernels.kernel import Kernel
from .kernels.layout import Layout
from .kernels.lowerings import lowering_of, reads_rows
from .kernels.verify import Written
from .kernels.views import Buffer
from .kinds import compiler_for
from .operators import Contraction, MaskBias
from .placed import Placed
from .placement import MemoryPlan
from .positions import positions_of
from .steps import Step
from .validate import validate

__all__ = ["Unmapped", "compile_graph"]


class Unmapped(PearrayError):
    """A node that an accelerator cannot compute.

    Parameters
    ----------
    node : str
        Its name.
    why : str
        The message without the node.
    where : str
        Beginning of the message.
    """

    def __init__(self, node: str, why: str, where: str = ""):
        super().__init__(where + why)
        self.node, self.why = node, why


#: Objects made after which cycles of garbage are looked for.
_COLLECTED = 50_000


class _Compiler:
    """Compilation of one graph, node by node."""

    def __init__(self, graph: Graph, config: Config, memory: MemoryTiming, keep: str, most: int | None,
                 settings: Mapping[str, Any]):
        check_choice("keep", keep, ("outputs", "all"))
        self._graph, self._config, self._memory, self._keep = graph, config, memory, keep
        self._kind = compiler_for(config)
        self._planner = self._kind.planner(config, memory, graph, **settings)
        self._device = run_passes(graph)
        if config.has_maxima and keep != "all":
            self._device = fuse_pools(self._device, config, self._planner.cycles)
        if config.has_norms and config.has_pairs and keep != "all":
            self._device = fuse_sums(self._device)
        self._nodes = [node for node in self._device.nodes if not node.on_host]
        self._plan = MemoryPlan(grain=burst_beats(config) * config.beat_bytes)
        self._context = Context(self._device, config, self._kind.is_fixed_point(config), most=most)
        if config.has_routines:
            self._context.wanted = wanted_layouts(self._device)
        self._dies = self._last_readers()
        self._kernels: list[str] = []
        self._written = Written()
        #: Tensors that have been copied, with where they stand.
        self._copies: dict[str, Located] = {}
        #: Nodes by number, and buffers that they read or write.
        self._uses: list[tuple[int, Buffer]] = []

    def run(self) -> Compiled:
        graph, config = self._graph, self._config
        self._check_lowerings()
        inputs = self._place_inputs()
        made: list[list[Step]] = []
        layers: list[PlannedLayer] = []
        for number, node in enumerate(self._nodes):
            packed = self._plan.packed_bytes
            steps = self._lower(number, node)
            if not steps:
                continue
            made.append(steps)
            outputs = tuple(node.outputs.values())
            layers.append(PlannedLayer(
                node.name, node.operator.kind, self._device.macs(node), self._device.tensors[outputs[0]].shape, outputs,
                self._plan.packed_bytes - packed, notes=self._planner.notes(node.name)))
        arranged = self._planner.arrange(made, self._kept())
        layers = [replace(layer, work=sum(self._kind.work(config, step) for step in steps))
                  for layer, steps in zip(layers, arranged.layers, strict=True)]
        for index in range(len(layers) - (not self._kind.records_last)):
            group = arranged.layers[index][-1].group
            group.profile = self._plan.reserve("profile", 64)
            layers[index] = replace(layers[index], profile=group.profile)
        program = self._planner.schedule(arranged.steps)
        encoded = program.encode()
        validate(encoded, queues=config.commands.queues)
        address = self._plan.reserve("program", len(encoded))
        self._plan.verify(self._uses)
        placed = self._placed()
        most = {name: room if self._context.most is None else min(room, self._context.most)
                for name, room in self._device.positions.items()}
        positions = positions_of(program, most, self._context.moving)
        return Compiled(config, self._ordered(graph), program, address, [*self._plan.segments, (address, encoded)],
                        {name: placed[name] for name in inputs}, {name: placed[name] for name in self._wanted(placed)},
                        layers, self._plan.packed_bytes, self._plan.end, self._device, self._kernels, self._plan,
                        self._memory, positions)

    def _ordered(self, graph: Graph) -> Graph:
        """The graph with the order in which products are added, where bits depend on it."""
        orders = self._planner.orders()
        if not orders:
            return graph
        nodes = []
        for node in graph.nodes:
            known = {role: orders[name] for role, name in node.outputs.items() if name in orders}
            nodes.append(replace(node, operator=node.operator.in_order(known)) if known else node)
        return graph.changed(nodes=nodes)

    def _check_lowerings(self) -> None:
        for node in self._nodes:
            if lowering_of(node.operator, self._config) is None:
                reason = "has no lowering for this accelerator yet"
                if node.operator.at_edge:
                    reason = ("must stand at the edge of the graph, where the host computes it, not between operators "
                              "of the accelerator")
                raise Unmapped(node.name, f"{node.operator.kind} {reason}", self._graph.where(node))

    def _place_inputs(self) -> list[str]:
        """Give the tensors that the host writes their places, and return their names."""
        device = self._device
        before = [node for node in device.nodes if node.on_host and node.operator.at_edge]
        read = {device.source(name) for node in self._nodes for name in node.inputs.values()}
        read |= {device.source(name) for name in device.views}
        positions = device.positions
        names = [name for name in self._graph.inputs if name in read and name not in positions]
        names += [name for node in before for name in node.outputs.values() if name in read]
        biases = {node.inputs.get(node.operator.roles[2]) for node in self._nodes
                  if isinstance(node.operator, Contraction)}
        for name in names:
            layout = self._context.wanted.get(name) or self._input_layout(name)
            self._context.locate(name, bias=name in biases, layout=layout)
        self._place()
        return names

    def _input_layout(self, name: str) -> Layout | None:
        """Order of an input whose readers all want rows whatever the dimensions, or None for the usual."""
        device = self._device
        shapes = {view: device.tensors[view].shape
                  for view in (name, *(view for view in device.views if device.source(view) == name))}
        readers = [(node.operator, read) for node in self._nodes for read in node.inputs.values() if read in shapes]
        shape = shapes[name]
        rows = Layout(shape, tuple(range(len(shape))), shape)
        if not readers or not (all(reads_rows(operator, len(shapes[read])) for operator, read in readers)
                               or self._is_plain_in_rows(name, rows, {read for _, read in readers})):
            return None
        return rows

    def _is_plain_in_rows(self, name: str, rows: Layout, read: set[str]) -> bool:
        """Whether views of an input, which alone are read, are as layers want them only if the input stands in rows."""
        def is_plain(layout: Layout) -> bool:
            found = self._context.views(name, layout)
            return all(view in found and found[view].same_memory(Layout.of(found[view].shape)) for view in read)

        return name not in read and is_plain(rows) and not is_plain(Layout.of(rows.shape))

    def _last_readers(self) -> dict[str, int]:
        """Number of the node that reads a tensor last, for those that may be overwritten then."""
        if self._keep == "all":
            return {}
        source = self._device.source
        last: dict[str, int] = {}
        for number, node in enumerate(self._nodes):
            last |= {source(name): number for name in (*node.outputs.values(), *node.inputs.values())}
        kept = {source(name) for name in {*self._graph.outputs} | self._read_by_host()}
        return {name: number for name, number in last.items() if name not in kept}

    def _kept(self) -> list[Buffer]:
        """Tensors that must be in memory at the end of the program, those that it only adds to among them."""
        moved = [moving.buffer for moving in self._context.moving]
        return [*moved, *(found.buffer for name, found in self._context.located.items()
                          if self._device.source(name) not in self._dies)]

    def _place(self) -> None:
        """Give buffers that want one their place."""
        for buffer in self._context.made:
            self._plan.place(buffer, self._dies.get(buffer.name) if buffer.is_made else None)
            if buffer.values is not None:
                stored = self._config.arithmetic.to_memory(buffer.values, buffer.item)
                self._plan.segments.append((buffer.address, stored.tobytes()))
                self._plan.packed_bytes += buffer.nbytes
        self._context.made.clear()

    def _lower(self, number: int, node: Node) -> list[Step]:
        """Steps of a node: its kernels, with their buffers placed, as the kind of array maps them."""
        try:
            return self._lowered(number, node)
        except PearrayError as error:
            raise Unmapped(node.name, str(error)) from None

    def _lowered(self, number: int, node: Node) -> list[Step]:
        self._plan.begin(number, self._planner.is_overtaken)
        self._locate_views()
        kernels = [kernel for name in dict.fromkeys(node.inputs.values()) for kernel in self._reached(name)]
        kernels += self._stated(node)
        self._written.verify(node.name, kernels,
                             [self._context.located[name].buffer for name in node.outputs.values()])
        self._place()
        self._uses += [(number, buffer) for kernel in kernels for buffer in (*kernel.buffers, *kernel.made)]
        self._kernels += map(str, kernels)
        return [step for kernel in kernels for step in self._planner.lower(kernel, self._plan)]

    def _stated(self, node: Node) -> list[Kernel]:
        """Kernels of a node, behind those that copy what it can't read in the order in which it stands."""
        context, state = self._context, lowering_of(node.operator, self._config)
        assert state is not None
        before = dict(context.located), list(context.made), list(context.moving)
        try:
            return state(context, node)
        except PearrayError:
            located = before[0]
            # A view, or what is made of one element by element, which stands as that does.
            others = [name for name in dict.fromkeys(node.inputs.values())
                      if name in located and name not in self._device.inputs and not located[name].is_plain()]
            if not others:
                raise
            context.located, context.made, context.moving = before
        copies = [kernel for name in others for kernel in self._copied(name)]
        return [*copies, *state(context, node)]

    def _reached(self, name: str) -> list[Kernel]:
        """Kernels that copy what a view is a transposition of, if it can't be one of what mixes axes in memory."""
        device = self._device
        if name in self._context.located or name not in device.views:
            return []
        before = [*self._reached(device.views[name])]
        if name not in self._context.located and device.source(name) in self._context.located:
            before += self._copied(device.views[name])
            self._locate_views()
        return before

    def _copied(self, name: str) -> list[Kernel]:
        """Kernels that copy a tensor to where others read it from now on."""
        copied = float_windows.in_plain_order if self._config.has_routines else moves.in_plain_order
        found, kernels = copied(self._context, name)
        self._copies[name] = found
        if name not in self._device.views:
            # It dies when the tensor itself would, and its views.
            return kernels
        read = {name, *self._views_of_copy(name)}
        if self._keep != "all" and not read & ({*self._graph.outputs} | self._read_by_host()):
            self._dies[name] = max(number for number, node in enumerate(self._nodes) if read & {*node.inputs.values()})
        return kernels

    def _views_of_copy(self, name: str) -> Iterator[str]:
        """Views of a tensor that has been copied for them."""
        reached = {name}
        for view, source in self._device.views.items():
            if source in reached and view not in self._context.located:
                reached.add(view)
                yield view

    def _locate_views(self) -> None:
        """Views stand where their sources do, but for those that have been copied."""
        located, device = self._context.located, self._device
        for source in dict.fromkeys(map(device.source, device.views)):
            if source in located:
                found = located[source]
                located |= {name: Located(found.buffer, layout)
                            for name, layout in self._context.views(source, found.layout).items() if name != source}
        located |= self._copies
        for name, found in self._copies.items():
            # What can't be a view of the original is one of the copy.
            located |= {view: Located(found.buffer, layout)
                        for view, layout in self._context.views(name, found.layout).items() if view not in located}

    def _placed(self) -> dict[str, Placed]:
        """Tensors that stand in memory."""
        self._locate_views()
        for name in self._graph.outputs:
            if name in self._device.views and self._device.source(name) in self._context.located and (
                    name not in self._context.located):
                raise PearrayError(f"output {self._device.named(name)} must not be another shape of transposed axes "
                                   "that are parts of those in memory: let the transposition be the output")
        placed = {name: Placed(name, found.buffer.address, found.layout, self._device.tensors[name].dtype,
                               found.buffer.item, self._config.arithmetic)
                  for name, found in self._context.located.items()}
        return placed | self._planner.recoded(placed)

    def _wanted(self, placed: Mapping[str, Placed]) -> list[str]:
        wanted = {name for node in self._device.nodes for name in node.outputs.values()
                  if not isinstance(node.operator, MaskBias)} | {*self._device.views}
        # What passes have put between is nobody's.
        wanted &= self._graph.tensors.keys() | self._read_by_host()
        if self._keep != "all":
            wanted &= {*self._graph.outputs} | self._read_by_host()
        return [name for name in placed if name in wanted]

    def _read_by_host(self) -> set[str]:
        return {name for node in self._device.nodes if node.on_host for name in node.inputs.values()}


def compile_graph(graph: Graph, config: Config, keep: str = "outputs", *,
                  inputs: Mapping[str, np.ndarray] | None = None, memory: MemoryTiming = DEFAULT_MEMORY,
                  most_position: int | None = None, **settings: Any) -> Compiled:
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
    memory : MemoryTiming
        Memory behind the accelerator.
    most_position : int, optional
        Greatest position of runs of the program: keys that no query sees up to there are neither loaded nor computed.
        All tensors stand where they stand in the memory of the program for all positions.
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
    graph = for_array(graph, config.key_tile, config.score_columns)
    if inputs is not None:
        graph.check_inputs(inputs)
        chosen = kind.observe(graph, config, inputs) | chosen
    with _seldom_collected():
        return _Compiler(graph, config, memory, keep, most_position, chosen).run()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let cycles of garbage be looked for seldom: most of what is made stays, and is gone through each time."""
    before = gc.get_threshold()
    if 0 < before[0] < _COLLECTED:
        gc.set_threshold(_COLLECTED, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
