"""Validator: refuses a program that could wait for ever, or of which a gate could compare a count wrongly.

It reads the encoded program and nothing else, so it judges the assembler too. A program that it lets pass ends on
hardware whatever its engines' and its memory's timing: see :mod:`pearray.hdl.shell.waits` for why.
"""

from collections.abc import Callable, Sequence

import numpy as np
from amaranth.hdl import Shape

from ..hdl.errors import PearrayError
from ..hdl.shell.commands import COMMAND_BYTES, FORMAT_VERSION, QUEUES, Opcode, header_layout
from ..hdl.shell.waits import HELD, WAIT_BITS, meant

__all__ = ["commands_before", "validate"]

#: Commands that follow, if ``near_end`` tells nothing.
_UNTOLD = 15

#: Type of counts of commands: of long programs several of each command stand in memory at once.
_COUNT = np.int32


def commands_before(queues: np.ndarray, count: int = len(QUEUES)) -> np.ndarray:
    """Commands of each queue that stand before each command, of shape (commands, count).

    `queues`, of shape (commands,), are numbers of `count` queues; an END has another number.
    """
    own = queues[:, None] == np.arange(count)
    before = np.cumsum(own, axis=0, dtype=_COUNT)
    before -= own
    return before


def validate(program: bytes, count_bits: int = WAIT_BITS, held: int = HELD, *,
             queues: Sequence[Opcode] = QUEUES) -> None:
    """Check the waits of a program.

    Parameters
    ----------
    program : bytes
        Encoded program, up to its END.
    count_bits : int
        Width of the hardware's counts of completed commands.
    held : int
        Commands of a queue that the hardware has fetched and not completed, at most.
    queues : sequence of Opcode
        Queues of the configuration (:attr:`.CommandSet.queues`).

    Raises
    ------
    PearrayError
        If the counts are too narrow for what the hardware holds, or naming the first command that waits for one that
        does not stand before it, or for one that others may leave so far behind that it looks as if it were yet to
        come; that the fetch unit would not go beyond; or with which the run would end too early.
    """
    if held > 1 << count_bits - 1:
        raise PearrayError(f"count_bits must be at least {(held - 1).bit_length() + 1} to tell {held} commands apart, "
                           f"not {count_bits}")
    names = [opcode.name.lower() for opcode in queues]
    numbers, waits = _headers(program, queues)
    before = commands_before(numbers, len(queues))
    counts = meant(waits, before, count_bits)
    _refuse(names, numbers, before, counts > before, lambda row, queue: (
        f"waits for {names[queue]} {counts[row, queue]}, but only {before[row, queue]} stand before it: it could wait "
        f"for ever"))
    left = counts[-1] < before[-1]
    if left.any():
        queue = int(left.argmax())
        raise PearrayError(f"program command {len(numbers) - 1} (END) must wait for all {before[-1, queue]} "
                           f"{names[queue]} commands, not {counts[-1, queue]}: the run would end before they have "
                           f"completed")
    most = _most_completed(numbers, counts)
    _refuse(names, numbers, before, most - counts >= 1 << count_bits - 1, lambda row, queue: (
        f"waits for {names[queue]} {counts[row, queue]}, but {most[row, queue]} may have completed before it starts: "
        f"counts of {count_bits} bits can't tell, and it could wait for ever"))


def _headers(program: bytes, order: Sequence[Opcode]) -> tuple[np.ndarray, np.ndarray]:
    """Queue of each command, END's being that after the last, and its waits, (commands, queues)."""
    if not program or len(program) % COMMAND_BYTES:
        raise PearrayError(f"a program must be whole commands of {COMMAND_BYTES} bytes, not {len(program)} bytes")
    words = np.frombuffer(program, "<u2").reshape(-1, COMMAND_BYTES // 2)
    layout = header_layout(order)

    def field(name: str) -> np.ndarray:
        place = layout[name]
        word, shift = divmod(place.offset, 16)
        values: np.ndarray = words[:, word].astype(_COUNT) >> shift & (1 << Shape.cast(place.shape).width) - 1
        return values

    numbers = np.full(256, -1, _COUNT)
    numbers[[opcode.value for opcode in (*order, Opcode.END)]] = np.arange(len(order) + 1)
    queues = numbers[field("opcode")]
    following = np.arange(len(queues), dtype=_COUNT)[::-1]
    told = _UNTOLD - field("near_end")
    is_end = queues == len(order)
    wrong = {
        "has an unknown opcode": queues < 0,
        f"must be of version {FORMAT_VERSION}": field("version") != FORMAT_VERSION,
        "is an END, but others follow": is_end & (following > 0),
        "is the last, but no END": ~is_end & (following == 0),
        "tells a wrong number of commands that follow": (told != _UNTOLD) & (told != following),
    }
    for what, where in wrong.items():
        if where.any():
            raise PearrayError(f"program command {where.argmax()} {what}")
    return queues, np.stack([field(f"wait_{opcode.name.lower()}") for opcode in order], axis=1)


def _most_completed(queues: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Commands of each queue that may have completed while a command stands in its slot, (commands, queues).

    ``counts`` are those that commands wait for, of the same shape.
    """
    most = np.empty_like(counts)
    places = [np.flatnonzero(queues == number) for number in range(counts.shape[1])]
    # Nothing stands behind the END.
    most[-1] = [len(place) for place in places]
    for own, place in enumerate(places):
        for other, others in enumerate(places):
            # Of another queue, all up to the first that waits for it, or for one behind it; commands start in order.
            first = np.maximum.accumulate(counts[others, own])
            most[place, other] = np.searchsorted(first, np.arange(len(place)) + 1)
        most[place, own] = np.arange(len(place))
    return most


def _refuse(names: Sequence[str], queues: np.ndarray, before: np.ndarray, wrong: np.ndarray,
            what: Callable[[int, int], str]) -> None:
    """Raise an error about the first command of which something is wrong with the wait for a queue."""
    if not wrong.any():
        return
    row, queue = (int(index) for index in np.argwhere(wrong)[0])
    number = int(queues[row])
    name = f"{names[number]} command {before[row, number] + 1}" if number < len(names) else "END"
    raise PearrayError(f"program command {row} ({name}) {what(row, queue)}")
