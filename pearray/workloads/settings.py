"""Settings of a workload, as ``--set workload.KEY=VALUE`` gives them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hdl.errors import PearrayError
from ..messages import unknown

__all__ = ["Settings"]


class Settings:
    """Settings of a workload, each checked when it is asked for; what nobody asked for is an error.

    Parameters
    ----------
    workload : str
        Its name, for messages.
    given : mapping of str to Any
        What the user gave, by key without ``workload.``.
    """

    def __init__(self, workload: str, given: Mapping[str, Any]):
        self._workload = workload
        self._given = dict(given)
        self._known: list[str] = []

    def integer(self, key: str, default: int, low: int = 1) -> int:
        """Take an integer of at least `low`."""
        value = self._take(key, default)
        if type(value) is not int or value < low:
            raise PearrayError(f"workload.{key} must be an integer of at least {low}, not {value!r}")
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
        if value not in allowed:
            raise PearrayError(f"workload.{key} must be {' or '.join(allowed)}, not {value!r}")
        return str(value)

    def mapping(self) -> str:
        """Take where the mappings of a row-stationary array come from: "own", "paper" or a file."""
        value = self._take("mapping", "own")
        if not isinstance(value, str) or (value not in ("own", "paper") and not Path(value).is_file()):
            raise PearrayError(f"workload.mapping must be own, paper or the path of a file, not {value!r}")
        return value

    def __contains__(self, key: str) -> bool:
        return key in self._given

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._given.get(key, default)

    def finish(self) -> None:
        """Raise an error if the user gave what nobody took."""
        for key in self._given:
            if key not in self._known:
                raise unknown(f"key of workload {self._workload!r}", f"workload.{key}",
                              [f"workload.{name}" for name in self._known])
