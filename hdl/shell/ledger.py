"""The ledger: to which cause each cycle of a run is charged, and what would remove it.

Every cycle of a run is charged to one :class:`Cause`. The array comes first: a cycle in which it works is its own. In
any other, somebody keeps it waiting, and :class:`Ledger` finds out who by following waits: what the oldest EXECUTE
waits for, what that waits for in turn, and so on to what moves, or fails to. :data:`CAUSES` says when a cycle is
charged to each.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from .commands import Opcode
from .queues import QUEUES

__all__ = ["CAUSES", "Account", "ArrayState", "Cause", "Ledger", "Progress", "TracePort"]


class Cause(enum.Enum, shape=4):
    """What a cycle is charged to, as the hardware says it."""

    #: No cycle of a run.
    NONE = 0
    WORK = 1
    FILL_AND_DRAIN = 2
    WEIGHTS = 3
    ACTIVATIONS = 4
    MEMORY_LATENCY = 5
    MEMORY_RATE = 6
    POST_PROCESSING = 7
    STORES = 8
    PROGRAM_FETCH = 9
    DEPENDENCY = 10
    START_AND_END = 11


class Account(NamedTuple):
    """An entry of the ledger: what the hardware calls it, when a cycle is charged to it, and what would remove it."""

    cause: Cause
    meaning: str
    remedy: str


#: Entries of the ledger by name. ``useful`` and ``padding`` share the cycles in which the array works: ``useful`` are as
#: many as the multiply-accumulates of the operators would take on all PEs, rounded down; ``padding`` are the rest.
#: The others exclude one another as :class:`Ledger` says.
CAUSES = {
    "useful": Account(
        Cause.WORK, "the array works, and all PEs on what the operator asks for", ""),
    "padding": Account(
        Cause.WORK, "the array works, and some PEs on nothing, on padding or on what tiles have too much",
        "sizes that are multiples of the array's, or an array of another shape"),
    "fill_and_drain": Account(
        Cause.FILL_AND_DRAIN, "the array begins a command, or somebody waits for sums that are on their way out of it",
        "more work for each command: larger accumulators, or larger scratchpads"),
    "weights": Account(
        Cause.WEIGHTS, "weights, or constants of post-processing, come from memory, a beat in this cycle, or enter the "
        "array",
        "more use of each weight (a larger batch, another dataflow), or a wider memory.data_width"),
    "activations": Account(
        Cause.ACTIVATIONS, "activations come from memory, a beat in this cycle, or are filled in, or enter the array",
        "more use of each activation (larger scratchpads), or a wider memory.data_width"),
    "memory_latency": Account(
        Cause.MEMORY_LATENCY, "memory has been asked for a burst, whose first beat has not come",
        "a shorter memory.read_latency, more bursts in flight, or larger scratchpads to load ahead"),
    "memory_rate": Account(
        Cause.MEMORY_RATE, "a burst has begun, and its next beat has not come",
        "a faster memory (memory.beats_per_cycle)"),
    "post_processing": Account(
        Cause.POST_PROCESSING, "post-processing reads sums whose place is needed, or makes what is to be stored",
        "more post.lanes"),
    "stores": Account(
        Cause.STORES, "outputs are on their way to memory, and their place, or their arrival, is waited for",
        "a wider memory.data_width, a shorter memory.write_latency, or a larger scratchpads.output_bytes"),
    "program_fetch": Account(
        Cause.PROGRAM_FETCH, "the next EXECUTE has not been fetched, or a beat of the program comes before those that "
        "are waited for",
        "longer commands: larger scratchpads and accumulators"),
    "dependency": Account(
        Cause.DEPENDENCY, "a command is on its way through an engine or a token on its way to a gate, and nothing else "
        "moves",
        "longer commands, or larger scratchpads to load ahead"),
    "start_and_end": Account(
        Cause.START_AND_END, "the run begins or ends", "longer runs"),
}


@dataclass(frozen=True, kw_only=True)
class ArrayState:
    """What an array says of a cycle; the first that is set counts.

    Parameters
    ----------
    work : Value
        The array works: it gets operands, or as many products have begun as it has PEs in use.
    weights, activations : Value
        Weights, or activations, enter the array, which waits for them.
    fill : Value
        The array has a command, and waits for nothing from outside.
    """

    work: Any
    weights: Any = 0
    activations: Any = 0
    fill: Any = 0


class Progress(data.Struct):
    """What the loader says of a cycle."""

    #: A burst has been asked for and not all of it has come, or a value is written.
    busy: unsigned(1)
    #: A beat comes, or is filled in.
    beat: unsigned(1)
    #: The burst has begun.
    begun: unsigned(1)
    #: It goes to the activations.
    activations: unsigned(1)


class TracePort(wiring.Signature):
    """What an accelerator tells of its inside in each cycle, for those who count and draw; nobody need listen.

    Members
    -------
    cause : Out(Cause)
        What the cycle before last was charged to.
    mark : Out(1)
        That cycle is the first behind those that a profile record tells of.
    open, take, done : Out(queues)
        A bit for each queue: its oldest command may start, is taken, one has been completed.
    """

    def __init__(self) -> None:
        queues = len(QUEUES)
        super().__init__({
            "cause": Out(Cause), "mark": Out(1), "open": Out(queues), "take": Out(queues), "done": Out(queues)})


class Ledger(wiring.Component):
    """Charges each cycle to a cause, two cycles later.

    A cycle in which the array works, or says itself what it waits for, is charged to that. Else waits are followed from
    the oldest EXECUTE:

    * It waits for a LOAD: if the loader has asked memory for something, the cycle goes to what comes of that,
      ``WEIGHTS``, ``ACTIVATIONS`` or beats of the program, else to ``MEMORY_RATE`` or ``MEMORY_LATENCY``. If not, the
      next LOAD waits for a POST, a STORE or an EXECUTE (``FILL_AND_DRAIN``), or starts (``DEPENDENCY``).
    * It waits for a POST: that waits for a LOAD (which counts as above, or, if the loader has asked for nothing, as
      ``DEPENDENCY``), for an EXECUTE (``FILL_AND_DRAIN``) or a STORE (``STORES``), or is at work (``POST_PROCESSING``).
    * It waits for a STORE: that waits for a POST or an EXECUTE, or is at work (``STORES``).
    * It waits for nothing: ``FILL_AND_DRAIN``.
    * There is none: ``PROGRAM_FETCH``. But if the whole program has been read, or fetching waits for room in the
      queues, what the LOADs wait for counts, the end among them; where none is there, what the STOREs wait for.

    A command that waits for several queues counts as waiting for the first of these, in the order in which they stand here.

    Members
    -------
    running, run : In(1)
        The cycle is one of the run; the engines work.
    work, weights, activations, fill : In(1)
        State of the array (:class:`ArrayState`).
    valid : In(queues)
        Which queues have a command.
    blocked : In(ArrayLayout(queues, queues))
        For each queue, for which others its oldest command waits.
    load : In(Progress)
        What the loader does.
    fetching, fetched, room : In(1)
        A beat of the program comes; all of it has come; the queues have room for more.
    mark : In(1)
        A profile record is taken.
    cause, marked : Out(Cause), Out(1)
        Two cycles later: what the cycle is charged to, and its ``mark``.
    """

    def __init__(self) -> None:
        queues = len(QUEUES)
        super().__init__({
            **dict.fromkeys(("running", "run", "work", "weights", "activations", "fill"), In(1)),
            "valid": In(queues),
            "blocked": In(data.ArrayLayout(queues, queues)),
            "load": In(Progress),
            **dict.fromkeys(("fetching", "fetched", "room", "mark"), In(1)),
            "cause": Out(Cause),
            "marked": Out(1),
        })

    def elaborate(self, platform):
        """Register what is said, then choose."""
        m = Module()

        said = {}
        for name in ("running", "run", "work", "weights", "activations", "fill", "valid", "blocked", "load", "fetching",
                     "fetched", "room", "mark"):
            said[name] = Signal.like(getattr(self, name), name=f"{name}_said")
            m.d.sync += said[name].eq(getattr(self, name))

        cause = Signal(Cause)
        with m.If(~said["running"]):
            m.d.comb += cause.eq(Cause.NONE)
        with m.Elif(~said["run"]):
            m.d.comb += cause.eq(Cause.START_AND_END)
        with m.Elif(said["work"]):
            m.d.comb += cause.eq(Cause.WORK)
        with m.Elif(said["weights"]):
            m.d.comb += cause.eq(Cause.WEIGHTS)
        with m.Elif(said["activations"]):
            m.d.comb += cause.eq(Cause.ACTIVATIONS)
        with m.Elif(said["fill"]):
            m.d.comb += cause.eq(Cause.FILL_AND_DRAIN)
        with m.Else():
            self._follow(m, said, cause)
        m.d.sync += [self.cause.eq(cause), self.marked.eq(said["mark"])]

        return m

    def _follow(self, m, said, cause):
        """Follow the waits from the oldest EXECUTE."""
        at = {opcode: QUEUES.index(opcode) for opcode in QUEUES}
        valid, load = said["valid"], said["load"]

        def waits(one, other):
            return said["blocked"][at[one]][at[other]]

        load_, execute, post, store = QUEUES
        none, rest = ~valid[at[execute]], Signal()
        m.d.comb += rest.eq(none & (said["fetched"] | ~said["room"]))
        to_load, to_post, to_store = Signal(), Signal(), Signal()
        from_load = to_load & ~load.busy
        m.d.comb += [
            to_load.eq(waits(execute, load_) | rest),
            to_store.eq(from_load & (waits(load_, store) | rest & ~valid[at[load_]] & ~said["room"])
                        | ~to_load & ~waits(execute, post) & waits(execute, store)),
            to_post.eq(from_load & waits(load_, post) | ~to_load & waits(execute, post)
                       | to_store & waits(store, post)),
        ]
        with m.If(load.busy & (to_load | to_post & waits(post, load_))):
            with m.If(load.beat):
                m.d.comb += cause.eq(Cause.WEIGHTS)
                with m.If(load.activations):
                    m.d.comb += cause.eq(Cause.ACTIVATIONS)
            with m.Elif(said["fetching"]):
                m.d.comb += cause.eq(Cause.PROGRAM_FETCH)
            with m.Elif(load.begun):
                m.d.comb += cause.eq(Cause.MEMORY_RATE)
            with m.Else():
                m.d.comb += cause.eq(Cause.MEMORY_LATENCY)
        with m.Elif(to_post):
            m.d.comb += cause.eq(Cause.POST_PROCESSING)
            with m.If(waits(post, load_)):
                m.d.comb += cause.eq(Cause.DEPENDENCY)
            with m.Elif(waits(post, execute)):
                m.d.comb += cause.eq(Cause.FILL_AND_DRAIN)
            with m.Elif(waits(post, store)):
                m.d.comb += cause.eq(Cause.STORES)
        with m.Elif(to_store):
            m.d.comb += cause.eq(Cause.STORES)
            with m.If(waits(store, execute)):
                m.d.comb += cause.eq(Cause.FILL_AND_DRAIN)
        with m.Elif(to_load):
            m.d.comb += cause.eq(Cause.DEPENDENCY)
            with m.If(waits(load_, execute)):
                m.d.comb += cause.eq(Cause.FILL_AND_DRAIN)
            with m.Elif(none & said["fetched"]):
                m.d.comb += cause.eq(Cause.START_AND_END)
        with m.Elif(none):
            m.d.comb += cause.eq(Cause.PROGRAM_FETCH)
        with m.Else():
            m.d.comb += cause.eq(Cause.FILL_AND_DRAIN)
