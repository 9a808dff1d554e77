"""Drawn routines, and what NumPy says that lanes make of them: the table of instructions, one after another."""

import numpy as np
from float_draws import FLOAT32, corners, draw_float32, from_bits, to_bits
from unit_draws import integers_of

from pearray.golden import rounding
from pearray.hdl.routines.instructions import (
    ELEMENT_BITS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    REGISTERS,
    SLOTS,
    Instruction,
    Operation,
)
from pearray.hdl.shell.commands import Rounding
from pearray.hdl.shell.config import Memory, Post
from pearray.hdl.systolic.config import Accumulators, Array, Scratchpads, SystolicConfig

#: Operations that compute with registers alone.
COMPUTING = [each for each in Operation if not each.is_memory and each is not Operation.SET]

_ONES = np.uint32(0xFFFFFFFF)


def config(lanes=2, cols=4, operands="bfloat16", data_width=64, vector_bytes=512, output_bytes=4096):
    """A small accelerator with routines."""
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=cols, operands=operands, sum_cycles=2),
        post=Post(lanes=lanes, routines=1),
        scratchpads=Scratchpads(activation_bytes=1024, weight_bytes=1024, output_bytes=output_bytes, channels=64,
                                vector_bytes=vector_bytes),
        accumulators=Accumulators(depth=32), memory=Memory(data_width=data_width))


def _signed(bits):
    return bits.view(np.int32)


def _compute(format, operation, a, b, c):
    """What an operation makes of bits of registers."""
    x, y = from_bits(a, FLOAT32), from_bits(b, FLOAT32)
    table = {
        Operation.ADD: lambda: to_bits(x + y), Operation.SUB: lambda: to_bits(x - y),
        Operation.MUL: lambda: to_bits(x * y), Operation.DIV: lambda: to_bits(x / y),
        Operation.SQRT: lambda: to_bits(np.sqrt(x)), Operation.LESS: lambda: x < y, Operation.EQUAL: lambda: x == y,
        Operation.SELECT: lambda: np.where(c != 0, a, b), Operation.INTEGER_ADD: lambda: a + b,
        Operation.AND: lambda: a & b, Operation.OR: lambda: a | b, Operation.XOR: lambda: a ^ b,
        Operation.SHIFT_LEFT: lambda: a << (b & 31), Operation.SHIFT_RIGHT: lambda: a >> (b & 31),
        Operation.INTEGER_LESS: lambda: _signed(a) < _signed(b), Operation.TO_INTEGER: lambda: integers_of(a),
        Operation.TO_FLOAT: lambda: to_bits(_signed(a).astype(np.float32)),
        Operation.NARROW: lambda: to_bits(x, format), Operation.MIX: lambda: rounding.mix(a)}
    if operation is Operation.NARROW_RANDOM:
        return _at_random(format, x, b & 0xFFFF)
    with np.errstate(all="ignore"):
        return table[operation]().astype(np.uint32)


def _at_random(format, x, random):
    """Golden's rule, number by number in the units of the format: whether the rest, cut to 16 bits, is more."""
    kind = format.dtype
    with np.errstate(all="ignore"):
        magnitude = np.abs(x).astype(np.float64)
        exponent = np.frexp(magnitude)[1] - 1
        unit = np.exp2(np.maximum(exponent, 1 - format.bias) - format.fraction)
        whole = np.floor(magnitude / unit)
        up = np.floor((magnitude / unit - whole) * 65536) > random
        values = np.copysign((whole + up) * unit, x.astype(np.float64))
        return to_bits(np.where(np.isfinite(x), values, x).astype(np.float32).astype(kind).astype(np.float32), format)


class Model:
    """Lanes with their registers, the vector memory, and the output scratchpad, of which -1 was never written.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    """

    def __init__(self, config):
        self.config, self.format = config, config.arithmetic.format
        self.registers = np.zeros((SLOTS, config.post.lanes, REGISTERS), np.uint32)
        self.vectors = np.zeros(config.scratchpads.vector_bytes, np.uint8)
        self.routines = np.zeros(INSTRUCTIONS * INSTRUCTION_BYTES, np.uint8)
        self.written = np.full(config.scratchpads.output_bytes, -1)
        self.groups = 0

    def run(self, command):
        """Run a command: the passes, their instructions, and the slots of each; all lanes at once."""
        stored = self.routines.reshape(-1, INSTRUCTION_BYTES)
        for number in range(command["n_count"]):
            for place in range(command["scale_nstep"]):
                instruction = Instruction.decode(stored[(command["scale_base"] + place) % INSTRUCTIONS].tobytes())
                for slot in range(command["m_count"]):
                    self._step(command, instruction, number, slot)

    def _step(self, command, instruction, number, slot):
        operation, registers, lanes = instruction.op, self.registers[slot], self.config.post.lanes
        element = (instruction.offset + number * instruction.step + slot * instruction.slot_step) % (1 << ELEMENT_BITS)
        elements = element * lanes + np.arange(lanes)
        narrow = operation in (Operation.LOAD_NARROW, Operation.STORE_NARROW)
        size = self.config.operand_bytes if narrow else 4
        a, b, c = (registers[:, each] for each in (instruction.a, instruction.b, instruction.c))
        if operation.is_store:
            places = command["out_base"] + elements[:, None] * size + np.arange(size)
            self.written[places % len(self.written)] = a.astype("<u4").view(np.uint8).reshape(lanes, 4)[:, :size]
            self.groups += 1
            return
        if operation is Operation.SET:
            found = np.full(lanes, instruction.literal, np.uint32)
        elif operation is Operation.INDEX:
            found = (command["index"] + elements).astype(np.uint64).astype(np.uint32)
        elif operation.is_memory:
            places = command["bias_base"] * lanes * 4 + elements[:, None] * size + np.arange(size)
            found = self.vectors[places % len(self.vectors)].view(f"<u{size}")[:, 0].astype(np.uint32)
            found = to_bits(from_bits(found, self.format)) if narrow else found
        else:
            found = _compute(self.format, operation, a, b, c)
        registers[:, instruction.dst] = found


def draw_vectors(rng, target):
    """Content of the vector memory: numbers of all kinds, and operands of any bits."""
    count = target.scratchpads.vector_bytes // 4
    words = np.where(rng.random(count) < 0.5, draw_float32(rng, target.arithmetic.format, count),
                     to_bits((rng.standard_normal(count) * 30).astype(np.float32)))
    some = corners(FLOAT32)[0]
    words[:min(len(some), count // 8)] = some[:count // 8]
    return words.astype("<u4").view(np.uint8)


def _element(rng, groups, places):
    """Fields of an instruction of memory: groups anywhere, and steps of any sign."""
    small = rng.integers(-3, 4, 2).tolist()
    wide = rng.integers(-(1 << ELEMENT_BITS - 1), 1 << ELEMENT_BITS - 1, 2).tolist()
    step, slot_step = small if rng.random() < 0.8 else wide
    return {"offset": int(rng.integers(0, groups)), "step": step, "slot_step": slot_step if places else 1}


def draw_instruction(rng, operation):
    """Draw an instruction."""
    registers = dict(zip(("dst", "a", "b", "c"), rng.integers(0, REGISTERS, 4).tolist(), strict=True))
    if operation is Operation.SET:
        special = [0, 1, 0x3F800000, 0x80000000, 0x7F800000, 31, int(rng.integers(0, 1 << 32))]
        return Instruction(op=operation, dst=registers["dst"], literal=special[rng.integers(len(special))])
    if operation.is_memory:
        return Instruction(op=operation, dst=registers["dst"], a=registers["a"], **_element(rng, 1 << 10, True))
    return Instruction(op=operation, **registers)


def fill(rng):
    """Draw a routine that fills all registers with words."""
    return [Instruction(op=Operation.LOAD_WORD, dst=register, offset=int(rng.integers(1 << 10)), slot_step=1)
            for register in range(REGISTERS)]


def draw_routine(rng, operations, long):
    """Draw instructions: operations among those of memory, and one that is long before one of memory."""
    moving = [each for each in Operation if each.is_memory or each is Operation.SET]
    rest = []
    for operation in operations:
        rest += [draw_instruction(rng, moving[rng.integers(len(moving))])] * int(rng.random() < 0.4)
        rest.append(draw_instruction(rng, operation))
    place = int(rng.integers(len(rest) + 1))
    rest[place:place] = [draw_instruction(rng, long), draw_instruction(rng, Operation.LOAD_NARROW)]
    return rest


def dump():
    """Routine that stores all registers of all slots."""
    return [Instruction(op=Operation.STORE_WORD, a=register, offset=register * SLOTS, slot_step=1)
            for register in range(REGISTERS)]


def command(rng, target, first, count, **fields):
    """A command that runs instructions, on a part of the memories that is drawn."""
    unit = target.post.lanes * 4
    return {
        "rounding": Rounding.NONE, "routine": 1, "scale_base": first, "scale_nstep": count,
        "n_count": int(rng.integers(1, 4)), "m_count": int(rng.integers(1, SLOTS + 1)),
        "bias_base": int(rng.integers(0, target.scratchpads.vector_bytes // unit)),
        "out_base": int(rng.integers(0, target.scratchpads.output_bytes // unit)) * unit,
        "index": int(rng.integers(0, 1 << 32)), **fields}
