"""Waits: how a command tells what must have completed before it, how gates compare that, and why it can't go wrong.

The completed commands of a queue are counted modulo ``2**bits``. A command that waits for ``count`` of them holds
``count`` modulo ``2**bits``. Its gate sees the difference of the two, the *lead*, and is open if that is in the lower
half of the range. This says ``completed >= count`` if the true difference is in ``-2**(bits - 1) .. 2**(bits - 1) - 1``
for as long as the command stands in its queue's slot. Let ``before`` be how many commands of the awaited queue stand
before it in the program. Then two bounds see to that:

* ``before - completed <= HELD``. All that stand before a command have been fetched when it comes to its slot. Of those,
  the queue's memory holds :data:`QUEUE_DEPTH` at most, its slot one, and its engine :data:`IN_ENGINE`. A command
  never waits for more than ``before``.
* ``completed - before < near(bits)``. Commands behind may overtake a command that stands in its slot, but
  each waits for all that stand before its own queue's ``near(bits) - 1``-th command before it. And nobody
  waits for less than ``before - near(bits)``: older commands have completed for certain, if ``near(bits)`` is at least
  :data:`HELD`, and else it does no harm to wait for them.

Rules of the queues and of the accelerator watch the first in every simulation. The compiler moves waits up so that the
second holds (:meth:`~pearray.compiler.program.Program.encode`), and refuses programs for which it does not
(:mod:`pearray.compiler.validate`).
"""

from typing import Any

__all__ = ["HELD", "IN_ENGINE", "QUEUE_DEPTH", "WAIT_BITS", "lead", "meant", "near", "reached", "wait_field"]

#: Width of a wait in a command's header, and of the counts of completed commands.
WAIT_BITS = 16
#: Commands in the memory of a queue, at most.
QUEUE_DEPTH = 16
#: Commands that an engine has taken and not completed, at most. No engine holds nearly as many.
IN_ENGINE = 63
#: Commands of a queue that have been fetched and have not completed, at most.
HELD = QUEUE_DEPTH + 1 + IN_ENGINE


def wait_field(count: Any, bits: int = WAIT_BITS) -> Any:
    """Field of a command's header for a count of commands to wait for; integers or arrays."""
    return count % (1 << bits)


def lead(completed: Any, wait: Any, bits: int = WAIT_BITS) -> Any:
    """How far a count is ahead of a wait, as gates see it: in ``-2**(bits - 1) .. 2**(bits - 1) - 1``."""
    half = 1 << bits - 1
    return (completed - wait + half) % (2 * half) - half


def reached(completed: Any, wait: Any, bits: int = WAIT_BITS) -> Any:
    """Whether a gate is open: integers or arrays, each as it is or modulo ``2**bits``."""
    return lead(completed, wait, bits) >= 0


def meant(wait: Any, before: Any, bits: int = WAIT_BITS) -> Any:
    """Count that a wait stands for, in a command before which ``before`` commands of the awaited queue stand.

    More than ``before`` if the command waits for one that does not stand before it. Less than zero if it waits for none
    at all.
    """
    return before - lead(before, wait, bits)


def near(bits: int = WAIT_BITS) -> int:
    """How many commands of its queue a count may be away from those that stand before a command: a quarter."""
    return 1 << bits - 2
