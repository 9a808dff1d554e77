"""Commands under test: those of every kind of array, and those with a fifth queue."""

from pearray.hdl.kinds import kinds
from pearray.hdl.systolic.commands import command_set

__all__ = ["COMMAND_SETS"]

COMMAND_SETS = {name: hardware.config.commands for name, hardware in kinds().items()} | {
    "systolic with moves": command_set(frozenset({"pairs"}), moves=True)}
