"""What a kind of array may put into the loader: a decoder of loads whose data are codes."""

from typing import Any

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from .commands import ADDRESS_BITS
from .config import Config

__all__ = ["CODE_BYTES", "code_beat_layout", "decoder_members"]

#: Bytes of a code word, to which loads of codes are aligned.
CODE_BYTES = 8


def code_beat_layout(config: Config) -> data.StructLayout:
    """Layout of a beat of a code: ``last`` of its burst, and of all that a command may read (``end``)."""
    return data.StructLayout({"data": config.memory.data_width, "last": 1, "end": 1})


def decoder_members(config: Config, word_bits: int) -> dict[str, Any]:
    """Members of a decoder, which decides how much of a code is read and turns it into words.

    It is a component with two attributes besides: ``source``, the destination of loads that it decodes, and
    ``target``, the memory that gets their words.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    word_bits : int
        Bits of a word, whole bytes and no more than a beat.

    Members
    -------
    head : In(1)
        Whether the burst to be decided upon is the first one of its load.
    offered, requested : In(1)
        Whether that burst is offered to memory in this cycle, and whether it is taken.
    allowed, skipped : Out(1)
        Whether to offer it, or to go on without it. What was offered remains allowed.
    begin : In(1)
        The next beat is the first one of a load. Given for one cycle or more, only while not ``busy``.
    address : In(20), part : In(range(max(beat_bytes / CODE_BYTES, 2)))
        With ``begin``: byte on chip of the first word, and the code word of the first beat that is the first one.
    beats : In(stream.Signature(code_beat_layout(config)))
        Beats, of bursts that were allowed; never refused.
    busy : Out(1)
        Words of a load are still to come.
    word : Out(word_bits), place : Out(20), valid : Out(1), last : Out(1)
        A word, the byte on chip where it belongs, and whether it is the last one of its load.
    """
    return {
        "head": In(1),
        "offered": In(1),
        "requested": In(1),
        "allowed": Out(1),
        "skipped": Out(1),
        "begin": In(1),
        "address": In(ADDRESS_BITS),
        "part": In(range(max(config.beat_bytes // CODE_BYTES, 2))),
        "beats": In(stream.Signature(code_beat_layout(config))),
        "busy": Out(1),
        "valid": Out(1),
        "last": Out(1),
        "word": Out(word_bits),
        "place": Out(ADDRESS_BITS),
    }
