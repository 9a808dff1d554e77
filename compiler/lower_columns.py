"""Matrix products whose first operand is transposed in memory: A stands as (K, M), rows of the contraction.

Output-stationary tiles take outer products, so rows of A and rows of B feed them as they are. If B is
transposed too its rows are columns of the contraction, which only weights loaded from the left can turn;
then A is walked one element a run, weight-stationary, at one row of the array's throughput.
"""

from collections.abc import Iterator

from ..hdl.commands import Destination
from ..hdl.config import Config
from ..hdl.errors import PearrayError
from .lower import Tiling, _Lowering
from .plan import MemoryPlan
from .problem import Box, Matrix, Problem, Region
from .schedule import Group, Output, Piece, Step, Tile, Use
from .tiles import block
from .tiling import Chooser

__all__ = ["lower_columns"]


class _Columns(_Lowering):
    """A product with A (K, M): `problem.x` has K pixels of M channels."""

    def __init__(self, problem: Problem, config: Config, plan: MemoryPlan, rows: int, tiles: int, depth: int):
        super().__init__(problem, config, plan, Tiling((), (), (), (), 0))
        self._rows, self._block, self._deep = rows, tiles, depth
        self._left = isinstance(problem.weights, Matrix) and problem.weights.transposed
        self._a_tiles: dict[tuple[int, int, int], Tile] = {}

    def _a_tile(self, m0: int, m1: int, box: Box) -> Tile:
        key = (m0, m1, box.c0)
        if key not in self._a_tiles:
            x, item = self._problem.x, self._config.operand_bytes
            body = block(dram=x.address + (box.c0 * x.channels + m0) * item, length=(m1 - m0) * item,
                         dims=[(box.size, x.channels * item, (m1 - m0) * item)])
            size = ((m1 - m0) * box.size + self._config.array.rows) * item
            self._a_tiles[key] = Tile(Destination.ACTIVATION.value, size, [Piece([body], [(x, box.c0, box.c1)])])
        return self._a_tiles[key]

    def steps(self) -> Iterator[Step]:
        problem, rows = self._problem, self._config.array.rows
        boxes = [Box(0, 1, 0, 1, k, min(k + self._deep, problem.cg)) for k in range(0, problem.cg, self._deep)]
        for m0 in range(0, problem.q, self._rows):
            m1 = min(m0 + self._rows, problem.q)
            for t0 in range(0, problem.tiles(self._config), self._block):
                tiles = (t0, min(t0 + self._block, problem.tiles(self._config)))
                parts = [Region(0, 1, 0, 1, m, min(m + rows, m1)) for m in range(m0, m1, rows)]
                if self._left:
                    parts = [Region(0, 1, 0, 1, m0, m1)]
                group = Group(list(self._columns_outputs(parts, tiles)))
                for box in boxes:
                    a_use = Use(self._a_tile(m0, m1, box), 1)
                    w_use = Use(self._maker.weights(0, tiles, box, (box.size,)), 1)
                    for index, part in enumerate(parts):
                        bodies = (self._walk if self._left else self._outer)(part, m0, m1, tiles, box, index)
                        for begins, body in bodies:
                            yield Step(group, a_use, w_use, body | {
                                "first": int(box.c0 == 0 and begins),
                                "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
                                "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned),
                                "n_count": tiles[1] - tiles[0]})

    def _columns_outputs(self, parts: list[Region], tiles: tuple[int, int]) -> Iterator[Output]:
        rows, count = self._config.array.rows, tiles[1] - tiles[0]
        for index, part in enumerate(parts):
            for output in self._outputs(part, 0, tiles):
                if not self._left:
                    # Tiles of R rows each, whatever rows a ragged part has.
                    tile, row = divmod(output.body["acc_base"], part.pixels)
                    output.body |= {"acc_base": (index * count + tile) * rows + row, "acc_nstep": rows}
                yield output

    def _outer(self, part: Region, m0: int, m1: int, tiles: tuple[int, int], box: Box,
               index: int) -> Iterator[tuple[bool, dict[str, int]]]:
        rows, count, most = self._config.array.rows, tiles[1] - tiles[0], self._config.os_depth
        w_pitch, w_nstep = self._maker.w_pitches(tiles, box)
        for k in range(0, box.size, most):
            yield k == 0, {
                   "output_stationary": 1, "m_count0": min(most, box.size - k), "m_count1": 1, "m_count2": 1,
                   "m_step0": m1 - m0, "a_base": k * (m1 - m0) + part.q0 - m0, "w_base": k * w_pitch,
                   "w_pitch": w_pitch, "w_nstep": w_nstep, "acc_base": index * count * rows, "acc_nstep": rows}

    def _walk(self, part: Region, m0: int, m1: int, tiles: tuple[int, int], box: Box,
              index: int) -> Iterator[tuple[bool, dict[str, int]]]:
        w_pitch, w_nstep = self._maker.w_pitches(tiles, box)
        yield True, {
               "a_base": 0, "w_base": 0, "m_count0": m1 - m0, "m_count1": 1, "m_count2": 1, "m_step0": 1,
               "k_total": box.size, "run": 1,
               "run_count": box.size, "jump1": m1 - m0 - 1, "left": 1, "w_pitch": w_pitch, "w_nstep": w_nstep,
               "acc_nstep": part.pixels}


def lower_columns(problem: Problem, config: Config, plan: MemoryPlan) -> list[Step]:
    """Steps of a product with A (K, M) in memory.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    rows, cols, item = config.array.rows, config.array.cols, config.operand_bytes
    pads, tiles = config.scratchpads, problem.tiles(config)
    block_ = min(tiles, Chooser(problem, config).most_block, max(1, config.accumulators.depth // rows))
    height = min(-(-problem.q // rows), max(1, config.accumulators.depth // rows // block_)) * rows
    left = isinstance(problem.weights, Matrix) and problem.weights.transposed
    while True:
        pixels = min(height, problem.q)
        # Half of each scratchpad, so that the next tile comes while this one is used.
        deep = min((pads.activation_bytes // 2 // item - rows) // pixels,
                   pads.weight_bytes // 2 // item // (block_ * cols), problem.cg)
        if deep >= min(problem.cg, rows) or (height <= rows and block_ == 1):
            break
        if block_ > 1 and pads.weight_bytes // 2 // item // (block_ * cols) < min(problem.cg, rows):
            block_ = -(-block_ // 2)
        elif height > rows:
            height = max(rows, height // 2 // rows * rows)
        else:
            break
    if deep < 1:
        deep = min((pads.activation_bytes // item - rows) // pixels, pads.weight_bytes // item // (block_ * cols))
    if deep < 1:
        raise PearrayError(f"{problem.name}: the scratchpads can't hold the smallest tile of this layer; "
                           "make scratchpads.activation_bytes or scratchpads.weight_bytes larger")
    if not left and deep > config.os_depth:
        deep = deep // config.os_depth * config.os_depth
    return list(_Columns(problem, config, plan, height, block_, min(deep, problem.cg)).steps())
