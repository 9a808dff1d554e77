"""Rules that hold in every cycle, as assertions that run in simulation.

A component states a rule by one of the functions below. In Amaranth's simulator a broken rule raises
``AssertionError``. In emitted Verilog each rule is a module with inputs only, which
:mod:`pearray.sim.verilog` takes out of the design's text and gives to the engines as a second text,
to be bound beside it; so the design that is simulated is the one that is synthesised, to the byte.

A rule reads signals of the module that states it, and says what is wrong in words: the name that it was
given comes first.
"""

from amaranth.hdl import Assert, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .axi import BOUNDARY

__all__ = ["PREFIX", "RESTS", "apart", "held", "in_bounds", "never", "outstanding", "places_apart", "places_kept",
           "queue", "rests", "write_bursts"]

#: Submodules of this prefix are rules.
PREFIX = "rules_"

#: The one that says when a module rests.
RESTS = PREFIX + "rests"


class _Rule(Elaboratable):
    """A rule: ``build`` fills a module of its own, which only reads."""

    def __init__(self, build):
        self._build = build

    def elaborate(self, platform):
        """Build the rule's own state and its assertions."""
        m = Module()
        self._build(m)
        return m


def _state(m, name, build):
    m.submodules[PREFIX + name] = _Rule(build)


def never(m, name, condition, message):
    """State that a condition is false in every cycle.

    Parameters
    ----------
    m : Module
        Module that states the rule.
    name : str
        What the rule is about, also the end of the submodule's name.
    condition : value-like
        What must not happen.
    message : str
        What it means if it does.
    """
    def build(rules):
        # A register, so that nothing counts in the cycle in which the module is reset.
        broken = Signal()
        rules.d.sync += [broken.eq(Value.cast(condition).any()), Assert(~broken, f"{name}: {message}")]

    _state(m, name, build)


def apart(m, name, before, after, cycles, message):
    """State that ``after`` is low with ``before``, and for fewer than ``cycles`` cycles behind it.

    Parameters are as for :func:`never`; ``message`` says what it means if that does not hold.
    """
    def build(rules):
        left = Signal(range(cycles + 1))
        with rules.If(before):
            rules.d.sync += left.eq(cycles - 1)
        with rules.Elif(left != 0):
            rules.d.sync += left.eq(left - 1)
        rules.d.sync += Assert(~(Value.cast(after).any() & (Value.cast(before).any() | (left != 0))),
                               f"{name}: {message}")

    _state(m, name, build)


def places_apart(m, name, before, before_place, after, after_place, cycles, message):
    """State that ``after`` is low with ``before``, and fewer than ``cycles`` cycles behind it, at the same place.

    ``before_place`` and ``after_place`` tell the places, as numbers; others are as for :func:`apart`.
    """
    def build(rules):
        met = Value.cast(before).any() & (before_place == after_place)
        valid, place = before, before_place
        for cycle in range(1, cycles):
            valid_then = Signal(name=f"valid_{cycle}")
            place_then = Signal(len(before_place), name=f"place_{cycle}")
            rules.d.sync += [valid_then.eq(valid), place_then.eq(place)]
            valid, place = valid_then, place_then
            met = met | valid & (place == after_place)
        rules.d.sync += Assert(~(Value.cast(after).any() & met), f"{name}: {message}")

    _state(m, name, build)


def places_kept(m, name, write, write_place, read, read_place, message):
    """State that of places that are read, without a pause, none is written between the first read and its own.

    ``write_place`` and ``read_place`` tell the places, as numbers; others are as for :func:`apart`.
    """
    def build(rules):
        written = Signal(1 << max(len(write_place), len(read_place)))
        reading = Signal()
        rules.d.sync += [
            reading.eq(read),
            Assert(~(reading & read & written.bit_select(read_place, 1)), f"{name}: {message}"),
        ]
        with rules.If(read & ~reading):
            rules.d.sync += written.eq(0)
        with rules.If(write):
            rules.d.sync += written.bit_select(write_place, 1).eq(1)

    _state(m, name, build)


def held(m, name, valid, ready, *payload):
    """State that what is offered stays, unchanged, until it is taken."""
    offered = Cat(*payload)

    def build(rules):
        waiting = Signal()
        before = Signal(len(offered))
        rules.d.sync += [
            waiting.eq(valid & ~ready),
            before.eq(offered),
            Assert(~waiting | valid, f"{name}: valid fell before ready"),
        ]
        if len(offered):
            rules.d.sync += Assert(~waiting | (offered == before), f"{name}: payload changed before ready")

    _state(m, name, build)


def outstanding(m, name, begun, ended, limit, clear=0):
    """State that nothing ends that has not begun, and that at most ``limit`` are under way.

    While ``clear`` is high nothing counts, and none is under way afterwards.
    """
    def build(rules):
        count = Signal(range(limit + 2))
        counts = Signal()
        rules.d.comb += counts.eq(~Value.cast(clear))
        rules.d.sync += [
            count.eq(Mux(counts, count + begun - ended, 0)),
            Assert((count != 0) | ~(ended & counts), f"{name}: ended without having begun"),
            Assert((count != limit) | ~(begun & counts) | ended, f"{name}: more than {limit} under way"),
        ]

    _state(m, name, build)


def rests(m, busy, shows, cycles):
    """State that the module, with all in it, rests unless ``busy`` was high in this cycle or one of those before.

    What rests may change its registers, but in no way that ever shows outside, so that whoever simulates it may leave
    out its cycles (:mod:`pearray.sim.resting`). A module can state this once.

    Parameters
    ----------
    m : Module
        Module that states the rule.
    busy : value-like
        Something comes that is not known to be without effect, or may still begin by itself.
    shows : value-like
        What must not happen where the module rests.
    cycles : int
        Cycles before this one that count, at least those for which what has come is under way.
    """
    def build(rules):
        left = Signal(range(cycles + 1), init=cycles)
        awake = Signal()
        rules.d.comb += awake.eq(Value.cast(busy).any() | (left != 0))
        with rules.If(busy):
            rules.d.sync += left.eq(cycles)
        with rules.Elif(left != 0):
            rules.d.sync += left.eq(left - 1)
        rules.d.sync += Assert(awake | ~Value.cast(shows).any(), "rests: something shows where nothing is under way")

    m.submodules[RESTS] = _Rule(build)


def queue(m, name, put, get, some, full, put_at, get_at, depth):
    """State that a queue's flags and pointers tell how much it holds, and that it neither over- nor underflows."""
    def build(rules):
        level = Signal(range(depth + 2))
        rules.d.sync += [
            level.eq(level + put - get),
            Assert((level < depth) | (level == depth) & ~put, f"{name}: overflow"),
            Assert((level != 0) | ~get, f"{name}: underflow"),
            Assert((some == (level != 0)) & (full == (level == depth)), f"{name}: flags do not tell the level"),
            Assert((put_at - get_at - level)[:len(put_at)] == 0, f"{name}: pointers do not tell the level"),
        ]

    _state(m, name, build)


def in_bounds(m, name, valid, address, length, size, burst, beat_bytes):
    """State that AXI bursts are aligned, incremental, as wide as the bus, and cross no 4 KB boundary."""
    beat_bits = beat_bytes.bit_length() - 1
    block_bits = BOUNDARY.bit_length() - 1

    def build(rules):
        last = Signal(block_bits - beat_bits + 1)
        rules.d.comb += last.eq(address[beat_bits:block_bits] + length)
        rules.d.sync += [
            Assert(~valid | (address[:beat_bits] == 0), f"{name}: address not aligned to a beat"),
            Assert(~valid | ((size == beat_bits) & (burst == 1)), f"{name}: size or type of burst wrong"),
            Assert(~valid | ((last < 1 << block_bits - beat_bits) & (length < BOUNDARY // beat_bytes)),
                   f"{name}: burst crosses a 4 KB boundary"),
        ]

    _state(m, name, build)


def write_bursts(m, name, address, length, beat, last, limit):
    """State that ``last`` is on the last beat of each burst, whether its address or its data come first.

    Parameters
    ----------
    m, name
        As for :func:`never`.
    address, beat : value-like
        An address, a beat of data is transferred.
    length : value-like
        One less than the beats of the address's burst.
    last : value-like
        The beat is the last of its burst.
    limit : int
        Bursts by which one may be ahead of the other.
    """
    def build(rules):
        depth = 1 << limit.bit_length()
        addresses, bursts, checked = (Signal(range(depth), name=each) for each in ("addresses", "bursts", "checked"))
        beats = Signal(8)
        rules.submodules.promised = promised = Memory(shape=8, depth=depth, init=[])
        rules.submodules.moved = moved = Memory(shape=8, depth=depth, init=[])
        reads = []
        for memory, put, place, value in ((promised, address, addresses, length), (moved, beat & last, bursts, beats)):
            write, read = memory.write_port(), memory.read_port(domain="comb")
            rules.d.comb += [write.en.eq(put), write.addr.eq(place), write.data.eq(value), read.addr.eq(checked)]
            with rules.If(put):
                rules.d.sync += place.eq(place + 1)
            reads.append(read.data)
        with rules.If(beat):
            rules.d.sync += beats.eq(Mux(last, 0, beats + 1))
        check = Signal()
        rules.d.comb += check.eq((checked != addresses) & (checked != bursts))
        with rules.If(check):
            rules.d.sync += checked.eq(checked + 1)
        rules.d.sync += Assert(~check | (reads[0] == reads[1]), f"{name}: last on a wrong beat")

    _state(m, name, build)
