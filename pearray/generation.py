"""Verilog and manifest of a configuration, and what that hardware costs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .hdl.errors import PearrayError, check_choice
from .hdl.kinds import kind
from .hdl.shell.config import Config

__all__ = ["TOPS", "describe", "generate", "registers", "synthesise"]

#: Top levels that can be generated: what each is.
TOPS = {
    "accelerator": "the whole accelerator, with AXI4 and AXI4-Lite ports",
    "array": "the array alone, with stream ports",
    "pe": "one processing element, with stream ports",
}


def describe(config: Config, top: str = "accelerator") -> tuple[str, dict[str, Any]]:
    """Make the Verilog of a configuration and its manifest.

    Parameters
    ----------
    config : Config
        The configuration.
    top : str
        One of :data:`TOPS`.

    Returns
    -------
    str
        Verilog; for the accelerator the very text that the engines simulate.
    dict
        The manifest: ``name`` of the top module, ``top``, ``config`` (its name), ``parameters``
        (the configuration's sections), ``verilog_sha256``, ``ports``, ``modules``, ``memories`` and,
        for the accelerator, ``registers``. See :func:`pearray.sim.verilog.manifest` for the lists.

    Raises
    ------
    PearrayError
        If `top` is unknown.
    """
    from .sim.cache import digest_of
    from .sim.design import top_name
    from .sim.verilog import generate as convert

    check_choice("top", top, TOPS)
    name = top_name(config) if top == "accelerator" else f"{top_name(config)}_{top}"
    text, described = convert(_component(config, top), name)
    parameters = asdict(config)
    parameters.pop("name")
    manifest = {"name": name, "top": top, "config": config.name, "parameters": parameters,
                "verilog_sha256": digest_of(text), **described}
    if top == "accelerator":
        manifest["registers"] = registers(config)
    return text, manifest


def _component(config: Config, top: str) -> Any:
    from .hdl.accelerator import Accelerator

    hardware = kind(config.KIND)
    makers = {"accelerator": Accelerator, "array": hardware.array, "pe": hardware.pe}
    return makers[top](config)


def registers(config: Config) -> list[dict[str, Any]]:
    """List an accelerator's registers by offset: ``name``, ``offset`` in bytes, ``access`` and ``doc``."""
    from .hdl import accelerator

    return [register._asdict() for register in accelerator.registers(config)]


def generate(config: Config, folder: Path, top: str = "accelerator") -> dict[str, Any]:
    """Write ``NAME.v`` and its manifest ``NAME.json``, NAME being the top module's.

    Parameters
    ----------
    config : Config
        The configuration.
    folder : Path
        Folder to write to; made if missing.
    top : str
        One of :data:`TOPS`.

    Returns
    -------
    dict
        The manifest; see :func:`describe`.

    Raises
    ------
    PearrayError
        If `top` is unknown or the folder can't be written.
    """
    text, manifest = describe(config, top)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{manifest['name']}.v").write_text(text)
        (folder / f"{manifest['name']}.json").write_text(json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    return manifest


def synthesise(config: Config, target: str, top: str = "accelerator", folder: Path | None = None, *,
               cells: bool = False, **options: Any) -> dict[str, Any]:
    """Synthesise, place and route the Verilog of a configuration out of context.

    Parameters
    ----------
    config : Config
        The configuration.
    target : str
        Device; a key of :data:`pearray.boards.ecp5.TARGETS`.
    top : str
        One of :data:`TOPS`.
    folder : Path, optional
        Where the tools' files and logs stay; by default they are removed.
    cells : bool
        Whether to count cells only, and to place and route nothing.
    options
        ``seeds``, ``goal``, ``router`` and ``tell`` of :func:`pearray.boards.ecp5.synthesise`.

    Returns
    -------
    dict
        Fields of :class:`pearray.boards.ecp5.Synthesis`, or of :class:`pearray.boards.ecp5.Cells`, with
        ``config``, ``top``, ``pes`` and ``verilog_sha256``.

    Raises
    ------
    PearrayError
        If `top` or `target` is unknown, or a tool is missing or fails.
    """
    from .boards import ecp5

    if target not in ecp5.TARGETS:
        raise PearrayError(f"target must be {', '.join(ecp5.TARGETS)}, not {target!r}")
    text, manifest = describe(config, top)
    design = text, manifest["name"], manifest["ports"]
    report = (ecp5.count_cells(*design, target=target, folder=folder) if cells else
              ecp5.synthesise(*design, target=target, folder=folder, **options))
    return {"config": config.name, "top": top, "pes": config.pes,
            "verilog_sha256": manifest["verilog_sha256"], **report.as_dict()}
