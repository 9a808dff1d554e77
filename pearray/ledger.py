"""Ledgers of runs and layers: each cycle on one entry, from what the hardware charged it to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .compiler.compiled import Compiled
from .compiler.kinds import compiler_for
from .configuration import System, load_config
from .hdl.errors import PearrayError
from .hdl.shell.ledger import CAUSES, Account, Cause

__all__ = ["advise", "charge", "computed", "losses", "predicted", "total"]

#: Commands of the longest programs whose cycles are estimated for advice, which takes about as long as compiling them.
ESTIMATED = 20_000


def charge(intervals: Sequence[Mapping[Cause, int]], macs: Sequence[int], lent: Sequence[int],
           pes: int) -> list[dict[str, int]]:
    """Make the ledger of each layer.

    Cycles in which the array works are useful as far as the layer's multiply-accumulates would take them on all PEs;
    what is left of a cycle goes to the next layer. The rest are padding. Products for which the array did not work long
    enough behind the record of the layer before had begun under that layer, and are useful cycles there.

    Parameters
    ----------
    intervals : sequence of mapping
        Cycles by cause between the records of layers; those behind the last layer's record are its own.
    macs : sequence of int
        Multiply-accumulates of each layer that were computed; see :func:`computed`.
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
    for layer in reversed(made):
        early = min(layer["padding"], due // pes)
        layer["useful"], layer["padding"] = layer["useful"] + early, layer["padding"] - early
        due -= early * pes
    return made


def computed(compiled: Compiled, macs: Sequence[int]) -> list[int]:
    """Multiply-accumulates of layers without those that the array leaves out, since they are of nothing but padding."""
    kind, found = compiler_for(compiled.config), []
    for layer, count in zip(compiled.layers, macs, strict=True):
        most = kind.products(compiled.config, layer.work)
        found.append(count if most is None else min(count, most))
    return found


def _take(counts: Counter[Cause], cycles: int) -> None:
    """Take cycles in which the array worked. The record that tells their number is written a few after its mark."""
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


def predicted(compiled: Compiled) -> dict[str, int]:
    """Ledger of a whole run as the model of time predicts it: the hardware's own where the model is exact.

    Empty if the kind of array has no such model, or the program is too long for it to be quick.
    """
    if sum(compiled.program.counts.values()) > ESTIMATED:
        return {}
    counts = compiler_for(compiled.config).charges(compiled.config, compiled.program, compiled.memory)
    macs = sum(computed(compiled, [layer.macs for layer in compiled.layers]))
    return charge([counts], [macs], [0], compiled.config.pes)[0] if counts else {}


def advise(ledger: Mapping[str, int], utilisation: float, compiled: Compiled, most: int = 3) -> list[dict[str, Any]]:
    """Say what the largest losses of a run are, what would remove each, and what that would be worth.

    Parameters
    ----------
    ledger : mapping of str to int
        The run's.
    utilisation : float
        The run's.
    compiled : Compiled
        What ran.
    most : int
        Losses to name.

    Returns
    -------
    list of dict
        ``cause``, ``cycles``, ``meaning`` and ``remedy`` of each loss, the largest first. Where a key of the
        configuration would remove it, and the kind of array has a price for programs, also ``key``, ``now``, ``then``
        and ``utilisation``: the key's value, another, and the utilisation that this program is estimated to have then.
    """
    advice = []
    for name in losses(ledger, most):
        account = CAUSES[name]
        loss = {"cause": name, "cycles": ledger[name], "meaning": account.meaning, "remedy": account.remedy}
        advice.append(loss | _worth(account, utilisation, compiled))
    return advice


def _worth(account: Account, utilisation: float, compiled: Compiled) -> dict[str, Any]:
    """Estimate what another value of an account's key would be worth; empty if that is not known, or is nothing."""
    if not account.key or sum(compiled.program.counts.values()) > ESTIMATED:
        return {}
    system = System(compiled.config, compiled.memory)
    section, _, name = account.key.partition(".")
    parts = (system.memory, getattr(system.hardware, section, None))
    now = next(getattr(part, name) for part in parts if hasattr(part, name))
    then = min(now * float(account.factor), 1.0) if isinstance(now, float) else max(1, int(now * account.factor))
    try:
        changed = load_config(system, {account.key: then})
    except PearrayError:
        return {}
    price = compiler_for(compiled.config).cycles
    before, after = (price(each.hardware, compiled.program, each.memory) for each in (system, changed))
    if before is None or after is None or after >= before:
        return {}
    return {"key": account.key, "now": now, "then": then, "utilisation": round(utilisation * before / after, 6)}
