"""Run a Yosys script in this process: ``python -m pearray.boards.yosys SCRIPT``.

Yosys is native code in the PyPI package ``pyosys``. It prints to the process's own standard output
and ends the process on an error, so callers start this module as a process of its own.
"""

import sys
from pathlib import Path

__all__ = ["main"]


def main(script: str) -> None:
    """Run each line of a script file as one Yosys command."""
    from pyosys import libyosys

    design = libyosys.Design()
    for command in Path(script).read_text().splitlines():
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    main(sys.argv[1])
