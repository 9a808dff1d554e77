"""Row-stationary mappings: the published figures, and counts against loops written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import row_stationary
from pearray.golden.cost import ConvLayer
from pearray.golden.models import ALEXNET_CONV
from pearray.golden.row_stationary import ALEXNET_PUBLISHED, Mapping, PEStorage

SMALL = st.integers(1, 4)


def test_published_figures():
    """If it failed, the closed form would not be the chip's: table V for active PEs and accesses (MB = 1e6)."""
    pairs = list(zip(ALEXNET_CONV, ALEXNET_PUBLISHED, strict=True))
    for layer, mapping in pairs:
        row_stationary.check(layer, mapping, 12, 14, PEStorage())
    assert [row_stationary.active_pes(*pair) for pair in pairs] == [154, 135, 156, 156, 156]
    words = [sum(row_stationary.global_buffer_words(*pair, batch=4).values()) for pair in pairs]
    assert [round(2 * count / 1e6, 2) for count in words] == [18.45, 77.57, 50.18, 37.37, 24.92]
    assert [round(2 * count / 1e6, 1) for count in words] == [18.5, 77.6, 50.2, 37.4, 24.9]


def test_published_buffer():
    """If it failed, what a mapping keeps in the global buffer would not be table III (KB = 1024)."""
    sizes = [row_stationary.global_buffer_size(*pair) for pair in zip(ALEXNET_CONV, ALEXNET_PUBLISHED, strict=True)]
    assert [round(2 * size["psum"] / 1024, 1) for size in sizes] == [72.2, 91.1, 84.5, 84.5, 84.5]
    # Table III prints 7.0 for CONV3, for the mapping that it names and table V contradicts.
    assert [round(2 * size["ifmap"] / 1024, 1) for size in sizes] == [15.5, 3.8, 10.5, 10.5, 10.5]


@given(st.data())
def test_counts_are_those_of_the_loops(data):
    """If it failed, ragged strips, channels, filters or batches would be counted wrong."""
    draw = data.draw
    groups, channels, filters = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 9))
    layer = ConvLayer(name="drawn", c=groups * channels, h=draw(st.integers(4, 9)), w=draw(st.integers(4, 9)),
                      m=groups * filters, r=draw(st.integers(1, 3)), s=draw(st.integers(1, 3)),
                      stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)), groups=groups)
    mapping = Mapping(**{name: draw(SMALL) for name in "mnepqrt"})
    batch = draw(SMALL)
    _, rows, cols = layer.output
    count, psums, ifmaps = 0, 0, 0
    for _ in range(groups):
        for _ in range(0, batch, mapping.n):
            for _ in range(0, rows, mapping.e):
                for _ in range(0, channels, mapping.q * mapping.r):
                    for block in range(0, filters, mapping.m):
                        for _ in range(block, min(filters, block + mapping.m), mapping.p * mapping.t):
                            count += 1
    for _ in range(batch):
        for strip in range(0, rows, mapping.e):
            height = min(mapping.e, rows - strip)
            for _ in range(groups):
                for first in range(0, channels, mapping.q * mapping.r):
                    psums += filters * height * cols
                    for block in range(0, filters, mapping.m):
                        for _ in range(block, min(filters, block + mapping.m), mapping.p * mapping.t):
                            ifmaps += (min(channels - first, mapping.q * mapping.r)
                                       * (layer.stride * (height - 1) + layer.r) * (layer.w + 2 * layer.padding))
    assert row_stationary.passes(layer, mapping, batch) == count
    assert row_stationary.global_buffer_words(layer, mapping, batch) == {
        "psum_reads": psums, "psum_writes": psums, "ifmap_reads": ifmaps}


@pytest.mark.parametrize(("change", "message"), [
    ({"p": 25, "q": 1, "m": 64}, r"^p must be at most 24 \(words of the psum scratchpad\), not 25$"),
    ({"q": 5}, r"^q \* s must be at most 12 "),
    ({"p": 24, "q": 4}, r"^p \* q \* s must be at most 224 "),
    ({"e": 14}, r"^e must be at most 13 \(rows of the ofmap\), not 14$"),
    ({"r": 3}, r"^r \* t must leave room for 6 segments of 3 rows in 12 x 14 PEs, not 3 \* 2$"),
    ({"m": 385}, r"^m must be at most 384 "),
])
def test_mappings_that_do_not_fit_are_named(change, message):
    """If it failed, a mapping that the array can't hold would be accepted, or its message not name the parameter."""
    layer, mapping = ALEXNET_CONV[2], vars(ALEXNET_PUBLISHED[2])
    with pytest.raises(ValueError, match=message):
        row_stationary.check(layer, Mapping(**(mapping | change)), 12, 14, PEStorage())


def test_parameters_are_positive():
    """If it failed, a parameter of zero would divide by zero later."""
    with pytest.raises(ValueError, match=r"^q must be at least 1, not 0$"):
        Mapping(m=1, n=1, e=1, p=1, q=0, r=1, t=1)
