"""The bug bank: one-line faults of the hardware, each with the test that must catch it."""

from faults import Fault

__all__ = ["BANK"]

BANK: list[Fault] = []
