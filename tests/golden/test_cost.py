"""Prices: closed forms against counted products and the lecture's tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import cost, integer, models

SMALL = st.integers(1, 4)


@given(SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, st.integers(0, 2), st.integers(0, 5))
def test_conv2d_macs_count_taps(n, groups, channels, per_group, r, s, stride, padding, extra):
    """If it failed, MACs would not be the taps behind all outputs, which ones all over add up."""
    x = np.ones((n, groups * channels, r + extra, s + extra), np.int8)
    w = np.ones((groups * per_group, channels, r, s), np.int8)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=1)
    y = integer.conv2d(padded, w, stride=stride, groups=groups)
    assert cost.conv2d_shape(x.shape, w.shape, stride, padding) == y.shape
    assert cost.conv2d_macs(x.shape, w.shape, stride, padding) == y.sum()


def test_alexnet_is_the_lecture_s():
    """If it failed, `alexnet-conv` would be another workload than the one that published cycles are for."""
    layers = models.ALEXNET_CONV
    assert [layer.weights for layer in layers] == [34_848, 307_200, 884_736, 663_552, 442_368]
    assert [layer.macs() for layer in layers] == [
        105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192]
    assert [layer.output for layer in layers] == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    assert models.totals(layers) == (2_332_704, 665_784_864)
    assert models.totals(layers, batch=4) == (2_332_704, 4 * 665_784_864)
    fully_connected = [cost.linear_weights(*shape) for shape in models.ALEXNET_FC.values()]
    assert fully_connected == [37_748_736, 16_777_216, 4_096_000]
    assert sum(fully_connected) + 2_332_704 == 60_954_656


def test_vgg16_is_the_lecture_s():
    """If it failed, the second network of the lecture's table would not be reproduced."""
    assert len(models.VGG16_CONV) == 13
    assert models.totals(models.VGG16_CONV) == (14_710_464, 15_346_630_656)
    assert sum(cost.linear_weights(*shape) for shape in models.VGG16_FC.values()) == 123_633_664


def test_attention_macs():
    """If it failed, scores or values would be left out; BERT-base has 12 heads of 64 over 512 tokens."""
    per_layer = 4 * cost.gemm_macs(512, 768, 768) + 2 * cost.gemm_macs(512, 768, 3072)
    total = 12 * (per_layer + cost.attention_macs(512, 512, 64, 64, heads=12))
    assert round(total / 1e9, 2) == 48.32


@pytest.mark.parametrize(("call", "message"), [
    (lambda: cost.ConvLayer(name="a", c=3, h=4, w=4, m=4, r=3, s=3, groups=2),
     r"^groups must divide 3 and 4 channels"),
    (lambda: cost.ConvLayer(name="a", c=0, h=4, w=4, m=4, r=3, s=3), r"^c must be at least 1, not 0$"),
    (lambda: cost.conv2d_macs((1, 1, 2, 2), (1, 1, 3, 1)), r"^kernel height must span at most 2 elements"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
