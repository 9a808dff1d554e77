"""How long a program may take, and what to say about one that got stuck."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import ceil
from typing import Any

from ..hdl.kinds import kind
from ..hdl.post.engine import Post
from ..hdl.routines.engine import RoutineEngine
from ..hdl.routines.instructions import Operation, cycles_of
from ..hdl.shell.commands import COMMAND_BYTES, FORMAT_VERSION, CommandSet, Opcode
from ..hdl.shell.config import Config
from ..hdl.shell.waits import meant, reached
from ..memory import MemoryTiming

__all__ = ["Limits", "limits", "program", "waiting"]

#: Commands that the queues and the fetch unit may hold ahead of the one that runs, generously.
_IN_FLIGHT = 64

#: Memory image: addresses and contents.
Segments = Sequence[tuple[int, bytes]]


@dataclass(frozen=True)
class Limits:
    """Cycles after which a run counts as stuck.

    Parameters
    ----------
    total : int
        Cycles since start.
    quiet : int
        Cycles without a transfer on the memory bus.
    timeout : int
        Cycles without progress, as the hardware itself sees it.
    """

    total: int
    quiet: int
    timeout: int


def program(segments: Segments, address: int,
            commands: CommandSet) -> Iterator[tuple[Opcode, dict[str, int], dict[str, Any]]]:
    """Decode the commands of a memory image, up to the end of the program or to nonsense."""
    known = {opcode.value for opcode in (Opcode.END, *commands.queues)}
    for start, image in segments:
        if start <= address < start + len(image):
            for offset in range(address - start, len(image) - COMMAND_BYTES + 1, COMMAND_BYTES):
                command = image[offset:offset + COMMAND_BYTES]
                if command[0] not in known or command[1] != FORMAT_VERSION:
                    return
                opcode, waits, body = commands.decode(command)
                if opcode is Opcode.END:
                    return
                yield opcode, waits, body


def limits(config: Config, memory: MemoryTiming, segments: Segments, address: int, stall: float = 0.0) -> Limits:
    """Bound the cycles of a program from above, as if nothing in it overlapped.

    Parameters
    ----------
    config : Config
        Accelerator.
    memory : MemoryTiming
        Memory behind it.
    segments : sequence of (int, bytes)
        Memory image.
    address : int
        Address of the first command.
    stall : float
        Probability that a channel of the memory stalls in a cycle.

    Returns
    -------
    Limits
    """
    moving, computing = 0.0, []
    slowdown = 1 / ((1 - stall) ** 2 * memory.beats_per_cycle)
    hardware = kind(config.KIND)
    commands = 0
    for opcode, _, body in program(segments, address, config.commands):
        commands += 1
        if opcode in (Opcode.LOAD, Opcode.STORE, Opcode.MOVE):
            moving += _block_cycles(config, memory, body) + hardware.transfer_cycles(config, body)
        elif opcode is Opcode.EXECUTE:
            computing.append(hardware.execute_cycles(config, body))
        elif body.get("routine"):
            most = body["n_count"] * body["scale_nstep"] * max(map(cycles_of, Operation))
            computing.append(RoutineEngine.START + most + RoutineEngine.SETTLED)
        else:
            groups = config.sum_columns // config.post.lanes
            computing.append(body["n_count"] * body["m_count"] * groups + 2 * Post.latency_of(config))
    moving += commands * (memory.read_latency + COMMAND_BYTES / config.beat_bytes + 64)
    total = 50_000 + 4 * (moving * slowdown + sum(computing))
    # Commands that are already fetched may run without any traffic.
    latency = memory.read_latency + memory.write_latency
    timeout = min(1 << 20, ceil(10_000 + 16 * slowdown * latency))
    # The hardware reports first: it takes its timeout, and as long again for bursts in flight.
    quiet = 4 * (timeout + sum(nlargest(_IN_FLIGHT, computing)))
    return Limits(ceil(total) + quiet, ceil(quiet), timeout)


def _block_cycles(config: Config, memory: MemoryTiming, body: Mapping[str, Any]) -> float:
    latency = memory.read_latency + memory.write_latency
    rows = max(1, body["count1"]) * max(1, body["count2"])
    beats = body["length"] / config.beat_bytes + 2
    bursts = beats / 16 + 1
    return float(rows * (beats + bursts * (latency + 16)))


def waiting(segments: Segments, address: int, completed: Mapping[str, int],
            commands: CommandSet) -> list[str]:
    """Say which command of each queue has not completed, and for whom it waits.

    What is given back early counts only as completed here: no register tells more.

    Parameters
    ----------
    segments : sequence of (int, bytes)
        Memory image.
    address : int
        Address of the first command.
    completed : mapping
        Commands that each queue has completed, by the queue's name.
    commands : CommandSet
        Commands of the kind of array.

    Returns
    -------
    list of str
        One sentence for each queue that has work left.
    """
    before = dict.fromkeys(completed, 0)
    sentences = []
    for index, (opcode, waits, _) in enumerate(program(segments, address, commands)):
        queue = opcode.name.lower()
        if queue not in completed:
            continue
        if before[queue] == completed[queue]:
            missing = [f"{other} {meant(wait, before[other])} (has {completed[other]})" for other, wait in waits.items()
                       if other in completed and not reached(completed[other], wait)]
            state = f"waits for {' and '.join(missing)}" if missing else "waits for nothing but does not complete"
            sentences.append(f"{queue} command {before[queue] + 1} (program command {index}) {state}")
        before[queue] += 1
    return sentences
