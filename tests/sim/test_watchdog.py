"""What is said of a program that got stuck."""

from pearray.compiler.program import Program
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.systolic.commands import COMMANDS
from pearray.sim.watchdog import waiting


def test_who_waits_for_whom():
    """Which command is stuck, and on what, would be named wrongly once counts have wrapped."""
    program = Program(COMMANDS)
    for _ in range(66_000):
        program.load({}, length=1, count1=1, count2=1)
    program.execute({"load": 65_990})
    program.store({"execute": 1})
    completed = {"load": 65_980, "execute": 0, "store": 0}
    assert waiting([(64, program.encode())], 64, completed, COMMANDS) == [
        "load command 65981 (program command 65980) waits for nothing but does not complete",
        "execute command 1 (program command 66000) waits for load 65990 (has 65980)",
        "store command 1 (program command 66001) waits for execute 1 (has 0)",
    ]


def test_a_wait_that_counts_cannot_tell():
    """A command that the hardware holds back for ever would be said to wait for nothing."""
    end = COMMANDS.encode(Opcode.END, {"load": 32_769}, {})
    program = COMMANDS.encode(Opcode.LOAD, {}, {}) * 32_769 + end
    assert waiting([(0, program)], 0, {"load": 32_768}, COMMANDS) == [
        "load command 32769 (program command 32768) waits for load 65536 (has 32768)"]
