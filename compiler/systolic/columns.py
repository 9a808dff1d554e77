"""Matrix products whose first operand is transposed in memory: A stands as (K, M), rows of the contraction.

Element k of a pixel stands one row of A behind element k - 1. Rows whose pitch in the scratchpad is one more than a
multiple of its banks put R of them in R different banks, as the taps of a convolution, so that tiles of the
contraction fold them at full speed, whichever way B stands.
"""

from collections.abc import Iterator

from ...hdl.errors import PearrayError
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Group, Piece, Tile, Use
from ..transfers import block
from .candidates import Chooser
from .geometry import Box, tiles_of
from .lower import Tiling, _Lowering
from .steps import ContractionStep

__all__ = ["lower_columns"]

#: Parts of a contraction at least, so that the first computes while the next comes.
_PARTS = 8

#: Groups of outputs at least, if that costs no memory traffic, so that post-processing overlaps with the next.
_GROUPS = 8


def _pitch(pixels: int, config: SystolicConfig) -> int:
    """Least distance of rows of `pixels` operands that is one more than a multiple of the banks."""
    return pixels + (1 - pixels) % config.banks


class _Columns(_Lowering):
    """A product with A (K, M): channels of `problem.x` are rows of pixels."""

    def __init__(self, problem: Nest, config: SystolicConfig, plan: MemoryPlan, rows: int, tiles: int, depth: int):
        super().__init__(problem, config, plan, Tiling((), (), (), (), 0))
        self._rows, self._block, self._deep = rows, tiles, depth
        self._left = isinstance(problem.weights, View) and problem.weights.stride("m") != 1
        self._a_tiles: dict[tuple[int, int, int], Tile] = {}

    def _a_tile(self, m0: int, m1: int, box: Box) -> Tile:
        key = (m0, m1, box.c0)
        if key not in self._a_tiles:
            x, item, pitch = self._problem.x, self._config.operand_bytes, _pitch(m1 - m0, self._config)
            row = x.stride("c") * item
            body = block(dram=x.address + box.c0 * row + m0 * item, length=(m1 - m0) * item,
                         dims=[(box.size, row, pitch * item)])
            size = ((box.size - 1) * pitch + m1 - m0) * item
            self._a_tiles[key] = Tile(Destination.ACTIVATION.value, size,
                                      [Piece([body], [x.rows_of("c", box.c0, box.c1)])])
        return self._a_tiles[key]

    def steps(self) -> Iterator[ContractionStep]:
        problem = self._problem
        boxes = [Box(0, 1, 0, 1, k, min(k + self._deep, problem.cg)) for k in range(0, problem.cg, self._deep)]
        for m0 in range(0, problem.q, self._rows):
            m1 = min(m0 + self._rows, problem.q)
            for t0 in range(0, tiles_of(problem, self._config), self._block):
                tiles = (t0, min(t0 + self._block, tiles_of(problem, self._config)))
                part = Region(0, 1, 0, 1, m0, m1)
                group = Group(self._outputs.outputs(part, 0, tiles))
                for box in boxes:
                    a_use = Use(self._a_tile(m0, m1, box), 1)
                    w_use = Use(self._maker.weights(0, tiles, box, (box.size,)), 1)
                    yield ContractionStep(group, a_use, w_use, self._walk(part, tiles, box))

    def _walk(self, part: Region, tiles: tuple[int, int], box: Box) -> dict[str, int]:
        problem = self._problem
        w_pitch, w_nstep = self._maker.w_pitches(tiles, box)
        return {
            "first": int(box.c0 == 0), "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
            "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned),
            "n_count": tiles[1] - tiles[0], "a_base": 0, "w_base": 0, "m_count0": part.pixels, "m_count1": 1,
            "m_count2": 1, "m_step0": 1, "k_total": box.size, "run": 1, "run_count": box.size, "fold": 1,
            "jump1": _pitch(part.pixels, self._config) - 1, "left": int(self._left), "w_pitch": w_pitch,
            "w_nstep": w_nstep, "acc_nstep": part.pixels}


def lower_columns(config: SystolicConfig, problem: Nest, plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a product with A (K, M) in memory.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    rows, cols, item = config.array.rows, config.array.cols, config.operand_bytes
    pads, tiles = config.scratchpads, tiles_of(problem, config)
    a_room, w_room = pads.activation_bytes // item, pads.weight_bytes // item
    wanted = min(problem.cg, max(2 * rows, -(-problem.cg // _PARTS // rows) * rows))
    block_ = min(tiles, Chooser(problem, config).most_block, max(1, config.accumulators.depth // rows))
    height = min(problem.q, max(1, min(config.accumulators.depth, 1 << 15) // block_))
    if 4 * rows <= height == problem.q and problem.cg * _pitch(height, config) <= a_room:
        # A stays while B passes in parts: outputs of one are made while the next is computed.
        block_ = min(block_, -(-tiles // _GROUPS))
    while True:
        # Half of each scratchpad, so that the next tile comes while this one is used.
        a_deep = a_room // 2 // _pitch(height, config)
        w_deep = w_room // 2 // (block_ * cols)
        if min(a_deep, w_deep) >= min(wanted, 2 * rows) or (height == 1 and block_ == 1):
            break
        if (w_deep <= a_deep and block_ > 1) or height == 1:
            block_ = -(-block_ // 2)
        else:
            height = -(-height // 2)
    deep = min(a_deep, w_deep, wanted)
    if deep < 1:
        deep = min(a_room // _pitch(height, config), w_room // (block_ * cols))
    if deep < 1:
        raise PearrayError(f"{problem.name}: the scratchpads can't hold the smallest tile of this layer; "
                           "make scratchpads.activation_bytes or scratchpads.weight_bytes larger")
    return list(_Columns(problem, config, plan, height, block_, deep // rows * rows or deep).steps())
