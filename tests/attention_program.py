"""Programs of fused attention written by hand, and what they must compute."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from needs import NeededWaits

from pearray.compiler.program import Program
from pearray.golden import fused_attention as golden
from pearray.hdl.shell.commands import Opcode, Parameter, Rounding
from pearray.hdl.systolic.commands import Destination
from pearray.hdl.systolic.config import SystolicConfig

__all__ = ["AttentionCase"]

#: Where in memory the program stands, its operands, and its outputs.
PROGRAM, OPERANDS, OUTPUTS = 0x0, 0x10000, 0x20000
_ONE = {"count1": 1, "count2": 1}
_UNSIGNED = 0xFFFF


class _Places(NamedTuple):
    """Where a byte of numerators stands as output and as activation, values as weights, and the states of a head.

    Scores and shifts of blocks take turns.
    """

    turn: int
    output: int
    activation: int
    weight: int
    states: int


@dataclass
class AttentionCase:
    """Heads on a configuration: (H, P, E) queries, (H, M, E) keys and (H, M, F) values of int8, and options of golden.

    Rows of queries and both of its score buffers must fit the accumulators, and all of its outputs.
    """

    config: SystolicConfig
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    options: dict
    #: Rows that a POST of scores takes.
    rows: int

    @classmethod
    def drawn(cls, rng: np.random.Generator, config: SystolicConfig) -> "AttentionCase":
        """Draw shapes, operands, masks and scales."""
        cols, depth = config.array.cols, config.accumulators.depth
        elements, features = (int(rng.integers(1, 3 * cols)) for _ in range(2))
        most = min(depth // 2, depth // -(-features // cols), config.scratchpads.channels // cols)
        heads, rows = int(rng.integers(1, 3)), int(rng.integers(1, min(most, 12) + 1))
        length = int(rng.integers(1, 5 * cols))
        q, k, v = (rng.integers(-128, 128, shape).astype(np.int8)
                   for shape in ((heads, rows, elements), (heads, length, elements), (heads, length, features)))
        options = {"q_scale": 2.0 ** rng.uniform(-9, -3), "k_scale": 0.05, "v_scale": 0.04, "y_scale": 0.03,
                   "causal": bool(rng.integers(2)), "two_bytes": bool(rng.integers(2)),
                   "offset": int(rng.integers(-2, length)),
                   "window": int(rng.integers(1, length + 1)) if rng.integers(2) else None,
                   "lengths": int(rng.integers(length + 1)) if rng.integers(2) else None}
        if rng.integers(2):
            options["mask"] = np.where(rng.random((rows, length)) < 0.3, -np.inf, rng.normal(0, 2, (rows, length)))
        return cls(config, q, k, v, options, int(rng.integers(1, rows + 1)))

    @property
    def expected(self) -> np.ndarray:
        """(H, P, F) outputs of the golden model."""
        return golden.fused_attention(self.q, self.k, self.v, **self.options, block=self.config.array.cols,
                                      tile=self.config.array.rows)

    @property
    def unit(self) -> float:
        """Score of a product of 1."""
        return self.options["q_scale"] * self.options["k_scale"] / math.sqrt(self.q.shape[2])

    @property
    def _rows(self) -> int:
        """Queries of a head."""
        return self.q.shape[1]

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """First key that each row sees, and the one behind the last."""
        place, length = np.arange(self._rows) + self.options["offset"], self.options["lengths"]
        end = np.full(len(place), self.k.shape[1] if length is None else length)
        window = self.options["window"]
        low = np.zeros_like(end) if window is None else place - window + 1
        if self.options["causal"]:
            end = np.minimum(end, place + 1)
        elif window is not None:
            end = np.minimum(end, place + window)
        return low, end

    def segments(self) -> list[tuple[int, bytes]]:
        """Bytes of memory at each address."""
        program = self.program()
        return [(PROGRAM, program.encode()), *self._data]

    def read(self, read) -> np.ndarray:
        """(H, P, F) outputs in memory, by a function of an address and a length."""
        shape = *self.q.shape[:2], self.v.shape[2]
        return np.frombuffer(read(OUTPUTS, math.prod(shape)), np.int8).reshape(shape)

    def _put(self, values: np.ndarray) -> int:
        """Address of values that are put into memory."""
        address = self._end
        self._data.append((address, values.tobytes()))
        self._end = -(-(address + values.nbytes) // 64) * 64
        return address

    def _emit(self, queue: str, **body: int) -> None:
        getattr(self._program, queue)({name: count for name, count in self._program.counts.items() if count}, **body)

    def program(self) -> Program:
        """Commands, without END."""
        self._program, self._data, self._end = Program(self.config.commands), [], OPERANDS
        scale = golden.score_scale(1 / math.sqrt(self.q.shape[2]), self.options["q_scale"], self.options["k_scale"])
        line = np.zeros((self.config.post.lanes, 2), np.uint32)
        line[:, 0] = scale.view(np.uint32)
        self._load(Destination.SCALE, line, 0)
        self._heads()
        return self._program

    def _heads(self) -> None:
        """Commands of all heads."""
        for head in range(len(self.q)):
            self._head(head)

    def _head(self, head: int) -> None:
        """Commands of one head."""
        (rows, elements), cols = self.q.shape[1:], self.config.array.cols
        self._load(Destination.ACTIVATION, self.q[head], 0)
        for block, start in enumerate(range(0, self.k.shape[1], cols)):
            keys, values = (each[head, start:start + cols] for each in (self.k, self.v))
            self._load(Destination.WEIGHT, keys, 0)
            self._emit("execute", left=1, first=1, m_count0=rows, m_count1=1, m_count2=1, m_step0=elements, n_count=1,
                       k_total=elements, run=elements, run_count=1, w_pitch=elements, acc_base=block % 2 * rows)
            for part in range(self._parts):
                places = _Places(block % 2, 0, self.q[0].size, 0, 0)
                self._numerate(block, start, part, places)
                if part == 0:
                    self._load(Destination.WEIGHT, values, 0)
                self._weigh(block, len(keys), part, places)
        self._outputs(head, 0)

    @property
    def _parts(self) -> int:
        """Bytes of a numerator."""
        return 2 if self.options["two_bytes"] else 1

    def _numerate(self, block: int, start: int, part: int, places: _Places) -> None:
        """POSTs of the scores of a block, and a MOVE of the numerators that they write."""
        rows, cols = self._rows, self.config.array.cols
        for first in range(0, rows, self.rows):
            self._scores(block, start, first, min(self.rows, rows - first), part, places)
        self._emit("move", destination=Destination.ACTIVATION.value, address=places.output, length=rows * cols,
                   target=places.activation, **_ONE)

    def _load(self, destination: Destination, values: np.ndarray, address: int) -> None:
        self._emit("load", destination=destination.value, dram=self._put(values), address=address,
                   length=values.nbytes, **_ONE)

    def _scores(self, block: int, start: int, first: int, count: int, part: int, places: _Places) -> None:
        """POST of some rows of the scores of a block."""
        cols, lanes = self.config.array.cols, self.config.post.lanes
        low, high = (each[first:first + count] - start for each in self._bounds())
        bounds = {}
        steps = {int(step) for each in (low, high) for step in np.diff(each)}
        mask = self.options.get("mask")
        biases = np.zeros((count, cols), np.int32)
        if mask is not None:
            here = golden.mask_bias(mask[first:first + count, start:start + cols], self.unit)
            biases[:, :here.shape[1]] = here
        if steps in (set(), {0}, {1}):
            bounds = {"acc_nstep": int(high[0]) & _UNSIGNED, "bias_nstep": int(low[0]) & _UNSIGNED,
                      "slope": int(steps == {1})}
        else:
            j = np.arange(cols)
            hidden = (j < low[:, None]) | (j >= high[:, None])
            biases[hidden] = golden.MASK_BIAS
            bounds = {"acc_nstep": cols}
        if biases.any():
            self._load(Parameter.BIAS, biases, first * cols * 4)
        factor = int(golden.output_factor(self.options["v_scale"], self.options["y_scale"]).view(np.uint32))
        self._emit("post", rounding=Rounding.ONNX, softmax=1, opens=int(block == 0), n_count=1, m_count=count,
                   acc_base=places.turn * self._rows + first, bias=int(biases.any()),
                   bias_base=first * cols // lanes, bias_mstep=cols // lanes,
                   scale_nstep=places.turn * self._rows + first, out_nstep=places.states + first,
                   low=factor & _UNSIGNED, high=factor >> 16, out_base=places.output + first * cols, out_mstep=cols,
                   two_bytes=int(self.options["two_bytes"]), low_byte=part, **bounds)

    def _weigh(self, block: int, keys: int, part: int, places: _Places) -> None:
        """EXECUTE of numerators and values."""
        rows, features, cols = self._rows, self.v.shape[2], self.config.array.cols
        self._emit("execute", bank=1, first=int(block == part == 0), rescale=1, low_part=part,
                   shift_base=places.turn * rows, m_count0=rows, m_count1=1, m_count2=1, m_step0=cols,
                   a_base=places.activation, a_unsigned=1, k_total=keys, run=keys, run_count=1,
                   w_base=places.weight, w_pitch=features, w_nstep=cols, n_count=-(-features // cols), acc_nstep=rows)

    def _outputs(self, head: int, states: int) -> None:
        """POST that normalises, and STORE."""
        rows, features, cols = self._rows, self.v.shape[2], self.config.array.cols
        pitch = -(-features // cols) * cols
        self._emit("post", rounding=Rounding.ONNX, normalise=1, bank=1, n_count=pitch // cols, m_count=rows,
                   acc_nstep=rows, scale_base=states, low=-128, high=127, out_nstep=cols, out_mstep=pitch)
        self._emit("store", dram=OUTPUTS + head * rows * features, dram_step1=features, step1=pitch, length=features,
                   count1=rows, count2=1)


class OverlappedCase(AttentionCase):
    """The same, but that engines work side by side: each command waits for just what it must wait for.

    Scores of a block are summed while those of the block before are read from the same bank, and while the numerators
    of that are weighed, also from head to head. What is written and read in turns stands twice.
    """

    def _put(self, values: np.ndarray) -> int:
        address = super()._put(values)
        self._waits.machine.write([(address, values.tobytes())])
        return address

    def _emit(self, queue: str, **body: int) -> None:
        self._waits.emit(Opcode[queue.upper()], body)

    def program(self) -> Program:
        """Commands, without END."""
        self._waits = NeededWaits(self.config, OUTPUTS + 0x1000)
        super().program()
        return self._waits.program

    def _heads(self) -> None:
        cols, weighed = self.config.array.cols, None
        blocks = [(head, block) for head in range(len(self.q)) for block in range(-(-self.k.shape[1] // cols))]
        for number, (head, block) in enumerate(blocks):
            if block == 0:
                self._load(Destination.ACTIVATION, self.q[head], head % 2 * self.q[0].size)
            self._sum(number, head, block)
            for part in range(self._parts):
                self._numerate(block, block * cols, part, self._places(number, head, part))
            if weighed is not None:
                self._weigh_all(*weighed)
            weighed = number, head, block
        self._weigh_all(*weighed)

    def _places(self, number: int, head: int, part: int) -> _Places:
        """Places of a byte of the numerators of a block."""
        output = (number % 2 * self._parts + part) * self._rows * self.config.array.cols
        values = self.config.array.cols * (2 * self.q.shape[2] + number % 2 * self.v.shape[2])
        return _Places(number % 2, output, 2 * self.q[0].size + output, values, head % 2 * self._rows)

    def _sum(self, number: int, head: int, block: int) -> None:
        """LOAD of the keys of a block, and EXECUTEs of its scores: the first tile, which overwrites, and the others."""
        (rows, elements), cols = self.q.shape[1:], self.config.array.cols
        height, keys = self.config.array.rows, number % 2 * cols * elements
        self._load(Destination.WEIGHT, self.k[head, block * cols:(block + 1) * cols], keys)
        for start in range(0, elements, height)[:2]:
            count = elements - start if start else min(height, elements)
            self._emit("execute", left=1, first=int(start == 0), m_count0=rows, m_count1=1, m_count2=1,
                       m_step0=elements, n_count=1, a_base=head % 2 * self.q[0].size + start, k_total=count, run=count,
                       run_count=1, w_base=keys + start, w_pitch=elements, acc_base=number % 2 * rows)

    def _weigh_all(self, number: int, head: int, block: int) -> None:
        """LOAD of the values of a block, and EXECUTEs of all bytes of its numerators; outputs behind the last."""
        cols = self.config.array.cols
        values = self.v[head, block * cols:(block + 1) * cols]
        self._load(Destination.WEIGHT, values, self._places(number, head, 0).weight)
        for part in range(self._parts):
            self._weigh(block, len(values), part, self._places(number, head, part))
        if (block + 1) * cols >= self.k.shape[1]:
            self._outputs(head, self._places(number, head, 0).states)
