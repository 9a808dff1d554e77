"""Bodies of LOADs and STOREs: blocks of nested rows between memory and a scratchpad, and rows that are filled."""

from collections.abc import Iterator

__all__ = ["block", "blocks", "fill", "inside"]


def block(*, dram: int = 0, address: int = 0, length: int, dims: list[tuple[int, int, int]]) -> dict[str, int]:
    """Body of a LOAD or STORE of nested rows, merged where rows adjoin.

    Parameters
    ----------
    dram, address : int
        Of the first row.
    length : int
        Bytes of a row.
    dims : list of (count, step in memory, step in the scratchpad)
        Innermost first; at most two may remain after merging.
    """
    left = [(count, far, near) for count, far, near in dims if count > 1]
    while left and left[0][1] == left[0][2] == length:
        length *= left.pop(0)[0]
    if len(left) == 2 and left[1][1] == left[0][1] * left[0][0] and left[1][2] == left[0][2] * left[0][0]:
        left = [(left[0][0] * left[1][0], left[0][1], left[0][2])]
    assert len(left) <= 2
    left += [(1, 0, 0)] * (2 - len(left))
    (count1, far1, near1), (count2, far2, near2) = left
    return {"dram": dram, "address": address, "length": length, "count1": count1, "dram_step1": far1,
            "step1": near1, "count2": count2, "dram_step2": far2, "step2": near2}


def fill(value: int, item: int, *, address: int, length: int, dims: list[tuple[int, int]]) -> list[dict[str, int]]:
    """Bodies of LOADs that fill rows of `length` operands with one operand, addresses and steps in bytes."""
    parts = [(value >> 8 * byte) & 255 for byte in range(item)]
    if len(set(parts)) == 1:
        nested = [(count, step, step) for count, step in dims]
        body = block(address=address, length=length * item, dims=nested)
        return [body | {"fill": 1, "value": parts[0], "dram_step1": 0, "dram_step2": 0}]
    bodies = []
    # One byte at a time: rows of the outer dimensions are walked here, they are few.
    for outer in _offsets(dims[1:]):
        for byte, part in enumerate(parts):
            count, step = dims[0] if dims else (1, 0)
            bodies.append({"fill": 1, "value": part, "address": address + outer + byte, "length": 1,
                           "count1": length, "step1": item, "count2": count, "step2": step})
    return bodies


def _offsets(dims: list[tuple[int, int]]) -> Iterator[int]:
    if not dims:
        yield 0
        return
    count, step = dims[-1]
    for index in range(count):
        for inner in _offsets(dims[:-1]):
            yield index * step + inner


def inside(first: int, step: int, limit: int, lines: tuple[int, int]) -> tuple[int, int]:
    """Lines of a range that lie inside the image: both ends, empty at the range's end if none does."""
    low = min(max(-(first // step), lines[0]), lines[1])
    high = max(min(-((first - limit) // step), lines[1]), low)
    return low, high


def blocks(dram: int, address: int, length: int, dims: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    """Bodies of LOADs or STOREs of up to three dimensions: a third takes a command for each of its indices."""
    left = [dim for dim in dims if dim[0] > 1]
    while left and left[0][1] == left[0][2] == length:
        length *= left.pop(0)[0]
    if len(left) == 3 and left[1][1:] == (left[0][1] * left[0][0], left[0][2] * left[0][0]):
        left = [(left[0][0] * left[1][0], *left[0][1:]), left[2]]
    if len(left) <= 2:
        return [block(dram=dram, address=address, length=length, dims=left)]
    count, far, near = left[-1]
    return [block(dram=dram + index * far, address=address + index * near, length=length, dims=left[:2])
            for index in range(count)]
