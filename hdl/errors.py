"""The one exception that a user's mistake raises, and wording that its messages share."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from os import PathLike
from os.path import isfile
from pathlib import Path
from typing import Any

__all__ = ["PearrayError", "check_choice", "check_count", "check_names", "check_path", "is_file", "unknown"]


class PearrayError(ValueError):
    """A mistake of the user, told in one line: the field, its value, what is allowed, what to do."""

    def __init__(self, message: str):
        # Values may print on several lines, as arrays do; names within a corrupt file may hold anything.
        line = " ".join(line.strip() for line in message.splitlines())
        super().__init__("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line))


def check_choice(what: str, value: object, allowed: Collection[str]) -> None:
    """Check that a value is one of some words."""
    *words, last = map(repr, allowed)
    if not isinstance(value, str) or value not in allowed:
        listed = f"{', '.join(words)} or {last}" if words else last
        raise PearrayError(f"{what} must be {listed}, not {value!r}")


def check_count(what: str, value: object, least: int = 0) -> int:
    """Return an integer after checking that it is one, and not too small."""
    if type(value) is not int or value < least:
        raise PearrayError(f"{what} must be an integer of at least {least}, not {value!r}")
    return value


def check_names(what: str, value: Any) -> list[str]:
    """Return a name, or several, as a list after checking that they are names."""
    try:
        names = [value] if isinstance(value, str) else list(value)
    except TypeError:
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise PearrayError(f"{what} must be names of tensors, not {value!r}")
    return names


def check_path(what: str, value: object) -> Path:
    """Return a path of a file or a folder after checking that it is one."""
    if not isinstance(value, str | PathLike) or "\0" in str(value) or not str(value):
        raise PearrayError(f"{what} must be a path, not {value!r}")
    return Path(value)


def is_file(path: str | PathLike[str]) -> bool:
    """Whether a path is that of a file; one that the system can't even look for is not."""
    # Path.is_file raises for names that are too long, and in folders that may not be searched.
    return isfile(path)


def unknown(what: str, name: object, allowed: Iterable[str]) -> PearrayError:
    """Make the error for a name that is not one of those allowed.

    Parameters
    ----------
    what : str
        What was looked up, such as ``"configuration"`` or ``"key of [array]"``.
    name : object
        What the user gave.
    allowed : iterable of str
        Every name that would have been accepted.

    Returns
    -------
    PearrayError
        One line with the nearest name, if there is one, and all that are allowed.
    """
    names = list(allowed)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return PearrayError(f"unknown {what} {name!r}: {hint}allowed: {', '.join(names)}")
