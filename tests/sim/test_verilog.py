# amaranth: UnusedElaboratable=no
"""Emitted Verilog and its manifest."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, Signature
from random_workloads import configuration

from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.blocks.fifo import StreamFIFO
from pearray.hdl.blocks.unit import Unit, add
from pearray.hdl.systolic.stream_array import StreamArray
from pearray.hdl.systolic.stream_pe import StreamPE
from pearray.sim.design import top_name
from pearray.sim.tools import verilator_environment, verilator_root
from pearray.sim.verilog import emit, generate, manifest

SCRIPT = """
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.systolic.stream_array import StreamArray
from pearray.sim.verilog import generate
import json
print(*generate(StreamArray(3, 2, IntegerArithmetic(8), 64), "top"))
"""


class Doubler(Component):
    """Ports of every kind, a memory with contents, and an ordinary submodule."""

    def __init__(self):
        super().__init__({
            "m_axi": Out(Signature({"aw": Out(Signature({"addr": Out(8)})), "ready": In(1)})),
            "fixed": In(stream.Signature(4, always_ready=True, always_valid=True)),
            "none": In(0),
            "reg": Out(range(-3, 3)),
        })

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        m.submodules.queue = StreamFIFO(8, 4)
        m.submodules.contents = contents = Memory(shape=8, depth=4, init=[1, 2])
        port = contents.read_port()
        m.d.comb += [port.addr.eq(self.fixed.payload), self.m_axi.aw.addr.eq(port.data)]
        m.d.sync += self.reg.eq(self.reg + self.m_axi.ready)
        return m


def lint(text, folder, name):
    """Run Verilator's lint, which fails on any warning but one."""
    (folder / f"{name}.v").write_text(text)
    subprocess.run([verilator_root() / "bin" / "verilator_bin", "--lint-only", "-Wno-WIDTHEXPAND",
                    "--top-module", name, f"{name}.v"], cwd=folder, env=verilator_environment(), check=True)


class Awkward(Component):
    """What Yosys would write in a way that lint warns of."""

    i: In(4)
    which: In(2)
    nothing: Out(1)
    always: Out(1)
    zero: Out(1)
    bit: Out(1)
    chosen: Out(2)

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        m.d.comb += [
            self.nothing.eq((self.i > 15) | (self.i < 0) | (self.i < Signal(0))),
            self.always.eq((self.i <= 15) & (self.i >= 0)),
            self.zero.eq(self.i == 0),
            self.bit.eq(self.i.bit_select(self.which, 1)),
        ]
        with m.Switch(self.i):
            with m.Case(1, 3):
                m.d.comb += self.chosen.eq(1)
            with m.Case(4):
                with m.Switch(self.which):
                    with m.Case(2):
                        m.d.comb += self.chosen.eq(2)
        return m


DESIGNS = {
    "ports": Doubler,
    "awkward": Awkward,
    "pe": lambda: StreamPE(IntegerArithmetic(8), 64),
    "array": lambda: StreamArray(3, 2, IntegerArithmetic(8), 64),
    "smallest": lambda: StreamArray(1, 1, IntegerArithmetic(4), 8),
    "queue": lambda: StreamFIFO(8, 4),
}


def yosys(commands, folder):
    """Run commands of Yosys, which fails if one does."""
    (folder / "script.ys").write_text("\n".join([*commands, ""]))
    subprocess.run([sys.executable, "-m", "pearray.boards.yosys", "script.ys"], cwd=folder, check=True)


def test_tools_accept_it(tmp_path):
    """Verilator's lint and Yosys take what is emitted."""
    script = []
    for name, make in DESIGNS.items():
        lint(emit(make(), f"top_{name}"), tmp_path, f"top_{name}")
        script += ["design -reset", f"read_verilog top_{name}.v", f"hierarchy -check -top top_{name}", "proc",
                   "check -assert"]
    yosys(script, tmp_path)


def test_same_text_for_any_hash_seed():
    """The same input gives the same bytes, and none of them tell where they were made."""
    texts = {subprocess.run([sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("0", "1")}
    assert len(texts) == 1
    assert os.path.dirname(__file__).partition(os.sep + "tests")[0] not in texts.pop()


def test_awkward_cells(tmp_path):
    """What is rewritten for lint's sake still computes the same, for every input (by SAT)."""
    from amaranth.back import verilog

    (tmp_path / "ours.v").write_text(emit(Awkward(), "ours"))
    (tmp_path / "plain.v").write_text(verilog.convert(Awkward(), name="plain"))
    yosys(["read_verilog ours.v plain.v", "proc", "delete ours/clk ours/rst", "equiv_make plain ours both",
           "hierarchy -top both", "equiv_simple", "equiv_status -assert"], tmp_path)


def test_ports_and_manifest():
    """Ports are called by their paths, clock and reset come first, and the manifest says the same."""
    text, described = generate(Doubler(), "top")
    assert "module top(clk, rst, m_axi_ready, fixed_payload, m_axi_aw_addr, \\reg );" in text
    json.dumps(described)
    assert described == manifest(Doubler(), "top")
    assert [tuple(port.values()) for port in described["ports"]] == [
        ("clk", "input", 1, False), ("rst", "input", 1, False), ("m_axi_aw_addr", "output", 8, False),
        ("m_axi_ready", "input", 1, False), ("fixed_payload", "input", 4, False), ("reg", "output", 3, True)]
    assert described["memories"] == [
        {"module": "top", "name": "contents", "depth": 4, "width": 8, "instances": 1},
        {"module": "top_queue", "name": "storage", "depth": 4, "width": 8, "instances": 1}]


def test_memory_contents():
    """A memory of zeros costs a loop, one with contents keeps them."""
    text = emit(Doubler(), "top")
    assert "storage[row] = 8'h0;" in text
    assert "contents[1] = 8'h02;" in text
    assert "contents[row]" not in text


class Clash(Component):
    """Two members that would be one port."""

    def __init__(self, name):
        super().__init__({"a": In(Signature({"b": Out(1)})), name: In(1)})

    def elaborate(self, platform):
        """Build it."""
        return Module()


@pytest.mark.parametrize("name", ["a_b", "clk", "rst"])
def test_clashing_ports(name):
    """Two ports of one name are an error, not one port."""
    with pytest.raises(ValueError, match=rf"^port name '{name}' of Clash must be unique and neither"):
        emit(Clash(name), "top")


class Held(Unit):
    """Unit called like a path of the design below."""

    unit_name = "top_part"

    def __init__(self):
        super().__init__({"o": Out(1)})

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        state = Signal()
        m.d.sync += state.eq(~state)
        m.d.comb += self.o.eq(state)
        return m


class Twice(Component):
    """A submodule ``part`` and a unit ``top_part``."""

    o: Out(2)

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        m.submodules.part = part = StreamFIFO(8, 4)
        held = Held()
        add(m, "held", held, platform)
        m.d.comb += self.o.eq(held.o + part.o.valid)
        return m


def test_clashing_modules():
    """Two modules of one name are an error, not one module."""
    with pytest.raises(ValueError, match=r"^two modules would be called 'top_part'"):
        emit(Twice(), "top")


@pytest.mark.parametrize(("name", "top"), [
    ("systolic-8x8", "systolic_8x8"), ("8x8", "pearray_8x8"), ("small", "pearray_small"), ("module", "pearray_module"),
    ("always_ff", "pearray_always_ff"), ("\u00fcber", "pearray__ber"),
])
def test_names_of_files_become_identifiers(name, top):
    """A file may be named as its writer likes; a module named by a keyword can't be read by any tool."""
    assert top_name(replace(configuration(), name=name)) == top
