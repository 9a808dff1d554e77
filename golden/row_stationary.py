"""Row-stationary mapping of a convolution onto a PE array, and what it costs in closed form.

Names and parameters are those of Eyeriss (JSSC 2017, section IV and tables II and III). A PE
convolves rows: it holds ``q`` channels of ``p`` filters' rows of S taps, slides over an ifmap row and
makes a psum row of each filter. R x ``e`` PEs are a PE set: filter row i meets ifmap row U j + i in PE
(i, j), and sums go up its columns to row j of the ofmap. ``r`` sets work on different channels, with their sums added,
and ``t`` sets on different filters. In one processing pass the array works on ``n`` ifmaps, ``q r``
channels and ``p t`` filters. The global buffer holds the psums of ``m`` ofmap channels, for ``n``
ifmaps and ``e`` rows, until all channels have been added.
"""

from dataclasses import dataclass

from .cost import ConvLayer
from .tensors import four_sides, pair

__all__ = [
    "ALEXNET_PUBLISHED", "Mapping", "PEStorage", "active_pes", "check", "global_buffer_size", "global_buffer_words",
    "passes",
]


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Parameters of a row-stationary mapping; see the module.

    Parameters
    ----------
    m : int
        Ofmap channels whose psums the global buffer holds.
    n : int
        Ifmaps of a pass.
    e : int
        Ofmap rows of a PE set.
    p, q : int
        Filters and channels of a PE.
    r, t : int
        PE sets on different channels, and on different filters.
    """

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int

    def __post_init__(self) -> None:
        for name in ("m", "n", "e", "p", "q", "r", "t"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class PEStorage:
    """Words of the three scratchpads of a PE; by default those of the chip.

    Parameters
    ----------
    ifmap, filter, psum : int
        Words of each.
    """

    ifmap: int = 12
    filter: int = 224
    psum: int = 24


#: Mappings of table III for AlexNet with a batch of four. CONV3 is q = 3, r = 2, t = 2, which alone
#: gives the accesses of table V; table III prints q = 4, r = 1, t = 4.
ALEXNET_PUBLISHED = (
    Mapping(m=96, n=1, e=7, p=16, q=1, r=1, t=2),
    Mapping(m=64, n=1, e=27, p=16, q=2, r=1, t=1),
    Mapping(m=64, n=4, e=13, p=16, q=3, r=2, t=2),
    Mapping(m=64, n=4, e=13, p=16, q=3, r=2, t=2),
    Mapping(m=64, n=4, e=13, p=16, q=3, r=2, t=2),
)


def _strips(layer: ConvLayer, mapping: Mapping) -> list[int]:
    """Ofmap rows of each strip: ``e``, and what is left for the last one."""
    rows = layer.output[1]
    return [min(mapping.e, rows - start) for start in range(0, rows, mapping.e)]


def _per_group(layer: ConvLayer) -> tuple[int, int]:
    return layer.c // layer.groups, layer.m // layer.groups


def _filter_passes(filters: int, mapping: Mapping) -> int:
    """Passes in which the array works through all filters of a group, blocks of m after one another."""
    blocks, rest = divmod(filters, mapping.m)
    at_once = mapping.p * mapping.t
    return blocks * -(-mapping.m // at_once) + -(-rest // at_once)


def check(layer: ConvLayer, mapping: Mapping, rows: int, cols: int, storage: PEStorage) -> None:
    """Raise an error unless a mapping fits an array.

    A set is R rows high and, if wider than the array, folded into segments of ``cols`` columns.

    Parameters
    ----------
    layer : ConvLayer
        The convolution, without dilation.
    mapping : Mapping
        Its mapping.
    rows, cols : int
        PEs of the array.
    storage : PEStorage
        Words of a PE.

    Raises
    ------
    ValueError
        Naming the parameter that does not fit.
    """
    channels, filters = _per_group(layer)
    limits = {
        "r of the filter": (layer.r, rows, "array.rows"),
        "e": (mapping.e, layer.output[1], "rows of the ofmap"),
        "q * s": (mapping.q * layer.s, storage.ifmap, "words of the ifmap scratchpad"),
        "p * q * s": (mapping.p * mapping.q * layer.s, storage.filter, "words of the filter scratchpad"),
        "p": (mapping.p, storage.psum, "words of the psum scratchpad"),
        "q * r": (mapping.q * mapping.r, channels, "channels of a group"),
        "p * t": (mapping.p * mapping.t, filters, "filters of a group"),
        "m": (mapping.m, filters, "filters of a group"),
    }
    for name, (value, limit, what) in limits.items():
        if value > limit:
            raise ValueError(f"{name} must be at most {limit} ({what}), not {value}")
    segments = -(-mapping.e // cols) * mapping.r * mapping.t
    beside = max(1, cols // mapping.e)
    if -(-segments // beside) * layer.r > rows:
        raise ValueError(f"r * t must leave room for {segments} segments of {layer.r} rows in {rows} x {cols} PEs, "
                         f"not {mapping.r} * {mapping.t}")


def active_pes(layer: ConvLayer, mapping: Mapping) -> int:
    """PEs that a pass uses: ``R e r t``."""
    return layer.r * mapping.e * mapping.r * mapping.t


def passes(layer: ConvLayer, mapping: Mapping, batch: int = 1) -> int:
    """Processing passes of a layer.

    Parameters
    ----------
    layer : ConvLayer
        The convolution.
    mapping : Mapping
        Its mapping.
    batch : int
        Images.
    """
    channels, filters = _per_group(layer)
    return (layer.groups * -(-batch // mapping.n) * len(_strips(layer, mapping))
            * -(-channels // (mapping.q * mapping.r)) * _filter_passes(filters, mapping))


def global_buffer_size(layer: ConvLayer, mapping: Mapping) -> dict[str, int]:
    """Words that a mapping keeps in the global buffer: ``ifmap`` of one pass, ``psum`` of one block.

    Parameters
    ----------
    layer : ConvLayer
        The convolution.
    mapping : Mapping
        Its mapping.
    """
    left, right = four_sides(layer.padding)[1::2]
    rows = pair("stride", layer.stride)[0] * (mapping.e - 1) + layer.r
    return {"ifmap": mapping.n * mapping.q * mapping.r * rows * (layer.w + left + right),
            "psum": mapping.m * mapping.n * mapping.e * layer.output[2]}


def global_buffer_words(layer: ConvLayer, mapping: Mapping, batch: int = 1) -> dict[str, int]:
    """Words that the array reads from the global buffer and writes to it, without fills and drains.

    Each pass reads the psums of its outputs and writes them back, and reads its ifmap rows, padding
    included; rows that neighbouring strips share are read for each. Filters have a buffer of their own.

    Parameters
    ----------
    layer : ConvLayer
        The convolution.
    mapping : Mapping
        Its mapping.
    batch : int
        Images.

    Returns
    -------
    dict
        Words by name: ``psum_reads``, ``psum_writes``, ``ifmap_reads``.
    """
    channels, filters = _per_group(layer)
    m, e, f = layer.output
    left, right = four_sides(layer.padding)[1::2]
    step = pair("stride", layer.stride)[0]
    sums = m * e * f * batch * -(-channels // (mapping.q * mapping.r))
    ifmap_rows = sum(step * (rows - 1) + layer.r for rows in _strips(layer, mapping))
    per_filters = ifmap_rows * (layer.w + left + right) * layer.c * batch
    return {"psum_reads": sums, "psum_writes": sums, "ifmap_reads": per_filters * _filter_passes(filters, mapping)}
