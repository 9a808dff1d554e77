"""Deliberate faults in the hardware, injected into its source while a test imports it.

A fault is a change of one line of one module. ``pytest --fault NAME`` makes it before the module is
imported; ``tests/test_bug_bank.py`` does so for every fault of ``tests/bug_bank.py`` and demands that
the test which guards that line fails.
"""

import importlib.abc
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fault", "inject"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One deliberate fault.

    Parameters
    ----------
    name : str
        Name for ``--fault``.
    module : str
        Module that holds the line.
    line : str
        Text that occurs exactly once in the module.
    fault : str
        Text in its place.
    test : str
        Test that must fail, as pytest names it, relative to ``tests``.
    every : bool
        Whether it must fail with each of its parameters, not with one at least.
    """

    name: str
    module: str
    line: str
    fault: str
    test: str
    every: bool = False


class _Loader(importlib.abc.Loader):
    def __init__(self, fault, origin):
        self._fault = fault
        self._origin = origin

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        source = Path(self._origin).read_text()
        found = source.count(self._fault.line)
        if found != 1:
            raise ValueError(f"fault {self._fault.name}: {self._fault.line!r} must occur once in "
                             f"{self._fault.module}, not {found} times")
        source = source.replace(self._fault.line, self._fault.fault)
        exec(compile(source, self._origin, "exec"), module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, fault):
        self._fault = fault

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self._fault.module:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return importlib.util.spec_from_loader(fullname, _Loader(self._fault, spec.origin),
                                                       origin=spec.origin)
        return None


def inject(fault):
    """Make a fault in every later import of its module."""
    if fault.module in sys.modules:
        raise ValueError(f"fault {fault.name}: {fault.module} is already imported")
    sys.meta_path.insert(0, _Finder(fault))
