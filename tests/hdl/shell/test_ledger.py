"""The ledger's choice of a cause against a walk along waits, written as its docstring says it."""

import pytest
from amaranth.hdl import Value

from pearray.hdl.shell.commands import QUEUES, Opcode
from pearray.hdl.shell.ledger import CAUSES, Cause, Ledger
from pearray.sim.pysim import simulate

LOAD, EXECUTE, POST, STORE, MOVE = (opcode.name for opcode in Opcode if opcode is not Opcode.END)
BITS = ("running", "run", "work", "weights", "activations", "fill", "fetching", "fetched", "room", "mark")
OWN = ("running", "run", "work", "weights", "activations", "fill", "mark")
LOADS = ("busy", "beat", "begun", "activations")


def of_load(said):
    """What comes of a burst that memory has been asked for."""
    if said["load.beat"]:
        return Cause.ACTIVATIONS if said["load.activations"] else Cause.WEIGHTS
    if said["fetching"]:
        return Cause.PROGRAM_FETCH
    return Cause.MEMORY_RATE if said["load.begun"] else Cause.MEMORY_LATENCY


def follow(said, queue, begins=Cause.DEPENDENCY):
    """Cause for which a command waits that waits for this queue, or ``begins`` if that waits for nothing."""
    if queue == LOAD and said["load.busy"]:
        return of_load(said)
    if queue == LOAD and LOAD not in said["valid"] and not said["room"]:
        return follow(said, STORE)
    order = {LOAD: (POST, STORE, EXECUTE, MOVE), POST: (LOAD, EXECUTE, STORE, MOVE), STORE: (POST, EXECUTE, MOVE),
             MOVE: (POST, LOAD, EXECUTE, STORE)}[queue]
    other = next((other for other in order if other in said["blocked"].get(queue, ())), None)
    if other == EXECUTE:
        return Cause.FILL_AND_DRAIN
    if queue in (POST, MOVE) and other == LOAD:
        return of_load(said) if said["load.busy"] else Cause.DEPENDENCY
    if queue in (POST, MOVE) and other == STORE:
        return Cause.STORES
    if queue in (POST, STORE) and other == MOVE:
        return Cause.MOVES
    if other is not None:
        return follow(said, other)
    return {LOAD: begins, POST: Cause.POST_PROCESSING, STORE: Cause.STORES, MOVE: Cause.MOVES}[queue]


def cause_of(said):
    """Cause of a cycle."""
    if not said["running"]:
        return Cause.NONE
    if not said["run"]:
        return Cause.START_AND_END
    for name, cause in (("work", Cause.WORK), ("weights", Cause.WEIGHTS), ("activations", Cause.ACTIVATIONS),
                        ("fill", Cause.FILL_AND_DRAIN)):
        if said[name]:
            return cause
    if EXECUTE in said["valid"]:
        waits = said["blocked"][EXECUTE]
        first = next((queue for queue in (LOAD, POST, STORE, MOVE) if queue in waits), None)
        return Cause.FILL_AND_DRAIN if first is None else follow(said, first)
    if not said["fetched"] and said["room"]:
        return Cause.PROGRAM_FETCH
    return follow(said, LOAD, Cause.START_AND_END if said["fetched"] else Cause.DEPENDENCY)


@pytest.mark.parametrize("queues", [QUEUES, (*QUEUES, Opcode.MOVE)], ids=["four", "five"])
def test_follows_waits(rng, queues):
    """A cycle on the wrong entry sends whoever reads the ledger after the wrong loss."""
    dut, names = Ledger(queues), [opcode.name for opcode in queues]
    seen = set()

    async def testbench(ctx):
        expected, last = [], {}
        for _ in range(6000):
            # The array's own states hide what is behind them, so they come seldom.
            said = {name: bool(rng.random() < (0.95 if name.startswith("run") else 0.1 if name in BITS[2:6] else 0.5))
                    for name in BITS}
            said["running"] |= said["run"]
            said |= {f"load.{name}": bool(rng.integers(2)) for name in LOADS}
            said["load.busy"] = bool(rng.random() < 0.3)
            said["valid"] = {queue for queue in names if rng.random() < 0.7}
            told = {queue: {other for other in names if rng.random() < 0.3} for queue in names}
            said["blocked"] = {queue: told[queue] for queue in said["valid"]}
            for name in BITS:
                ctx.set(getattr(dut, name), said[name])
            for name in LOADS:
                ctx.set(dut.load[name], said[f"load.{name}"])
            ctx.set(dut.valid, sum(1 << index for index, queue in enumerate(names) if queue in said["valid"]))
            for index, queue in enumerate(names):
                ctx.set(dut.blocked[index],
                        sum(1 << place for place, other in enumerate(names) if other in told[queue]))
            # What the array says of the cycle before meets what the shell said in it.
            together, last = (last or said) | {name: said[name] for name in OWN}, said
            expected.append((cause_of(together), said["mark"], together))
            await ctx.tick()
            if len(expected) > Ledger.LATENCY:
                cause, mark, before = expected[-Ledger.LATENCY]
                assert (Cause(ctx.get(Value.cast(dut.cause))), ctx.get(dut.marked)) == (cause, mark), before
                seen.add(cause)

    simulate(dut, testbench)
    assert seen == set(Cause) - ({Cause.MOVES} if MOVE not in names else set())


def test_every_cause_is_on_the_ledger():
    """A cause without an entry would take its cycles out of the sum."""
    assert {account.cause for account in CAUSES.values()} == set(Cause) - {Cause.NONE}
    assert all(account.meaning and (account.remedy or name == "useful") for name, account in CAUSES.items())
