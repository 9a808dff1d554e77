"""Settings of a workload, as ``--set workload.KEY=VALUE`` gives them."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..hdl.errors import PearrayError, check_choice, unknown

__all__ = ["LARGEST", "Settings"]

#: Largest size of a workload.
LARGEST = 10**9 - 1


class Settings:
    """Settings of a workload, each checked when it is asked for; what nobody asked for is an error.

    Parameters
    ----------
    workload : str
        Its name, for messages.
    given : mapping of str to Any
        What the user gave, by key without ``workload.``.
    passed_on : iterable of str
        Keys that are no business of the workload: the array's mapper takes them.

    Members
    -------
    passed_on : dict
        Those of them that were given.
    """

    def __init__(self, workload: str, given: Mapping[str, Any], passed_on: Iterable[str] = ()):
        self._workload = workload
        self._known = list(passed_on)
        self.passed_on = {key: value for key, value in given.items() if key in self._known}
        self._given = {key: value for key, value in given.items() if key not in self._known}

    def integer(self, key: str, default: int, low: int = 1, high: int = LARGEST) -> int:
        """Take an integer in `low` to `high`."""
        value = self._take(key, default)
        if type(value) is not int or not low <= value <= high:
            raise PearrayError(f"workload.{key} must be an integer in {low}..{high}, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise PearrayError(f"workload.{key} must be true or false, not {value!r}")
        return value

    def choice(self, key: str, *allowed: str) -> str:
        """Take one of the values that are allowed, by default the first."""
        value = self._take(key, allowed[0])
        check_choice(f"workload.{key}", value, allowed)
        return str(value)

    def text(self, key: str) -> str | None:
        """Take a text, or None if there is none."""
        value = self._take(key, None)
        if value is not None and not isinstance(value, str):
            raise PearrayError(f"workload.{key} must be a text, not {value!r}")
        return value

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._given.get(key, default)

    def finish(self) -> None:
        """Raise an error if the user gave what nobody took."""
        for key in self._given:
            if key not in self._known:
                raise unknown(f"key of workload {self._workload!r}", f"workload.{key}",
                              [f"workload.{name}" for name in self._known])
