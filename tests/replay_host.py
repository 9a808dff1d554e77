"""A host of somebody else's: runs compiled files on generated Verilog. Run by cocotb for ``test_replay.py``.

It knows the files alone (manifest, memory image, tensor map) and the AXI models of cocotbext-axi.
"""

import json
import os
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam


@cocotb.test()
async def replay(dut):
    """Run every compiled folder, one after another, without a reset between them."""
    folder = Path(os.environ["REPLAY"])
    registers = {register["name"]: register["offset"]
                 for register in json.loads((folder / "manifest.json").read_text())["registers"]}
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)

    await host.write_dword(registers["interrupt_enable"], 1)
    for job in sorted(folder.glob("job*")):
        ram.write(0, (job / "memory.bin").read_bytes())
        tensors = json.loads((job / "tensors.json").read_text())
        await host.write_dword(registers["program_address"], tensors["program_address"])
        await host.write_dword(registers["control"], 1)
        await with_timeout(RisingEdge(dut.irq), 2, "ms")
        status = await host.read_dword(registers["status"])
        assert status == 0b10, f"{job.name} ended with status {status:#x}"
        (job / "after.bin").write_bytes(ram.read(0, 1 << 20))
