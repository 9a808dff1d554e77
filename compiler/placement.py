"""Where everything stands in memory: program, packed constants, tensors, profile records."""

from collections.abc import Callable

from ..hdl.errors import PearrayError

__all__ = ["MemoryPlan"]

#: Tensors start at multiples of this, so that no burst of a tensor's start is cut short.
ALIGNMENT = 64
_MEMORY = 1 << 32


class MemoryPlan:
    """Allocation of memory, from address zero upwards, and the bytes of constants.

    Parameters
    ----------
    keep : bool
        Pack constants; otherwise only addresses are given out.
    """

    def __init__(self, keep: bool = True) -> None:
        self._next = 0
        self._keep = keep
        self._keyed: dict[object, int] = {}
        self.segments: list[tuple[int, bytes]] = []
        self.packed_bytes = 0

    @property
    def end(self) -> int:
        """First address beyond everything so far."""
        return self._next

    def reserve(self, name: str, length: int, alignment: int = ALIGNMENT) -> int:
        """Address of `length` fresh bytes.

        Raises
        ------
        PearrayError
            If 32-bit addresses do not reach.
        """
        address = -(-self._next // alignment) * alignment
        if address + length > _MEMORY:
            raise PearrayError(f"{name} needs {length} bytes beyond the {_MEMORY} that addresses reach")
        self._next = address + max(length, 1)
        return address

    def constant(self, name: str, length: int, make: Callable[[], bytes], key: object = None) -> int:
        """Address of packed constant bytes, which count as packed by the host.

        Parameters
        ----------
        name : str
            Layer, for messages.
        length : int
            Bytes.
        make : callable
            Packs them. A plan that only weighs a tiling does not call it.
        key : object, optional
            Constants of the same key are packed once.
        """
        if key is not None and key in self._keyed:
            return self._keyed[key]
        address = self.reserve(name, length)
        if self._keep:
            self.segments.append((address, make()))
        self.packed_bytes += length
        if key is not None:
            self._keyed[key] = address
        return address
