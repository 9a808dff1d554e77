"""LOADs of what a mask of attention adds to a block of scores, packed if it is known and from memory if it is not."""

import numpy as np

from .kernels.masks import Mask
from .kernels.views import Buffer
from .placement import MemoryPlan
from .transfers import block

__all__ = ["MASK_BYTES", "mask_rows"]

#: Bytes of what is added to a score.
MASK_BYTES = 4


def mask_rows(mask: Mask, plan: MemoryPlan, name: str, rows: tuple[int, int], keys: tuple[int, int], pitch: int,
              address: int) -> list[dict[str, int]]:
    """Bodies of LOADs of some rows and keys of a mask, rows `pitch` integers apart in the memory of biases.

    Parameters
    ----------
    mask : Mask
        The mask.
    plan : MemoryPlan
        Where constants of the layer `name` go.
    rows, keys : (int, int)
        First query, counted over all heads, and how many there are; first key, and that behind the last.
    pitch, address : int
        Integers of a row in the memory of biases, and the first byte there.
    """
    (first, count), (start, end) = rows, keys
    if isinstance(mask.values, Buffer):
        bodies = []
        for size, element, step in mask.runs(first, count):
            bodies.append(block(
                dram=mask.values.address + (element + start) * MASK_BYTES, address=address,
                length=(end - start) * MASK_BYTES, dims=[(size, step * MASK_BYTES, pitch * MASK_BYTES)]))
            address += size * pitch * MASK_BYTES
        return bodies
    packed = 1 if mask.is_level(first, count) else count
    known = mask.known(first + np.arange(packed), start, end)
    assert known is not None
    padded = np.zeros((packed, pitch), np.int32)
    padded[:, :end - start] = known
    data = padded.tobytes()
    place = plan.constant(name, len(data), lambda: data, key=("mask", data))
    row = pitch * MASK_BYTES
    return [block(dram=place, address=address, length=row, dims=[(count, row if packed > 1 else 0, row)])]
