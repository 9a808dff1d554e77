"""MOVEs: what STOREs would write and LOADs would read again, from one scratchpad to the other without memory.

Both are taken apart into bytes. A byte of a tensor has one place in the output scratchpad once a POST has made it, and
one in each tile that a LOAD would bring it to. Pairs of places become blocks of nested rows again.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..hdl.shell.commands import ADDRESS_BITS
from .steps import Moves, Output, Piece, Tile

__all__ = ["copied", "move_bodies", "moves_between", "nested_rows", "spans"]

_ADDRESSES = 1 << ADDRESS_BITS


#: Steps of the places of rows, by the field that has that of the first.
_STEPS = {"dram": ("dram_step1", "dram_step2"), "address": ("step1", "step2"),
          "target": ("target_step1", "target_step2")}


def copied(body: Mapping[str, int], base: str) -> np.ndarray:
    """Bytes that a LOAD, a STORE or a MOVE copies, (bytes,); `base` is ``dram``, ``address`` or ``target``."""
    inner, outer = _STEPS[base]
    found: np.ndarray = (
        body.get(base, 0) + np.arange(body["count2"])[:, None, None] * body.get(outer, 0)
        + np.arange(body["count1"])[:, None] * body.get(inner, 0) + np.arange(body["length"])).reshape(-1)
    return found if base == "dram" else found % _ADDRESSES


def spans(bodies: Iterable[Mapping[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of memory, and of a scratchpad, between which LOADs or STOREs copy: two arrays (bytes,)."""
    found = [(copied(body, "dram"), copied(body, "address")) for body in bodies]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    far, near = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return far, near


def _nested(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Join rows that are alike and go on in equal steps.

    Rows are (source, target, *shape), what is found is (source, target, *shape, count, source step, target step).
    """
    found: list[tuple[int, ...]] = []
    at = 0
    while at < len(rows):
        source, target, *shape = rows[at]
        count, steps = 1, (0, 0)
        while at + count < len(rows) and list(rows[at + count][2:]) == shape:
            last, following = rows[at + count - 1], rows[at + count]
            step = following[0] - last[0], following[1] - last[1]
            if count > 1 and step != steps:
                break
            count, steps = count + 1, step
        # Two that happen to stand next to each other may be the end of one block and the beginning of the next.
        if count == 2 and at + 2 < len(rows) and list(rows[at + 2][2:]) == shape:
            count, steps = 1, (0, 0)
        found.append((source, target, *shape, count, *steps))
        at += count
    return found


def nested_rows(source: np.ndarray, target: np.ndarray, item: int = 1) -> list[tuple[int, ...]]:
    """Nested rows that elements of `item` bytes make, copied from places to places, in the order of the latter.

    Parameters
    ----------
    source, target : ndarray of int
        First byte of each element.
    item : int
        Bytes of an element.

    Returns
    -------
    list of tuple
        Source, target and length of the first row; count, source step and target step of rows, and of blocks of them.
    """
    order = np.argsort(target, kind="stable")
    source, target = source[order], target[order]
    ends = np.flatnonzero((np.diff(source) != item) | (np.diff(target) != item)) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(np.concatenate([starts, [len(source)]])) * item
    rows = [tuple(map(int, row)) for row in zip(source[starts], target[starts], lengths, strict=True)]
    return _nested(_nested(rows))


def move_bodies(source: np.ndarray, target: np.ndarray) -> list[dict[str, int]]:
    """Bodies of MOVEs of bytes, from places `source` to places `target`, both (bytes,): as few as soon found."""
    return [{"address": near, "target": far, "length": length, "count1": count1, "step1": step1 % _ADDRESSES,
             "target_step1": far1 % _ADDRESSES, "count2": count2, "step2": step2 % _ADDRESSES,
             "target_step2": far2 % _ADDRESSES}
            for near, far, length, count1, step1, far1, count2, step2, far2 in nested_rows(source, target)]


def moves_between(outputs: Sequence[Output],
                  tiles: Sequence[tuple[Tile, Sequence[Piece]]]) -> list[tuple[Output, Moves]]:
    """MOVEs in the place of STOREs of one tensor by `outputs`, and of LOADs of it in pieces of tiles.

    Raises
    ------
    AssertionError
        If bytes that a LOAD brings would be moved by no output, or by two.
    """
    wanted: list[tuple[Tile, Piece, np.ndarray, np.ndarray]] = []
    for tile, pieces in tiles:
        for piece in pieces:
            far, near = spans(body for body in piece.loads if not body.get("fill"))
            wanted.append((tile, piece, far, near))
    found: list[tuple[Output, Moves]] = []
    times = [np.zeros(asked.size, np.int8) for _, _, asked, _ in wanted]
    for output in outputs:
        if not output.stores:
            continue
        far, near = spans(output.stores)
        low, high = int(far.min()), int(far.max()) + 1
        place = np.full(high - low, -1)
        place[far - low] = near
        for number, (tile, piece, asked, at) in enumerate(wanted):
            inside = np.flatnonzero((asked >= low) & (asked < high))
            inside = inside[place[asked[inside] - low] >= 0]
            if inside.size:
                times[number][inside] += 1
                found.append((output, Moves(tile, piece, move_bodies(place[asked[inside] - low], at[inside]))))
    for (tile, *_), each in zip(wanted, times, strict=True):
        if (each != 1).any():
            raise AssertionError(f"{(each != 1).sum()} of {each.size} bytes of a piece of a resident tile of "
                                 f"{tile.size} bytes are not moved into it once")
    return found
