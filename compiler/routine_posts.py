"""Functional model of POSTs that run routines, on the memories of an accelerator."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..hdl.arithmetic.floating import FloatArithmetic
from ..hdl.routines.instructions import INSTRUCTION_BYTES, INSTRUCTIONS, ROUTINE_BYTES, SLOTS, Instruction, Operation
from ..hdl.shell.commands import ADDRESS_BITS
from ..hdl.shell.config import Config
from .cells import ProgramError
from .routines.lanes import Frame, Lanes

__all__ = ["Routines", "memories_of"]

#: Fields of a POST that a routine has.
_FIELDS = {"routine", "scale_base", "scale_nstep", "n_count", "m_count", "bias_base", "out_base", "index"}


def memories_of(config: Config) -> dict[int, np.ndarray]:
    """Bytes of the memories that routines have, by their numbers among the destinations of LOADs."""
    sizes = {"VECTOR": config.vector_bytes, "ROUTINE": ROUTINE_BYTES}
    return {config.commands.destination[name].value: np.zeros(size, np.uint8) for name, size in sizes.items()}


class _Accesses:
    """What the passes of a command read and write.

    Members
    -------
    read : list of ndarray
        Bytes of the vector memory that are read.
    places, values : list of ndarray
        Bytes of the output scratchpad that are written, and what with.
    """

    def __init__(self, vector: np.ndarray, body: Mapping[str, Any], item: int, lanes: int):
        self._vector, self._item = vector, item
        self._base, self._out = body["bias_base"] * lanes * 4, body["out_base"]
        self.read, self.places, self.values = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()

    def are_apart(self) -> bool:
        """Whether no byte is written twice."""
        places = np.concatenate(self.places)
        return np.unique(places).size == places.size

    def result(self, code: int, instructions: np.ndarray,
               vector: int) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
        """Bytes of memories that are read, bytes of the output scratchpad that are written, and what they become."""
        read = np.unique(np.concatenate(self.read)) if self.read else np.zeros(0, np.int64)
        places, values = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        if self.places:
            # What is written last stays.
            index, raw = np.concatenate(self.places)[::-1], np.concatenate(self.values)[::-1]
            places, first = np.unique(index, return_index=True)
            values = raw[first]
        return {code: instructions, vector: read}, places, values

    def load(self, instruction: Instruction, frame: Frame) -> None:
        """Do a load."""
        is_word = instruction.op is Operation.LOAD_WORD
        size, elements = 4 if is_word else self._item, frame.elements(instruction)
        index = (self._base + elements[..., None] * size + np.arange(size)) % self._vector.size
        self.read.append(index.reshape(-1))
        found = self._vector[index].reshape(-1).view(f"<u{size}").reshape(elements.shape)
        frame.write(instruction.dst, found if is_word else frame.widened(found))

    def store(self, instruction: Instruction, frame: Frame) -> None:
        """Do a store."""
        size = 4 if instruction.op is Operation.STORE_WORD else self._item
        elements = frame.elements(instruction)
        index = (self._out + elements[..., None] * size + np.arange(size)) % (1 << ADDRESS_BITS)
        bits = np.broadcast_to(frame.read(instruction.a), elements.shape).astype("<u4", order="C")
        self.places.append(index.reshape(-1))
        self.values.append(bits.view(np.uint8).reshape(*elements.shape, 4)[..., :size].reshape(-1))


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
        first, count = body["scale_base"], body["scale_nstep"]
        code = np.arange(first * INSTRUCTION_BYTES, (first + count) * INSTRUCTION_BYTES)
        instructions = self._decoded(memories[self._code][code].tobytes())
        passes = np.arange(body["n_count"])
        if self._lanes.are_apart(instructions):
            found = self._run(memories, body, instructions, [passes])
            if len(found.places) < 2 or len(passes) == 1 or found.are_apart():
                return found.result(self._code, code, self._vector)
        # What passes hand over to one another is computed pass by pass, and what several of them write.
        return self._run(memories, body, instructions, passes.reshape(-1, 1)).result(self._code, code, self._vector)

    def _run(self, memories: Mapping[int, np.ndarray], body: Mapping[str, Any], instructions: Sequence[Instruction],
             parts: Iterable[np.ndarray]) -> "_Accesses":
        """Run passes, those of a part at once."""
        accesses = _Accesses(memories[self._vector], body, self._item, self._lanes.lanes)
        for part in parts:
            frame = self._lanes.frame(part, body["m_count"])
            for instruction in instructions:
                if not instruction.op.is_memory:
                    frame.compute(instruction)
                elif instruction.op is Operation.INDEX:
                    frame.write(instruction.dst, (body["index"] + frame.elements(instruction)) % (1 << 32))
                elif instruction.op.is_store:
                    accesses.store(instruction, frame)
                else:
                    accesses.load(instruction, frame)
            frame.end()
        return accesses

    @staticmethod
    def _decoded(stored: bytes) -> list[Instruction]:
        try:
            return [Instruction.decode(stored[at:at + INSTRUCTION_BYTES])
                    for at in range(0, len(stored), INSTRUCTION_BYTES)]
        except ValueError as error:
            raise ProgramError(f"instruction: {error}") from None

    @staticmethod
    def _check(body: Mapping[str, Any]) -> None:
        for name, value in body.items():
            if name not in _FIELDS and int(value if isinstance(value, (int, np.integer)) else value.value):
                raise ProgramError(f"{name} must be zero with routine")
        if not 1 <= body["m_count"] <= SLOTS:
            raise ProgramError(f"m_count must be in 1..{SLOTS} with routine, not {body['m_count']}")
        if not body["scale_nstep"] or body["scale_base"] + body["scale_nstep"] > INSTRUCTIONS:
            raise ProgramError(f"a routine must have 1 to {INSTRUCTIONS} instructions up to the last that is held")
