"""Compile a module that holds two forms of a design side by side, and run it."""

import subprocess

from pearray.sim import tools

__all__ = ["run_both"]


def run_both(folder, verilog, program):
    """Compile the module ``both`` of a Verilog text with a C++ program whose result says whether its parts agree.

    Parameters
    ----------
    folder : Path
        Where files may be written.
    verilog, program : str
        Texts; the program includes ``Vboth.h``.
    """
    (folder / "both.v").write_text(verilog)
    (folder / "main.cpp").write_text(program)
    environment = tools.verilator_environment()
    for command in (
        [str(tools.verilator_root() / "bin" / "verilator_bin"), "--cc", "--exe", "--top-module", "both", "--Mdir",
         "model", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-CFLAGS", "-DVL_TIME_CONTEXT", "-LDFLAGS", "-pthread",
         "both.v", "main.cpp"],
        [tools.make(), "-C", "model", "-f", "Vboth.mk", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0",
         *(f"{name}={value}" for name, value in tools.make_variables().items())],
        ["model/Vboth"],
    ):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
                              check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
