"""Steps of a layer under a given tiling."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from ...hdl.post.average import SEARCH
from ..kernels.regions import Region
from ..placement import MemoryPlan
from ..steps import Group, Output, Tile, Use
from .geometry import Box, Geometry
from .held import Held
from .layer import Layer, Tiles, Tiling, Visit
from .outputs import OutputMaker
from .ramps import last_parts, split_at
from .steps import ContractionStep
from .tiles import LinesAndColumns, TileMaker

__all__ = ["lower", "lower_visits"]


class _Execute(NamedTuple):
    """An EXECUTE of a group of some shape."""

    #: Numbers of the product, of the box of its activations, and of that of its weights.
    term: int
    place: int
    inner: int
    #: Lines of the tile of activations that it needs, channels of the first ones, and of them only those of the pixels
    #: that lead, or of the first group, if these have a number; -1 for all.
    lines: int
    channels: int
    window: int
    #: Pieces of the tile of weights that it needs; 0 for all.
    pieces: int
    #: Its body.
    body: dict[str, int]


class _Lowering:
    def __init__(self, tiling: Tiling, layer: Layer, plan: MemoryPlan, held: Sequence[Held] = (),
                 known: dict[object, Any] | None = None):
        #: Tiles of others that may be read, and what stands in tiles of its own.
        self._others, self.held = held, list[Held]()
        self._layer, self._problem, self._tiling = layer, layer.problem, tiling
        added = [Layer(each, layer.config, layer.timing) for each in layer.problem.added]
        known = {} if known is None else known
        self._makers = [TileMaker(each, plan, known.setdefault(term, {})) for term, each in enumerate((layer, *added))]
        self._outputs = OutputMaker(self._makers[0])
        #: Lines at which activation tiles are cut into pieces; EXECUTEs of a group of some shape; tiles. Keys name
        #: regions by their identity, and boxes by their places.
        self._cuts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._shapes: dict[tuple[int, ...], list[_Execute]] = {}
        self._a_tiles: dict[tuple[int, ...], Tile] = {}
        self._w_uses: dict[tuple[int, ...], Use] = {}
        #: Pixels of the first group that lead, and the others; those that need only some columns of the first lines,
        #: which are those that lead, and all if they are a part of a row; and those that are loaded before weights.
        self._led, self._early = list[Region](), list[Region]()
        self._ahead: Region | None = None

    def _visits(self) -> tuple[list[tuple[Visit, list[tuple[Region, Tiles]]]], int]:
        """Visits, each with parts of its region and the tiles of channels that a group of them computes.

        Beside them the number of POSTs of the last group.
        """
        visits = [(visit, [(part, visit.block) for part in self._tiling.parts(visit.region, visit.block, index == 0)])
                  for index, visit in enumerate(self._tiling.visits(self._problem.groups))]
        posts = self._tiling.posts or 2
        if self._tiling.shrink:
            visit, parts = visits[-1]
            parts[:], posts = last_parts(self._layer, self._makers[0], self._tiling, [part for part, _ in parts],
                                         visit.block)
        return visits, posts

    def steps(self) -> Iterator[ContractionStep]:
        for _, steps in self.visits():
            yield from steps

    def visits(self) -> Iterator[tuple[Region, list[ContractionStep]]]:
        """Regions and the steps of a visit of each."""
        visits, posts = self._visits()
        first = visits[0][1][0][0]
        self._led = [first]
        if self._tiling.lead and self._layer.can_lead:
            self._led = split_at(first, self._tiling.lead)
        region = visits[0][0].region
        is_part = region.images == 1 and region.rows > 1 and first.columns < region.columns
        self._early = self._led[:-1] + [first] * is_part
        if self._tiling.ahead > 0:
            ahead = split_at(first, self._tiling.ahead)[0]
            self._ahead = ahead if ahead.pixels < self._led[0].pixels else None
        for number, (visit, work) in enumerate(visits):
            self._cut(visit, [part for part, _ in work], number == 0)
        number, count = 0, sum(len(work) for _, work in visits)
        for visit, work in visits:
            steps: list[ContractionStep] = []
            for part, tiles in work:
                number += 1
                outputs = self._outputs.outputs(part, visit.group, tiles, posts if number == count else 1)
                made = self._group(Group(outputs), visit, part, tiles, number == 1)
                steps += made if self._problem.apart <= self._layer.rows else self._in_turns([*made], outputs)
            yield visit.region, steps

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

    def _cut(self, visit: Visit, parts: list[Region], is_first: bool) -> None:
        """Let lines of activation tiles be loaded in the pieces in which the first visit of a region uses them."""
        for place, box in enumerate(self._tiling.boxes(self._layer, visit.block)):
            key = self._a_key(visit, place)
            if key not in self._cuts:
                lines, needed = self._makers[0].lines(visit.region, box), {
                    self._line(visit.region, part, box) for part in parts}
                if is_first and place == 0:
                    needed.add(self._line(visit.region, parts[0], box, self._met_first(box)))
                ends = sorted({min(each, lines) for each in needed} | {lines})
                self._cuts[key] = tuple(ends if len(ends) <= 6 else [*ends[:3], *ends[3:-1:-(-len(ends) // 4)], lines])

    def _met_first(self, box: Box) -> Box:
        """What the first weights wait for of a box of activations."""
        w_box = self._tiling.w_boxes[0][0]
        return box.up_to(w_box, self._k_cuts(w_box)[0]) if self._tiling.meets_rows else box

    def _line(self, region: Region, part: Region, box: Box, some: Box | None = None) -> int:
        """Lines of the region's tile that a part of it needs, for the whole box or for some of it."""
        if region.images > 1:
            return part.image1 - region.image0
        whole, inner = self._makers[0].geometry(region, box), self._makers[0].geometry(part, some or box)
        if whole.rows > 1:
            return (inner.row0 - whole.row0) // whole.row_step + inner.rows_of(whole)
        return (inner.column0 - whole.column0) // whole.column_step + inner.columns_of(whole)

    def _a_key(self, visit: Visit, place: int) -> tuple[int, ...]:
        return (id(visit.region), visit.group, place, *(visit.block if self._tiling.split_channels else ()))

    def _group(self, group: Group, visit: Visit, part: Region, tiles: Tiles, is_first: bool,
               ) -> Iterator[ContractionStep]:
        """Steps of a group, which are like those of any other of its shape but for their tiles."""
        a_uses: dict[tuple[int, ...], Use] = {}
        for each in self._shape(visit, part, tiles, is_first):
            a_key = each.term, each.place, each.lines, each.channels, each.window
            a_use = a_uses.get(a_key)
            if a_use is None:
                a_use = a_uses[a_key] = self._a_use(visit, each)
            w_key = each.term, visit.group, *visit.block, each.place, each.inner, each.pieces
            w_use = self._w_uses.get(w_key)
            if w_use is None:
                tile = self._w_tile(each.term, visit, self._tiling.w_boxes[each.place][each.inner])
                w_use = self._w_uses[w_key] = Use(tile, each.pieces or len(tile.pieces))
            ahead = self._loaded_ahead if is_first and each.body["first"] else None
            yield ContractionStep(group, a_use, w_use, each.body, ahead)

    @property
    def _loaded_ahead(self) -> int | None:
        """Pieces of activations that are loaded before the first weights."""
        return 0 if self._tiling.ahead == 0 else 1 if self._ahead is not None else None

    def _a_use(self, visit: Visit, execute: _Execute) -> Use:
        key = self._a_key(visit, execute.place)
        cuts, box = self._cuts[key], self._tiling.boxes(self._layer, visit.block)[execute.place]
        shared = self._shared(execute.term, visit.region, box)
        if shared is not None:
            return Use(shared[0].tile, len(shared[0].tile.pieces))
        slices, (windows, needed) = self._slices(visit, execute.place, box), self._windows(visit, execute, box)
        tile = self._a_tiles.get((execute.term, *key))
        if tile is None:
            maker = self._makers[execute.term]
            tile = maker.activations(visit.region, visit.group, box, cuts, slices, windows)
            self._a_tiles[execute.term, *key] = tile
            self.held.append(Held(maker.problem.x, (visit.region.image0, visit.region.image1),
                                  maker.geometry(visit.region, box), box, tile))
        if execute.window >= 0 and windows and execute.lines <= cuts[0] and execute.channels <= slices[0]:
            return Use(tile, needed[execute.window - len(self._early)])
        before, more = sum(cut < execute.lines for cut in cuts), max(len(windows) - 1, 0)
        # Of the first lines a step may need only some channels.
        return Use(tile, more + (before + len(slices) if before else 1 + sum(cut < execute.channels for cut in slices)))

    def _windows(self, visit: Visit, execute: _Execute, box: Box) -> tuple[list[LinesAndColumns], list[int]]:
        """Pieces of the first lines of the first tile of activations, and how many of them are wanted early.

        Those loaded before weights, and those of the pixels that lead, as far as there are such.
        """
        if visit.region is not self._tiling.regions[0] or (visit.group, execute.term, execute.place) != (0, 0, 0):
            return [], []
        parts = [*([self._ahead] if self._ahead is not None else []), *self._early]
        lines, some = self._cuts[self._a_key(visit, 0)][0], self._met_first(box)
        parts = [part for part in parts if self._line(visit.region, part, box, some) <= lines]
        return self._makers[0].windows(visit.region, box, some, parts, lines) if parts else ([], [])

    def _shared(self, term: int, region: Region, box: Box) -> tuple[Held, int] | None:
        """A tile of another layer in which the input of a region stands already, and where it begins there."""
        maker = self._makers[term]
        for held in self._others:
            at = held.place(maker.problem, region, box, maker.geometry(region, box))
            if at is not None:
                return held, at
        return None

    def _w_tile(self, term: int, visit: Visit, box: Box) -> Tile:
        at_first = (visit.group, visit.block) == (0, self._tiling.blocks[0])
        return self._makers[term].weights(visit.group, visit.block, box,
                                          self._k_cuts(box) if at_first else (box.size,))

    def _shape(self, visit: Visit, part: Region, tiles: Tiles, is_first: bool) -> list[_Execute]:
        """EXECUTEs of a group; only in the first one's do tiles of weights come in pieces."""
        region, block, tiling = visit.region, visit.block, self._tiling
        tile0 = 0 if self._problem.channelwise else block[0]
        sliced = len(tiling.a_cuts) > 0 and region is tiling.regions[0]
        key = (region.images, region.rows, region.columns,
               part.image0 - region.image0, part.image1 - region.image0, part.p0 - region.p0, part.p1 - region.p0,
               part.q0 - region.q0, part.q1 - region.q0, tiles[0] - tile0, tiles[1] - tile0, block[0] - tile0,
               block[1] - tile0, is_first, sliced, *self._places(region, block))
        found = self._shapes.get(key)
        if found is None:
            # Only of the first group it matters where operands are cut, and what leads.
            cuts = (tiling.k_cuts, tiling.meets_rows, *self._led, None, *self._early) if is_first else ()
            found = self._shapes[key] = self._makers[0].known(
                ("shape", key, tiling.boxes(self._layer, block), tiling.w_boxes, cuts),
                lambda: self._executes(visit, part, tiles, is_first, sliced))
        return found

    def _executes(self, visit: Visit, part: Region, tiles: Tiles, is_first: bool, sliced: bool) -> list[_Execute]:
        """EXECUTEs of a group, of whose first lines of activations channels come one after another if `sliced`."""
        region, block, found = visit.region, visit.block, list[_Execute]()
        for term in range(len(self._makers)):
            for place, a_box in enumerate(self._tiling.boxes(self._layer, block)):
                for inner, w_box in enumerate(self._tiling.w_boxes[place]):
                    ends = self._k_cuts(w_box) if is_first else (w_box.size,)
                    for piece, span in enumerate(pairwise((0, *ends)), 1):
                        channels = w_box.c0 - a_box.c0 + span[1] if sliced else a_box.channels
                        # Sums that stand apart begin with each tap.
                        first = int(not found or self._problem.finish.terms is not None)
                        led = self._led if is_first and not found and len(self._led) > 1 else [part]
                        inside = a_box.up_to(w_box, span[1]) if is_first and self._tiling.meets_rows else a_box
                        for number, some in enumerate(led, len(self._led) - len(led)):
                            lines = self._line(region, some, a_box, inside)
                            window = number if is_first and number < len(self._early) else -1
                            bodies = self._bodies(term, visit, part, some, tiles, a_box, w_box, span)
                            found += [_Execute(term, place, inner, lines, channels, window,
                                               piece if len(ends) > 1 else 0, body | {"first": first})
                                      for body in bodies]
        return found

    def _places(self, region: Region, block: Tiles) -> Iterator[int]:
        """Where the input of a region begins in tiles of other layers, and how these stand."""
        if self._others:
            for term in range(len(self._makers)):
                for box in self._tiling.boxes(self._layer, block):
                    held, at = self._shared(term, region, box) or (None, -1)
                    yield at
                    if held is not None:
                        yield from (held.geometry.pixel, held.geometry.line, held.geometry.image)

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
        step, rows = max(end - start for start, end in pairwise((0, *cuts))), self._layer.config.array.rows
        if step % (rows if box.taps == 1 else box.columns * box.channels) or (self._layer.is_ordered and step % rows):
            return (box.size,)
        return (*range(step, box.size, step), box.size)

    def _bodies(self, term: int, visit: Visit, part: Region, some: Region, tiles: Tiles, a_box: Box, w_box: Box,
                span: tuple[int, int]) -> Iterator[dict[str, int]]:
        """EXECUTEs of elements `span` of a box of weights for some pixels of a group's part of a region.

        For each of them a walk has one form.
        """
        geometry, _ = self._stands(term, visit.region, a_box)
        walks = geometry.pixels(some, self._problem.finish.pool)
        # They are all, or the first of them, or the last.
        is_at_first = (some.image0, some.p0, some.q0) == (part.image0, part.p0, part.q0)
        behind = 0 if is_at_first else part.pixels - some.pixels
        counts = {f"m_count{loop}": count for loop, (count, _) in enumerate(walks.loops)}
        steps = {f"m_step{loop}": step % (1 << 20) for loop, (_, step) in enumerate(walks.loops)}
        for body in self._contractions(term, visit, part, some, tiles, a_box, w_box, span):
            yield from ({**counts, **steps, **body, "a_base": body["a_base"] + start,
                         "acc_base": body.get("acc_base", 0) + behind + number * walks.vectors}
                        for number, start in enumerate(walks.starts))

    def _stands(self, term: int, region: Region, box: Box) -> tuple[Geometry, int]:
        """How the input of a region stands, in a tile of its own or in another layer's, and where there."""
        geometry, shared = self._makers[term].geometry(region, box), self._shared(term, region, box)
        if shared is None:
            return geometry, 0
        at = shared[0].geometry
        return replace(geometry, pixel=at.pixel, line=at.line, image=at.image, pixel_m=at.pixel,
                       line_m=at.line), shared[1]

    def _contractions(self, term: int, visit: Visit, part: Region, some: Region, tiles: Tiles, a_box: Box, w_box: Box,
                      span: tuple[int, int]) -> Iterator[dict[str, int]]:
        """What these EXECUTEs are but for the loops over pixels, from the first pixel's place on."""
        maker, region, block, banks = self._makers[term], visit.region, visit.block, self._layer.banks
        problem, (geometry, base) = maker.problem, self._stands(term, region, a_box)
        (down, right), rows = problem.finish.pool, part.pixels * self._layer.sums
        base += ((some.image0 - region.image0) * geometry.image + (some.p0 - region.p0) * down * geometry.line_m
                 + (some.q0 - region.q0) * right * geometry.pixel_m)
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


def lower_visits(tiling: Tiling, layer: Layer, plan: MemoryPlan,
                 held: Sequence[Held]) -> tuple[list[tuple[Region, list[ContractionStep]]], list[Held]]:
    """Steps of each visit of a region, in order, and what stands in tiles for others; `held` are tiles of others."""
    lowering = _Lowering(tiling, layer, plan, held)
    return list(lowering.visits()), lowering.held


def lower(tiling: Tiling, layer: Layer, plan: MemoryPlan,
          known: dict[object, Any] | None = None) -> list[ContractionStep]:
    """Steps of a layer, in order.

    Parameters
    ----------
    known : dict, optional
        What programs of this very layer have in common, which grows: where many are made, each is made of it.
    """
    return list(_Lowering(tiling, layer, plan, known=known).steps())
