"""LayerNorm and RMSNorm as a step of their own: blocks of rows stand in the accumulators while they are walked twice.

Elements come through the array's diagonal, a weight of one each. Commands of moments, from whose sums roots follow,
and those that normalise take turns, so that the roots of a block of rows are found under the moments of the next:
moments 0, moments 1, rows 0, moments 2, rows 1, ... Blocks stand in both banks by turns, two in each where there is
room, so that elements enter one bank while post-processing reads the other. A row that has no room is walked part by
part, and loaded twice.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ...hdl.errors import PearrayError
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
from ..transfers import block, blocks, fill
from .program_step import program_step
from .timeline import timeline
from .timing import UnendingError

__all__ = ["lower_normalisation"]

_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value
_BIAS, _SCALE = Parameter.BIAS.value, Parameter.SCALE.value

#: Places of blocks of activations; rows that have states, of two blocks; and most rows of which ways are compared.
_SLOTS, _STATES, _SAMPLE = 2, NORM_STATES // 2, 256

#: Operand vectors of an EXECUTE.
_MOST_VECTORS = (1 << 16) - 1


class _Layer:
    """A kernel on a configuration, and what there is room for.

    Parameters
    ----------
    halves : int
        Blocks of rows that stand in a bank.

    Members
    -------
    rows, elements : int
        Rows, and elements of each.
    width, tiles : int
        Elements that come side by side in a row of sums, and such parts of a row.
    room : int
        Rows of sums of a block.
    most_tiles, most_outputs : int
        Parts of a row that stand in the accumulators at a time, and parts of which outputs stand.
    most_gains, gain_room : int
        Parts whose gains are loaded together, and whose gains stand.
    slot : int
        Bytes of a place of activations.
    most_rows : int
        Rows of a block at most, if they are whole.
    """

    def __init__(self, kernel: Normalisation, config: SystolicConfig, halves: int):
        self.kernel, self.config, self.halves = kernel, config, halves
        self.rows, self.elements = kernel.ranks["m"], kernel.ranks["c"]
        self.cols, self.lanes = config.array.cols, config.post.lanes
        self.width = min(config.array.rows, self.cols)
        self.tiles = -(-self.elements // self.width)
        pads, depth = config.scratchpads, config.accumulators.depth
        # With one part alone nothing need be padded.
        self.pitch = self.tiles * self.width if self.tiles > 1 else self.elements
        self.line = self.lanes * config.sum_bytes
        self.room = min(depth // halves, _MOST_VECTORS)
        activations = pads.activation_bytes // _SLOTS // config.beat_bytes * config.beat_bytes
        outputs = pads.output_bytes // 2 // self.line * self.line
        held = pads.channels // self.cols
        if not held:
            raise PearrayError(f"{kernel.name}: scratchpads.channels must be at least {self.cols} to hold the gains of "
                               f"a row of sums, not {pads.channels}")
        self.most_gains = held if held >= self.tiles else max(held // 2, 1)
        self.gain_room = held // self.most_gains * self.most_gains
        self.most_tiles = min(self.room, activations // self.width)
        self.most_outputs = outputs // self.cols
        self.slot = activations
        self.most_rows = min(self.rows, _STATES, self.room // self.tiles, activations // self.pitch) or 1

    @property
    def is_whole(self) -> bool:
        """Whether at least one whole row has room."""
        return self.tiles <= self.most_tiles

    @cached_property
    def constants(self) -> tuple[bytes, bytes]:
        """Gains and biases as their memories hold them, those of biases and scales, for all columns of all parts."""
        gains = np.zeros((self.tiles, self.cols), np.int32)
        biases = np.zeros((self.tiles, self.cols, 2), np.int32)
        given = self.kernel.gains
        for target, values in ((gains, given.gains), (biases[:, :, 0], given.biases)):
            padded = np.zeros(self.tiles * self.width, np.int32)
            padded[:self.elements] = values
            target[:, :self.width] = padded.reshape(self.tiles, self.width)
        return gains.tobytes(), biases.tobytes()


@dataclass(frozen=True)
class _Part:
    """Some parts, from the first to that behind the last, of some rows: of one row, or whole rows."""

    row: int
    rows: int
    first: int
    end: int

    @property
    def tiles(self) -> int:
        """Parts of each row."""
        return self.end - self.first


@dataclass(eq=False)
class _Standing:
    """A part that stands in the accumulators: bank, and first row of sums."""

    part: _Part
    bank: int
    at: int


class _Emitter:
    """Emits the commands of a layer, in blocks of some rows."""

    def __init__(self, layer: _Layer, rows: int, plan: MemoryPlan, count: int):
        self._layer, self._plan, self._count = layer, plan, count
        self._blocks = [_Part(start, min(rows, count - start), 0, layer.tiles) for start in range(0, count, rows)]
        self.program = Program(layer.config.commands)
        self._hazards = Hazards(self.program)
        self._outputs = Ring(layer.config.scratchpads.output_bytes // layer.line * layer.line, layer.line)
        self._parts = deque(self._in_order())
        self._loaded: deque[_Part] = deque()
        self._slots = 0
        self._executed = 0
        #: Parts of a row whose padding each slot has.
        self._padded: dict[int, tuple[int, int]] = {}
        #: Parts whose gains stand at each place, and the place that was used last.
        self._gains: dict[int, tuple[int, int]] = {}
        self._turn = 0
        self._backwards = False

    def run(self) -> Program:
        """Emit all."""
        self._load_weights()
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

    def _sections(self, row: int) -> list[_Part]:
        """Parts in which a row is walked that has no room."""
        layer = self._layer
        return [_Part(row, 1, first, min(first + layer.most_tiles, layer.tiles))
                for first in range(0, layer.tiles, layer.most_tiles)]

    def _in_order(self) -> list[_Part]:
        """All parts in the order in which they enter the accumulators."""
        if self._layer.is_whole:
            return self._blocks
        return [part for row in range(self._count + 1) for number in (row, row - 1) if 0 <= number < self._count
                for part in self._sections(number)]

    # Loads, and products on the diagonal.

    def _load_weights(self) -> None:
        """Load the diagonal's ones."""
        layer = self._layer
        (body,) = fill(1, 1, address=0, length=layer.width, dims=[])
        self._hazards.emit(Opcode.LOAD, {"destination": _WEIGHT} | body, writes=[Region("weight", 0, layer.width)])

    def _bring(self) -> _Standing:
        """Load the next part, and the one behind it, and bring the first to the accumulators."""
        while self._parts and len(self._loaded) < 2:
            self._load(self._parts.popleft())
        part, layer = self._loaded.popleft(), self._layer
        number = self._executed
        self._executed += 1
        base = number % _SLOTS * layer.slot
        held = _Standing(part, number % 2, number // 2 % layer.halves * layer.room)
        vectors = part.rows * part.tiles
        size = min(layer.elements, layer.width)
        self._hazards.emit(
            Opcode.EXECUTE,
            {"diagonal": 1, "first": 1, "bank": held.bank, "a_zero_point": layer.kernel.x.zero,
             "a_unsigned": int(layer.kernel.x.is_unsigned), "m_count0": vectors, "m_count1": 1, "m_count2": 1,
             "k_total": size, "run": size, "run_count": 1, "n_count": 1, "a_base": base, "m_step0": size,
             "acc_base": held.at},
            reads=[Region("activation", base, base + vectors * size), Region("weight", 0, layer.width)],
            writes=[Region(f"sums {held.bank}", held.at, held.at + vectors), Region(f"port {held.bank}", 0, 1)])
        return held

    def _load(self, part: _Part) -> None:
        """Load a part of some rows, with zeros behind the last element of each."""
        layer = self._layer
        slot = self._slots % _SLOTS
        self._slots += 1
        base, first = slot * layer.slot, part.first * layer.width
        length = min(part.end * layer.width, layer.elements) - first
        pitch = part.tiles * layer.width if layer.tiles > 1 else layer.elements
        region = Region("activation", base, base + part.rows * pitch)
        self._pad(part, slot, base + length, pitch - length, pitch)
        body = block(dram=layer.kernel.x.view.address + part.row * layer.elements + first, address=base, length=length,
                     dims=[(part.rows, layer.elements, pitch)])
        self._hazards.emit(Opcode.LOAD, {"destination": _ACTIVATION} | body, writes=[region])
        self._loaded.append(part)

    def _pad(self, part: _Part, slot: int, address: int, length: int, pitch: int) -> None:
        """Fill what stands behind the rows of a slot, unless it is there from a block before."""
        stands, self._padded[slot] = self._padded.get(slot), (length, pitch)
        if not length or stands == (length, pitch):
            return
        (body,) = fill(self._layer.kernel.x.zero & 255, 1, address=address, length=length, dims=[(part.rows, pitch)])
        self._hazards.emit(Opcode.LOAD, {"destination": _ACTIVATION} | body,
                           writes=[Region("activation", address, address + (part.rows - 1) * pitch + length)])

    # Both walks over the accumulators.

    @staticmethod
    def _state(number: int) -> int:
        """First state of a block of rows."""
        return number % 2 * _STATES

    def _reads(self, held: _Standing, first: int = 0) -> list[Region]:
        """What a POST reads of the accumulators."""
        count = held.part.rows * held.part.tiles
        return [Region(f"sums {held.bank}", held.at + first, held.at + count), Region(f"port {held.bank}", 0, 1)]

    def _emit_moments(self, held: _Standing, number: int) -> None:
        """Emit the POST that adds up elements and squares."""
        part, kernel = held.part, self._layer.kernel
        added = kernel.addend
        self._hazards.emit(
            Opcode.POST,
            {"moments": 1, "row_opens": int(part.first == 0), "row_closes": int(part.end == self._layer.tiles),
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
                some = _Part(start, min(rows, part.rows - start), *cut)
                self._post_rows(held, some, gains, number, later)

    def _post_rows(self, held: _Standing, some: _Part, gains: tuple[int, list[Region]], number: int,
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
            {"normed": 1, "rounding": Rounding.ONNX.value, "per_channel": 1, "bias": int(kernel.biases is not None),
             "bank": held.bank, "zero_point": kernel.zero_point, "low": -128, "high": 127, "n_count": some.rows,
             "m_count": some.tiles, "acc_base": at, "acc_nstep": part.tiles, "bias_base": gains[0],
             "bias_mstep": per_row, "scale_base": gains[0], "bias_nstep": scale & 0xFFFF, "scale_nstep": scale >> 16,
             "out_base": place, "out_nstep": some.tiles * layer.cols, "out_mstep": layer.cols,
             "state_row": self._state(number) + some.row, "behind": later},
            reads=[*self._reads(held), *gains[1]], writes=[region])
        for body in self._stores(part.row + some.row, some, place):
            self._hazards.emit(Opcode.STORE, body, reads=[region])

    def _stores(self, row: int, some: _Part, place: int) -> Iterator[dict[str, int]]:
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
    layers = [_Layer(kernel, config, halves) for halves in (2, 1)]
    whole = [layer for layer in layers if layer.is_whole]
    ways = list(dict.fromkeys((layer, -(-layer.most_rows // parts)) for layer in whole for parts in (1, 2, 4, 8)))
    ways = ways or [(layers[0], 1)]
    if len(ways) > 1:
        ways.sort(key=lambda way: _cycles(way[0], way[1], timing))
    layer, rows = ways[0]
    return program_step(config, _Emitter(layer, rows, plan, layer.rows).run(), kernel.y.view.buffer)


def _cycles(layer: _Layer, rows: int, timing: MemoryTiming) -> float:
    """Cycles of a sample in blocks of some rows, infinitely many if it would never end."""
    program = _Emitter(layer, rows, MemoryPlan(keep=False), min(layer.rows, _SAMPLE)).run()
    try:
        return float(timeline(layer.config, program, timing).cycles)
    except UnendingError:
        return float("inf")
