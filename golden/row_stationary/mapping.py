"""Parameters of a row-stationary mapping."""

from dataclasses import dataclass

__all__ = ["Mapping"]


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Parameters of a row-stationary mapping; see the module.

    Parameters
    ----------
    m : int
        Ofmap channels of a group whose psums the global buffer holds.
    n : int
        Ifmaps whose psums the global buffer holds, and of a pass.
    e : int
        Ofmap rows of a PE set.
    p, q : int
        Filters and channels of a PE.
    r, t : int
        PE sets on different channels, and on different filters.
    g : int
        Groups side by side. More than one only if a pass has all filters of each.
    rows, columns : int
        Filter rows of a PE set and filter columns of a PE; 0 for all.
    images : int
        Ifmaps of a pass; 0 for n.
    """

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int
    g: int = 1
    rows: int = 0
    columns: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("rows", "columns", "images") else 1
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
