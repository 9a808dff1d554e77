"""Steps of a layer under a given tiling."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ...hdl.post.average import SEARCH
from ..kernels.regions import Region
from ..placement import MemoryPlan
from ..steps import Group, Output, Tile, Use
from .geometry import Box
from .layer import Layer, Tiles, Tiling, Visit
from .outputs import OutputMaker
from .ramps import ending, split_at
from .steps import ContractionStep
from .tiles import TileMaker

__all__ = ["lower"]


class _Execute(NamedTuple):
    """An EXECUTE of a group of some shape."""

    #: Numbers of the product, of the box of its activations, and of that of its weights.
    term: int
    place: int
    inner: int
    #: Lines of the tile of activations that it needs, and channels of the first ones.
    lines: int
    channels: int
    #: Pieces of the tile of weights that it needs; 0 for all.
    pieces: int
    #: Its body.
    body: dict[str, int]


class _Lowering:
    def __init__(self, tiling: Tiling, layer: Layer, plan: MemoryPlan):
        self._layer, self._problem, self._tiling = layer, layer.problem, tiling
        added = [Layer(each, layer.config, layer.timing) for each in layer.problem.added]
        self._makers = [TileMaker(each, plan) for each in (layer, *added)]
        self._outputs = OutputMaker(self._makers[0])
        #: Lines at which activation tiles are cut into pieces; EXECUTEs of a group of some shape; tiles. Keys name
        #: regions by their identity, and boxes by their places.
        self._cuts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._shapes: dict[tuple[int, ...], list[_Execute]] = {}
        self._a_tiles: dict[tuple[int, ...], Tile] = {}
        self._w_uses: dict[tuple[int, ...], Use] = {}

    def _visits(self) -> list[tuple[Visit, list[tuple[Region, Tiles]]]]:
        """Visits, each with parts of its region and the tiles of channels that a group of them computes."""
        visits = [(visit, [(part, visit.block) for part in self._tiling.parts(visit.region, index == 0)])
                  for index, visit in enumerate(self._tiling.visits(self._problem.groups))]
        if self._tiling.shrink:
            (region, tiles), last = visits[-1][1].pop(), visits[-1][1]
            for pixels, count in ending(self._layer, self._makers[0], self._tiling):
                if pixels < region.pixels:
                    part, region = split_at(region, pixels)
                    last.append((part, tiles))
                else:
                    last.append((region, (tiles[0], tiles[0] + count)))
                    tiles = (tiles[0] + count, tiles[1])
        return visits

    def steps(self) -> Iterator[ContractionStep]:
        visits = self._visits()
        for visit, work in visits:
            self._cut(visit, [part for part, _ in work])
        number, count = 0, sum(len(work) for _, work in visits)
        for visit, work in visits:
            for part, tiles in work:
                number += 1
                outputs = self._outputs.outputs(part, visit.group, tiles, self._tiling.posts if number == count else 1)
                steps = self._group(Group(outputs), visit, part, tiles, number == 1)
                yield from steps if self._problem.apart <= self._layer.rows else self._in_turns([*steps], outputs)

    def _in_turns(self, steps: list[ContractionStep], outputs: list[Output]) -> Iterator[ContractionStep]:
        """Steps of one pixel of a tile that has more sums than the accumulators have rows: groups that go on."""
        (output,), turns = outputs, [[steps[0]]]
        for step in steps[1:]:
            if sum(each.body["n_count"] for each in turns[-1]) + step.body["n_count"] > self._layer.rows:
                turns.append([])
            turns[-1].append(step)
        for number, turn in enumerate(turns):
            count, last = sum(each.body["n_count"] for each in turn), number == len(turns) - 1
            body = output.body | {"n_count": count + SEARCH * last, "resume": int(number > 0), "search": int(last)}
            posted = replace(output, body=body)
            if not last:
                posted = replace(posted, size=0, stores=[], target=(output.target[0], slice(0), 0), scale=None)
            group, start = Group([posted]), 0
            for step in turn:
                yield replace(step, group=group, body=step.body | {"acc_base": start})
                start += step.body["n_count"]

    def _cut(self, visit: Visit, parts: list[Region]) -> None:
        """Let lines of activation tiles be loaded in the pieces in which the first visit of a region uses them."""
        for place, box in enumerate(self._tiling.boxes(self._layer, visit.block)):
            key = self._a_key(visit, place)
            if key not in self._cuts:
                lines = self._makers[0].lines(visit.region, box)
                ends = sorted({min(self._line(visit.region, part, box), lines) for part in parts} | {lines})
                self._cuts[key] = tuple(ends if len(ends) <= 6 else [*ends[:3], *ends[3:-1:-(-len(ends) // 4)], lines])

    def _line(self, region: Region, part: Region, box: Box) -> int:
        """Lines of the region's tile that a part of it needs."""
        if region.images > 1:
            return part.image1 - region.image0
        whole, inner = self._makers[0].geometry(region, box), self._makers[0].geometry(part, box)
        if whole.rows > 1:
            return (inner.row0 - whole.row0) // whole.row_step + inner.rows
        return (inner.column0 - whole.column0) // whole.column_step + inner.columns

    def _a_key(self, visit: Visit, place: int) -> tuple[int, ...]:
        return (id(visit.region), visit.group, place, *(visit.block if self._tiling.split_channels else ()))

    def _group(self, group: Group, visit: Visit, part: Region, tiles: Tiles, is_first: bool,
               ) -> Iterator[ContractionStep]:
        """Steps of a group, which are like those of any other of its shape but for their tiles."""
        a_uses: dict[tuple[int, ...], Use] = {}
        w_first = is_first and self._tiling.w_first
        for each in self._shape(visit, part, tiles, is_first):
            a_key = each.term, each.place, each.channels
            a_use = a_uses.get(a_key)
            if a_use is None:
                a_use = a_uses[a_key] = self._a_use(visit, each)
            w_key = each.term, visit.group, *visit.block, each.place, each.inner, each.pieces
            w_use = self._w_uses.get(w_key)
            if w_use is None:
                tile = self._w_tile(each.term, visit, self._tiling.w_boxes[each.place][each.inner])
                w_use = self._w_uses[w_key] = Use(tile, each.pieces or len(tile.pieces))
            yield ContractionStep(group, a_use, w_use, each.body, w_first and each.body["first"] == 1)

    def _a_use(self, visit: Visit, execute: _Execute) -> Use:
        key = self._a_key(visit, execute.place)
        cuts, box = self._cuts[key], self._tiling.boxes(self._layer, visit.block)[execute.place]
        slices = self._slices(visit, execute.place, box)
        tile = self._a_tiles.get((execute.term, *key))
        if tile is None:
            tile = self._makers[execute.term].activations(visit.region, visit.group, box, cuts, slices)
            self._a_tiles[execute.term, *key] = tile
        before = sum(cut < execute.lines for cut in cuts)
        # Of the first lines a step may need only some channels.
        return Use(tile, before + len(slices) if before else 1 + sum(cut < execute.channels for cut in slices))

    def _w_tile(self, term: int, visit: Visit, box: Box) -> Tile:
        at_first = (visit.group, visit.block) == (0, self._tiling.blocks[0])
        return self._makers[term].weights(visit.group, visit.block, box,
                                          self._k_cuts(box) if at_first else (box.size,))

    def _shape(self, visit: Visit, part: Region, tiles: Tiles, is_first: bool) -> list[_Execute]:
        """EXECUTEs of a group; only in the first one's do tiles of weights come in pieces."""
        region, block = visit.region, visit.block
        tile0 = 0 if self._problem.channelwise else block[0]
        sliced = len(self._tiling.a_cuts) > 0 and region is self._tiling.regions[0]
        key = (region.images, region.rows, region.columns,
               part.image0 - region.image0, part.image1 - region.image0, part.p0 - region.p0, part.p1 - region.p0,
               part.q0 - region.q0, part.q1 - region.q0, tiles[0] - tile0, tiles[1] - tile0, block[0] - tile0,
               block[1] - tile0, is_first, sliced)
        found = self._shapes.get(key)
        if found is not None:
            return found
        found = self._shapes[key] = []
        for term, maker in enumerate(self._makers):
            for place, a_box in enumerate(self._tiling.boxes(self._layer, block)):
                lines = self._line(region, part, a_box)
                for inner, w_box in enumerate(self._tiling.w_boxes[place]):
                    ends = self._k_cuts(w_box) if is_first else (w_box.size,)
                    for piece, span in enumerate(pairwise((0, *ends)), 1):
                        channels = w_box.c0 - a_box.c0 + span[1] if sliced else a_box.channels
                        bodies = self._bodies(maker, visit, part, tiles, a_box, w_box, span)
                        # Sums that stand apart begin with each tap.
                        first = int(not found or self._problem.finish.terms is not None)
                        found += [_Execute(term, place, inner, lines, channels, piece if len(ends) > 1 else 0,
                                           body | {"first": first}) for body in bodies]
        return found

    def _slices(self, visit: Visit, place: int, box: Box) -> tuple[int, ...]:
        """Channels at whose ends the first lines of a tile of activations are cut: (all,) but for the first tile."""
        cuts = self._tiling.a_cuts if (visit.region is self._tiling.regions[0]
                                       and visit.group == place == 0) else ()
        return (*(cut for cut in cuts if cut < box.channels), box.channels)

    def _k_cuts(self, box: Box) -> tuple[int, ...]:
        """Pieces of a tile of weights that the layer's first group uses."""
        cuts = self._tiling.k_cuts
        if not cuts or box == self._tiling.w_boxes[0][0]:
            return cuts or (box.size,)
        step = max(end - start for start, end in pairwise((0, *cuts)))
        if box.taps > 1 and step % (box.columns * box.channels):
            return (box.size,)
        return (*range(step, box.size, step), box.size)

    def _bodies(self, maker: TileMaker, visit: Visit, part: Region, tiles: Tiles, a_box: Box, w_box: Box,
                span: tuple[int, int]) -> Iterator[dict[str, int]]:
        """EXECUTEs of elements `span` of a box of weights, for each of which a walk has one form."""
        pool, geometry = self._problem.finish.pool, maker.geometry(visit.region, a_box)
        walks = geometry.pixels(part, pool)
        counts = {f"m_count{loop}": count for loop, (count, _) in enumerate(walks.loops)}
        steps = {f"m_step{loop}": step % (1 << 20) for loop, (_, step) in enumerate(walks.loops)}
        for body in self._contractions(maker, visit, part, tiles, a_box, w_box, span):
            yield from ({**counts, **steps, **body, "a_base": body["a_base"] + start,
                         "acc_base": body.get("acc_base", 0) + number * walks.vectors}
                        for number, start in enumerate(walks.starts))

    def _contractions(self, maker: TileMaker, visit: Visit, part: Region, tiles: Tiles, a_box: Box, w_box: Box,
                      span: tuple[int, int]) -> Iterator[dict[str, int]]:
        """What these EXECUTEs are but for the loops over pixels, from the first pixel's place on."""
        region, block, problem, banks = visit.region, visit.block, maker.problem, self._layer.banks
        geometry, rows = maker.geometry(region, a_box), part.pixels * self._layer.sums
        down, right = problem.finish.pool
        base = ((part.image0 - region.image0) * geometry.image + (part.p0 - region.p0) * down * geometry.line_m
                + (part.q0 - region.q0) * right * geometry.pixel_m)
        w_pitch, w_nstep = maker.w_pitches(block, w_box)
        modulus = 1 << 20
        common = {
            "w_pitch": w_pitch, "w_nstep": w_nstep, "acc_nstep": rows,
            "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
            "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned),
        }
        if problem.finish.terms is not None:
            for tile in range(*tiles):
                first, channels = maker.layer.span((tile, tile + 1))
                for taps in replace(w_box, c0=first, c1=first + channels).tap_rows(maker.layer.rows):
                    offset, walk = geometry.walk(problem, a_box, replace(taps, s1=taps.s0 + 1), banks)
                    place = (tile - tiles[0]) * problem.apart + taps.r0 * problem.s + taps.s0
                    yield common | walk | {
                        "diagonal": 1, "a_base": base + offset, "a_nstep": problem.dilation[1] * geometry.pixel,
                        "n_count": taps.columns, "w_base": 0, "acc_base": place * part.pixels}
            return
        if problem.channelwise:
            reach = maker.layer.reach
            # The last tile may have fewer channels.
            whole = max(min(tiles[1], problem.ng // reach), tiles[0])
            for low, high in ((tiles[0], whole), (whole, tiles[1])):
                if low >= high:
                    continue
                first, channels = maker.layer.span((low, low + 1))
                inner = Box(w_box.r0, w_box.r1, w_box.s0, w_box.s1, first, first + channels)
                offset, walk = geometry.walk(problem, a_box, inner, banks)
                if problem.repeat:
                    # Each run goes back to where it began.
                    walk |= {"k_total": problem.repeat * channels, "run_count": problem.repeat,
                             "jump1": -channels % modulus}
                yield common | walk | {
                    "diagonal": 1, "maximum": int(problem.maximum), "a_base": base + offset, "a_nstep": reach,
                    "n_count": high - low, "w_base": (low - block[0]) * w_nstep,
                    "acc_base": (low - tiles[0]) * rows}
            return
        offset, walk = geometry.walk(problem, a_box, w_box, banks)
        start, end = span
        if end - start < w_box.size:
            # A piece lies in one run, or is made of whole runs.
            run, jumps = walk["run"], [walk[name] - (walk[name] >> 19 << 20) for name in ("jump1", "jump2")]
            offset += start + start // run * jumps[0] + start // (run * walk["run_count"]) * jumps[1]
            walk["k_total"] = end - start
        yield common | walk | {
            "a_base": base + offset, "n_count": tiles[1] - tiles[0], "left": int(maker.layer.left),
            "w_base": (tiles[0] - block[0]) * w_nstep + start * (1 if maker.layer.left else w_pitch)}


def lower(tiling: Tiling, layer: Layer, plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a layer, in order."""
    return list(_Lowering(tiling, layer, plan).steps())
