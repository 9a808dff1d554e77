"""How a layer is cut: a row of pixels is folded, and what the buffers can't hold comes in parts.

The parts of a layer have one mapping, so that its weights are packed once.
"""

from dataclasses import dataclass, replace

from ...golden.row_stationary import Mapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ...memory import MemoryTiming
from ..kernels.nest import Nest
from ..kernels.views import View
from .forms import folded, pieces, shape_of
from .mapper import best_plan, plan_of, price
from .mapping import IMAGES, LayerPlan, Traffic
from .taps import PixelProduct

__all__ = ["Cut", "cut", "traffic_of"]

#: Share of zeros with which codes are estimated, since values are not known yet.
_ZEROS = 0.5


@dataclass(frozen=True)
class Cut:
    """A layer in parts.

    Parameters
    ----------
    parts : list of (Nest, LayerPlan)
        Columns of the output, and their plan.
    filters : (int, int)
        Rows and columns of the parts of a filter, which are operands of their own.
    """

    parts: list[tuple[Nest, LayerPlan]]
    filters: tuple[int, int]


def traffic_of(problem: Nest, config: RowStationaryConfig, timing: MemoryTiming, coded_output: bool) -> Traffic:
    """What a layer's tensors are in memory, ifmaps as they are."""
    finish, gathered = problem.finish, ""
    if isinstance(problem.weights, View):
        gathered = "channels" if problem.weights.stride("c") == 1 else "filters"
    return Traffic(
        bias=finish.bias is not None and finish.bias_rows is None, coded_output=coded_output,
        output_bytes=finish.item(config), input_zeros=_ZEROS, output_zeros=_ZEROS, transposed=problem.columns,
        by_taps=isinstance(problem, PixelProduct) and not problem.is_row, gathered=gathered, timing=timing)


def cut(problem: Nest, config: RowStationaryConfig, traffic: Traffic, given: Mapping | None) -> Cut:
    """Cut a layer as little as the buffers allow; with a mapping that is given, not at all.

    Raises
    ------
    PearrayError
        If they can't hold the smallest pass, or not the mapping that is given.
    """
    cutter, filters = _Cutter(problem, config, traffic), (problem.r, problem.s)
    if given is not None:
        nest = cutter.folds()[0]
        return Cut([(nest, plan_of(shape_of(nest, config, filters), given, config, nest.images, traffic))], filters)
    while True:
        found = cutter.folded(filters) if problem.is_row else cutter.in_pieces(filters)
        if found:
            return Cut(found, filters)
        if filters == (1, 1):
            raise PearrayError(f"{problem.name}: no mapping fits {config.name}; make global_buffer.banks or "
                               "global_buffer.filter_banks larger, or the layer smaller")
        # The larger side of what a filter sees is halved.
        rows, columns = filters
        if (rows - 1) * problem.dilation[0] >= (columns - 1) * problem.dilation[1]:
            filters = -(-rows // 2), columns
        else:
            filters = rows, -(-columns // 2)


class _Cutter:
    """Finds how a layer is cut, if its filters come in parts of some rows and columns."""

    def __init__(self, problem: Nest, config: RowStationaryConfig, traffic: Traffic):
        self._problem, self._config, self._traffic = problem, config, traffic

    def _plan(self, nest: Nest, filters: tuple[int, int]) -> LayerPlan | None:
        return best_plan(shape_of(nest, self._config, filters), self._config, nest.images, self._traffic)

    def folds(self) -> list[Nest]:
        """Ways to fold a row of pixels, so that the array's columns have ofmap rows to work on."""
        problem, config = self._problem, self._config
        if not problem.is_row:
            return [problem]
        # Sets on different channels and filters need no ofmap rows: only where they are few are rows better.
        sets = 1 if problem.channelwise else -(-problem.ng // config.pe.psum_words) * problem.groups
        wide = min(config.array.cols, -(-config.pes // sets))
        even = (count for count in range(1, 2 * wide + 1) if problem.q % count == 0)
        widths = dict.fromkeys(min(IMAGES, -(-problem.q // rows))
                               for rows in (wide, 1, 2, 4, 2 * wide, max(1, wide // 2), *even))
        return [folded(problem, width) for width in widths]

    def folded(self, filters: tuple[int, int]) -> list[tuple[Nest, LayerPlan]]:
        """Fold a row in the cheapest way; narrower where the buffers have no room."""
        folds = self.folds()
        while True:
            found = [(nest, plan) for nest in folds if (plan := self._plan(nest, filters)) is not None]
            narrowest = min(nest.q for nest in folds)
            if found or narrowest == 1:
                return [min(found, key=lambda part: price(part[1]))] if found else []
            folds = [folded(self._problem, -(-narrowest // 2))]

    def in_pieces(self, filters: tuple[int, int]) -> list[tuple[Nest, LayerPlan]]:
        """Cut columns into as few pieces as have room, or more if that is cheaper."""
        problem, count = self._problem, 1
        found: list[tuple[list[Nest], LayerPlan]] = []
        while len(found) < 3:
            parts = pieces(problem, count)
            plan = self._plan(parts[0], filters)
            if plan is not None:
                found.append((parts, plan))
                if count == 1:
                    break
            if count == problem.q:
                break
            # Pieces of one column read ifmaps otherwise, so they are not mixed with wider ones.
            count = 2 * count if 4 * count <= problem.q else problem.q
        if not found:
            return []
        parts, plan = min(found, key=lambda choice: len(choice[0]) * price(choice[1]))
        mapped = plan.mapped

        def narrow(nest: Nest) -> LayerPlan:
            return replace(plan, mapped=replace(mapped, layer=replace(mapped.layer, w=mapped.layer.w - (
                parts[0].q - nest.q) * problem.stride[1])))

        return [(nest, narrow(nest)) for nest in parts]
