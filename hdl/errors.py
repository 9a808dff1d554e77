"""The one exception that a user's mistake raises, and wording that its messages share."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["PearrayError", "unknown"]


class PearrayError(ValueError):
    """A mistake of the user, told in one line: the field, its value, what is allowed, what to do."""


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
