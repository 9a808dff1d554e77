"""What papers print: mappings of layers, and what they cost on the chip."""

from collections.abc import Mapping
from typing import Any

from ..compiler.graph.graph import Graph, Node
from ..compiler.operators import Conv2d
from ..golden.models import ALEXNET_CONV
from ..golden.tensors import pair
from ..hdl.errors import PearrayError

__all__ = ["ALEXNET_FIGURES", "ALEXNET_MAPPINGS", "named_settings"]

#: Eyeriss's mappings of AlexNet's CONV layers with a batch of four (JSSC 52(1), 2017, table III). CONV3 is q = 3,
#: r = 2, t = 2, which alone gives the accesses of table V; table III prints q = 4, r = 1, t = 4.
ALEXNET_MAPPINGS: tuple[dict[str, int], ...] = (
    {"m": 96, "n": 1, "e": 7, "p": 16, "q": 1, "r": 1, "t": 2},
    {"m": 64, "n": 1, "e": 27, "p": 16, "q": 2, "r": 1, "t": 1},
    {"m": 64, "n": 4, "e": 13, "p": 16, "q": 3, "r": 2, "t": 2},
    {"m": 64, "n": 4, "e": 13, "p": 16, "q": 3, "r": 2, "t": 2},
    {"m": 64, "n": 4, "e": 13, "p": 16, "q": 3, "r": 2, "t": 2},
)

#: Table V, four images: 1 V, core at 200 MHz, link at 60 MHz; by layer, and the total as printed. MB are 10^6 bytes.
ALEXNET_FIGURES: dict[str, tuple[float, ...]] = {
    "active_pes": (154, 135, 156, 156, 156, 148),
    "global_buffer_mb": (18.5, 77.6, 50.2, 37.4, 24.9, 208.5),
    "processing_ms": (16.5, 39.2, 21.8, 16.0, 10.0, 103.5),
    "total_ms": (20.9, 41.9, 23.6, 18.4, 10.5, 115.3),
    "dram_mb": (5.0, 4.0, 3.0, 2.1, 1.3, 15.4),
    "ifmap_zeros": (0.01, 38.7, 72.5, 79.3, 77.6, 57.53),
}

#: Word that stands for published mappings.
_PAPER = "paper"


def named_settings(settings: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """Settings of a run, with the mappings that ``mapping="paper"`` stands for.

    Raises
    ------
    PearrayError
        If a layer has no published mapping.
    """
    chosen = dict(settings)
    if isinstance(chosen.get("mapping"), str) and chosen["mapping"] == _PAPER:
        chosen["mapping"] = {node.name: _published(node, graph) for node in graph.nodes}
    return chosen


def _published(node: Node, graph: Graph) -> dict[str, int]:
    """Parameters of a node's mapping, of no more images than it has."""
    operator = node.operator
    if isinstance(operator, Conv2d):
        tensors = graph.typed({**node.inputs, **node.outputs})
        m, cg, r, s = tensors["w"].shape
        shape = (cg * operator.groups, m, r, s, operator.groups, operator.stride, operator.dilation,
                 tensors["y"].shape[2:])
        for known, mapping in zip(ALEXNET_CONV, ALEXNET_MAPPINGS, strict=True):
            if shape == (known.c, known.m, known.r, known.s, known.groups, pair("stride", known.stride),
                         pair("dilation", known.dilation), known.output[1:]):
                return mapping | {"n": min(mapping["n"], tensors["x"].shape[0])}
    raise PearrayError(f"mapping must be 'own' for {node.name}: only AlexNet's CONV layers have a published one")
