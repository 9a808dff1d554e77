"""A layer on a row-stationary accelerator: its mapping, what the buffers hold, and what that costs."""

from dataclasses import dataclass, replace
from functools import cached_property

from ...golden.row_stationary import LayerMapping, Mapping, check
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ...memory import DEFAULT_MEMORY, MemoryTiming
from .setup import setup_size

__all__ = ["COLUMNS", "IMAGES", "LINES", "SETS", "LayerPlan", "Traffic"]

#: Largest counts of the loops of a pass, by the fields of its command: ifmap lines, ifmap columns and windows, images
#: (rows of pixels that stand transposed, too), and sets.
LINES, COLUMNS, IMAGES, SETS = 256, 4096, 256, 256


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a layer's tensors are in memory.

    Parameters
    ----------
    bias : bool
        Whether the sums of a block begin at lines of biases in the global buffer.
    coded_input, coded_output : bool
        Whether ifmaps are read, and ofmaps written, as run-length codes.
    input_zeros, output_zeros : float
        Shares of zeros that codes are estimated with, those of padding not counted.
    output_bytes : int
        Bytes of an output.
    transposed : bool
        Whether ifmaps stand transposed, in memory and in tiles: [channel][pixel].
    by_taps : bool
        Whether each row of pixels of such an ifmap is what another tap sees, loaded by itself.
    gathered : str
        What adjoins in memory where filters are gathered word by word, since they are no constants: ``channels`` of
        a filter, or ``filters`` of a channel; empty for filters that are packed as the array takes them.
    timing : MemoryTiming
        How fast memory is.
    """

    bias: bool = True
    coded_input: bool = False
    coded_output: bool = False
    input_zeros: float = 0.0
    output_zeros: float = 0.0
    output_bytes: int = 2
    transposed: bool = False
    by_taps: bool = False
    gathered: str = ""
    timing: MemoryTiming = DEFAULT_MEMORY


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """Mapping of a layer with what the global buffer and the filter buffer hold.

    The global buffer holds tiles of ifmaps, ``psum_blocks`` blocks of psums, and a block's biases.

    Parameters
    ----------
    mapped : LayerMapping
        The layer, its mapping, and the passes that follow.
    config : RowStationaryConfig
        The accelerator.
    traffic : Traffic
        What is in memory.
    merged : int
        Groups of the layer as given that are one group here, with zero filters between them: ``mapped.layer`` has
        so many times fewer groups.
    resident : bool
        Whether a tile holds all channels of the groups of a pass, and is loaded once for each (images, groups,
        strip); else those of one channel range, ``q r`` of each group, and is loaded again for each block.
    spare_tiles : int
        Tiles that have room beside `tiles_of_part`: 1 if a tile is loaded while the others are read, else 0.
    psum_blocks : int
        2 if a block leaves while the sums of the next are made, else 1.
    filter_slots : int
        2 if the filters of a pass are loaded while those of the one before are in the filter buffer, else 1.
    """

    mapped: LayerMapping
    config: RowStationaryConfig
    traffic: Traffic
    merged: int = 1
    resident: bool = False
    spare_tiles: int = 0
    psum_blocks: int = 1
    filter_slots: int = 1

    def under(self, mapping: Mapping) -> "LayerPlan":
        """The layer under another mapping."""
        return replace(self, mapped=replace(self.mapped, mapping=mapping))

    def using(self, resident: bool, spare_tiles: int, psum_blocks: int) -> "LayerPlan":
        """The mapping with another use of the global buffer."""
        return replace(self, resident=resident, spare_tiles=spare_tiles, psum_blocks=psum_blocks)

    @cached_property
    def tile_channels(self) -> int:
        """Channels of a pixel in a tile."""
        mapping = self.mapped.mapping
        each = self.mapped.per_group[0] if self.resident else min(mapping.q * mapping.r, self.mapped.per_group[0])
        return each * mapping.g

    @cached_property
    def tile_words(self) -> int:
        """Words of a tile: [image][row][column][channel], of the first, largest strip."""
        mapped = self.mapped
        images = mapped.mapping.images or mapped.mapping.n
        return images * mapped.tile_lines(mapped.rows) * mapped.tile_columns * self.tile_channels

    @cached_property
    def tiles_of_part(self) -> int:
        """Tiles that passes of a part of the contraction read: one for the ifmaps of each pass."""
        mapping = self.mapped.mapping
        together = min(mapping.n, self.mapped.batch)
        return -(-together // (mapping.images or together))

    @cached_property
    def held(self) -> int:
        """Most channels that PEs hold beyond the last."""
        return max(part.q * self.mapped.mapping.r - part.channels for part, _ in self.mapped.part_kinds)

    @cached_property
    def tile_buffer_lines(self) -> int:
        """Lines of a tile, with those behind it that are read for channels beyond the last, or decoded."""
        mapped = self.mapped
        beyond = self.held
        if self.traffic.transposed:
            beyond *= mapped.rows * mapped.layer.output[2]
        return -(-(self.tile_words + max(beyond, 2)) // self.config.filter_lanes) + 1

    @cached_property
    def block_buffer_lines(self) -> int:
        """Lines of a block of psums."""
        mapped = self.mapped
        return mapped.mapping.n * mapped.rows * mapped.layer.output[2] * mapped.mapping.g * mapped.block_lines

    @cached_property
    def bias_buffer_lines(self) -> int:
        """Lines of the biases of a block."""
        return self.traffic.bias * self.mapped.mapping.g * self.mapped.block_lines

    @property
    def buffer_lines(self) -> int:
        """Lines of the global buffer that are used."""
        return ((self.tiles_of_part + self.spare_tiles) * self.tile_buffer_lines
                + self.psum_blocks * (self.block_buffer_lines + self.bias_buffer_lines))

    @cached_property
    def filter_buffer_lines(self) -> int:
        """Most lines of filters of a pass."""
        mapped = self.mapped
        return mapped.sets(mapped.mapping.g) * mapped.height * max(
            mapped.filter_beats(part, filters) for part, _ in mapped.part_kinds for filters, _ in mapped.filter_kinds)

    @property
    def rate(self) -> float:
        """Bytes that memory moves in a cycle."""
        return self.config.beat_bytes * self.traffic.timing.beats_per_cycle

    def check(self) -> None:
        """Raise an error unless the array and the buffers hold the mapping.

        Raises
        ------
        PearrayError
            Naming what does not fit.
        """
        mapped, config, pe, windows = self.mapped, self.config, self.config.pe, self.mapped.layer.output[2]
        limits = (
            ("columns of the ofmap", windows, IMAGES if self.traffic.transposed else COLUMNS),
            ("columns that a pass reads", max(mapped.ifmap_columns(part) for part, _ in mapped.part_kinds), COLUMNS),
            ("images of a pass", min(mapped.mapping.images or mapped.mapping.n, mapped.batch), IMAGES),
            ("lines of the global buffer", self.buffer_lines, config.buffer_lines),
            ("lines of the filter buffer", max(self.filter_slots * self.filter_buffer_lines, setup_size(config)),
             config.filter_lines))
        try:
            check(mapped, config.array.rows, config.array.cols, (pe.ifmap_words, pe.filter_words, pe.psum_words))
            for name, used, limit in limits:
                if used > limit:
                    raise ValueError(f"{name} must be at most {limit}, not {used}")
        except ValueError as error:
            raise PearrayError(f"mapping of {mapped.layer.name}: {error}") from None
