"""Softmax of rows: blocks of rows, and the commands that load each, go over it three times, and store it.

The array's diagonal passes bytes on, as many columns of a row to each row of sums. While rows of one bank of the
accumulators are gone over the next block enters the other. The first pass over a block comes before the last one over
the block before it, so that the reciprocals of a block's sums are found meanwhile.
"""

from dataclasses import dataclass

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.post.pairs import pair_bytes, pair_words
from ...hdl.post.row_softmax import STATES, RowPass
from ...hdl.shell.commands import Opcode, Rounding
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..hazards import Hazards, Region
from ..kernels.softmax import RowSoftmax
from ..placement import MemoryPlan
from ..program import Program
from ..program_step import ProgramStep
from ..transfers import block, fill
from .program_step import program_step
from .timeline import timeline

__all__ = ["lower_softmax"]

_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value

#: Blocks of rows of what is compared: as many as one of the largest, times these; and largest ones that are timed.
_FINER, _SAMPLE = (1, 2, 3, 4, 6, 8), 8


@dataclass(frozen=True)
class _Layer:
    """A kernel of softmax on a configuration.

    Members
    -------
    rows, width : int
        Rows, and elements of each.
    reach : int
        Columns of a row of sums that are filled.
    each : int
        Rows of sums of a row.
    """

    kernel: RowSoftmax
    config: SystolicConfig

    @property
    def rows(self) -> int:
        return self.kernel.ranks["m"]

    @property
    def width(self) -> int:
        return self.kernel.ranks["c"]

    @property
    def reach(self) -> int:
        array, lanes = self.config.array, self.config.post.lanes
        return min(array.rows, array.cols) // lanes * lanes

    @property
    def each(self) -> int:
        return -(-self.width // self.reach)

    def input_bytes(self, rows: int) -> int:
        """Room of a block's elements: what is read behind the last one is not used."""
        return self._aligned(rows * self.width + self.reach, self.config.beat_bytes)

    def output_bytes(self, rows: int) -> int:
        """Room of a block's outputs."""
        line = self.config.post.lanes * self.config.sum_bytes
        return self._aligned(rows * self.each * self.reach + self.config.array.cols, line)

    @staticmethod
    def _aligned(size: int, unit: int) -> int:
        return -(-size // unit) * unit

    def most_rows(self) -> int:
        """Most rows of a block, of which there are two at a time.

        Raises
        ------
        PearrayError
            If there is no room for one.
        """
        config, name, pads = self.config, self.kernel.name, self.config.scratchpads
        if not self.reach:
            raise PearrayError(f"{name}: array.rows must be at least post.lanes = {config.post.lanes} for softmax, not "
                               f"{config.array.rows}")
        for key, least, given in (("scratchpads.activation_bytes", 2 * self.input_bytes(1), pads.activation_bytes),
                                  ("scratchpads.output_bytes", 2 * self.output_bytes(1), pads.output_bytes),
                                  ("accumulators.depth", self.each, config.accumulators.depth)):
            if given < least:
                raise PearrayError(f"{name}: {key} must be at least {least} to hold rows of {self.width} elements, not "
                                   f"{given}")
        most = min(self.rows, STATES // 2, config.accumulators.depth // self.each)
        while 2 * self.input_bytes(most) > pads.activation_bytes or 2 * self.output_bytes(most) > pads.output_bytes:
            most -= 1
        return most


@dataclass(frozen=True)
class _Block:
    """Rows that are computed together: which, and where in memories they stand."""

    number: int
    first: int
    rows: int

    @property
    def side(self) -> int:
        """Bank of the accumulators, and half of other memories."""
        return self.number % 2


class _Emitter:
    """Emits the commands of blocks of rows."""

    def __init__(self, layer: _Layer, most: int, plan: MemoryPlan):
        self._layer, self._most, self._plan = layer, most, plan
        self.program = Program(layer.config.commands)
        self._hazards = Hazards(self.program)
        self._places = 2

    def run(self, rows: int) -> Program:
        """Emit what the first rows need, in blocks of about equal size."""
        count = -(-rows // self._most)
        # A place of its own for each, so that tensors may stay on chip that others make, or two that take turns.
        has_room = count * self._layer.input_bytes(self._most) <= self._layer.config.scratchpads.activation_bytes
        self._places = count if has_room else 2
        cuts = [rows * number // count for number in range(count + 1)]
        blocks = [_Block(number, cuts[number], cuts[number + 1] - cuts[number]) for number in range(count)]
        self._load(blocks[0])
        self._load_constants()
        before = None
        for each in blocks:
            if each.number + 1 < count:
                self._load(blocks[each.number + 1])
            self._execute(each)
            self._post(each, RowPass.GREATEST)
            if before is not None:
                self._finish(before)
            self._post(each, RowPass.TOTAL)
            before = each
        self._finish(blocks[-1])
        return self.program

    def _input(self, rows: _Block) -> Region:
        first = rows.number % self._places * self._layer.input_bytes(self._most)
        return Region("activation", first, first + rows.rows * self._layer.width)

    def _output(self, rows: _Block) -> Region:
        first = rows.side * self._layer.output_bytes(self._most)
        return Region("output", first, first + self._layer.output_bytes(rows.rows))

    def _sums(self, rows: _Block) -> Region:
        return Region(f"sums {rows.side}", 0, rows.rows * self._layer.each)

    def _load(self, rows: _Block) -> None:
        layer, target = self._layer, self._input(rows)
        body = block(dram=layer.kernel.x.view.address + rows.first * layer.width, address=target.first,
                     length=rows.rows * layer.width, dims=[])
        self._hazards.emit(Opcode.LOAD, {"destination": _ACTIVATION} | body, writes=[target])

    def _load_constants(self) -> None:
        """Load ones for the diagonal, and the terms, beside which the other table of pairs has zeros."""
        layer, config = self._layer, self._layer.config
        (ones,) = fill(1, 1, address=0, length=layer.reach, dims=[])
        self._hazards.emit(Opcode.LOAD, {"destination": _WEIGHT} | ones, writes=[Region("weight", 0, layer.reach)])
        length = pair_bytes(config)

        def packed() -> bytes:
            words = np.zeros((256, pair_words(config)), "<i4")
            terms = layer.kernel.exponentials
            words[:, 0] = terms.view("<i4") if layer.kernel.is_float else terms
            return words.tobytes()

        address = self._plan.constant(layer.kernel.name, length, packed)
        self._hazards.emit(Opcode.LOAD, {"destination": config.pair_memory} | block(
            dram=address, address=0, length=length, dims=[]), writes=[Region("pair", 0, 1)])

    def _execute(self, rows: _Block) -> None:
        layer, source = self._layer, self._input(rows)
        body = {"diagonal": 1, "first": 1, "bank": rows.side, "m_count0": layer.each, "m_count1": rows.rows,
                "m_count2": 1, "m_step0": layer.reach, "m_step1": layer.width, "k_total": layer.reach,
                "run": layer.reach, "run_count": 1, "n_count": 1, "a_base": source.first,
                "a_unsigned": int(layer.kernel.x.is_unsigned)}
        self._hazards.emit(Opcode.EXECUTE, body, reads=[source, Region("weight", 0, layer.reach)],
                           writes=[self._sums(rows)])

    def _post(self, rows: _Block, row_pass: RowPass) -> None:
        layer, target = self._layer, self._output(rows)
        kernel, rounding = layer.kernel, Rounding.ONNX if layer.kernel.is_float else Rounding.TFLITE_DOUBLE
        body = {"row_pass": row_pass.value, "rounding": rounding.value, "bank": rows.side, "n_count": 1,
                "m_count": rows.rows * layer.each, "acc_nstep": layer.each, "bias_mstep": layer.reach,
                "bias_nstep": layer.width - (layer.each - 1) * layer.reach, "scale_nstep": rows.side * (STATES // 2)}
        reads, writes = [self._sums(rows)], []
        if row_pass is not RowPass.GREATEST:
            reads.append(Region("pair", 0, 1))
        if kernel.is_float:
            body |= {"float_row": 1, "bias_base": kernel.inverse}
            if row_pass is RowPass.TOTAL:
                groups = layer.config.array.cols // layer.config.post.lanes
                body |= {"m_count": rows.rows, "n_count": layer.each * groups}
        if row_pass is RowPass.SHARE:
            body |= {"zero_point": kernel.point, "low": kernel.low, "high": kernel.high, "out_base": target.first,
                     "out_mstep": layer.reach}
            writes.append(target)
        self._hazards.emit(Opcode.POST, body, reads, writes)

    def _finish(self, rows: _Block) -> None:
        """Emit the last pass over a block, and its STORE."""
        layer, source = self._layer, self._output(rows)
        self._post(rows, RowPass.SHARE)
        body = block(dram=layer.kernel.y.view.address + rows.first * layer.width, address=source.first,
                     length=layer.width, dims=[(rows.rows, layer.width, layer.each * layer.reach)])
        self._hazards.emit(Opcode.STORE, body, reads=[source])


def lower_softmax(kernel: RowSoftmax, config: SystolicConfig, timing: MemoryTiming, plan: MemoryPlan) -> ProgramStep:
    """Cut a kernel of softmax into blocks of as many rows as take the fewest cycles, and emit its commands.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest blocks.
    """
    layer = _Layer(kernel, config)
    most = layer.most_rows()
    rows = min(layer.rows, _SAMPLE * most)
    count = -(-rows // most)
    choices = dict.fromkeys(-(-rows // min(count * finer, rows)) for finer in _FINER)

    def cycles(choice: int) -> int:
        return timeline(config, _Emitter(layer, choice, MemoryPlan(keep=False)).run(rows), timing).cycles

    program = _Emitter(layer, min(choices, key=cycles), plan).run(layer.rows)
    return program_step(config, program, kernel.y.view.buffer)
