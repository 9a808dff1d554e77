"""Somebody else's host and memory: runs the files of ``pearray compile``, and imports nothing of pearray."""

import json
import os
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def replay(dut):
    """Run the program, and write down what memory holds where the output should be."""
    folder = Path(os.environ["REPLAY"])
    tensors = json.loads((folder / "tensors.json").read_text())
    registers = {register["name"]: register["offset"]
                 for register in json.loads(Path(os.environ["MANIFEST"]).read_text())["registers"]}
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 32)
    ram.write(0, (folder / "memory.bin").read_bytes())
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await host.write_dword(registers["program_address"], tensors["program_address"])
    await host.write_dword(registers["control"], 1)
    status = 0
    while not status & 2:
        await First(RisingEdge(dut.irq), ClockCycles(dut.clk, 500))
        status = await host.read_dword(registers["status"])
    assert status == 2, f"status {status:#x}"
    for tensor in tensors["tensors"]:
        if tensor["role"] == "output":
            (folder / f"{tensor['name']}.bin").write_bytes(ram.read(tensor["address"], tensor["bytes"]))
