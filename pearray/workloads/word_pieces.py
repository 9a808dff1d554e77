"""Text as numbers of word pieces, as BERT's uncased tokeniser has them (Devlin 2018)."""

import unicodedata
from collections.abc import Mapping

__all__ = ["word_pieces"]

_CLS, _SEP, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"

#: Characters of a word that is cut into pieces, at most.
_LONGEST = 100

#: First and last of the ideographs that are words of their own.
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
               (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F))

#: Characters beside letters and digits in ASCII that are no punctuation by Unicode's categories.
_SYMBOLS = frozenset("$+<=>^`|~")


def word_pieces(text: str, numbers: Mapping[str, int], length: int) -> list[int]:
    """Numbers of the pieces of a text, the longest that there are first, between the marks of beginning and end.

    Parameters
    ----------
    text : str
        Any text.
    numbers : mapping of str to int
        Number of each piece; pieces that go on with a word begin with ``##``.
    length : int
        Most numbers, marks included; what is beyond is cut.
    """
    pieces = [piece for word in _words(text) for piece in _pieces(word, numbers)][:length - 2]
    return [numbers[piece] for piece in (_CLS, *pieces, _SEP)]


def _words(text: str) -> list[str]:
    """Words in small letters without accents; each mark of punctuation is a word."""
    spaced = "".join(_spaced(each) for each in text)
    plain = "".join(each for each in unicodedata.normalize("NFD", spaced.lower()) if unicodedata.category(each) != "Mn")
    return "".join(f" {each} " if _is_punctuation(each) else each for each in plain).split()


def _spaced(character: str) -> str:
    """Drop what is not to be seen, and let ideographs stand alone."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if character == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {character} " if any(low <= ord(character) <= high for low, high in _IDEOGRAPHS) else character


def _is_punctuation(character: str) -> bool:
    return character in _SYMBOLS or unicodedata.category(character).startswith("P")


def _pieces(word: str, numbers: Mapping[str, int]) -> list[str]:
    """Pieces of a word, or the mark of an unknown one."""
    found: list[str] = []
    rest = word
    while rest:
        mark = "##" if found else ""
        end = next((end for end in range(len(rest), 0, -1) if mark + rest[:end] in numbers), 0)
        if not end or len(word) > _LONGEST:
            return [_UNKNOWN]
        found.append(mark + rest[:end])
        rest = rest[end:]
    return found
