"""AlexNet's CONV layers under our mappings and the published ones, beside the chip's figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...golden.models import ALEXNET_CONV
from ...hdl.row_stationary.config import RowStationaryConfig
from .estimate import estimate
from .mapper import mapping_of
from .mapping import LayerPlan, Traffic

__all__ = ["PUBLISHED", "ZEROS", "Published", "Row", "alexnet_traffic", "comparison"]

#: Shares of zeros in the ifmaps of the layers (table V), and in CONV5's ofmaps, which is our assumption.
ZEROS = (0.0001, 0.387, 0.725, 0.793, 0.776, 0.80)


@dataclass(frozen=True)
class Published:
    """Figures of table V for a layer and four images, at 200 MHz: ms, PEs, MB (1e6)."""

    latency: float
    processing: float
    active_pes: int
    buffer: float
    dram: float


#: Table V.
PUBLISHED = (
    Published(20.9, 16.5, 154, 18.5, 5.0),
    Published(41.9, 39.2, 135, 77.6, 4.0),
    Published(23.6, 21.8, 156, 50.2, 3.0),
    Published(18.4, 16.0, 156, 37.4, 2.1),
    Published(10.5, 10.0, 156, 24.9, 1.3),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer under a mapping: cycles with and without waits for memory, PEs, MB (1e6)."""

    name: str
    plan: LayerPlan
    cycles: int
    processing: int
    active_pes: int
    buffer: float
    dram: float
    published: Published


def alexnet_traffic(zeros: Sequence[float] = ZEROS) -> tuple[Traffic, ...]:
    """What AlexNet's CONV layers have in memory: all feature maps as codes but the images."""
    return tuple(Traffic(coded_input=index > 0, coded_output=True, input_zeros=zeros[index],
                         output_zeros=zeros[index + 1]) for index in range(len(ALEXNET_CONV)))


def comparison(config: RowStationaryConfig, choice: str = "own", batch: int = 4, *,
               split_images: bool = True) -> list[Row]:
    """Estimate AlexNet's CONV layers.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator, of 16-bit operands.
    choice : str
        ``own`` or ``paper``.
    batch : int
        Images.
    split_images : bool
        Whether several passes may share the filters, each with some of the ifmaps.
    """
    rows = []
    for layer, traffic, published in zip(ALEXNET_CONV, alexnet_traffic(), PUBLISHED, strict=True):
        plan = mapping_of(layer, config, choice, batch, traffic, split_images=split_images)
        cost, counts = estimate(plan), plan.mapped.counts(traffic.bias)
        words = counts["ifmap_reads"] + counts["psum_reads"] + counts["psum_writes"]
        rows.append(Row(name=layer.name, plan=plan, cycles=cost.cycles, processing=cost.processing,
                        active_pes=plan.mapped.active_pes, buffer=words * config.operand_bytes / 1e6,
                        dram=cost.dram_bytes / 1e6, published=published))
    return rows
