"""Verilog and manifest of a configuration, as files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .hdl.config import Config
from .hdl.errors import PearrayError

__all__ = ["TOPS", "generate"]

#: Top levels that can be generated: what each is.
TOPS = {
    "accelerator": "the whole accelerator, with AXI4 and AXI4-Lite ports",
    "array": "the systolic array alone",
    "pe": "one processing element",
}


def generate(config: Config, folder: Path, top: str = "accelerator") -> dict[str, Any]:
    """Write the Verilog of a configuration and its manifest.

    Parameters
    ----------
    config : Config
        The configuration.
    folder : Path
        Folder to write ``NAME.v`` and ``NAME.json`` to, NAME being the top module's; made if missing.
    top : str
        One of :data:`TOPS`.

    Returns
    -------
    dict
        The manifest: ``name`` of the top module, ``top``, ``config`` (its name), ``parameters``
        (the configuration's sections), ``verilog_sha256``, ``ports``, ``modules``, ``memories`` and,
        for the accelerator, ``registers``. See :func:`pearray.sim.verilog.manifest` for the lists.

    Raises
    ------
    PearrayError
        If `top` is unknown or the folder can't be written.
    """
    from .sim.cache import digest_of
    from .sim.design import top_name
    from .sim.verilog import generate as convert

    if top not in TOPS:
        raise PearrayError(f"top must be {', '.join(TOPS)}, not {top!r}")
    # Emission is deterministic: the accelerator's text is the one that the engines simulate.
    name = top_name(config) if top == "accelerator" else f"{top_name(config)}_{top}"
    text, described = convert(_component(config, top), name)
    parameters = asdict(config)
    parameters.pop("name")
    described = {"name": name, "top": top, "config": config.name, "parameters": parameters,
                 "verilog_sha256": digest_of(text), **described}
    if top == "accelerator":
        described["registers"] = registers(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.v").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps(described, indent=1) + "\n")
    except OSError as error:
        raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    return described


def _component(config: Config, top: str) -> Any:
    from .hdl.accelerator import Accelerator
    from .hdl.pe import ProcessingElement
    from .hdl.systolic import SystolicArray

    if top == "accelerator":
        return Accelerator(config)
    if top == "pe":
        return ProcessingElement(config.pe_bits, config.psum_bits)
    return SystolicArray(config.array.rows, config.array.cols, config.pe_bits, config.psum_bits)


def registers(config: Config) -> list[dict[str, Any]]:
    """List an accelerator's registers by offset: ``name``, ``offset`` in bytes, ``access`` and ``doc``."""
    from .hdl import accelerator

    return [register._asdict() for register in accelerator.registers(config)]
