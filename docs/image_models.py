"""The lecture's image networks beside its table, whole on RTL: a part of docs/models.py."""

from collections.abc import Callable, Iterator, Mapping
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from pearray.compiler.graph.graph import Graph
from pearray.compiler.operators import Conv2d, Linear
from pearray.configuration import load_config
from pearray.golden import integer
from pearray.golden.models import MOBILENET_V2, RESNET50_STAGES
from pearray.hdl.systolic.config import SystolicConfig
from pearray.workloads.workload import load_workload

__all__ = ["CONFIG", "HEADING", "INTRODUCTION", "NETWORKS", "RUNS", "image_rows", "image_runs"]

CONFIG = "systolic-32x32"

HEADING = "Image networks"


class Printed(NamedTuple):
    """What the deck prints for a network: CONV layers, weights and multiply-accumulates; dashes if it has none."""

    layers: str
    weights: str
    macs: str


#: Workloads, in the deck's order and behind it two that are not in it.
NETWORKS: dict[str, Printed] = {
    "alexnet": Printed("5", "61M", "724M"),
    "vgg-16": Printed("16", "138M", "15.5G"),
    "googlenet": Printed("21", "7M", "1.43G"),
    "resnet-50": Printed("49", "25.5M", "3.9G"),
    "mobilenet-v2": Printed("-", "-", "-"),
    "efficientnet-b0": Printed("-", "-", "-"),
}

#: Rows and columns of the array.
_SIDE = 32


def _sums() -> str:
    """What the sums at the ends of ResNet-50's blocks take of the array, in a sentence."""
    size, channels, elements = 56, 64, 0
    products = (2 * size)**2 * 7 * 7 * 3 * 64 + 2048 * 1000
    for blocks, width, stride in RESNET50_STAGES:
        size, wide = size // stride, 4 * width
        for block in range(blocks):
            products += size**2 * (channels * (width + wide * (block == 0)) + (3 * 3 * width + wide) * width)
            channels, elements = wide, elements + size**2 * wide
    useful, sums = products / _SIDE**2, 2 * elements // _SIDE
    return (f"Its sums of two tensors, {elements:,} elements, pass the array, a row of which takes one operand a "
            f"cycle: in\n  {sums:,} cycles that makes no product, so that no program uses more than "
            f"{100 * useful / (useful + sums):.1f} % of the array.")


#: Preset of a smaller array that one network runs on besides, and cycles that the model of time of commit 364a503 finds
#: for that commit's own program of it, with scales of sums that are powers of two, since it refuses those drawn.
_SMALLER, _BEFORE = "systolic-16x16", 3_182_419


def _outputs_a_cycle(side: int, size: int, stride: int) -> float:
    """Outputs of one channel of a 3 x 3 depthwise layer that an array can make in a cycle, but for edges of the image.

    A row of sums has as many columns as the array; a cycle adds to it what as many pixels of the input as there are
    rows give. Outputs that lie in a rectangle see fewest.
    """
    def seen(outputs: int) -> int:
        return min(stride * (outputs - 1) + 3, size)

    return max(down * right / -(-seen(down) * seen(right) // side)
               for down in range(1, side + 1) for right in range(1, side // down + 1))


def _thin() -> str:
    """What MobileNetV2 takes of the smaller array at least, in a sentence."""
    config = load_config(_SMALLER).hardware
    assert isinstance(config, SystolicConfig)
    side, beat = config.array.rows, config.memory.data_width // 8

    def product(pixels: int, inputs: int, outputs: int) -> int:
        return pixels * -(-inputs // side) * -(-outputs // side)

    size, before = 112, 32
    products, depthwise, sums = product(size**2, 3 * 3 * 3, before), 0.0, 0
    for expansion, channels, blocks, stage_stride in MOBILENET_V2:
        for block in range(blocks):
            stride, wide = stage_stride if block == 0 else 1, expansion * before
            products += product(size**2, before, wide) if expansion > 1 else 0
            rate = _outputs_a_cycle(side, size, stride)
            size //= stride
            depthwise += size**2 * wide / rate
            products += product(size**2, wide, channels)
            sums += 2 * size**2 * channels // side if (stride, channels) == (1, before) else 0
            before = channels
    products += product(size**2, before, 1280)
    means, weights = size**2 * 1280 // side, (1280 * 1000 - config.scratchpads.weight_bytes) // beat
    least = round(products + depthwise + sums + means + weights)
    most = [_outputs_a_cycle(side, 112, stride) for stride in (1, 2)]
    return fill(
        f"* **MobileNetV2** on {_SMALLER} took {_BEFORE:,} cycles with commit 364a503, by its model of time; the last "
        "row is today's. Half of that is out of reach while weights stay in the array and the last layer comes behind "
        f"the means. Tiles of 1 x 1 convolutions and of the first layer take {products:,} cycles. A row of sums adds "
        f"up what {side} pixels give in a cycle, so a large depthwise layer makes at most {most[0]:g} outputs a cycle, "
        f"or {most[1]:g} with a stride of 2, but for a few at edges: {depthwise:,.0f} cycles. Sums of two tensors take "
        f"{sums:,} and means {means:,}. The last layer waits for weights, of which there is room for "
        f"{config.scratchpads.weight_bytes:,} bytes before: {weights:,}. That makes {least:,}, "
        f"{100 * least / _BEFORE:.1f} %.",
        120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


INTRODUCTION = f"""\
## {HEADING}

Each is one program, fully connected layers and pooling included, of one image and of weights that are drawn
(`pearray/workloads/image_networks.py`), in int8 with scales that hold what the image makes; each tensor equals
onnxruntime's (`tests/workloads/test_drawn_network.py`). Cycles are those of the array with the default memory, from
the start write to the done flag. Not zero are weights, inputs of CONV and fully connected layers, and products of
two numbers that are not zero; taps on padding count as zero. Drawn weights are hardly ever zero, and behind a ReLU
about half of what a layer makes is.

* **VGG-16** has 13 CONV layers; 16 counts its fully connected ones, which the deck lists as well.
* **GoogLeNet** has 57; 21 is how many stand behind one another. With images of 112, 56, 28, 14 and 7 pixels on a
  side, as published, it takes 1.58 G multiply-accumulates; the deck's 1.43 G follow from 112, 55, 27, 13 and 6.
* **ResNet-50** has 53, of which four are shortcuts, whose weights and multiply-accumulates the deck counts.
  {_sums()}
{_thin()}

""" + (
    "| run | CONV layers | deck | weights | deck | MACs | deck | weights not zero | inputs | products | cycles "
    "| utilisation | DRAM MB | mismatches | Verilog |\n" + "|---" * 15 + "|")


#: Networks and configurations of the table of runs.
RUNS = [*((name, CONFIG) for name in NETWORKS), ("mobilenet-v2", _SMALLER)]


def image_rows() -> list[str]:
    """First cells of the table of runs."""
    return [f"`pearray run {name} --on {config}`" for name, config in RUNS]


def image_runs(measure: Callable[..., Mapping[str, Any]], kept: Mapping[str, str]) -> Iterator[str]:
    """Lines of the table; those not measured that are kept, by their first cells."""
    for row, (name, config) in zip(image_rows(), RUNS, strict=True):
        if row in kept:
            yield kept[row]
            continue
        printed, record, workload = NETWORKS[name], measure("run", name, "--on", config), load_workload(name)
        layers, weights, shares = _counted(workload.graph, workload.inputs)
        traffic = record["dram_read_bytes"] + record["dram_write_bytes"]
        yield (f"| {row} | {layers} | {printed.layers} | {weights:,} | {printed.weights} | {record['macs']:,} "
               f"| {printed.macs} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} | {record['cycles']:,} "
               f"| {100 * record['utilisation']:.1f} % | {traffic / 1e6:.1f} "
               f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}` |")


def _counted(graph: Graph, inputs: Mapping[str, np.ndarray]) -> tuple[int, int, tuple[float, ...]]:
    """CONV layers, weights, and the shares of weights, inputs and products that are not zero."""
    tensors = {**graph.golden(inputs), **inputs, **graph.constants}
    all_of, nonzero = np.zeros(3), np.zeros(3)
    layers = 0
    for node in graph.nodes:
        operator = node.operator
        if not isinstance(operator, (Conv2d, Linear)):
            continue
        layers += isinstance(operator, Conv2d)
        assert operator.requant is not None
        x = (tensors[node.inputs["x"]] != operator.zero_points[0]).astype(np.int8)
        w = (tensors[node.inputs["w"]] != 0).astype(np.int8)
        if isinstance(operator, Conv2d):
            products = integer.conv2d(x, w, stride=operator.stride, padding=operator.padding, groups=operator.groups)
        else:
            products = integer.linear(x, w)
        all_of += w.size, x.size, graph.macs(node)
        nonzero += w.sum(dtype=np.int64), x.sum(dtype=np.int64), products.sum(dtype=np.int64)
    return layers, int(all_of[0]), tuple(nonzero / all_of)
