"""Programs that are compiled once and run often."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .compiler.compile import compile_graph
from .compiler.compiled import Compiled
from .compiler.graph.graph import Graph
from .compiler.graph.passes.array import for_array
from .compiler.operators import Attention
from .compiler.operators.fields import array
from .configuration import System
from .golden.tensors import is_float
from .hdl.errors import PearrayError, check_choice, check_names, unknown
from .hdl.shell.config import Config
from .results import Result, record_bytes, result_of
from .sim.engine import ENGINES, Job
from .sim.engine import run as simulate

__all__ = ["Handle", "Session", "arrays", "check_run", "kept"]

#: Times that positions are halved for shorter programs.
_HALVES = 4


class Handle:
    """A graph for an accelerator, compiled when it is first needed. Made by :func:`pearray.compile`.

    Parameters
    ----------
    graph : Graph
        What to compute.
    on : System or Config
        Accelerator and the memory behind it.
    inputs : mapping of str to ndarray, optional
        Inputs that are like those of runs.
    **settings
        Settings of the kind of array; see :attr:`.compiler.kinds.ArrayCompiler.settings`.
    """

    def __init__(self, graph: Graph, on: System | Config, inputs: Mapping[str, np.ndarray] | None = None,
                 **settings: Any):
        # Whoever has the graph may go on building it.
        self.graph, self.system = graph.changed(), on if isinstance(on, System) else System(on)
        self._like, self._settings = inputs, settings
        self._compiled: dict[tuple[str, int | None], Compiled] = {}

    def compiled(self, keep: str = "outputs", most_position: int | None = None) -> Compiled:
        """The program: with "outputs" tensors between may share memory, with "all" each keeps its own.

        With a greatest position it is one for runs up to there, which loads no keys behind; all tensors stand where
        they do for all positions.
        """
        key = keep, most_position
        if key not in self._compiled:
            self._compiled[key] = compile_graph(
                self.graph, self.system.hardware, keep, inputs=self._like, memory=self.system.memory,
                most_position=most_position, **self._settings)
        return self._compiled[key]

    @property
    def golden_graph(self) -> Graph:
        """The graph as the accelerator computes it: what it gives with NumPy is what runs give."""
        config = self.system.hardware
        if config.has_floats:
            # Only whoever has cut the layers knows in which order their sums are added.
            return (next(iter(self._compiled.values())) if self._compiled else self.compiled()).graph
        return for_array(self.graph, config.key_tile, config.score_columns)

    def programs(self, keep: str = "outputs") -> list[Compiled]:
        """The program alone; see :meth:`.parts.Parts.programs`."""
        return [self.compiled(keep)]

    def run(self, inputs: Mapping[str, Any], engine: str = "verilator", keep: str | Collection[str] | None = None,
            progress: Callable[[int], None] | None = None, trace: bool = False) -> Result:
        """Run it.

        Parameters
        ----------
        inputs : mapping of str to array_like
            Values of the graph's inputs, of the shapes and types that it was compiled for. Constants may be among them
            if they are what they were.
        engine, keep, progress
            As for :func:`pearray.run`. Tensors between whose memory others take are kept by a variant of the program,
            which is compiled once, too.
        trace : bool
            Keep what :func:`.perfetto.trace_events` draws; not with the engine cocotb.

        Raises
        ------
        PearrayError
            If an input, the engine or `keep` is wrong.
        """
        check_run(engine, progress)
        return self.run_arrays(self._inputs(inputs), engine, keep, progress, trace)

    def run_arrays(self, inputs: Mapping[str, np.ndarray], engine: str = "verilator",
                   keep: str | Collection[str] | None = None, progress: Callable[[int], None] | None = None,
                   trace: bool = False) -> Result:
        """Run it on arrays that other programs have made, which may hold what is infinite; see :meth:`run`."""
        wanted = set() if keep is None else {*check_names("keep", keep)}
        whole = ("outputs", None) not in self._compiled and ("all", None) in self._compiled
        compiled = self.compiled("outputs" if wanted <= {*self.graph.outputs} and not whole else "all")
        return _run(compiled, inputs, engine, keep, progress, trace)

    def run_short(self, inputs: Mapping[str, Any], engine: str = "verilator",
                  progress: Callable[[int], None] | None = None) -> Result:
        """Run the shortest of a few programs that reach the positions given; each is compiled when first needed.

        They reach a half, a quarter, and so on, of all positions, where that leaves out blocks of keys. What attention
        does not reach it does not load.
        """
        given = self._inputs(inputs)
        self.graph.check_inputs(given)
        check_run(engine, progress)
        compiled = self.compiled(most_position=self._reach([int(given[name]) for name in self.graph.positions]))
        return _run(compiled, given, engine, None, progress, False)

    def _reach(self, positions: Sequence[int]) -> int | None:
        """Greatest position of the shortest program that reaches some; None for that of all positions."""
        if not any(isinstance(node.operator, Attention) and "position" in node.inputs for node in self.graph.nodes):
            return None
        found, before = None, max(self.graph.positions.values())
        for reach in (before >> halves for halves in range(1, _HALVES + 1)):
            if max(positions) <= reach and before - reach >= self.system.hardware.score_columns:
                found = before = reach
        return found

    def session(self, state: Mapping[str, Any] | None = None) -> "Session":
        """Begin runs between which the tensors that the program appends to stay in memory.

        Parameters
        ----------
        state : mapping of str to array_like, optional
            Values of these inputs of the graph before the first run; zeros if absent.

        Raises
        ------
        PearrayError
            If a name or a tensor is wrong, or what is appended is no output of the graph.
        """
        return Session(self, arrays(state or {}))

    def _inputs(self, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tensors of a run without constants."""
        found = arrays(tensors, self.graph.masks)
        for name in found.keys() & self.graph.constants.keys():
            if not np.array_equal(found.pop(name), self.graph.constants[name]):
                raise PearrayError(f"{name} must be what it was when it was compiled, since it is part of the program; "
                                   "compile again for another")
        return found

    def write(self, folder: Path, inputs: Mapping[str, np.ndarray]) -> None:
        """Write what somebody else's host and memory need; see :func:`pearray.compile`.

        Raises
        ------
        PearrayError
            If the folder cannot be written.
        """
        compiled = self.compiled()
        try:
            compiled.write(folder, inputs)
            (folder / "program.txt").write_text(compiled.commands + "\n")
        except OSError as error:
            raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None


class Session:
    """Runs of a program that follow one another; see :meth:`Handle.session`.

    Members
    -------
    state : dict of str to ndarray
        What stands in memory for the next run, by names of inputs.
    """

    def __init__(self, handle: Handle, state: Mapping[str, np.ndarray]):
        graph = handle.graph
        self._handle, self._made = handle, graph.states
        for name, present in self._made.items():
            if present not in graph.outputs:
                raise PearrayError(f"{present} must be an output of the graph, so that what stands in memory as {name} "
                                   "is known")
        for name in state:
            if name not in self._made:
                raise unknown("tensor that stays in memory", name, list(self._made))
        typed = graph.typed({name: name for name in self._made})
        for name, value in state.items():
            tensor = typed[name]
            if (value.shape, value.dtype) != (tuple(tensor.shape), tensor.dtype):
                raise PearrayError(f"tensor {name!r}, which stays in memory, must be {tensor.dtype} of shape "
                                   f"{tuple(tensor.shape)}, not {value.dtype} of shape {value.shape}")
        self.state = {name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in typed.items()}
        # What a caller does with its own arrays later changes no memory.
        self.state |= {name: value.copy() for name, value in state.items()}

    def run(self, inputs: Mapping[str, Any], engine: str = "verilator",
            progress: Callable[[int], None] | None = None) -> Result:
        """Run the program with what the runs before have left; see :meth:`Handle.run`.

        Of a graph with positions there are a few programs, of which a run takes the shortest; see
        :meth:`Handle.run_short`.
        """
        given = arrays(inputs, self._handle.graph.masks)
        for name in given:
            if name in self._made:
                raise PearrayError(f"{name} stays in memory, and is no input of a run of a session; begin another with "
                                   f"session({{{name!r}: ...}})")
        result = self._handle.run_short({**given, **self.state}, engine, progress)
        self.state = {name: result.outputs[present].copy() for name, present in self._made.items()}
        return result


def arrays(tensors: Mapping[str, Any], masks: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Tensors as arrays of finite numbers, without those that are None.

    Those named in `masks` may be of bool, or have values of minus infinity.

    Raises
    ------
    PearrayError
        Naming the tensor that is none.
    """
    if not isinstance(tensors, Mapping):
        raise PearrayError(f"tensors must be a dict of arrays by name, not {type(tensors).__name__}")
    found = {}
    for name, value in tensors.items():
        if value is None:
            continue
        tensor = array(f"tensor {name!r}", value, "an array of numbers", "iufb" if name in masks else "iuf")
        if is_float(tensor.dtype):
            wrong = ~np.isfinite(tensor) & ~(np.isneginf(tensor) & (name in masks))
            if wrong.any():
                raise PearrayError(f"tensor {name!r} must be finite, not {tensor[wrong].flat[0]}")
        found[name] = tensor
    return found


def check_run(engine: Any, progress: Any) -> None:
    """Check what a run is given besides its inputs."""
    if progress is not None and not callable(progress):
        raise PearrayError(f"progress must be None or a function of the cycles so far, not {progress!r}")
    check_choice("engine", engine, ENGINES)


def _run(compiled: Compiled, inputs: Mapping[str, np.ndarray], engine: str, keep: str | Collection[str] | None,
         progress: Callable[[int], None] | None, trace: bool) -> Result:
    wanted = kept(compiled.graph, compiled.output_names, keep)
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    records = [(layer.profile, record_bytes(compiled.config)) for layer in compiled.layers if layer.profile is not None]
    job = Job(compiled.config, compiled.segments + compiled.bind(inputs), compiled.program_address,
              [*regions, *records], compiled.memory, trace)
    outcome = simulate(job, engine, progress)
    contents = dict(zip(job.read, outcome.regions, strict=True))
    outputs = {name: compiled.extract(name, lambda address, length: contents[address, length], inputs)
               for name in wanted}
    return result_of(compiled, outcome, [contents[record] for record in records], outputs, inputs)


def kept(graph: Graph, known: Collection[str], keep: str | Collection[str] | None) -> list[str]:
    """Names of the tensors to return."""
    if keep is None:
        return list(graph.outputs)
    if isinstance(keep, str) and keep == "all":
        return list(known)
    names = check_names("keep", keep)
    for name in names:
        if name not in known:
            raise PearrayError(f"keep must be None, 'all' or names among {', '.join(known)}, not {name!r}")
    return list(dict.fromkeys([*graph.outputs, *names]))
