"""AXI4 memory and AXI4-Lite host for Amaranth's simulator, with a checker of the protocol's rules."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import Value

__all__ = ["MemoryModel", "lite_read", "lite_write"]

OKAY, SLVERR, DECERR = 0, 2, 3


@dataclass
class _Burst:
    address: int
    beats: int
    ready_at: int
    moved: int = 0


@dataclass
class MemoryModel:
    """AXI4 memory: bursts in order, each way at most one beat a cycle.

    Parameters
    ----------
    bus : interface
        An ``AXI4``, ``AXI4Read`` or ``AXI4Write`` interface as its master sees it.
    size : int
        Bytes of memory, from address 0. Addresses beyond it answer with DECERR.
    read_latency, write_latency : int
        Cycles from an address to its first beat, and from the last beat to its response.
    outstanding : int
        Bursts in flight each way.
    write_pace : int
        Cycles from one beat of data that is taken to the next one, at the least.
    stall : float
        Probability that a channel pauses in a cycle.
    rng : numpy.random.Generator
        Source of the pauses.
    read_errors, write_errors : mapping
        Response by address of a beat (read) or of a burst (write).
    hung : bool
        Answer nothing more; may be changed in the run.

    Members
    -------
    data : numpy.ndarray
        ``uint8``, the bytes of the memory.
    reads, writes : list of (int, int)
        Address and beats of each burst, in order.
    read_beats, write_beats : int
        Beats transferred.
    reads_in_flight, writes_in_flight : list of (int, int)
        Address and beats of each burst whose last beat, or response, has not been taken.
    """

    bus: Any
    size: int = 1 << 16
    read_latency: int = 8
    write_latency: int = 8
    outstanding: int = 8
    write_pace: int = 1
    stall: float = 0.0
    rng: np.random.Generator | None = None
    read_errors: dict[int, int] = field(default_factory=dict)
    write_errors: dict[int, int] = field(default_factory=dict)
    hung: bool = False

    def __post_init__(self) -> None:
        self.data = np.zeros(self.size, np.uint8)
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.read_beats = 0
        self.write_beats = 0
        self.cycle = 0
        self._reading: deque[_Burst] = deque()
        self._writing: deque[_Burst] = deque()

    @property
    def reads_in_flight(self) -> list[tuple[int, int]]:
        """Bursts whose last beat has not been taken."""
        return [(burst.address, burst.beats) for burst in self._reading]

    @property
    def writes_in_flight(self) -> list[tuple[int, int]]:
        """Bursts whose response has not been taken."""
        return [(burst.address, burst.beats) for burst in self._writing]

    def _pause(self) -> bool:
        return self.hung or bool(self.stall and self.rng is not None and self.rng.random() < self.stall)

    def _burst(self, channel: str, address: int, beats: int, size: int, kind: int) -> _Burst:
        width = 1 << size
        assert kind == 1, f"{channel} burst type is {kind}, not INCR"
        assert address % width == 0, f"{channel} address {address:#x} is not aligned to a beat"
        last = address + beats * width - 1
        assert address // 4096 == last // 4096, f"{channel} burst {address:#x}..{last:#x} crosses 4 KB"
        return _Burst(address, beats, self.cycle)

    @property
    def testbenches(self) -> list[Callable]:
        """Background testbenches, one for each direction that the bus has."""
        benches: list[Callable] = []
        if hasattr(self.bus, "arvalid"):
            benches.append(self._read)
        if hasattr(self.bus, "awvalid"):
            benches.append(self._write)
        return benches

    async def _read(self, ctx):
        bus = self.bus
        width = len(bus.rdata) // 8
        queue = self._reading
        offered = False
        held = None
        ar_ready = False
        sample = ctx.tick().sample(bus.arvalid, bus.araddr, bus.arlen, bus.arsize, bus.arburst, bus.rready)
        async for _, reset, valid, address, length, size, kind, r_ready in sample:
            self.cycle += 1
            if reset:
                queue.clear()
                offered, held, ar_ready = False, None, False
                ctx.set(bus.arready, 0)
                ctx.set(bus.rvalid, 0)
                continue
            now = (address, length) if valid else None
            assert held is None or now == held, f"AR was not held: {held} became {now}"
            held = None if ar_ready else now
            if valid and ar_ready:
                assert size == width.bit_length() - 1, f"AR size is {size}"
                burst = self._burst("AR", address, length + 1, size, kind)
                # The address was taken in the cycle before this edge.
                burst.ready_at += self.read_latency - 1
                queue.append(burst)
                self.reads.append((address, length + 1))
            if offered and r_ready:
                offered = False
                self.read_beats += 1
                queue[0].moved += 1
                if queue[0].moved == queue[0].beats:
                    queue.popleft()
            if not offered and queue and self.cycle >= queue[0].ready_at and not self._pause():
                burst = queue[0]
                at = burst.address + burst.moved * width
                response = DECERR if at + width > self.size else self.read_errors.get(at, OKAY)
                value = int.from_bytes(self.data[at:at + width].tobytes(), "little")
                ctx.set(bus.rdata, value)
                ctx.set(Value.cast(bus.rresp), response)
                ctx.set(bus.rlast, burst.moved + 1 == burst.beats)
                offered = True
            ctx.set(bus.rvalid, offered)
            ar_ready = len(queue) < self.outstanding and not self._pause()
            ctx.set(bus.arready, ar_ready)

    async def _write(self, ctx):
        bus = self.bus
        width = len(bus.wdata) // 8
        queue = self._writing
        beats: deque[tuple[int, int, int]] = deque()
        offered = False
        held = held_beat = None
        aw_ready = w_ready = False
        paced = 0
        sample = ctx.tick().sample(bus.awvalid, bus.awaddr, bus.awlen, bus.awsize, bus.awburst,
                                   bus.wvalid, bus.wdata, bus.wstrb, bus.wlast, bus.bready)
        cycle = 0
        async for (_, reset, valid, address, length, size, kind,
                   w_valid, data, strobe, last, b_ready) in sample:
            cycle += 1
            if reset:
                queue.clear()
                beats.clear()
                offered, held, held_beat, aw_ready, w_ready = False, None, None, False, False
                ctx.set(bus.awready, 0)
                ctx.set(bus.wready, 0)
                ctx.set(bus.bvalid, 0)
                continue
            now = (address, length) if valid else None
            assert held is None or now == held, f"AW was not held: {held} became {now}"
            held = None if aw_ready else now
            beat = (data, strobe, last) if w_valid else None
            assert held_beat is None or beat == held_beat, f"W was not held: {held_beat} became {beat}"
            held_beat = None if w_ready else beat
            if valid and aw_ready:
                queue.append(self._burst("AW", address, length + 1, size, kind))
                self.writes.append((address, length + 1))
            if w_valid and w_ready:
                beats.append((data, strobe, last))
                self.write_beats += 1
                paced = cycle + self.write_pace - 1
            if offered and b_ready:
                offered = False
                queue.popleft()
            self._accept(queue, beats, width, cycle)
            front = queue[0] if queue else None
            if (not offered and front and front.moved == front.beats and cycle >= front.ready_at
                    and not self._pause()):
                end = front.address + front.beats * width
                response = DECERR if end > self.size else self.write_errors.get(front.address, OKAY)
                ctx.set(Value.cast(bus.bresp), response)
                offered = True
            ctx.set(bus.bvalid, offered)
            aw_ready = len(queue) < self.outstanding and not self._pause()
            w_ready = len(beats) < 16 and cycle >= paced and not self._pause()
            ctx.set(bus.awready, aw_ready)
            ctx.set(bus.wready, w_ready)

    def _accept(self, queue: Iterable[_Burst], beats: deque[tuple[int, int, int]], width: int,
                cycle: int) -> None:
        """Give the beats that have come to the bursts that have come."""
        for burst in queue:
            while burst.moved < burst.beats and beats:
                data, strobe, last = beats.popleft()
                at = burst.address + burst.moved * width
                burst.moved += 1
                assert last == (burst.moved == burst.beats), f"wlast is {last} in {burst}"
                # One cycle has passed since the beat was taken.
                burst.ready_at = cycle + self.write_latency - 1
                for lane in range(width):
                    if strobe >> lane & 1 and at + lane < self.size:
                        self.data[at + lane] = data >> 8 * lane & 0xFF


async def lite_write(ctx, bus, address: int, value: int) -> None:
    """Write a register through an ``AXI4Lite`` interface."""
    ctx.set(bus.awaddr, address)
    ctx.set(bus.wdata, value)
    ctx.set(bus.wstrb, 0xF)
    ctx.set(bus.awvalid, 1)
    ctx.set(bus.wvalid, 1)
    ctx.set(bus.bready, 1)
    address_due = data_due = True
    responded = False
    while address_due or data_due or not responded:
        _, _, aw, w, b = await ctx.tick().sample(bus.awready, bus.wready, bus.bvalid)
        if aw and address_due:
            address_due = False
            ctx.set(bus.awvalid, 0)
        if w and data_due:
            data_due = False
            ctx.set(bus.wvalid, 0)
        responded |= bool(b)
    ctx.set(bus.bready, 0)


async def lite_read(ctx, bus, address: int) -> int:
    """Read a register through an ``AXI4Lite`` interface."""
    ctx.set(bus.araddr, address)
    ctx.set(bus.arvalid, 1)
    await ctx.tick().until(bus.arready)
    ctx.set(bus.arvalid, 0)
    ctx.set(bus.rready, 1)
    value, = await ctx.tick().sample(bus.rdata).until(bus.rvalid)
    ctx.set(bus.rready, 0)
    return value
