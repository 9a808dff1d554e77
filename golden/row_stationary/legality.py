"""What a mapping needs of an array."""

from .passes import LayerMapping

__all__ = ["check"]


def check(mapped: LayerMapping, rows: int, cols: int, storage: tuple[int, int, int] = (12, 224, 24)) -> None:
    """Raise an error unless a mapping fits an array.

    A chain of PEs, whose sums are added, stands in one column. Chains may stand anywhere: so a set that is wider than
    the array goes on in the rows above.

    Parameters
    ----------
    mapped : LayerMapping
        The layer and its mapping.
    rows, cols : int
        PEs of the array.
    storage : (int, int, int)
        Words of the ifmap, filter and psum scratchpads of a PE; by default those of the chip.

    Raises
    ------
    ValueError
        Naming the parameter that does not fit.
    """
    layer, mapping = mapped.layer, mapped.mapping
    channels, filters = mapped.per_group
    window = max(part.window for part, _ in mapped.part_kinds)
    limits = {
        "rows": (mapping.rows, layer.r, "rows of the filter"),
        "columns": (mapping.columns, layer.s, "columns of the filter"),
        "rows of a set": (mapped.height, rows, "array.rows"),
        "g": (mapping.g, layer.groups, "groups"),
        "images": (mapping.images, mapping.n, "n"),
        "e": (mapping.e, layer.output[1], "rows of the ofmap"),
        "q * r": (mapping.q * mapping.r, channels, "channels of a group"),
        "m": (mapping.m, filters, "filters of a group"),
        "q * s": (window, storage[0], "words of the ifmap scratchpad"),
        "p * q * s": (mapping.p * window, storage[1], "words of the filter scratchpad"),
        "p": (mapping.p, storage[2], "words of the psum scratchpad"),
    }
    for name, (value, limit, what) in limits.items():
        if value > limit:
            raise ValueError(f"{name} must be at most {limit} ({what}), not {value}")
    if mapping.p % mapped.psum_lanes and mapping.p < mapping.m:
        raise ValueError(f"p must be a multiple of {mapped.psum_lanes} (words of a line) or at least "
                         f"m = {mapping.m}, not {mapping.p}")
    if mapping.g > 1 and mapping.p * mapping.t < filters:
        raise ValueError(f"p * t must be at least {filters} (filters of a group) with g = {mapping.g}, "
                         f"not {mapping.p * mapping.t}")
    if mapping.g > 1 and mapping.r > 1 and mapping.q * mapping.r < channels:
        raise ValueError(f"q * r must be {channels} (channels of a group) with g = {mapping.g} and r > 1, "
                         f"not {mapping.q * mapping.r}")
    room = cols * (rows // mapped.chain)
    if mapping.g * mapping.e * mapping.t > room:
        raise ValueError(f"g * e * t must be at most {room} (chains of {mapped.chain} PEs in {rows} x {cols}), "
                         f"not {mapping.g * mapping.e * mapping.t}")
