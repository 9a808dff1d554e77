"""AXI4 and AXI4-Lite interfaces, in the flat names that bus models and vendors' tools expect."""

from amaranth.lib import enum
from amaranth.lib.wiring import In, Member, Out, Signature

from ..errors import PearrayError

__all__ = ["AXI4", "BOUNDARY", "AXI4Lite", "AXI4Read", "AXI4Write", "Response"]

#: Bytes of the aligned block that no burst may leave.
BOUNDARY = 4096


class Response(enum.Enum, shape=2):
    """Response to a read beat or to a write burst."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _check_width(data_width: int) -> None:
    if data_width not in (32, 64, 128, 256, 512):
        raise PearrayError(f"AXI4 data_width must be a power of two in 32..512, not {data_width!r}")


def _address_members(channel: str) -> dict[str, Member]:
    return {
        f"{channel}id": Out(1),
        f"{channel}addr": Out(32),
        f"{channel}len": Out(8),
        f"{channel}size": Out(3),
        f"{channel}burst": Out(2),
        f"{channel}prot": Out(3),
        f"{channel}cache": Out(4),
        f"{channel}valid": Out(1),
        f"{channel}ready": In(1),
    }


class AXI4Write(Signature):
    """Write channels of :class:`AXI4`.

    Parameters
    ----------
    data_width : int
        Bits of a beat, a power of two in 32..512.
    """

    def __init__(self, data_width: int):
        _check_width(data_width)
        super().__init__(_address_members("aw") | {
            "wdata": Out(data_width),
            "wstrb": Out(data_width // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(Response),
            "bvalid": In(1),
            "bready": Out(1),
        })


class AXI4Read(Signature):
    """Read channels of :class:`AXI4`.

    Parameters
    ----------
    data_width : int
        Bits of a beat, a power of two in 32..512.
    """

    def __init__(self, data_width: int):
        _check_width(data_width)
        super().__init__(_address_members("ar") | {
            "rid": In(1),
            "rdata": In(data_width),
            "rresp": In(Response),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        })


class AXI4(Signature):
    """AXI4 with 32-bit addresses and a one-bit identifier, as its master sees it.

    Parameters
    ----------
    data_width : int
        Bits of a beat, a power of two in 32..512.

    Raises
    ------
    PearrayError
        If the width is not allowed.
    """

    def __init__(self, data_width: int):
        _check_width(data_width)
        self._data_width = data_width
        super().__init__({**AXI4Write(data_width).members, **AXI4Read(data_width).members})

    @property
    def data_width(self) -> int:
        """Bits of a beat."""
        return self._data_width


class AXI4Lite(Signature):
    """AXI4-Lite with 32-bit data, as its master sees it.

    Parameters
    ----------
    address_width : int
        Bits of an address.
    """

    def __init__(self, address_width: int = 12):
        super().__init__({
            "awaddr": Out(address_width),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(Response),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_width),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(Response),
            "rvalid": In(1),
            "rready": Out(1),
        })
