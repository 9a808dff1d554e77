"""Kinds of array under test: one list, from which every test of disturbance takes its configurations.

Stalls, bus errors, programs that follow one another, resets, and the forms in which a design is simulated are
tested for each entry. Another kind of array gets all of these tests by an entry of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_workloads
from draws import draw
from example import EXAMPLE
from random_moves import DrawnCase
from slow import slow

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.hdl.row_stationary.config import GlobalBuffer, ProcessingElement, RowStationaryConfig
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.hdl.shell.config import Array, Config, Memory, OutputScratchpads, Post
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.memory import DEFAULT_MEMORY
from pearray.sim import Job

__all__ = ["KINDS", "PROGRAMS", "SMALL", "Case", "Kind", "MovesKind", "each_build", "each_kind", "each_program",
           "stores"]

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Configurations and workloads with which a kind of array is tested.

    Parameters
    ----------
    name : str
        Name in the tests' names.
    tiny : Config
        The least accelerator, for Amaranth's simulator.
    small : Config
        One for compiled simulation and cocotb; with loops, of so many processing elements (16 or more) that they
        become some.
    dtype : dtype
        Operands.
    outputs : tuple of str
        Types that outputs may have.
    requant : callable
        Draws what makes outputs of sums, or None, given a generator and the sums' standard deviation.
    loops : bool
        Whether the simulators know how to make loops of the array.
    """

    name: str
    tiny: Config
    small: Config
    dtype: Any
    outputs: tuple[str, ...]
    requant: Callable[[np.random.Generator, float], Any]
    loops: bool = True

    def layer(self, rng: np.random.Generator, channels: int, filters: int, size: int) -> "Case":
        """Draw a padded convolution of (1, channels, size, size) by (filters, channels, 3, 3)."""
        tensors = {"x": self.operands(rng, (1, channels, size, size)),
                   "w": self.operands(rng, (filters, channels, 3, 3))}
        return Case(pe.Conv2d(padding=1, requant=self.requant(rng, 5000.0 * channels**0.5 * 3)), tensors, ["w"])

    def operands(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw operands over the whole range."""
        limits = np.iinfo(self.dtype)
        return rng.integers(limits.min, limits.max, shape, self.dtype, endpoint=True)

    def random(self, rng: np.random.Generator) -> "Case":
        """Draw any operator that the small accelerator has the functions for."""
        return Case.of(*draw(rng, self.small))


class MovesKind(Kind):
    """A systolic array with MOVEs, attention and norms, whose programs are drawn command by command."""

    def layer(self, rng: np.random.Generator, channels: int, filters: int, size: int) -> Any:
        """Draw a program that is the longer the larger a layer would be."""
        return DrawnCase(rng, min(60, channels * filters))

    def random(self, rng: np.random.Generator) -> Any:
        """Draw any program."""
        return DrawnCase(rng, int(rng.integers(1, 60)))


class Case:
    """An operator with its tensors, and what it must give.

    Parameters
    ----------
    operator : operator
    tensors : dict
        Its tensors by role.
    constants : sequence of str, optional
        Roles of those that are part of the program; by default, as the operator says.
    """

    def __init__(self, operator: Any, tensors: Mapping[str, np.ndarray], constants: Sequence[str] | None = None):
        graph = Graph.of(operator, tensors, constants)
        self._hold(operator, graph, {name: tensors[name] for name in graph.inputs})

    @classmethod
    def of(cls, graph: Graph, inputs: Mapping[str, np.ndarray]) -> "Case":
        """Return the case of a graph of any operators."""
        case = cls.__new__(cls)
        case._hold(" and ".join(node.operator.kind for node in graph.nodes), graph, inputs)
        return case

    def _hold(self, operator: Any, graph: Graph, inputs: Mapping[str, np.ndarray]) -> None:
        self.operator, self.graph, self.inputs = operator, graph, inputs

    def compile(self, config: Config, *, search: bool = False) -> "Case":
        """Compile for a configuration, and search for the best program only if asked to."""
        settings = {} if search else random_workloads.briefly(config)
        self.compiled = compile_graph(self.graph, config, **settings)
        # As an array of this size computes it: sums of attention are rounded for each block of keys.
        golden = self.compiled.graph.golden(self.inputs)
        self.expected = {name: golden[name] for name in self.graph.outputs}
        self.segments = [*self.compiled.segments, *self.compiled.bind(self.inputs)]
        return self

    @property
    def commands(self) -> list[bytes]:
        """Commands of the program, the end included."""
        address = self.compiled.program_address
        image, start = next((image, address - start) for start, image in self.segments
                            if start <= address < start + len(image))
        commands = [image[start:start + COMMAND_BYTES]]
        while commands[-1][0] != Opcode.END.value:
            start += COMMAND_BYTES
            commands.append(image[start:start + COMMAND_BYTES])
        return commands

    def address(self, rng: np.random.Generator, placed: Any) -> int:
        """Draw an address of an input or output that the program reads or writes: one of its ends, or any.

        Of a tensor that stands in memory as codes that is a byte of a code's first word, since its room is not filled.
        """
        if units := getattr(placed, "units", None):
            return int(placed.address + rng.choice([unit.offset for unit in units]) + rng.integers(8))
        return int(placed.address + rng.choice([0, placed.nbytes - 1, rng.integers(placed.nbytes)]))

    def job(self, config: Config, memory: pe.MemoryTiming = DEFAULT_MEMORY) -> Job:
        """Job that reads the outputs back."""
        regions = [(placed.address, placed.nbytes) for placed in self.compiled.outputs.values()]
        return Job(config, self.segments, self.compiled.program_address, regions, memory)

    def compare(self, read: Callable[[int, int], bytes]) -> None:
        """Compare every element of every output, given what reads (address, length) of memory."""
        for name, expected in self.expected.items():
            found = self.compiled.extract(name, read)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype), f"{self.operator} output {name}"
            np.testing.assert_array_equal(found, expected, f"{self.operator} output {name}")


def stores(rng: np.random.Generator, config: Config, target: int, count: int = 6) -> tuple[bytes, np.ndarray]:
    """Draw a program that only stores: many short rows, of what is on chip before anything has been loaded: zeros.

    Parameters
    ----------
    rng, config
        Generator and accelerator.
    target : int
        Where the rows go.
    count : int
        Commands.

    Returns
    -------
    bytes
        The program.
    ndarray
        ``bool``; bytes from ``target`` on that must have become zero, all others must not have changed.
    """
    # Words of 16 bits are stored whole.
    grain = config.operand_bytes
    beat = config.beat_bytes
    written = np.zeros(count * 1024, bool)
    commands = []
    for index in range(count):
        # Rows of one to five beats, at any alignment, with at least a byte between them. The writer takes so many
        # bursts that, were they of a beat each, there would be room for all of their beats.
        length = grain * int(rng.integers(1, 4 * beat // grain + 1))
        step = length + grain * int(rng.integers(1, beat // grain + 1))
        rows = min(int(rng.integers(12, 24)), 1000 // step)
        start = 1024 * index + grain * int(rng.integers(0, beat // grain))
        for row in range(rows):
            written[start + row * step:start + row * step + length] = True
        commands.append((Opcode.STORE, {}, {
            "dram": target + start, "dram_step1": step, "address": grain * int(rng.integers(0, 8)), "step1": 0,
            "length": length, "count1": rows, "count2": 1}))
    commands.append((Opcode.END, {"store": count}, {}))
    return b"".join(config.commands.encode(*command, following=count - index)
                    for index, command in enumerate(commands)), written


def _requant(rng: np.random.Generator, deviation: float) -> Any:
    """Draw outputs that spread over the range of int8, or leave the sums."""
    if rng.random() < 0.3:
        return None
    return pe.Requant.onnx(1.0, 0, 1.0, 0, deviation / 40, int(rng.integers(-20, 20)))


def _fixed_point(rng: np.random.Generator, deviation: float) -> Any:
    return pe.FixedPoint(int(rng.integers(17)))


def _tiny_row_stationary(bits: int) -> RowStationaryConfig:
    return RowStationaryConfig(
        name="tiny", array=Array(kind="row-stationary", rows=2, cols=3, operand_bits=bits),
        pe=ProcessingElement(ifmap_words=4, filter_words=16, psum_words=4),
        global_buffer=GlobalBuffer(banks=4, bank_lines=32, filter_banks=2),
        scratchpads=OutputScratchpads(output_bytes=64, channels=16), memory=Memory(data_width=32))



def _load(*args: Any) -> Config:
    return pe.load_config(*args).hardware


_DOT = partial(_load, EXAMPLE / "dot-8x8.toml")
_TINY_DOT = _DOT({
    "array.rows": 2, "array.cols": 4, "scratchpads.activation_bytes": 256, "scratchpads.weight_bytes": 256,
    "scratchpads.output_bytes": 256, "accumulators.depth": 16, "memory.data_width": 32})
_NARROW = {"dtype": np.int8, "outputs": ("int8", "uint8", "int32"), "requant": _requant}

KINDS = [
    Kind(name="systolic",
         tiny=SystolicConfig(
             name="tiny", array=Array(rows=2, cols=2),
             scratchpads=Scratchpads(activation_bytes=256, weight_bytes=256, output_bytes=256),
             accumulators=Accumulators(depth=16), post=Post(lanes=1), memory=Memory(data_width=32)),
         small=_load(HERE / "cocotb" / "configuration.toml"), **_NARROW),
    Kind(name="row-stationary-8", tiny=_tiny_row_stationary(8),
         small=_load(HERE / "cocotb" / "row_stationary.toml", {
             "array.rows": 5, "array.cols": 4, "scratchpads.moves": 1, "post.softmax": 1}), **_NARROW),
    Kind(name="row-stationary-16", tiny=_tiny_row_stationary(16),
         small=_load("eyeriss", {
             "array.rows": 4, "array.cols": 5, "pe.filter_words": 40, "pe.psum_words": 8, "global_buffer.banks": 5,
             "global_buffer.bank_lines": 256, "global_buffer.skip_zeros": 1, "pe.filter_queue": 2,
             "memory.data_width": 32}),
         dtype=np.int16, outputs=("int16",), requant=_fixed_point),
    # A plug-in.
    Kind(name="dot", tiny=_TINY_DOT,
         small=_DOT({"array.rows": 4, "array.cols": 4, "accumulators.depth": 64, "memory.data_width": 32}),
         loops=False, **_NARROW),
]

#: Runs a test, with argument ``kind``, for each of them.
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])

_SYSTOLIC = KINDS[0]

#: The same, and programs that no operator is compiled to, on an array with all functions, whose tests share its build.
PROGRAMS = [*KINDS, MovesKind(
    name="moves", tiny=replace(_SYSTOLIC.tiny, scratchpads=replace(_SYSTOLIC.tiny.scratchpads, moves=1)),
    small=_load(HERE / "cocotb" / "configuration.toml", {
        "scratchpads.moves": 1, "post.softmax": 1, "post.norms": 1, "post.row_softmax": 1, "post.float_softmax": 1,
        "array.toeplitz": 1}),
    dtype=np.int8, outputs=("int8", "uint8", "int32"), requant=_requant)]

#: Accelerators for compiled simulation, by the kind's name; and one of wider operands, of which a beat holds two.
SMALL = {kind.name: kind.small for kind in PROGRAMS} | {
    "systolic-16": _load(HERE / "cocotb" / "configuration.toml", {
        "array.operand_bits": 16, "memory.data_width": 32, "scratchpads.moves": 1})}

#: Runs a test of programs, whatever they compute, with argument ``kind``, for each of them.
each_program = pytest.mark.parametrize("kind", PROGRAMS, ids=[kind.name for kind in PROGRAMS])

#: The same where each kind takes a build of its own or a simulation in Python: those that differ little from another,
#: or in the array alone, are slow. Stalls and errors of all of them are in tests/sim/test_disturbances.py.
each_build = pytest.mark.parametrize("kind", [
    kind if kind.name in ("systolic", "row-stationary-16") else slow(kind) for kind in PROGRAMS],
    ids=[kind.name for kind in PROGRAMS])
