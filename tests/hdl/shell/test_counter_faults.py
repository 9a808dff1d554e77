"""Counters are real: an accelerator that leaves out one access counts one less, and nothing else changes.

Each fault build is the accelerator with a line or two of one module changed, so that one access of many never
happens at the port: its enable stays low, or its handshake is swallowed. Counters are left alone. Where the loss
would let the design wait for ever, the fault also carries on as if the access had been made.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Signal

from pearray.compiler.systolic.cost import EXACT
from pearray.hdl import accelerator
from pearray.hdl.accelerator import Accelerator, counter_registers
from pearray.hdl.shell.commands import Opcode, Rounding
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.systolic import core as systolic_core
from pearray.hdl.systolic.commands import COMMANDS, Destination
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel, lite_read, lite_write

CONTROL, STATUS, PROGRAM_ADDRESS = 0x008, 0x00C, 0x010
DONE = 2
PROGRAM, A, B, BIAS, C, RECORD = 0x0400, 0x2003, 0x2101, 0x2200, 0x3000, 0x2F40
ROWS, INNER, COLS = 10, 6, 2

CONFIG = SystolicConfig(
    name="tiny", array=Array(rows=2, cols=COLS),
    scratchpads=Scratchpads(activation_bytes=256, weight_bytes=256, output_bytes=256, channels=16),
    accumulators=Accumulators(depth=16), post=Post(lanes=1), memory=Memory(data_width=128),
)

#: Counters of :data:`EXACT` that count work, not accesses.
WORK = {"commands", "load_commands", "execute_commands", "post_commands", "store_commands", "execute_active",
        "post_group"}


class Loss:
    """Finds one of many events; called in the source of a fault build as ``loss(m, event)``."""

    def __init__(self, number):
        self._number = number
        #: High in the cycle of that event.
        self.now = Signal(name="lost")

    def __call__(self, m, event):
        """Count events in a module; return a signal that is high in the cycle of the one to lose."""
        count = Signal(16, name="lost_count")
        m.d.sync += count.eq(count + event)
        m.d.comb += self.now.eq(event & (count == self._number))
        return self.now


class Walk:
    """The walk of post-processing, one group of which is not there for the rest of the engine."""

    def __init__(self, m, walk, loss):
        self._walk = walk
        self.valid = Signal(name="walk_valid")
        m.d.comb += self.valid.eq(walk.valid & ~loss(m, walk.valid))

    def __getattr__(self, name):
        return getattr(self._walk, name)


def but_one_read(m, inner, outer, loss):
    """Connect a read port of a scratchpad, one read of which does not happen."""
    m.d.comb += [outer.en.eq(inner.en & ~loss(m, inner.en)), outer.line.eq(inner.line), inner.data.eq(outer.data)]


@dataclass(frozen=True)
class Fault:
    """A fault build.

    Parameters
    ----------
    module : str
        Module of :mod:`pearray.hdl` that is changed, and with it the class of the accelerator's part.
    part : str
        Name of that class.
    number : int
        Number of the event that is lost, from zero.
    lines : tuple of (str, str)
        Text that occurs once in the module, and what stands in its place.
    lost : tuple of str
        Counters that fall by one.
    open_end : bool
        Headers do not tell how many commands follow, so the fetch reads beyond the end.
    early_end : bool
        The end of the program does not wait for the record.
    """

    module: str
    part: str
    number: int
    lines: tuple[tuple[str, str], ...]
    lost: tuple[str, ...]
    open_end: bool = False
    early_end: bool = False


def _execute(port, number):
    inner = {"activation": "streamer", "weight": "feeder"}[port]
    return Fault("systolic.execute", "Execute", number, (
        (f"wiring.connect(m, {inner}.read, wiring.flipped(self.{port}))",
         f"but_one_read(m, {inner}.read, self.{port}, loss)"),), (f"execute_{port}_read",))


def _load(destination, number):
    return Fault("shell.loader", "Loader", number, (
        ("self.load.valid.eq(beside.valid)", "self.load.valid.eq(beside.valid & ~loss(m, beside.valid))"),
    ), (f"{destination}_write_beats",))


_SUMS = 'rows.i.eq(delay(m, streamer.sums, wait, "sums"))'
_DELAYED = ("wait = array.ws_latency - Accumulators.LEAD - 1",
            'wait = array.ws_latency - Accumulators.LEAD - 1\n        sums = delay(m, streamer.sums, wait, "sums")')
_QUEUED = "owed.o.valid & (beats.o.valid | draining)"

FAULTS = {
    # A beat behind the end of the program, so that all commands arrive.
    "fetch_beats": Fault("shell.reader", "Reader", 0, (
        ("response.valid.eq(bus.rvalid & awaits[client] & ~self.drain)",
         "response.valid.eq(bus.rvalid & awaits[client] & ~self.drain & ~("
         "loss(m, bus.rvalid & awaits[0] & ~self.drain) if client == 0 else 0))"),
    ), ("fetch_beats",), open_end=True),
    # The loader goes on without its beat, and so leaves another one in the reader.
    "load_beats": Fault("shell.loader", "Loader", 2, (
        ("self.response.ready.eq(writes & ~fill)",
         "self.response.ready.eq(writes & ~fill & ~loss(m, writes & ~fill & self.response.valid))"),
    ), ("load_beats",)),
    # The writer takes its beat as written; the memory of this test does not wait for it.
    "write_beats": Fault("shell.writer", "Writer", 1, (
        (f"bus.wvalid.eq({_QUEUED})", f"bus.wvalid.eq({_QUEUED} & ~loss(m, {_QUEUED} & bus.wready))"),
        ("sent.eq(bus.wvalid & bus.wready)", "sent.eq(bus.wvalid & bus.wready | loss.now)"),
    ), ("write_beats",)),
    "execute_activation_read": _execute("activation", 7),
    "execute_weight_read": _execute("weight", 3),
    # The second sum of the first tile is not added to another, so only its write is lost.
    "execute_accumulator_write": Fault("systolic.execute", "Execute", 1, (
        (_SUMS, _SUMS + ", rows.i.valid.eq(sums.valid & ~loss(m, sums.valid))"), _DELAYED,
    ), ("execute_accumulator_write",)),
    # A sum of the last tile overwrites what it should have been added to.
    "execute_accumulator_read": Fault("systolic.execute", "Execute", 2 * ROWS + 3, (
        (_SUMS, _SUMS + ", rows.i.first.eq(sums.first | loss(m, sums.valid))"), _DELAYED,
    ), ("execute_accumulator_read",)),
    # A group that never comes is neither read, nor worked on, nor written.
    "post_accumulator_read": Fault("post.engine", "Post", 5, (
        ("self.few_of(config, self._untouched))",
         "self.few_of(config, self._untouched))\n        walk = Walk(m, walk, loss)"),
    ), ("post_group", "post_accumulator_read", "post_output_write")),
    "post_output_write": Fault("post.engine", "Post", 5, (
        ('write_cycle, "valid")',
         'write_cycle, "valid")\n        valid = [*valid[:-1], valid[-1] & ~loss(m, valid[-1])]'),
    ), ("post_output_write",)),
    "activation_write_beats": _load("activation", 1),
    "weight_write_beats": _load("weight", 4),
    "parameter_write_beats": _load("parameter", 5),
    # The record never comes to the writer, which completes its burst when the program has ended.
    "output_read_beats": Fault("shell.storer", "Storer", 5, (
        ('self.data.valid.eq(delay(m, beat, latency, "valid"))',
         'self.data.valid.eq(late & ~loss(m, late))'),
        ('strobe = Signal(lanes)',
         'strobe = Signal(lanes)\n        late = delay(m, beat, self._read_latency + rotator.latency, "valid")'),
    ), ("output_read_beats",), early_end=True),
}


class ForgivingMemory(MemoryModel):
    """A memory that does not wait for beat ``skipped`` of the first burst of writes."""

    skipped = None

    def _accept(self, queue, beats, width, cycle):
        for burst in queue:
            if burst.address == C and burst.moved == self.skipped:
                burst.moved += 1
        super()._accept(queue, beats, width, cycle)


def program(fault):
    """Assemble C = A B with int8 A (ROWS, INNER) and B (INNER, COLS), and int32 C."""
    one = {"count1": 1, "count2": 1}
    commands = [
        (Opcode.LOAD, {}, {"destination": Destination.ACTIVATION, "dram": A, "length": ROWS * INNER} | one),
        (Opcode.LOAD, {}, {"destination": Destination.WEIGHT, "dram": B, "address": 8, "length": INNER * COLS} | one),
        (Opcode.LOAD, {}, {"destination": Destination.BIAS, "dram": BIAS, "length": 4 * COLS} | one),
        (Opcode.EXECUTE, {"load": 3}, {
            "first": 1, "k_total": INNER, "run": INNER, "run_count": 1, "n_count": 1, "m_count0": ROWS,
            "m_count1": 1, "m_count2": 1, "m_step0": INNER, "w_base": 8, "w_pitch": COLS}),
        (Opcode.POST, {"execute": 1}, {"rounding": Rounding.NONE, "n_count": 1, "m_count": ROWS,
                                       "out_mstep": 4 * COLS}),
        (Opcode.STORE, {"post": 1}, {"dram": C, "length": ROWS * 4 * COLS} | one),
        (Opcode.STORE, {"post": 1}, {"profile": 1, "dram": RECORD}),
        (Opcode.END, {"store": 1 if fault.early_end else 2}, {}),
    ]
    last = len(commands) - 1
    return b"".join(COMMANDS.encode(*command, following=15 if fault.open_end else last - index)
                    for index, command in enumerate(commands))


def counters(rng, fault, number=None):
    """Run the fault's program, access ``number`` of the writer being lost if it is its fault; return the counters."""
    dut = Accelerator(CONFIG)
    memory = ForgivingMemory(dut.m_axi)
    memory.data[:] = rng.integers(0, 256, memory.size)
    text = np.frombuffer(program(fault), np.uint8)
    memory.data[PROGRAM:PROGRAM + len(text)] = text
    if fault.module == "shell.writer":
        memory.skipped = number
    found = {}

    async def testbench(ctx):
        await lite_write(ctx, dut.s_axi, PROGRAM_ADDRESS, PROGRAM)
        await lite_write(ctx, dut.s_axi, CONTROL, 1)
        while not (status := await lite_read(ctx, dut.s_axi, STATUS)) & DONE:
            pass
        assert status == DONE
        # Bursts that the end did not wait for are completed first.
        await ctx.tick().repeat(100)
        for name in EXACT:
            found[name] = await lite_read(ctx, dut.s_axi, counter_registers(CONFIG)[name][0])

    simulate(dut, testbench, background=memory.testbenches, timeout=4_000)
    return found


def build(monkeypatch, fault, number):
    """Put the fault's class into the accelerator."""
    place = Path(accelerator.__file__).parent.joinpath(*fault.module.split(".")).with_suffix(".py")
    source = place.read_text()
    for line, other in fault.lines:
        assert source.count(line) == 1, f"{line!r} must occur once in {fault.module}"
        source = source.replace(line, other)
    spec = importlib.util.spec_from_file_location(f"pearray.hdl.{fault.module}", place)
    module = importlib.util.module_from_spec(spec)
    vars(module).update(loss=Loss(number), Walk=Walk, but_one_read=but_one_read)
    exec(compile(source, str(place), "exec"), vars(module))
    (user,) = (user for user in (accelerator, systolic_core) if hasattr(user, fault.part))
    monkeypatch.setattr(user, fault.part, getattr(module, fault.part))


def test_every_access_has_a_fault():
    """If this fails, a counter of accesses has been added that no fault build holds to its accesses."""
    assert FAULTS.keys() == set(EXACT) - WORK


@pytest.fixture(scope="module")
def without_faults(request):
    """Counters of the accelerator as it is, by program."""
    made = {}

    def of(fault):
        key = fault.open_end, fault.early_end
        if key not in made:
            made[key] = counters(np.random.default_rng(request.config.getoption("--seed")), fault)
        return made[key]

    return of


#: One of each engine; the runs of the others are slow.
USUAL = ("fetch_beats", "load_beats", "execute_weight_read", "post_output_write")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow)
                                  for name in FAULTS])
def test_counter_follows_its_access(rng, without_faults, monkeypatch, name):
    """If this fails, a counter counts something else than the accesses it is named for, or another one's too."""
    fault = FAULTS[name]
    right = without_faults(fault)
    number = right[name] - 1 if name == "fetch_beats" else fault.number
    build(monkeypatch, fault, number)
    if fault.module == "shell.writer":
        # The rule on the last beat of a burst would end the run.
        monkeypatch.setattr(accelerator.rules, "write_bursts", lambda *arguments: None)
    wrong = counters(rng, fault, number)
    assert wrong == {key: value - (key in fault.lost) for key, value in right.items()}
