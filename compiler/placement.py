"""Where everything stands in memory, and for how long: tensors, packed constants, profile records, the program."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..hdl.errors import PearrayError
from .kernels.views import Buffer

__all__ = ["MemoryPlan", "Reserved"]

#: Tensors start at multiples of this, so that no burst of a tensor's start is cut short: where bursts are cut on a port
#: of 256 bits. A layer then takes as long as it does alone.
ALIGNMENT = 512
_MEMORY = 1 << 32


@dataclass(order=True)
class Reserved:
    """Bytes of memory: from which node on they are in use, and up to which, None for ever."""

    address: int
    length: int
    name: str = field(compare=False)
    born: int = field(compare=False, default=0)
    dies: int | None = field(compare=False, default=None)
    buffer: Buffer | None = field(compare=False, default=None)

    def __str__(self) -> str:
        until = "" if self.dies is None else self.dies
        return f"{self.address:#010x} {self.length:>12,} {self.born:>5}..{until:<5} {self.name}"


def _aligned(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT


class MemoryPlan:
    """Allocation of memory, from address zero upwards, and the bytes of constants.

    Nodes are placed in order. Bytes of a tensor that nobody reads any more are given out again. No command has to wait
    for that: a STORE waits for the EXECUTE of its sums, before which all EXECUTEs of nodes before have completed, and
    these have waited for all that they read. Nor does it cost a cycle: everything stands in a grain of memory where it
    would stand if nothing were given out twice, so that its rows are cut into the same bursts.

    Parameters
    ----------
    keep : bool
        Pack constants; otherwise only addresses are given out.
    grain : int
        Bytes between two places where bursts are cut.

    Members
    -------
    end : int
        First address beyond everything so far.
    node : int
        Number of the node whose tensors are being placed.
    reserved : list of Reserved
        Everything that has a place.
    """

    def __init__(self, keep: bool = True, grain: int = ALIGNMENT) -> None:
        self.end = 0
        #: What `end` would be if nothing were given out twice.
        self._unshared = 0
        self._keep, self._grain = keep, max(grain, ALIGNMENT)
        self._keyed: dict[object, int] = {}
        self._unkeyed: dict[str, list[int]] = {}
        self._free: list[tuple[int, int]] = []
        self._living: list[Reserved] = []
        self.node = 0
        self.reserved: list[Reserved] = []
        self.segments: list[tuple[int, bytes]] = []
        self.packed_bytes = 0

    def begin(self, node: int, is_overtaken: bool = False) -> None:
        """Go on to a node: what none from it on reads may be overwritten.

        What the node before reads is not given out yet if this one may store before that has read all.
        """
        self.node = node
        for item in [item for item in self._living if item.dies is not None and item.dies < node - is_overtaken]:
            self._living.remove(item)
            self._give_back(item.address, item.address + _aligned(max(item.length, 1)))

    def _give_back(self, first: int, end: int) -> None:
        """Make bytes free, in one piece with those beside them."""
        for region in [region for region in self._free if region[0] == end or region[1] == first]:
            self._free.remove(region)
            first, end = min(first, region[0]), max(end, region[1])
        if first < end:
            self._free.append((first, end))

    def place(self, buffer: Buffer, dies: int | None = None) -> None:
        """Give a tensor its place: until node `dies` has read it, or for ever."""
        buffer.address = self._address(buffer.name, buffer.nbytes, buffer.is_made)
        item = Reserved(buffer.address, buffer.nbytes, buffer.name, self.node, dies, buffer)
        self.reserved.append(item)
        if dies is not None:
            self._living.append(item)

    def reserve(self, name: str, length: int) -> int:
        """Address of `length` fresh bytes."""
        address = self._address(name, length, False)
        self.reserved.append(Reserved(address, length, name, self.node))
        return address

    def _address(self, name: str, length: int, shared: bool) -> int:
        """Address of bytes that may have been given out before, or are fresh."""
        unshared, size = _aligned(self._unshared), _aligned(max(length, 1))
        self._unshared = unshared + max(length, 1)
        fitting = []
        for first, end in self._free if shared else ():
            address = first + (unshared - first) % self._grain
            if address + size <= end:
                fitting.append((end - first, address, first, end))
        if fitting:
            _, address, first, end = min(fitting)
            self._free.remove((first, end))
            self._give_back(address + size, end)
            self._give_back(first, address)
            return address
        start = _aligned(self.end)
        address = start + (unshared - start) % self._grain
        if address + length > _MEMORY:
            raise PearrayError(f"{name} needs {length} bytes beyond the {_MEMORY} that addresses reach")
        self._give_back(start, address)
        self.end = address + max(length, 1)
        return address

    def constant(self, name: str, length: int, make: Callable[[], bytes], key: object = None) -> int:
        """Address of packed constant bytes of a layer, which count as packed by the host.

        `make` packs them; a plan that only weighs a tiling does not call it. Constants of the same key are packed once.
        """
        if key is not None and key in self._keyed:
            return self._keyed[key]
        address = self.reserve(name, length)
        if self._keep:
            self.segments.append((address, make()))
        self.packed_bytes += length
        if key is not None:
            self._keyed[key] = address
        else:
            self._unkeyed.setdefault(name, []).append(address)
        return address

    def unpack(self, name: str) -> None:
        """Drop the constants of a layer that have no key: it is about to be lowered again."""
        addresses = set(self._unkeyed.pop(name, ()))
        dropped = [item for item in self.reserved if item.address in addresses and item.name == name]
        self.packed_bytes -= sum(item.length for item in dropped)
        self.reserved = [item for item in self.reserved if item not in dropped]
        self.segments = [segment for segment in self.segments if segment[0] not in addresses]

    def verify(self, uses: Iterable[tuple[int, Buffer]] = ()) -> None:
        """Assert that nothing overlaps what is in use at the same time, and that all is used only while it stands.

        `uses` are numbers of nodes, and tensors that they read or write.
        """
        standing = {id(item.buffer): item for item in self.reserved if item.buffer is not None}
        for node, buffer in uses:
            item = standing[id(buffer)]
            if node < item.born or (item.dies is not None and node > item.dies):
                raise AssertionError(f"{item.name} is used by node {node}, but stands only as {item}")
        near: list[Reserved] = []
        for item in sorted(self.reserved):
            near = [other for other in near if other.address + other.length > item.address]
            for other in near:
                first, second = sorted((item, other), key=lambda each: each.born)
                if item.length and (first.dies is None or first.dies >= second.born):
                    raise AssertionError(f"{item.name} and {other.name} overlap at {item.address:#x} while both are "
                                         "in use")
            near.append(item)

    def __str__(self) -> str:
        return "\n".join(map(str, sorted(self.reserved)))
