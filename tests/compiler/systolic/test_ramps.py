"""How layers begin and end: whatever way is chosen, results stay, and what is chosen saves cycles."""

import random
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from random_workloads import configuration, interpret, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for
from pearray.compiler.operators import Conv2d, Gemm
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.systolic import mapper
from pearray.compiler.systolic.candidates import Chooser
from pearray.compiler.systolic.endings import Work, last_groups
from pearray.compiler.systolic.lower import lower
from pearray.compiler.systolic.ramps import _Changes, openings
from pearray.compiler.systolic.schedule import cycles_of
from pearray.hdl.systolic.commands import Destination
from pearray.memory import DEFAULT_MEMORY
from pearray.workloads.workload import load_workload


def _case(rng, index):
    """A product or convolution of odd sizes, and its tensors."""
    if index % 2:
        m, k, n = (int(size) for size in rng.integers(9, 60, 3))
        return Gemm(), {"a": operands(rng, (m, k)), "b": operands(rng, (k, n))}
    c, out, size = (int(size) for size in rng.integers(6, 24, 3))
    r, s = (int(taps) for taps in rng.integers(1, 4, 2))
    # Taps of a row, or rows, that do not adjoin make other runs of elements.
    dilation = tuple(int(step) for step in rng.integers(1, 3, 2))
    operator = Conv2d(padding=int(rng.integers(0, min(r, s))), stride=int(rng.integers(1, 3)), dilation=dilation)
    return operator, {"x": operands(rng, (1, c, size, size)), "w": operands(rng, (out, c, r, s))}


def _drawn(rng, layer, *, by_row):
    """A tiling of a layer that begins in some way, with a part of a row if it does not go by rows and has several."""
    tilings = [tiling for _, tiling in Chooser(layer).best(4)]
    several = [tiling for tiling in tilings if tiling.regions[0].rows > 1]
    tilings = tilings if by_row or not several else several
    tiling = replace(tilings[int(rng.integers(len(tilings)))], rest_first=bool(rng.integers(2)))
    places, rows = tiling.places(layer), layer.config.array.rows
    cuts = rng.choice(places, min(len(places), int(rng.integers(0, 4))), replace=False).tolist() if places else ()
    channels = range(tiling.unit(layer), tiling.a_boxes[0].channels, rows)
    slices = tuple(sorted(rng.choice(channels, 1).tolist())) if layer.can_slice and channels else ()
    # Small groups leave several to cut anew at the end.
    first = int(rng.integers(rows, 4 * rows) if by_row else rng.integers(1, 4))
    return replace(tiling, first_pixels=first, k_cuts=tiling.cut_at(layer, cuts),
                   a_cuts=slices, lead=int(rng.integers(0, 2 * rows)), ahead=int(rng.integers(-1, 2 * rows)),
                   posts=int(rng.integers(0, 4)), growth=float(rng.choice([1.3, 2])), by_row=by_row,
                   meets_rows=bool(rng.integers(2)), tail=int(rng.integers(1, 4)),
                   pixels=min(tiling.pixels, int(rng.integers(2 * rows, 16 * rows))))


def test_any_beginning_computes_the_same(rng, monkeypatch):
    """Pixels that lead, what comes before weights, pieces, parts of rows: a slip changes outputs, or reads too soon.

    The first group may be a part of a row, or wait for some rows only; several last groups may be cut as one.
    """
    led, parts, joined = [], [], []

    def drawn(layer, _, **__):
        tiling = _drawn(rng, layer, by_row=len(led) % 4 != 2)
        led.append(tiling.lead > 0 and bool(tiling.k_cuts))
        visits = tiling.visits(layer.problem.groups)
        first = tiling.parts(visits[0].region, visits[0].block, True)[0]
        parts.append(visits[0].region.rows > 1 and first.columns < visits[0].region.columns)
        last = tiling.parts(visits[-1].region, visits[-1].block, len(visits) == 1)
        joined.append(len(tiling.cut_anew(layer, last, visits[-1].block)[0]) < len(last) - 1)
        return 0.0, tiling

    monkeypatch.setattr(mapper, "choose_tiling", drawn)
    for index in range(24):
        operator, tensors = _case(rng, index)
        graph = Graph.of(operator, tensors)
        # What the whole search would take instead is not wanted.
        interpret(graph, {name: tensors[name] for name in graph.inputs}, configuration(), dataflow="weight-stationary")
    assert any(led)
    assert any(parts)
    assert any(joined)


def test_any_change_of_a_layer_computes_the_same(rng, monkeypatch):
    """Regions, blocks and groups that don't suit one another, or what begins and ends a layer, would change outputs."""
    tilings = []

    def changed(layer, *_, **__):
        changes, tiling = _Changes(layer, random.Random(int(rng.integers(1 << 30))), is_alone=True), None
        for _ in range(30):
            # Not all of them go.
            tiling = changes.any(tiling or Chooser(layer).best(1)[0][1]) or tiling
        tilings.append((len(tiling.regions) > 1, len(tiling.blocks) > 1, tiling.n_outer, tiling.is_level))
        return 0.0, tiling

    monkeypatch.setattr(mapper, "choose_tiling", changed)
    for index in range(12):
        operator, tensors = _case(rng, index)
        graph = Graph.of(operator, tensors)
        interpret(graph, {name: tensors[name] for name in graph.inputs}, configuration(), dataflow="weight-stationary")
    assert all(map(any, zip(*tilings, strict=True)))


def test_rows_of_weights_come_in_one_burst_where_they_adjoin(rng, monkeypatch):
    """Rows that are loaded one by one take up to a beat and a half more each, and their padding room.

    Each piece brings what the columns behind the last channel meet of the next row, too: an EXECUTE that read it
    before it has come would race.
    """
    monkeypatch.setattr(mapper, "choose_tiling", lambda layer, *_, **__: (0.0, (
        tiling := Chooser(layer).best(1)[0][1]) and replace(
            tiling, blocks=((0, layer.tiles),), first_pixels=9, k_cuts=tiling.cut_at(layer, tiling.places(layer)[:2]))))
    config = configuration()
    channels = 2 * config.array.cols + 1
    tensors = {"a": operands(rng, (20, 30)), "b": operands(rng, (30, channels))}
    program = interpret(Graph.of(Gemm(), tensors), tensors, config, dataflow="weight-stationary").program
    loads = [each.body for each in program.commands
             if each.opcode.name == "LOAD" and each.body["destination"] == Destination.WEIGHT.value]
    assert [each["count1"] * each["count2"] for each in loads] == [1, 1, 1]
    assert sum(each["length"] for each in loads) == 30 * channels * config.operand_bytes


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize(("depth", "channels"), [(8, 1), (10, 1), (16, 3), (17, 4), (39, 2)])
def test_rows_of_few_weights_are_not_brought_twice(rng, depth, channels, effort):
    """Where columns meet more than a row behind the last channel, a later piece would have nothing left to bring."""
    config = configuration(rows=4, cols=8, lanes=2)
    tensors = {"a": operands(rng, (8, depth)), "b": operands(rng, (depth, channels))}
    program = interpret(Graph.of(Gemm(), tensors), tensors, config, effort=effort).program
    assert all(each.body["length"] for each in program.commands if each.opcode.name == "LOAD")


@pytest.mark.parametrize("long", [False, True])
def test_last_groups_are_a_cut(rng, long):
    """Groups that leave pixels or tiles out, or cut a line, would store nothing there."""
    config = pe.load_config("systolic-8x8").hardware
    for _ in range(6 if long else 20):
        step, tiles = int(rng.integers(1, 9)), int(rng.integers(1, 9))
        pixels = step * int(rng.integers(1, 12))
        work = Work(int(rng.integers(1, 9)), 1, 8, bool(rng.integers(2)), 0, 1, int(rng.integers(100, 1000)))
        groups, posts = last_groups(config, DEFAULT_MEMORY, work, (pixels, tiles), (pixels, tiles), step, long)
        left, span = pixels, tiles
        for rows, count in groups:
            assert rows % step == 0
            assert left == rows or span == count
            left, span = (left - rows, span) if rows < left else (left, span - count)
        assert span == 0
        assert 1 <= posts <= 3


@pytest.mark.parametrize(("workload", "most"), [
    ("gemm:64x64x64", 4450), ("conv:1,59,13,13,31,1,2,1,0", 9850), ("gemm:37x212x38", 5460),
    ("conv:1,8,13,13,20,3,2,1,0", 2750)])
def test_short_layers_begin_and_end_soon(workload, most):
    """First operands that come at once, or a large last group, cost these a fiftieth of their cycles.

    The first two are 4,552 and 9,968 with neither pixels that lead, nor pieces of weights across the columns of a
    filter, nor last groups chosen by a clock that knows the banks. The third is 5,701 if rows of weights are loaded
    into whole tiles, one by one, for which there is no room at once, and the last 2,759 if groups between beginning
    and end stay as they are.
    """
    system = pe.load_config("systolic-8x8")
    made = load_workload(workload, 20261122)
    compiled = pe.compile(made.graph, made.inputs, system).compiled()
    assert compiler_for(system.hardware).cycles(system.hardware, compiled.program, system.memory) <= most


def test_what_is_left_over_of_rows_comes_first(rng, monkeypatch):
    """Pieces of weights that make another tile would cost it for each pixel, and few rows of weights come sooner."""
    layers = []
    monkeypatch.setattr(mapper, "choose_tiling", lambda layer, *_, **__: (
        layers.append(layer) or (0.0, Chooser(layer).best(1)[0][1])))
    sizes = 60 + int(rng.integers(20)), 8 * int(rng.integers(4, 7)) + int(rng.integers(1, 4)), 44
    made = load_workload("gemm:{}x{}x{}".format(*sizes), 0)
    pe.compile(made.graph, made.inputs, pe.load_config("systolic-8x8"), dataflow="weight-stationary").compiled()
    layer, least = layers[0].alone(), {}
    for tiling in islice(openings(layer, Chooser(layer).best(1)[0][1]), 24):
        ends = (0, *(tiling.k_cuts or (sizes[1],)))
        assert sum(-(-(end - start) // 8) for start, end in pairwise(ends)) == -(-sizes[1] // 8)
        cycles = cycles_of(layer.config, layer.timing, lower(tiling, layer, MemoryPlan(keep=False)))
        least[tiling.rest_first] = min(cycles, least.get(tiling.rest_first, float("inf")))
    assert least[True] < least[False]


def test_a_layer_takes_as_long_as_it_does_alone(rng, monkeypatch):
    """Constants that stand elsewhere to the ends of bursts would undo what was found for the layer alone."""
    found = []
    choose = mapper.choose_tiling
    monkeypatch.setattr(mapper, "choose_tiling", lambda *args, **how: found.append(choose(*args, **how)) or found[-1])
    config = replace(configuration(), scratchpads=replace(configuration().scratchpads, moves=0))
    tensors = {"x": operands(rng, (1, 11, 9, 9)), "w": operands(rng, (13, 11, 1, 3))}
    program = interpret(Graph.of(Conv2d(), tensors), {"x": tensors["x"]}, config, dataflow="weight-stationary").program
    assert compiler_for(config).cycles(config, program, DEFAULT_MEMORY) == pytest.approx(found[0][0], abs=8)
    assert np.isfinite(found[0][0])


@pytest.mark.parametrize("tail", [2, 4])
def test_a_row_longer_than_the_accumulators_stays_cut(rng, monkeypatch, tail):
    """Two rows that are put together would be cut between them: sums would go where there is no place."""
    choose = mapper.choose_tiling

    def tailed(*args, **kwargs):
        cycles, tiling = choose(*args, **kwargs)
        return cycles, replace(tiling, tail=tail, ends=(), posts=0, shrink=True)

    monkeypatch.setattr(mapper, "choose_tiling", tailed)
    tensors = {"x": operands(rng, (1, 2, 4, 9)), "w": operands(rng, (3, 2, 3, 3))}
    graph = Graph.of(Conv2d(padding=1), tensors)
    interpret(graph, {"x": tensors["x"]}, configuration(rows=2, cols=3, depth=8, lanes=1), effort=0,
              dataflow="weight-stationary")
