"""What a simulator says of a broken rule, as one line that a user can read."""

import re

__all__ = ["broken", "explain"]

_LINE = re.compile(r"rule (\d+)")
_MODULE = re.compile(r"^module (\w+)_rules_\w+\(", re.MULTILINE)
_LOG = re.compile(r"\[(\d+)\] %Error: rules\.sv:(\d+): ")
_ERROR = re.compile(r"\$error\(\"(.*)\"\)")


def explain(rules: str, message: str) -> str:
    """Turn ``rule LINE`` into the module that states the rule and what it says; leave the rest alone.

    Parameters
    ----------
    rules : str
        SystemVerilog of the rules, as the simulator read it.
    message : str
        Message of an engine.
    """
    found = _LINE.fullmatch(message)
    if not found:
        return message
    lines = rules.splitlines()
    number = int(found[1])
    says = _ERROR.search(lines[number - 1])
    modules = _MODULE.findall("\n".join(lines[:number]))
    return f"{modules[-1]}: {says[1]}" if says and modules else message


def broken(rules: str, log: str) -> tuple[int, str] | None:
    """Find a broken rule in what Verilator printed: its time, and the rule as one line."""
    found = _LOG.search(log)
    return (int(found[1]), explain(rules, f"rule {found[2]}")) if found else None
