"""The ledger: to which cause each cycle of a run is charged, and what would remove it.

Every cycle of a run is charged to one :class:`Cause`. The array comes first: a cycle in which it works is its own. In
any other, somebody keeps it waiting, and :class:`Ledger` finds out who by following waits: what the oldest EXECUTE
waits for, what that waits for in turn, and so on to what moves, or fails to. :data:`CAUSES` says when a cycle is
charged to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from .commands import QUEUES, Opcode
from .packing import some_of

__all__ = ["CAUSES", "Account", "ArrayState", "Cause", "Ledger", "Progress", "TracePort"]


class Cause(enum.Enum, shape=4):
    """What a cycle is charged to, as the hardware says it."""

    #: No cycle of a run.
    NONE = 0
    WORK = 1
    WEIGHTS = 2
    ACTIVATIONS = 3
    START_AND_END = 4
    MEMORY_LATENCY = 5
    PROGRAM_FETCH = 6
    MEMORY_RATE = 7
    FILL_AND_DRAIN = 8
    POST_PROCESSING = 9
    STORES = 10
    MOVES = 11
    DEPENDENCY = 12


class Account(NamedTuple):
    """An entry of the ledger.

    Parameters
    ----------
    cause : Cause
        What the hardware calls it.
    meaning : str
        When a cycle is charged to it.
    remedy : str
        What would remove it.
    key : str
        Key of the configuration whose value would have to be another, if there is one.
    factor : Fraction
        By how much.
    """

    cause: Cause
    meaning: str
    remedy: str
    key: str = ""
    factor: Fraction = Fraction(2)


#: Entries of the ledger by name. The first two share the cycles in which the array works: ``useful`` are as many as the
#: multiply-accumulates of the operators would take on all PEs, rounded down, ``padding`` the rest. The others are told
#: apart by :class:`Ledger`.
CAUSES = {
    "useful": Account(
        Cause.WORK, "the array works: as many cycles as the multiply-accumulates would take on all PEs", ""),
    "padding": Account(
        Cause.WORK, "the array works: what is lost as PEs idle, on padding, on the ragged ends of tiles, or on what "
        "has no multiply-accumulates, as pooling",
        "sizes that are multiples of the array's, or an array of another shape"),
    "fill_and_drain": Account(
        Cause.FILL_AND_DRAIN, "the array begins a command, or somebody waits for sums that are on their way out of it",
        "more work for each command, by larger accumulators or scratchpads"),
    "weights": Account(
        Cause.WEIGHTS, "weights, or constants of post-processing, come from memory, a beat in this cycle, or weights "
        "enter the array",
        "more use of each weight (a larger batch, another dataflow), or a wider memory", "memory.data_width"),
    "activations": Account(
        Cause.ACTIVATIONS, "activations come from memory, a beat in this cycle, or padding is filled in, or "
        "activations enter the array",
        "more use of each activation, by larger scratchpads, or a wider memory", "memory.data_width"),
    "memory_latency": Account(
        Cause.MEMORY_LATENCY, "memory has been asked for a burst, whose first beat has not come",
        "a faster answer, more bursts in flight, or larger scratchpads to load ahead", "memory.read_latency",
        Fraction(1, 2)),
    "memory_rate": Account(
        Cause.MEMORY_RATE, "a burst has begun, and its next beat has not come",
        "a memory that gives more beats", "memory.beats_per_cycle"),
    "post_processing": Account(
        Cause.POST_PROCESSING, "post-processing reads sums whose place is needed, or makes what is to be stored",
        "more lanes", "post.lanes"),
    "stores": Account(
        Cause.STORES, "outputs are on their way to memory, and somebody waits for their place or their arrival",
        "a wider or faster memory, or a larger output scratchpad", "memory.write_latency", Fraction(1, 2)),
    "moves": Account(
        Cause.MOVES, "outputs are on their way to a scratchpad of operands, and somebody waits for them or their place",
        "a wider memory, with whose beats outputs are moved, or a larger output scratchpad", "memory.data_width"),
    "program_fetch": Account(
        Cause.PROGRAM_FETCH, "the next EXECUTE has not been fetched, or a beat of the program comes before those that "
        "are waited for",
        "fewer commands, by larger accumulators or scratchpads, or a faster answer", "memory.read_latency",
        Fraction(1, 2)),
    "dependency": Account(
        Cause.DEPENDENCY, "a command goes through its engine, or a token to its gate, and nothing else moves",
        "larger scratchpads to load ahead"),
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

    Parameters
    ----------
    queues : sequence of Opcode
        Its queues.

    Members
    -------
    cause : Out(Cause)
        What the cycle :attr:`Ledger.LATENCY` cycles before is charged to.
    mark : Out(1)
        That cycle is the first behind those that a profile record tells of.
    open, take, done : Out(queues)
        A bit for each queue: its oldest command may start, is taken, one has been completed.
    """

    def __init__(self, queues: Sequence[Opcode]) -> None:
        count = len(queues)
        super().__init__({
            "cause": Out(_causes(queues)), "mark": Out(1), "open": Out(count), "take": Out(count), "done": Out(count)})


class Ledger(wiring.Component):
    """Charges each cycle to a cause, :attr:`LATENCY` cycles later.

    A cycle in which the array works, or says itself what it waits for, is charged to that. Else waits are followed from
    the oldest EXECUTE:

    * It waits for a LOAD: if the loader has asked memory for something, the cycle goes to what comes of that,
      ``WEIGHTS``, ``ACTIVATIONS`` or beats of the program, else to ``MEMORY_RATE`` or ``MEMORY_LATENCY``. If not, the
      next LOAD waits for a POST, a STORE, an EXECUTE (``FILL_AND_DRAIN``) or a MOVE, or starts (``DEPENDENCY``).
    * It waits for a POST: that waits for a LOAD (which counts as above, or, if the loader has asked for nothing, as
      ``DEPENDENCY``), for an EXECUTE (``FILL_AND_DRAIN``) or a STORE (``STORES``), or is at work (``POST_PROCESSING``),
      as whenever the engine has one.
    * It waits for a STORE: that waits for a POST or an EXECUTE, or is at work (``STORES``).
    * It waits for a MOVE: that waits for a POST, for a LOAD (as a POST does), for an EXECUTE (``FILL_AND_DRAIN``) or a
      STORE (``STORES``), or is at work (``MOVES``). A POST or STORE that waits for a MOVE counts as ``MOVES``.
    * It waits for nothing: ``FILL_AND_DRAIN``.
    * There is none: ``PROGRAM_FETCH``. But if the whole program has been read, or fetching waits for room in the
      queues, what the LOADs wait for counts, the end among them, which waits for nothing else when the run ends
      (``START_AND_END``).
    * No LOAD is there, and fetching waits for room: what the STOREs wait for counts in place of what it waits for.

    A command that waits for several queues counts as waiting for the first of these, in the order in which they stand
    here.

    Parameters
    ----------
    queues : sequence of Opcode
        Queues of the accelerator.

    Members
    -------
    running, run : In(1)
        The cycle is one of the run; engines have worked for two cycles, and do, which they do in no other.
    work, weights, activations, fill : In(1)
        State of the array in the cycle before (:class:`ArrayState`), since events are registered.
    valid : In(queues)
        Which queues have a command.
    blocked : In(ArrayLayout(queues, queues))
        For each queue, for which others its oldest command waits, if there is one.
    kept : In(queues)
        Queues whose engine keeps a command, which is at work whatever the next one waits for.
    load : In(Progress)
        What the loader does.
    fetching, fetched, room : In(1)
        A beat of the program comes; all of it has come; the queues have room for more.
    mark : In(1)
        A profile record is taken.
    cause, marked : Out(Cause), Out(1)
        What the cycle is charged to, and its ``mark``, ``LATENCY`` cycles later.
    """

    #: Cycles from a cycle to its cause.
    LATENCY = 6

    _OWN = ("running", "run", "work", "weights", "activations", "fill", "mark")
    _SHELL = ("valid", "blocked", "kept", "load", "fetching", "fetched", "room")

    def __init__(self, queues: Sequence[Opcode]) -> None:
        self._queues = tuple(queues)
        count = len(queues)
        super().__init__({
            **dict.fromkeys(("running", "run", "work", "weights", "activations", "fill"), In(1)),
            "valid": In(count),
            "blocked": In(data.ArrayLayout(count, count)),
            "kept": In(count),
            "load": In(Progress),
            **dict.fromkeys(("fetching", "fetched", "room", "mark"), In(1)),
            "cause": Out(_causes(queues)),
            "marked": Out(1),
        })

    def elaborate(self, platform):
        """Build the steps, a cycle each, so that each chooses between few signals and takes few LUTs."""
        m = Module()

        # What the array says is of the cycle before: it meets what the shell said then.
        before = _register(m, "before", **{name: getattr(self, name) for name in self._SHELL})
        said = _register(
            m, "said", **{name: before[name] for name in self._SHELL},
            **{name: getattr(self, name) for name in self._OWN})
        asked = self._ask(m, said)
        led = self._lead(m, asked)
        # Behind the STOREs, and then behind the POSTs.
        to_post = led.to_post | led.to_store & led.store_to_post
        found = _register(
            m, "found", mark=led.mark, own=led.own, is_own=led.is_own, loading=led.loading, post=led.post,
            to_post=to_post, to_load=led.to_load | to_post & led.post_to_load,
            rest=Mux(led.to_store, led.store, led.rest))
        # All but one become zero.
        chosen = _register(
            m, "chosen", mark=found.mark, own=found.own,
            loading=Mux(found.to_load & ~found.is_own, found.loading, Cause.NONE),
            post=Mux(found.to_post & ~found.to_load & ~found.is_own, found.post, Cause.NONE),
            rest=Mux(found.to_post | found.to_load | found.is_own, Cause.NONE, found.rest))
        m.d.sync += [
            self.cause.eq(chosen.own | chosen.loading | chosen.post | chosen.rest),
            self.marked.eq(chosen.mark),
        ]

        return m

    def _ask(self, m, said):
        """Register where each queue's oldest command sends us: to another queue, or to the end of the search."""
        waits, there = self._waits(said)
        none = ~there[Opcode.EXECUTE]
        load, execute, post, store = (waits[opcode] for opcode in QUEUES)
        moves = Opcode.MOVE in self._queues

        def moved(waits):
            return [(waits[Opcode.MOVE], Cause.MOVES)] if moves else []

        return _register(
            m, "asked", mark=said.mark, **self._own(said), busy=Progress(said.load).busy, loading=self._loading(said),
            to_load=Mux(none, said.fetched | ~said.room, execute[Opcode.LOAD]),
            to_post=execute[Opcode.POST] & ~execute[Opcode.LOAD],
            to_store=execute[Opcode.STORE] & ~execute[Opcode.LOAD] & ~execute[Opcode.POST],
            load_to_post=load[Opcode.POST],
            load_to_store=Mux(there[Opcode.LOAD], load[Opcode.STORE] & ~load[Opcode.POST], ~said.room),
            load_to_execute=load[Opcode.EXECUTE],
            rest=_first((none & said.fetched, Cause.START_AND_END), (none & said.room, Cause.PROGRAM_FETCH),
                        (none | execute[Opcode.LOAD], Cause.DEPENDENCY), (1, Cause.FILL_AND_DRAIN)),
            post_to_load=post[Opcode.LOAD],
            post=_first((post[Opcode.LOAD], Cause.DEPENDENCY), (post[Opcode.EXECUTE], Cause.FILL_AND_DRAIN),
                        (post[Opcode.STORE], Cause.STORES), *moved(post), (1, Cause.POST_PROCESSING)),
            store_to_post=store[Opcode.POST],
            store=_first((store[Opcode.EXECUTE], Cause.FILL_AND_DRAIN), *moved(store), (1, Cause.STORES)),
            **(self._ask_moves(waits) if moves else {}))

    def _lead(self, m, asked):
        """Register where we are behind the LOADs, unless the loader has asked for something, and behind the MOVEs."""
        idle = asked.to_load & ~asked.busy
        to_post, to_load = idle & asked.load_to_post | asked.to_post, asked.busy & asked.to_load
        rest = Mux(asked.to_load & asked.load_to_execute, Cause.FILL_AND_DRAIN, asked.rest)
        if Opcode.MOVE in self._queues:
            to_move = asked.to_move | idle & asked.load_to_move
            to_post = to_post | to_move & asked.move_to_post
            to_load = to_load | to_move & asked.move_to_load & asked.busy
            rest = Mux(to_move, asked.move, rest)
        return _register(
            m, "led", mark=asked.mark, own=asked.own, is_own=asked.is_own, loading=asked.loading, post=asked.post,
            store=asked.store, store_to_post=asked.store_to_post,
            to_load=to_load, post_to_load=asked.busy & asked.post_to_load,
            to_post=to_post, to_store=idle & asked.load_to_store | asked.to_store, rest=rest)

    def _ask_moves(self, waits):
        """Return who sends us to the oldest MOVE, and where that does."""
        load, execute, move = (waits[opcode] for opcode in (Opcode.LOAD, Opcode.EXECUTE, Opcode.MOVE))
        return {
            "to_move": self._alone(execute, Opcode.EXECUTE),
            "load_to_move": self._alone(load, Opcode.LOAD),
            "move_to_post": move[Opcode.POST],
            "move_to_load": move[Opcode.LOAD] & ~move[Opcode.POST],
            "move": _first((move[Opcode.LOAD], Cause.DEPENDENCY), (move[Opcode.EXECUTE], Cause.FILL_AND_DRAIN),
                           (move[Opcode.STORE], Cause.STORES), (1, Cause.MOVES)),
        }

    @staticmethod
    def _alone(waits, queue):
        """Whether a command of a queue waits for a MOVE, and for no other queue."""
        return waits[Opcode.MOVE] & ~Cat(waits[each] for each in QUEUES if each is not queue).any()

    def _waits(self, said):
        """Return, for each queue, for which others its command waits, and whether there is one."""
        there = {opcode: said.valid[index] for index, opcode in enumerate(self._queues)}
        count = len(self._queues)
        waiting = {opcode: there[opcode] & ~said.kept[index] for index, opcode in enumerate(self._queues)}
        waits = {opcode: {other: waiting[opcode] & said.blocked[count * index + place]
                          for place, other in enumerate(self._queues)} for index, opcode in enumerate(self._queues)}
        return waits, there

    def _own(self, said):
        """Return what the array says of itself, zero if nothing, and whether nobody else is to be asked."""
        array = _first((said.work, Cause.WORK), (said.weights, Cause.WEIGHTS), (said.activations, Cause.ACTIVATIONS),
                       (said.fill, Cause.FILL_AND_DRAIN), (1, Cause.NONE))
        return {"own": Mux(said.run, array, Mux(said.running, Cause.START_AND_END, Cause.NONE)),
                "is_own": ~said.run | said.work | said.weights | said.activations | said.fill}

    def _loading(self, said):
        """Return what comes of the bursts that memory has been asked for."""
        load = Progress(said.load)
        return _first((load.beat & load.activations, Cause.ACTIVATIONS), (load.beat, Cause.WEIGHTS),
                      (said.fetching, Cause.PROGRAM_FETCH), (load.begun, Cause.MEMORY_RATE), (1, Cause.MEMORY_LATENCY))


def _causes(queues):
    """Causes of an accelerator with these queues."""
    return some_of([cause for cause in Cause if cause is not Cause.MOVES or Opcode.MOVE in queues])


def _register(m, stage, **values):
    """Register values in one structure; return it."""
    values = {name: Value.cast(value) for name, value in values.items()}
    made = Signal(data.StructLayout({name: value.shape() for name, value in values.items()}), name=stage)
    m.d.sync += made.eq(Cat(values.values()))
    return made


def _first(*choices):
    """Return the first cause whose condition holds; the last one's always does."""
    chosen = Value.cast(choices[-1][1])
    for condition, cause in reversed(choices[:-1]):
        chosen = Mux(condition, Value.cast(cause), chosen)
    return chosen
