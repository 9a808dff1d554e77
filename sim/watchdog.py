"""How long a program may take, and what to say about one that got stuck."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import ceil, prod
from typing import Any

from ..hdl.shell.commands import COMMAND_BYTES, FORMAT_VERSION, Destination, Opcode, decode
from ..hdl.shell.config import Config

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
            kind: str) -> Iterator[tuple[Opcode, dict[str, int], dict[str, Any]]]:
    """Decode the commands of a memory image, for a kind of array, up to the end of the program or to nonsense."""
    for start, image in segments:
        if start <= address < start + len(image):
            for offset in range(address - start, len(image) - COMMAND_BYTES + 1, COMMAND_BYTES):
                command = image[offset:offset + COMMAND_BYTES]
                if command[0] not in {opcode.value for opcode in Opcode} or command[1] != FORMAT_VERSION:
                    return
                opcode, waits, body = decode(command, kind)
                if opcode is Opcode.END:
                    return
                yield opcode, waits, body


def limits(config: Config, segments: Segments, address: int, stall: float = 0.0) -> Limits:
    """Bound the cycles of a program from above, as if nothing in it overlapped.

    Parameters
    ----------
    config : Config
        Accelerator and the timing of its memory.
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
    slowdown = 1 / ((1 - stall) ** 2 * config.memory.beats_per_cycle)
    commands = 0
    for opcode, _, body in program(segments, address, config.array.kind):
        commands += 1
        if opcode in (Opcode.LOAD, Opcode.STORE):
            moving += _block_cycles(config, body)
        elif opcode is Opcode.EXECUTE:
            computing.append(_pass_cycles(config, body) if "setup" in body else _execute_cycles(config, body))
        else:
            groups = config.sum_columns // config.post.lanes
            computing.append(body["n_count"] * body["m_count"] * groups + 256)
    moving += commands * (config.memory.read_latency + COMMAND_BYTES / config.beat_bytes + 64)
    total = 50_000 + 4 * (moving * slowdown + sum(computing))
    # Commands that are already fetched may run without any traffic.
    latency = config.memory.read_latency + config.memory.write_latency
    timeout = min(1 << 20, ceil(10_000 + 16 * slowdown * latency))
    # The hardware reports first: it takes its timeout, and as long again for bursts in flight.
    quiet = 4 * (timeout + sum(nlargest(_IN_FLIGHT, computing)))
    return Limits(ceil(total) + quiet, ceil(quiet), timeout)


def _block_cycles(config: Config, body: Mapping[str, Any]) -> float:
    latency = config.memory.read_latency + config.memory.write_latency
    rows = max(1, body["count1"]) * max(1, body["count2"])
    beats = body["length"] / config.beat_bytes + 2
    bursts = beats / 16 + 1
    # Run-length codes come and go a word a cycle; a word of a code holds three runs of up to 31 zeros and a level.
    words = 0.0
    if body.get("destination") is Destination.GLOBAL_BUFFER_CODED:
        words = body["length"] / 8 * 96
    elif body.get("coded"):
        words = rows * body["length"] / 2
    return float(rows * (beats + bursts * (latency + 16)) + words)


def _execute_cycles(config: Config, body: Mapping[str, Any]) -> int:
    rows, cols = config.array.rows, config.array.cols
    pixels = body["m_count0"] * body["m_count1"] * body["m_count2"]
    ramp = 4 * (rows + cols) + 256
    if body["output_stationary"]:
        return int(body["n_count"] * (pixels + ramp))
    run = max(1, body["run"])
    tiles = ceil(body["k_total"] / rows) if body["fold"] else ceil(body["k_total"] / run) * ceil(run / rows)
    return int(body["n_count"] * tiles * (max(pixels, rows, cols) + ramp))


def _pass_cycles(config: Config, body: Mapping[str, Any]) -> int:
    """Cycles of a pass of the row-stationary array: its products, and all words and lines one after the other."""
    if body["setup"]:
        return 4 * config.pes + 256
    products = ("rows", "windows", "filters", "window")
    walks = [("rows", "ifmap_columns", "ifmap_sets", "ifmap_lines", "ifmap_channels"),
             ("filter_height", "filter_sets", "filter_beats"),
             *[("rows", "windows", "psum_beats", "psum_sets", "psum_rows")] * 2]
    return sum(prod(body[name] + 1 for name in names) for names in (products, *walks)) + 4 * config.pes + 256


def waiting(segments: Segments, address: int, completed: Mapping[str, int], kind: str = "systolic") -> list[str]:
    """Say which command of each queue has not completed, and for whom it waits.

    Parameters
    ----------
    segments : sequence of (int, bytes)
        Memory image.
    address : int
        Address of the first command.
    completed : mapping
        Commands that each queue has completed, by the queue's name.
    kind : str
        Kind of array.

    Returns
    -------
    list of str
        One sentence for each queue that has work left.
    """
    seen = dict.fromkeys(completed, 0)
    sentences = {}
    for index, (opcode, waits, _) in enumerate(program(segments, address, kind)):
        queue = opcode.name.lower()
        if queue not in completed:
            continue
        seen[queue] += 1
        if seen[queue] != completed[queue] + 1:
            continue
        missing = [f"{other} {count} (has {completed[other] & 0xFFFF})" for other, count in waits.items()
                   if other in completed and _is_ahead(count, completed[other])]
        state = "waits for nothing but does not complete"
        if missing:
            state = f"waits for {' and '.join(missing)}"
        sentences[queue] = f"{queue} command {seen[queue]} (program command {index}) {state}"
    return list(sentences.values())


def _is_ahead(count: int, reached: int) -> bool:
    return 0 < (count - reached) % (1 << 16) < 1 << 15
