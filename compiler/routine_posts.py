"""Functional model of POSTs that run routines, on the memories of an accelerator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..hdl.arithmetic.floating import FloatArithmetic
from ..hdl.routines.instructions import INSTRUCTION_BYTES, INSTRUCTIONS, ROUTINE_BYTES, SLOTS, Instruction, Operation
from ..hdl.shell.commands import ADDRESS_BITS
from ..hdl.shell.config import Config
from .cells import ProgramError
from .routines.lanes import Lanes

__all__ = ["Routines", "memories_of"]

#: Fields of a POST that a routine has.
_FIELDS = {"routine", "scale_base", "scale_nstep", "n_count", "m_count", "bias_base", "out_base", "index"}


def memories_of(config: Config) -> dict[int, np.ndarray]:
    """Bytes of the memories that routines have, by their numbers among the destinations of LOADs."""
    sizes = {"VECTOR": config.scratchpads.vector_bytes, "ROUTINE": ROUTINE_BYTES}
    return {config.commands.destination[name].value: np.zeros(size, np.uint8) for name, size in sizes.items()}


class Routines:
    """Lanes of an accelerator, whose registers keep what they hold between commands."""

    def __init__(self, config: Config):
        assert isinstance(config.arithmetic, FloatArithmetic)
        self._lanes = Lanes(config.post.lanes, config.arithmetic.format)
        self._item = config.operand_bytes
        self._vector, self._code = (config.commands.destination[name].value for name in ("VECTOR", "ROUTINE"))

    def run(self, memories: Mapping[int, np.ndarray],
            body: Mapping[str, Any]) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
        """Run a routine: bytes of memories that it reads, and bytes of the output scratchpad with what they become.

        Raises
        ------
        ProgramError
            If a field does not fit, or an instruction is none.
        """
        self._check(body)
        first, count, slots = body["scale_base"], body["scale_nstep"], body["m_count"]
        code = np.arange(first * INSTRUCTION_BYTES, (first + count) * INSTRUCTION_BYTES)
        stored = memories[self._code][code].tobytes()
        try:
            instructions = [Instruction.decode(stored[at:at + INSTRUCTION_BYTES])
                            for at in range(0, len(stored), INSTRUCTION_BYTES)]
        except ValueError as error:
            raise ProgramError(f"instruction: {error}") from None
        read, written = list[np.ndarray](), dict[int, int]()
        places, values = list[np.ndarray](), list[np.ndarray]()
        for number in range(body["n_count"]):
            for instruction in instructions:
                if not instruction.op.is_memory:
                    self._lanes.compute(instruction, slots)
                    continue
                elements = self._lanes.elements(instruction, number, slots)
                if instruction.op is Operation.INDEX:
                    self._lanes.registers[instruction.dst, :slots] = (body["index"] + elements) % (1 << 32)
                    continue
                size = 4 if instruction.op in (Operation.LOAD_WORD, Operation.STORE_WORD) else self._item
                if instruction.op.is_store:
                    index = body["out_base"] + elements[..., None] * size + np.arange(size)
                    raw = self._lanes.registers[instruction.a, :slots].astype("<u4").view(np.uint8)
                    places.append((index % (1 << ADDRESS_BITS)).reshape(-1))
                    values.append(raw.reshape(*elements.shape, 4)[..., :size].reshape(-1))
                    continue
                base = body["bias_base"] * self._lanes.lanes * 4
                index = (base + elements[..., None] * size + np.arange(size)) % memories[self._vector].size
                read.append(index.reshape(-1))
                found = memories[self._vector][index].reshape(-1).view(f"<u{size}").reshape(elements.shape)
                self._lanes.registers[instruction.dst, :slots] = (
                    found if instruction.op is Operation.LOAD_WORD else self._lanes.widened(found))
        del written
        return ({self._code: code, self._vector: np.unique(np.concatenate(read)) if read else np.zeros(0, np.int64)},
                *self._last(places, values))

    @staticmethod
    def _last(places: list[np.ndarray], values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Places that are written, each once, and what stands there in the end."""
        if not places:
            return np.zeros(0, np.int64), np.zeros(0, np.uint8)
        index, raw = np.concatenate(places)[::-1], np.concatenate(values)[::-1]
        found, first = np.unique(index, return_index=True)
        return found, raw[first]

    @staticmethod
    def _check(body: Mapping[str, Any]) -> None:
        for name, value in body.items():
            if name not in _FIELDS and int(value if isinstance(value, (int, np.integer)) else value.value):
                raise ProgramError(f"{name} must be zero with routine")
        if not 1 <= body["m_count"] <= SLOTS:
            raise ProgramError(f"m_count must be in 1..{SLOTS} with routine, not {body['m_count']}")
        if not body["scale_nstep"] or body["scale_base"] + body["scale_nstep"] > INSTRUCTIONS:
            raise ProgramError(f"a routine must have 1 to {INSTRUCTIONS} instructions up to the last that is held")
