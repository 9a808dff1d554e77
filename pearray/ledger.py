"""Ledgers of runs and layers: each cycle on one entry, from what the hardware charged it to."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .hdl.shell.ledger import CAUSES, Cause

__all__ = ["charge", "losses", "total"]


def charge(intervals: Sequence[Mapping[Cause, int]], macs: Sequence[int], lent: Sequence[int],
           pes: int) -> list[dict[str, int]]:
    """Make the ledger of each layer.

    Cycles in which the array works are useful as far as the layer's multiply-accumulates would take them on all PEs;
    what is left of a cycle goes to the next layer. The rest are padding.

    Parameters
    ----------
    intervals : sequence of mapping
        Cycles by cause between the records of layers; those behind the last layer's record are its own.
    macs : sequence of int
        Multiply-accumulates of each layer.
    lent : sequence of int
        Cycles of each layer's interval in which the array worked for the next layer.
    pes : int
        Processing elements.

    Returns
    -------
    list of dict
        Cycles of each layer by the names of :data:`CAUSES`, all of them.
    """
    last = len(macs) - 1
    made, borrowed, due = [], 0, 0
    for index, later in enumerate(lent):
        counts: Counter[Cause] = Counter()
        for interval in intervals[index:] if index == last else intervals[index:index + 1]:
            counts.update(interval)
        counts[Cause.WORK] += borrowed
        _take(counts, later)
        borrowed = later
        due += macs[index]
        useful = min(counts[Cause.WORK], due // pes)
        due -= useful * pes
        ledger = {name: counts[account.cause] for name, account in CAUSES.items()}
        made.append(ledger | {"useful": useful, "padding": counts[Cause.WORK] - useful})
    return made


def _take(counts: Counter[Cause], cycles: int) -> None:
    """Take cycles in which the array worked. The record that tells their number is written some cycles after its mark."""
    for cause in (Cause.WORK, *Cause):
        taken = min(counts[cause], cycles)
        counts[cause] -= taken
        cycles -= taken


def total(ledgers: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Sum of ledgers by name; empty if any is."""
    if not all(ledgers):
        return {}
    return {name: sum(ledger[name] for ledger in ledgers) for name in CAUSES}


def losses(ledger: Mapping[str, int], most: int = 3) -> list[str]:
    """Names of the entries but ``useful`` that cost most cycles, the largest first."""
    lost = [name for name in ledger if name != "useful" and ledger[name]]
    return sorted(lost, key=lambda name: -ledger[name])[:most]
