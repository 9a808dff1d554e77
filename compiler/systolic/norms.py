"""LayerNorm and RMSNorm as a step of their own: blocks of rows stand in the accumulators while they are walked twice.

Elements come through the array's diagonal, a weight of one each. Those that are sums of two tensors come as pairs of
bytes, of which post-processing makes them in both walks. Commands of moments, from whose sums roots follow,
and those that normalise take turns, so that the roots of a block of rows are found under the moments of the next:
moments 0, moments 1, rows 0, moments 2, rows 1, ... Blocks stand in both banks by turns, two in each where there is
room, so that elements enter one bank while post-processing reads the other. A row that has no room is walked part by
part, and loaded twice.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...hdl.post.pairs import pair_words
from ...hdl.shell.commands import Opcode, Parameter, Rounding
from ...hdl.shell.functions import NORM_STATES
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..hazards import Hazards, Region
from ..kernels.normalisation import Normalisation
from ..placement import MemoryPlan
from ..places import Ring
from ..program import Program
from ..program_step import ProgramStep
from ..timing.latencies import UnendingError
from ..transfers import block, blocks, fill
from .norm_layer import STATES, NormLayer, Part
from .program_step import program_step
from .timeline import timeline

__all__ = ["lower_normalisation"]

_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value
_BIAS, _SCALE = Parameter.BIAS.value, Parameter.SCALE.value

#: Most rows of which ways are compared.
_SAMPLE = 256

#: Weight of a pair's second operand, which loses as much again.
_SECOND = -128

#: Tables of pairs.
_TABLES = Region("tables", 0, 1)


@dataclass(eq=False)
class _Standing:
    """A part that stands in the accumulators: bank, and first row of sums."""

    part: Part
    bank: int
    at: int


class _Emitter:
    """Emits the commands of a layer, in blocks of some rows."""

    def __init__(self, layer: NormLayer, rows: int, plan: MemoryPlan, count: int):
        self._layer, self._plan, self._count = layer, plan, count
        self._blocks = [Part(start, min(rows, count - start), 0, layer.tiles) for start in range(0, count, rows)]
        self.program = Program(layer.config.commands)
        self._hazards = Hazards(self.program)
        self._outputs = Ring(layer.config.scratchpads.output_bytes // layer.line * layer.line, layer.line)
        parts = self._in_order()
        self._places = layer.places(parts)
        self._parts = deque(parts)
        self._loaded: deque[Part] = deque()
        self._begun = 0
        self._executed = 0
        #: Elements, and pitch, of the rows whose padding each place has.
        self._padded: dict[int, tuple[int, int]] = {}
        #: Parts whose gains stand at each place, and the place that was used last.
        self._gains: dict[int, tuple[int, int]] = {}
        self._turn = 0
        self._backwards = False

    def run(self) -> Program:
        """Emit all."""
        self._load_weights()
        self._load_tables()
        (self._walk_whole if self._layer.is_whole else self._walk_parts)()
        return self.program

    def _walk_whole(self) -> None:
        """Walk blocks of whole rows, which stand until they have been walked twice."""
        blocks, standing = self._blocks, deque[_Standing]()
        for number in range(len(blocks) + 1):
            if number < len(blocks):
                self._bring_until(standing, number + 1)
                self._emit_moments(standing[min(number, 1)], number)
            if self._layer.halves == 2:
                # The bank that was read last has room for one more, which enters while the other is read.
                self._bring_until(standing, number + 3)
            if number:
                self._emit_rows(standing.popleft(), number - 1, blocks[number].rows if number < len(blocks) else 0)

    def _bring_until(self, standing: deque[_Standing], count: int) -> None:
        """Bring blocks until so many have been."""
        while self._executed < min(count, len(self._blocks)):
            standing.append(self._bring())

    def _walk_parts(self) -> None:
        """Walk rows part by part, each of which is brought twice."""
        for number in range(self._count + 1):
            later = int(number < self._count)
            for _ in self._sections(number) if later else ():
                self._emit_moments(self._bring(), number)
            for _ in self._sections(number - 1) if number else ():
                self._emit_rows(self._bring(), number - 1, later)

    def _sections(self, row: int) -> list[Part]:
        """Parts in which a row is walked that has no room."""
        layer = self._layer
        return [Part(row, 1, first, min(first + layer.most_tiles, layer.tiles))
                for first in range(0, layer.tiles, layer.most_tiles)]

    def _in_order(self) -> list[Part]:
        """All parts in the order in which they enter the accumulators."""
        if self._layer.is_whole:
            return self._blocks
        return [part for row in range(self._count + 1) for number in (row, row - 1) if 0 <= number < self._count
                for part in self._sections(number)]

    # Loads, and products on the diagonal.

    def _load_weights(self) -> None:
        """Load the diagonal's ones, and the weights of the second operand."""
        width = self._layer.width
        for number, weight in zip(range(len(self._layer.operands)), (1, _SECOND), strict=False):
            (body,) = fill(weight & 255, 1, address=number * width, length=width, dims=[])
            self._hazards.emit(Opcode.LOAD, {"destination": _WEIGHT} | body,
                               writes=[Region("weight", number * width, (number + 1) * width)])

    def _load_tables(self) -> None:
        """Load the tables of pairs, if elements are such."""
        kernel, config = self._layer.kernel, self._layer.config
        if kernel.tables is None:
            return
        words = np.zeros((kernel.tables.shape[1], pair_words(config)), "<i4")
        words[:, :2] = kernel.tables.T
        data = words.tobytes()
        address = self._plan.constant(kernel.name, len(data), partial(bytes, data), key=("pair", data))
        self._hazards.emit(Opcode.LOAD, {"destination": config.pair_memory} | block(
            dram=address, address=0, length=len(data), dims=[]), writes=[_TABLES])

    def _bring(self) -> _Standing:
        """Load the next part, and the one behind it, and bring the first to the accumulators."""
        layer = self._layer
        while self._parts and len(self._loaded) < layer.slots:
            self._load(self._parts.popleft())
        part = self._loaded.popleft()
        number = self._executed
        self._executed += 1
        held = _Standing(part, number % 2, number // 2 % layer.halves * layer.room)
        vectors = part.rows * part.tiles
        size = min(layer.elements, layer.width)
        for which, (operand, zero) in enumerate(zip(layer.operands, (0, -_SECOND), strict=False)):
            base, line = self._places.place(number, which), which * layer.width
            writes = [Region(f"sums {held.bank}", held.at, held.at + vectors)]
            if which:
                writes.append(Region(f"port {held.bank}", 0, 1))
            self._hazards.emit(
                Opcode.EXECUTE,
                {"diagonal": 1, "first": int(which == 0), "bank": held.bank, "a_zero_point": operand.zero,
                 "a_unsigned": int(operand.is_unsigned), "w_zero_point": zero, "m_count0": vectors, "m_count1": 1,
                 "m_count2": 1, "k_total": size, "run": size, "run_count": 1, "n_count": 1, "a_base": base,
                 "w_base": line, "m_step0": size, "acc_base": held.at},
                reads=[Region("activation", base, base + vectors * size), Region("weight", line, line + layer.width)],
                writes=writes)
        return held

    def _load(self, part: Part) -> None:
        """Load a part of some rows, with zeros behind the last element of each."""
        layer = self._layer
        first = part.first * layer.width
        length = min(part.end * layer.width, layer.elements) - first
        pitch = layer.pitch_of(part)
        for which, operand in enumerate(layer.operands):
            base = self._places.place(self._begun, which)
            self._pad(part, base, length, pitch, operand.zero & 255)
            body = block(dram=operand.view.address + part.row * layer.elements + first, address=base, length=length,
                         dims=[(part.rows, layer.elements, pitch)])
            self._hazards.emit(Opcode.LOAD, {"destination": _ACTIVATION} | body,
                               writes=[Region("activation", base, base + part.rows * pitch)])
        self._begun += 1
        self._loaded.append(part)

    def _pad(self, part: Part, base: int, length: int, pitch: int, value: int) -> None:
        """Fill what stands behind the rows of a place, unless it is there from a block before."""
        stands, self._padded[base] = self._padded.get(base), (length, pitch)
        address, length = base + length, pitch - length
        if not length or stands == self._padded[base]:
            return
        (body,) = fill(value, 1, address=address, length=length, dims=[(part.rows, pitch)])
        self._hazards.emit(Opcode.LOAD, {"destination": _ACTIVATION} | body,
                           writes=[Region("activation", address, address + (part.rows - 1) * pitch + length)])

    # Both walks over the accumulators.

    @staticmethod
    def _state(number: int) -> int:
        """First state of a block of rows."""
        return number % 2 * STATES

    def _reads(self, held: _Standing, first: int = 0) -> list[Region]:
        """What a POST reads of the accumulators, and beside them."""
        count = held.part.rows * held.part.tiles
        return [Region(f"sums {held.bank}", held.at + first, held.at + count), Region(f"port {held.bank}", 0, 1),
                *([_TABLES] if self._layer.kernel.tables is not None else [])]

    @property
    def _pair(self) -> dict[str, int]:
        """Field of a POST that says what its elements are."""
        return {} if self._layer.kernel.tables is None else {"pair": 1}

    def _emit_moments(self, held: _Standing, number: int) -> None:
        """Emit the POST that adds up elements and squares."""
        part, kernel = held.part, self._layer.kernel
        added = kernel.addend
        self._hazards.emit(
            Opcode.POST,
            self._pair
            | {"moments": 1, "row_opens": int(part.first == 0), "row_closes": int(part.end == self._layer.tiles),
             "centred": int(kernel.centred), "state_row": self._state(number),
             "behind": NORM_STATES if self.program.counts["post"] else 0, "bank": held.bank, "n_count": part.rows,
             "m_count": part.tiles, "acc_base": held.at, "acc_nstep": part.tiles, "scale_nstep": self._layer.elements,
             "bias_nstep": kernel.fraction, "out_base": added & 0xFFFFF, "out_nstep": added >> 20 & 0xFFFFF,
             "out_mstep": added >> 40 & 0xFFFFF, "low": added >> 60},
            reads=self._reads(held))

    def _emit_rows(self, held: _Standing, number: int, later: int) -> None:
        """Emit the POSTs and STOREs of what stands: as many parts as gains stand, as many rows as outputs have room."""
        part, layer = held.part, self._layer
        most = min(layer.most_gains, layer.most_outputs)
        cuts = [(first, min(first + most, part.end)) for first in range(part.first, part.end, most)]
        # Gains that stand from the block before come first.
        if self._backwards:
            cuts.reverse()
        self._backwards ^= len(cuts) > 1
        rows = layer.most_outputs // (cuts[0][1] - cuts[0][0])
        for cut, following in zip(cuts, [*cuts[1:], cuts[-1]], strict=True):
            gains = self._load_gains(*cut)
            if layer.gain_room > layer.most_gains:
                self._load_gains(*following)
            for start in range(0, part.rows, rows):
                some = Part(start, min(rows, part.rows - start), *cut)
                self._post_rows(held, some, gains, number, later)

    def _post_rows(self, held: _Standing, some: Part, gains: tuple[int, list[Region]], number: int,
                   later: int) -> None:
        """Emit one of these POSTs, and its STOREs."""
        part, layer = held.part, self._layer
        kernel, per_row = layer.kernel, layer.cols // layer.lanes
        size = some.rows * some.tiles * layer.cols
        place = self._outputs.take(size)
        self._outputs.give_back()
        scale = int(kernel.gains.scale.view(np.uint32))
        at = held.at + some.row * part.tiles + some.first - part.first
        region = Region("output", place, place + size)
        self._hazards.emit(
            Opcode.POST,
            self._pair
            | {"normed": 1, "rounding": Rounding.ONNX.value, "per_channel": 1, "bias": int(kernel.biases is not None),
             "bank": held.bank, "zero_point": kernel.zero_point, "low": kernel.low, "high": kernel.high,
             "n_count": some.rows, "m_count": some.tiles, "acc_base": at, "acc_nstep": part.tiles,
             "bias_base": gains[0], "bias_mstep": per_row, "scale_base": gains[0],
             "bias_nstep": scale & 0xFFFF, "scale_nstep": scale >> 16,
             "out_base": place, "out_nstep": some.tiles * layer.cols, "out_mstep": layer.cols,
             "state_row": self._state(number) + some.row, "behind": later},
            reads=[*self._reads(held), *gains[1]], writes=[region])
        for body in self._stores(part.row + some.row, some, place):
            self._hazards.emit(Opcode.STORE, body, reads=[region])

    def _stores(self, row: int, some: Part, place: int) -> Iterator[dict[str, int]]:
        """STOREs of some rows from `row` on, whose parts stand at a place."""
        layer = self._layer
        width, cols, pitch = layer.width, layer.cols, some.tiles * layer.cols
        dram = layer.kernel.y.view.address + row * layer.elements + some.first * width
        left = min(some.end * width, layer.elements) - some.first * width
        along = (some.rows, layer.elements, pitch)
        if width == cols:
            yield from blocks(dram, place, left, [along])
            return
        whole, rest = divmod(left, width)
        if whole:
            yield from blocks(dram, place, width, [(whole, width, cols), along])
        if rest:
            yield from blocks(dram + whole * width, place + whole * cols, rest, [along])

    def _load_gains(self, first: int, end: int) -> tuple[int, list[Region]]:
        """Load gains and biases of some parts, unless they stand; return the line where, and the memories' region."""
        layer, part = self._layer, (first, end)
        place = first
        if layer.most_gains < layer.tiles:
            stands = [at for at, what in self._gains.items() if what == part]
            place = self._turn = stands[0] if stands else (self._turn + layer.most_gains) % layer.gain_room
        regions = [Region("gains", place, place + end - first)]
        line = place * layer.cols // layer.lanes
        if self._gains.get(place) == part:
            return line, regions
        self._gains[place] = part
        for memory, item, data in zip((_BIAS, _SCALE), (4, 8), layer.constants, strict=True):
            if memory == _SCALE and layer.kernel.biases is None:
                continue
            size = layer.cols * item
            address = self._plan.constant(layer.kernel.name, len(data), partial(bytes, data), key=("norm", data))
            body = block(dram=address + first * size, address=place * size, length=(end - first) * size, dims=[])
            self._hazards.emit(Opcode.LOAD, {"destination": memory} | body, writes=regions)
        return line, regions


def lower_normalisation(kernel: Normalisation, config: SystolicConfig, timing: MemoryTiming,
                        plan: MemoryPlan) -> ProgramStep:
    """Choose the blocks by the model of time, and emit the commands.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest parts.
    """
    layers = [NormLayer(kernel, config, halves) for halves in (2, 1)]
    whole = [layer for layer in layers if layer.is_whole]
    ways = list(dict.fromkeys((layer, -(-layer.most_rows // parts)) for layer in whole for parts in (1, 2, 4, 8)))
    ways = ways or [(layers[0], 1)]
    if len(ways) > 1:
        ways.sort(key=lambda way: _cycles(way[0], way[1], timing))
    layer, rows = ways[0]
    return program_step(config, _Emitter(layer, rows, plan, layer.rows).run(), kernel.y.view.buffer)


def _cycles(layer: NormLayer, rows: int, timing: MemoryTiming) -> float:
    """Cycles of a sample in blocks of some rows, infinitely many if it would never end."""
    program = _Emitter(layer, rows, MemoryPlan(keep=False), min(layer.rows, _SAMPLE)).run()
    try:
        return float(timeline(layer.config, program, timing).cycles)
    except UnendingError:
        return float("inf")
