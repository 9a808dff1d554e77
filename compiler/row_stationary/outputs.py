"""What becomes of finished sums: POSTs and STOREs, or STOREs from the global buffer itself, coded or not."""

from collections.abc import Iterator

import numpy as np

from ...golden.row_stationary import Filters, Span
from ...hdl.shell.commands import Rounding
from ..kernels.regions import Region, split_region
from ..steps import Output, Use
from ..transfers import block, blocks, pixel_dims
from .codes import Codes
from .forms import Operand
from .mapping import LayerPlan
from .steps import PsumBlock
from .tiles import TileMaker, runs

__all__ = ["OutputMaker"]


class OutputMaker:
    """Make the outputs of passes.

    Parameters
    ----------
    operand : Operand
        The layer.
    plan : LayerPlan
        Its mapping.
    maker : TileMaker
        Makes tiles of constants.
    codes : Codes
        Where codes of ofmaps go.
    """

    def __init__(self, operand: Operand, plan: LayerPlan, maker: TileMaker, codes: Codes):
        self._operand, self._problem, self._maker, self._codes = operand, operand.problem, maker, codes
        self._plan, self._config = plan, plan.config

    def outputs(self, groups: Span, filters: Filters, region: Region, sums: PsumBlock,
                pixel: int) -> Iterator[Output]:
        """Outputs of a pass, whose pixels begin at `pixel` of the block."""
        channels = self._maker.channels(self._operand, groups, filters)
        if self._config.truncate:
            yield self._store_sums(channels, pixel * sums.lines + filters.line, region, sums)
            return
        used = int(np.flatnonzero((channels >= 0).any(1))[-1]) + 1
        finish, config = self._problem.finish, self._config
        size = config.psum_lanes * finish.item(config)
        most = min(max(1, config.scratchpads.channels // 2 // config.psum_lanes),
                   max(1, config.scratchpads.output_bytes // 2 // size))
        if finish.table is not None and finish.table.ndim == 2:
            most = 1
        for start in range(0, used, most):
            part = channels[start:min(start + most, used)]
            if (part >= 0).any():
                yield from self._posts(part, pixel * sums.lines + filters.line + start, region, sums)

    def _posts(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> Iterator[Output]:
        """POSTs of some lines of all pixels of a region, and their STOREs."""
        config, finish = self._config, self._problem.finish
        size, lines = config.psum_lanes * finish.item(config), len(channels)
        most = max(1, config.scratchpads.output_bytes // 2 // (lines * size))
        if finish.bias_rows is not None:
            most = min(most, max(1, config.scratchpads.channels // 2 // channels.size))
        start = 0
        for piece in split_region(region, most):
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": piece.pixels, "m_count": lines,
                    "acc_base": start * sums.lines + line, "acc_nstep": sums.lines, "out_nstep": lines * size,
                    "out_mstep": size}
            output = Output(body, piece.pixels * lines * size, [],
                            (self._problem.y.buffer, piece.numbers(self._problem.y), int((channels >= 0).sum())))
            if finish.bias_rows is not None:
                body |= {"bias": 1, "bias_nstep": lines, "bias_mstep": 1}
                output.bias = Use(self._maker.bias_rows(self._operand, channels, piece.q0, piece.q1), 1)
            if finish.rounding is not Rounding.NONE:
                assert finish.entries is not None
                output.scale = Use(self._maker.scale(self._operand, channels), 1)
                if finish.entries.size > 1:
                    body |= {"per_channel": 1, "scale_mstep": 1}
                if finish.table is not None:
                    body["table"] = 1
                    output.table = Use(self._maker.table(self._operand, channels), 1)
            elif finish.relu:
                body["table"] = 1
            output.stores = self._stores(channels, piece, 0, lines * size)
            yield output
            start += piece.pixels

    def _store_sums(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> Output:
        """STOREs of lines of finished sums, as they stand in the global buffer."""
        width = self._config.line_bytes
        target = self._problem.y.buffer, region.numbers(self._problem.y), int((channels >= 0).sum())
        if self._plan.traffic.coded_output:
            return Output({}, 0, [self._code(channels, line, region, sums)], target)
        stores = [body | {"relu": int(self._problem.finish.relu)}
                  for body in self._stores(channels, region, line * width, sums.lines * width)]
        return Output({}, 0, stores, target)

    def _code(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> dict[str, int]:
        """STORE of lines of finished sums as one code."""
        width, problem = self._config.line_bytes, self._problem
        channels = channels[:int(np.flatnonzero((channels >= 0).any(1))[-1]) + 1].reshape(-1)
        numbers = np.arange(problem.y.buffer.rows)[region.numbers(problem.y)]
        elements = numbers[:, None] * problem.y.buffer.columns + channels
        note = {"images": [region.image0, region.images], "rows": [region.p0, region.rows],
                "columns": [0, region.q1], "channels": [[first, count] for _, first, count in runs(channels)]}
        body = block(address=line * width, length=channels.size * self._config.sum_bytes,
                     dims=[(region.pixels, 0, sums.lines * width)]) | {"coded": 1, "relu": 1}
        return self._codes.add(np.where(channels < 0, -1, elements).reshape(-1), note, body)

    def _stores(self, channels: np.ndarray, region: Region, address: int, pitch: int) -> list[dict[str, int]]:
        """STOREs of the channels of a region's pixels, which stand `pitch` bytes apart from `address` on."""
        y, item = self._problem.y, self._problem.finish.item(self._config)
        dram, dims = y.buffer.address + region.first(y) * item, pixel_dims(y, region, pitch)
        return [body for place, first, count in runs(channels)
                for body in blocks(dram + first * item, address + place * item, count * item, dims)]
