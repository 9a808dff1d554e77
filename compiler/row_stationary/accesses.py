"""What the commands of a program read and write at each level of memory, in closed form and exact."""

from collections.abc import Mapping

import numpy as np

from ...hdl.row_stationary.commands import Destination
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.commands import Opcode
from ..program import Program

__all__ = ["accesses", "block_rows", "cuts"]

#: Destinations of LOADs that are memories of operands and sums; all others are parameters of post-processing.
_OPERANDS = {each.value for each in Destination if "BUFFER" in each.name}

#: Channels that are sent at once where filters come line by line.
_LINE = 8


def block_rows(body: Mapping[str, int], name: str, step: str = "step") -> np.ndarray:
    """Where the rows of a block of a LOAD, STORE or MOVE begin, by the names of its address and steps."""
    inner = np.arange(body.get("count1", 1), dtype=np.int64) * body.get(f"{step}1", 0)
    outer = np.arange(body.get("count2", 1), dtype=np.int64) * body.get(f"{step}2", 0)
    return (body.get(name, 0) + outer[:, None] + inner).reshape(-1)


def cuts(length: int, *grids: tuple[np.ndarray, int]) -> int:
    """Places inside rows of some bytes where a row crosses a multiple of any grid, each with where rows begin in it."""
    def crossed(begin: np.ndarray, size: int) -> np.ndarray:
        return (begin + length - 1) // size - begin // size

    found = sum(crossed(begin, size) for begin, size in grids)
    if len(grids) == 2:
        (first, fine), (second, coarse) = sorted(grids, key=lambda grid: grid[1])
        # Where both grids have the same phase, each of the coarse one's places is one of the fine one's.
        found = found - np.where((first - second) % fine == 0, crossed(second, coarse), 0)
    return int(np.sum(found))


def accesses(config: RowStationaryConfig, program: Program) -> dict[str, int]:
    """Predict the counters of what a program of attention reads and writes.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator, with ``post.softmax``.
    program : Program
        Commands, whose passes find their filters in matrices.

    Returns
    -------
    dict of str to int
        Counters by the names that a run has, all exact: beats of memory, commands, words of ifmaps, filters and psums
        between buffers and PEs, lines filled by loads and moves, groups of lanes. ``execute_macs`` counts gated ones.
    """
    names = ("load_beats", "write_beats", "moved_beats", "parameter_write_beats", "execute_macs", "execute_passed",
             "execute_ifmap_reads", "execute_psum_reads", "execute_psum_writes", "execute_filter_reads",
             "execute_fills", "execute_ifmap_spad_writes", "execute_filter_spad_writes", "post_group")
    counts = dict.fromkeys((*(f"{opcode.name.lower()}_commands" for opcode in config.commands.queues), *names), 0)
    for command in program.commands:
        body, opcode = command.body, command.opcode
        counts[f"{opcode.name.lower()}_commands"] += 1
        if opcode is Opcode.EXECUTE:
            _count(counts, {} if body.get("setup") else _pass(body))
        elif opcode is Opcode.POST:
            counts["post_group"] += body["n_count"] * body["m_count"]
        else:
            _count(counts, _transfer(config, opcode, body))
    return counts | {"commands": len(program.commands) + 1, "post_accumulator_read": counts["post_group"],
                     "post_output_write": counts["post_group"], "output_read_beats": counts["write_beats"]}


def _count(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        counts[name] += number


def _transfer(config: RowStationaryConfig, opcode: Opcode, body: Mapping[str, int]) -> dict[str, int]:
    """Beats of a LOAD, STORE or MOVE, and lines of the global buffer that it fills, one a beat and line at a time."""
    beat = config.beat_bytes
    if body.get("profile"):
        return {"write_beats": max(1, 4 * len(config.commands.record) // beat)}
    length = body["length"]
    if opcode is Opcode.MOVE:
        near = far = block_rows(body, "target", "target_step")
    else:
        near = block_rows(body, "address")
        far = near if body.get("fill") else block_rows(body, "dram", "dram_step")
    beats, destination = cuts(length, (far, beat)) + len(far), body.get("destination")
    if opcode is Opcode.STORE:
        return {"write_beats": beats}
    found = {"moved_beats": beats} if opcode is Opcode.MOVE else {"load_beats": 0 if body.get("fill") else beats}
    if destination == Destination.GLOBAL_BUFFER.value:
        found["execute_fills"] = cuts(length, (far, beat), (near, config.line_bytes)) + len(near)
    if destination not in _OPERANDS:
        found["parameter_write_beats"] = beats
    return found


def _pass(body: Mapping[str, int]) -> dict[str, int]:
    """Words of a pass whose filters stand in a matrix."""
    windows, q, p, r, t = (body[name] + 1 for name in ("windows", "window", "filters", "ifmap_sets", "psum_sets"))
    assert body["by_word"], "filters of other passes stand as the array takes them"
    filters, sums = t * r * p * q, windows * t * (body["psum_beats"] + 1) * (body["psum_last"] + 1)
    return {"execute_macs": windows * filters, "execute_passed": windows * p * (r - 1) * t,
            "execute_ifmap_reads": windows * q * r, "execute_ifmap_spad_writes": windows * q * r * t,
            "execute_psum_reads": 0 if body.get("fresh") else sums, "execute_psum_writes": sums,
            "execute_filter_reads": filters // (_LINE if body["by_line"] else 1),
            "execute_filter_spad_writes": filters}
