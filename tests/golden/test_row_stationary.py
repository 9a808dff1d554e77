"""Row-stationary mappings: the published figures, and counts against loops written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import row_stationary
from pearray.golden.cost import ConvLayer
from pearray.golden.models import ALEXNET_CONV
from pearray.golden.row_stationary import LayerMapping, Mapping
from pearray.golden.tensors import pair
from pearray.workloads.published import ALEXNET_MAPPINGS

ALEXNET_PUBLISHED = [Mapping(**parameters) for parameters in ALEXNET_MAPPINGS]
SMALL = st.integers(1, 4)


def test_published_figures():
    """If it failed, the closed form would not be the chip's: table V for active PEs and accesses (MB = 1e6)."""
    mapped = [LayerMapping(layer=layer, mapping=mapping, batch=4)
              for layer, mapping in zip(ALEXNET_CONV, ALEXNET_PUBLISHED, strict=True)]
    for one in mapped:
        row_stationary.check(one, 12, 14)
    assert [one.active_pes for one in mapped] == [154, 135, 156, 156, 156]
    assert sum(one.counts()["products"] for one in mapped) == sum(layer.macs(4) for layer in ALEXNET_CONV)
    counts = [one.counts() for one in mapped]
    words = [count["psum_reads"] + count["psum_writes"] + count["ifmap_reads"] for count in counts]
    assert [round(2 * count / 1e6, 2) for count in words] == [18.45, 77.57, 50.18, 37.37, 24.92]
    assert [round(2 * count / 1e6, 1) for count in words] == [18.5, 77.6, 50.2, 37.4, 24.9]


@st.composite
def drawn(draw):
    """Layer and mapping that fit each other, though perhaps no array."""
    groups, channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 9))
    layer = ConvLayer(name="drawn", c=groups * channels, h=draw(st.integers(5, 9)), w=draw(st.integers(5, 9)),
                      m=groups * filters, r=draw(st.integers(1, 3)), s=draw(st.integers(1, 3)),
                      stride=(draw(st.integers(1, 4)), draw(st.integers(1, 4))), padding=draw(st.integers(0, 1)),
                      dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))), groups=groups)
    values = {name: draw(SMALL) for name in "mnepqrt"}
    values |= {"q": min(values["q"], channels), "r": 1 if values["q"] > channels else min(values["r"], channels)}
    if values["q"] * values["r"] > channels:
        values["r"] = 1
    if draw(st.booleans()):
        values |= {"g": draw(st.integers(1, groups)), "p": filters, "m": filters, "t": 1}
        if values["g"] > 1 and values["q"] * values["r"] < channels:
            values["r"] = 1
    values |= {"rows": draw(st.integers(0, layer.r)), "columns": draw(st.integers(0, layer.s))}
    values["images"] = draw(st.integers(0, values["n"]))
    return LayerMapping(layer=layer, mapping=Mapping(**values), batch=draw(SMALL), psum_lanes=draw(st.integers(1, 4)))


def passes(mapped):
    """Yield (groups, strip, images, part, filters, whether it is the first of its psums) of each pass."""
    for work in mapped.work():
        for index, part in enumerate(work.parts):
            for filters in work.block.filters:
                for images in mapped.pass_images(work.images):
                    yield work.groups, work.strip, images, part, filters, index == 0


@given(drawn(), st.booleans())
def test_counts_are_those_of_the_walks(mapped, bias):
    """If it failed, ragged strips, channels, filters, groups or batches would be counted wrong."""
    counts = dict.fromkeys(mapped.counts(), 0)
    mapping, windows, number = mapped.mapping, mapped.layer.output[2], 0
    for groups, strip, images, part, filters, first in passes(mapped):
        number += 1
        pes = mapped.chain * strip.size * mapping.t * groups.size
        sums = images.size * windows * strip.size * mapping.t * groups.size * filters.p
        words = images.size * mapped.ifmap_columns(part) * part.q
        counts["products"] += sums * mapped.chain * part.taps * part.q
        counts["passed"] += sums * (mapped.chain - 1)
        counts["ifmap_reads"] += words * groups.size * mapping.r * mapped.ifmap_lines(strip.size)[0]
        counts["psum_reads"] += sums if bias or not first else 0
        counts["psum_writes"] += sums
        counts["filter_reads"] += mapped.sets(groups.size) * mapped.height * mapped.filter_beats(part, filters)
        counts["ifmap_spad_writes"] += words * pes
        counts["filter_spad_writes"] += filters.p * part.taps * part.q * pes
    assert mapped.count == number
    assert mapped.counts(bias) == counts


@given(drawn())
def test_passes_cover_the_layer(mapped):
    """If it failed, a product would be left out or counted twice, or a pass would read what its tile lacks."""
    layer, mapping = mapped.layer, mapped.mapping
    step, dilation = pair("stride", layer.stride), pair("dilation", layer.dilation)
    channels, filters = mapped.per_group
    seen = np.zeros((mapped.batch, layer.groups, layer.output[1], filters, channels, layer.r, layer.s), int)
    for groups, strip, images, part, some, _ in passes(mapped):
        assert part.channels <= part.q * mapping.r
        assert some.count <= some.p * mapping.t
        lines, pitch = mapped.ifmap_lines(strip.size)
        for j in range(strip.size):
            for i in range(mapped.height):
                assert (step[0] * j + dilation[0] * i) % pitch == 0
                assert (step[0] * j + dilation[0] * i) // pitch < lines
        assert dilation[0] * part.row + (lines - 1) * pitch < mapped.tile_lines(strip.size)
        for column in range(part.columns):
            assert column * dilation[1] % part.pitch == 0
            assert column * dilation[1] // part.pitch < part.taps
        assert part.stride <= part.taps
        if layer.output[2] > 1:
            assert part.stride * part.pitch == step[1]
        assert (part.column * dilation[1] + (mapped.ifmap_columns(part) - 1) * part.pitch) < mapped.tile_columns
        seen[images.first:images.first + images.size, groups.first:groups.first + groups.size,
             strip.first:strip.first + strip.size, some.first:some.first + some.count,
             part.channel:part.channel + part.channels, part.row + part.skipped:part.row + mapped.height,
             part.column:part.column + part.columns] += 1
    assert np.all(seen == 1)


@given(drawn())
def test_psums_of_a_block_lie_side_by_side(mapped):
    """If it failed, filters of a block would share lines of psums, or leave lines between them."""
    for block in mapped.blocks:
        line = 0
        for filters in block.filters:
            assert filters.line == line
            line += mapped.mapping.t * mapped.psum_beats(filters.p)
        assert line == block.lines


@pytest.mark.parametrize(("change", "message"), [
    ({"p": 25, "q": 1, "m": 64}, r"^p must be at most 24 \(words of the psum scratchpad\), not 25$"),
    ({"q": 5}, r"^q \* s must be at most 12 "),
    ({"p": 10}, r"^p must be a multiple of 4 \(words of a line\) or at least m = 64, not 10$"),
    ({"rows": 4}, r"^rows must be at most 3 \(rows of the filter\), not 4$"),
    ({"g": 2}, r"^g must be at most 1 \(groups\), not 2$"),
    ({"p": 24, "q": 4}, r"^p \* q \* s must be at most 224 "),
    ({"e": 14}, r"^e must be at most 13 \(rows of the ofmap\), not 14$"),
    ({"r": 3}, r"^g \* e \* t must be at most 14 \(chains of 9 PEs in 12 x 14\), not 26$"),
    ({"m": 385}, r"^m must be at most 384 "),
])
def test_mappings_that_do_not_fit_are_named(change, message):
    """If it failed, a mapping that the array can't hold would be accepted, or its message not name the parameter."""
    layer, mapping = ALEXNET_CONV[2], vars(ALEXNET_PUBLISHED[2])
    with pytest.raises(ValueError, match=message):
        row_stationary.check(LayerMapping(layer=layer, mapping=Mapping(**(mapping | change))), 12, 14)


def test_parameters_are_positive():
    """If it failed, a parameter of zero would divide by zero later."""
    with pytest.raises(ValueError, match=r"^q must be an integer of at least 1, not 0$"):
        Mapping(m=1, n=1, e=1, p=1, q=0, r=1, t=1)
