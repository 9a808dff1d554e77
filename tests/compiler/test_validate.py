"""The validator: programs that could wait for ever, or end too early, are refused before they run."""

import tracemalloc

import numpy as np
import pytest
from command_sets import COMMAND_SETS

from pearray.compiler.program import Program
from pearray.compiler.validate import validate
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import COMMAND_BYTES, QUEUES, Opcode
from pearray.hdl.systolic.commands import COMMANDS

NAMES = [opcode.name.lower() for opcode in QUEUES]
MOVES = COMMAND_SETS["systolic with moves"]


def encoded(*commands, ending=None, **kwargs):
    """Encode commands, each an opcode and its waits, just as they are, and an END that waits for all of them."""
    counts = dict.fromkeys(NAMES, 0)
    for opcode, _ in commands:
        counts[opcode.name.lower()] += 1
    parts = [COMMANDS.encode(opcode, waits, {}, len(commands) - index)
             for index, (opcode, waits) in enumerate(commands)]
    return b"".join([*parts, COMMANDS.encode(Opcode.END, counts if ending is None else ending, {}, 0)])


@pytest.mark.parametrize("format", [COMMANDS, MOVES], ids=["four", "five"])
def test_programs_of_the_assembler_pass(rng, format):
    """A program as the compiler makes it, of any length and order, would not be compiled."""
    queues = format.queues
    for count in (0, 1, 50, 40_000):
        program = Program(format)
        for queue in rng.choice(len(queues), count, p=rng.dirichlet([0.4] * len(queues))):
            program.emit(queues[queue], {name: int(rng.integers(total + 1)) for name, total in
                                         program.counts.items() if rng.random() < 0.2}, {})
        validate(program.encode(), queues=queues)


LOAD, STORE = (Opcode.LOAD, {}), (Opcode.STORE, {})


@pytest.mark.parametrize(("program", "message"), [
    (encoded(LOAD, (Opcode.EXECUTE, {"load": 2}), LOAD),
     "program command 1 (execute command 1) waits for load 2, but only 1 stand before it: it could wait for ever"),
    (encoded(LOAD, (Opcode.LOAD, {"load": 2})),
     "program command 1 (load command 2) waits for load 2, but only 1 stand before it: it could wait for ever"),
    (encoded(LOAD, STORE, ending={"load": 1}),
     "program command 2 (END) must wait for all 1 store commands, not 0: the run would end before they have completed"),
    (encoded(LOAD, ending={"load": 2}),
     "program command 1 (END) waits for load 2, but only 1 stand before it: it could wait for ever"),
    (encoded(*[LOAD] * 32_769),
     "program command 32768 (load command 32769) waits for load 65536, but only 32768 stand before it: it could wait "
     "for ever"),
    (encoded(STORE, *[(Opcode.LOAD, {"load": max(0, index - 5)}) for index in range(33_000)]),
     "program command 0 (store command 1) waits for load 0, but 33000 may have completed before it starts: counts of "
     "16 bits can't tell, and it could wait for ever"),
    (b"", "a program must be whole commands of 64 bytes, not 0 bytes"),
    (encoded(LOAD)[:-1], "a program must be whole commands of 64 bytes, not 127 bytes"),
    (encoded(LOAD)[:COMMAND_BYTES], "program command 0 is the last, but no END"),
    (encoded(LOAD)[COMMAND_BYTES:] + encoded(LOAD), "program command 0 is an END, but others follow"),
    (COMMANDS.encode(Opcode.LOAD, {}, {}, 1) + encoded(LOAD),
     "program command 0 tells a wrong number of commands that follow"),
    (b"\x07" + encoded(LOAD)[1:], "program command 0 has an unknown opcode"),
    (encoded(LOAD)[:1] + b"\x01" + encoded(LOAD)[2:], "program command 0 must be of version 4"),
], ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_is_refused(program, message):
    """The hardware would hang, or end before all is done, and nobody would know at which command."""
    with pytest.raises(PearrayError) as caught:
        validate(program)
    assert str(caught.value) == message


def test_narrow_counts():
    """Counts that can't tell what the queues hold would be compared wrongly whatever the program."""
    with pytest.raises(PearrayError, match=r"^count_bits must be at least 8 to tell 80 commands apart, not 7$"):
        validate(encoded(LOAD), 7)
    validate(encoded(LOAD), 8)


@pytest.mark.parametrize("format", [COMMANDS, MOVES], ids=["four", "five"])
def test_one_wrong_wait_is_found(rng, format):
    """A wait that slipped past what stands before its command would hang the hardware and nothing would say so."""
    program, queues = Program(format), format.queues
    for queue in rng.integers(len(queues), size=300):
        program.emit(queues[queue], dict(program.counts), {})
    words = np.frombuffer(program.encode(), "<u2").reshape(-1, COMMAND_BYTES // 2).copy()
    row, queue = int(rng.integers(300)), int(rng.integers(len(queues)))
    words[row, 2 + queue] += 1
    with pytest.raises(PearrayError, match=rf"^program command {row} \("):
        validate(words.tobytes(), queues=queues)


def test_memory_of_a_long_program():
    """Programs of large products, of millions of commands, would take more memory to check than to make."""
    count = 100_000
    program = Program(COMMANDS)
    stream = program.stream(Opcode.LOAD)
    body = {}
    for _ in range(count):
        stream.append(body, 0, 0, 0, 0)
    encoded = program.encode()
    tracemalloc.start()
    validate(encoded)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Four counts of four bytes for each queue, and what one of them is made of.
    assert most < count * 8 * len(QUEUES) * 4
