"""Checked groups of parameters, of which configurations consist."""

from dataclasses import field, fields
from typing import Any, ClassVar

from .errors import PearrayError

__all__ = ["Section", "integer"]


def integer(default: int | None, low: int, high: int, doc: str, *, power: bool = False) -> Any:
    """Declare an integer field that is checked against its range when the section is made."""
    metadata = {"low": low, "high": high, "power": power, "doc": doc}
    if default is None:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


class Section:
    """A group of checked fields, one table of the configuration file."""

    #: Name of the table.
    SECTION: ClassVar[str]

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if "low" not in item.metadata:
                continue
            low, high = item.metadata["low"], item.metadata["high"]
            allowed = f"an integer in {low}..{high}"
            if item.metadata["power"]:
                allowed = f"a power of two in {low}..{high}"
            if (type(value) is not int or not low <= value <= high
                    or (item.metadata["power"] and value & value - 1)):
                raise PearrayError(f"{self.SECTION}.{item.name} must be {allowed}, not {value!r}")
