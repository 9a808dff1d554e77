"""What the commands of a program move between memory and the buffers, in beats and lines, to the last one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pearray.compiler.compiled import Compiled
from pearray.compiler.row_stationary.accesses import block_rows, cuts
from pearray.compiler.row_stationary.codes import CodedTensor
from pearray.golden import run_length
from pearray.hdl.row_stationary.commands import Destination
from pearray.hdl.row_stationary.config import RowStationaryConfig
from pearray.hdl.shell.block_walk import burst_beats
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode

__all__ = ["moved"]


def moved(compiled: Compiled, tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Predict what a run reads and writes.

    Rows take the beats that they touch, and fill a line of the buffer for each beat and line that they share. Codes
    are as long as the values make them: a load reads the burst in which a code ends to its end, and a decoded word
    fills a line.

    Parameters
    ----------
    compiled : Compiled
        The program, for a row-stationary array.
    tensors : mapping of str to ndarray
        Inputs and outputs, of which those that stand as codes matter.

    Returns
    -------
    dict
        ``read_beats``, those of the program included, ``write_beats`` and ``fills``, as in the record of a program's
        last layer, and the record's own beats.
    """
    config = compiled.config
    assert isinstance(config, RowStationaryConfig)
    codes = _codes(compiled, tensors)
    beat = config.beat_bytes
    total = {"read_beats": (len(compiled.program.commands) + 1) * COMMAND_BYTES // beat, "write_beats": 0, "fills": 0}
    for command in compiled.program.commands:
        body = command.body
        if command.opcode is Opcode.LOAD:
            _load(body, config, codes, total)
        elif command.opcode is Opcode.STORE:
            if body.get("profile"):
                total["write_beats"] += max(1, 4 * len(config.commands.record) // beat)
            elif body.get("coded"):
                pairs, _ = codes[body["dram"]]
                total["write_beats"] += -(-run_length.CODE_BYTES * -(-pairs // 3) // beat)
            else:
                far = block_rows(body, "dram", "dram_step")
                total["write_beats"] += cuts(body["length"], (far, beat)) + len(far)
    return total


def _load(body: Mapping[str, int], config: RowStationaryConfig, codes: Mapping[int, tuple[int, int]],
          total: dict[str, int]) -> None:
    beat, destination = config.beat_bytes, body["destination"]
    if destination == Destination.GLOBAL_BUFFER_CODED.value:
        pairs, words = codes[body["dram"]]
        burst = beat * burst_beats(config)
        end = body["dram"] + run_length.CODE_BYTES * -(-pairs // 3)
        end = min(-(-end // burst) * burst, -(-(body["dram"] + body["length"]) // beat) * beat)
        total["read_beats"] += (end - body["dram"] // beat * beat) // beat
        # What the last code word has to spare is written, too.
        total["fills"] += words + -pairs % 3
        return
    near = block_rows(body, "address")
    far = near if body.get("fill") else block_rows(body, "dram", "dram_step")
    if not body.get("fill"):
        total["read_beats"] += cuts(body["length"], (far, beat)) + len(far)
    if destination == Destination.GLOBAL_BUFFER.value:
        total["fills"] += cuts(body["length"], (far, beat), (near, config.line_bytes)) + len(near)


def _codes(compiled: Compiled, tensors: Mapping[str, np.ndarray]) -> dict[int, tuple[int, int]]:
    """Pairs of each code in memory, and its words, by its address."""
    codes = {}
    placed: dict[str, Any] = {**compiled.inputs, **compiled.outputs}
    for name, tensor in placed.items():
        if isinstance(tensor, CodedTensor):
            flat = np.append(tensor.layout.to_memory(tensors[name]).astype(np.int16), np.int16(0))
            for unit in tensor.units:
                codes[tensor.address + unit.offset] = _pairs(flat[unit.elements]), len(unit.elements)
    return codes


def _pairs(words: np.ndarray) -> int:
    """Pairs of run and level in the code of words."""
    at = np.flatnonzero(words)
    if not len(at) or at[-1] != len(words) - 1:
        at = np.append(at, len(words) - 1)
    return int(((np.diff(at, prepend=-1) - 1) // 32 + 1).sum())
