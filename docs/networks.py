"""Census of public networks: what loads, what is left to the host, and every tensor beside onnxruntime's.

``python docs/networks.py`` writes ``docs/networks.md``; with names of networks it prints their rows alone. The first
run downloads wheels of packages to ``build/networks``, where quantised files are kept.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from onnx_whole import differences, reference
from public_networks import FORMS, NETWORKS, quantised

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.parts import host_work

__all__ = ["FOLDER", "ON_RTL", "census_row", "page"]

FOLDER, PAGE = ROOT / "build" / "networks", ROOT / "docs" / "networks.md"

CONFIG = "systolic-16x16"

#: Networks that run on RTL, by name and form.
ON_RTL = [
    ("squeezenet", "QDQ u8s8 per channel"),
    ("mobilenet-v3", "QDQ s8s8"),
    ("shufflenet", "QOperator s8s8"),
    ("unet", "QDQ s8s8"),
    ("yolo", "QDQ u8s8 per channel"),
    ("vit", "QOperator s8s8"),
    ("silero-vad", "QDQ s8s8"),
    ("espcn-subpixel", "QOperator s8s8"),
]

INTRODUCTION = """\
# Public networks

<!-- Written by docs/networks.py: change that, not this. -->

Networks that others have made, each quantised by onnxruntime's `quantize_static` in three forms, with scales learnt
from drawn inputs. Those of packages are `rapidocr-onnxruntime` (ocr), `magika`, `basic-pitch`, `silero-vad` and `qonnx`
(espcn); the others are exports of PyTorch of few channels, whole topologies with seeded weights
(`tests/torch_networks.py`). Images are smaller than usual where the file leaves that free.

A network that does not load whole runs with `--fallback host`: onnxruntime computes on the host what is listed. Every
tensor that the file names is compared with what onnxruntime makes of the whole file. Attention and normalisation are
within a bound of onnxruntime, not equal to it ([operators](operators.md)), and what follows from a byte that differs
differs, too: the column behind says which operators differ when each is given onnxruntime's own tensors, and by how
many steps at most. `--fallback exact` leaves them to the host as well.

"""

HEADINGS = ("network", "form", "loads whole", "left to the host", "MACs on the accelerator", "tensors", "elements",
            "differ", "alone", "differ with `exact`")

RTL = f"""
## On RTL

The same files on {CONFIG}, with `fallback="exact"` and every tensor that the file names kept.

| network | form | programs | parts on the host | cycles | elements | differ |
|---|---|---|---|---|---|---|
"""


def _compared(graph: Graph, path: Path, inputs: dict[str, np.ndarray]) -> tuple[tuple[int, int, int], str]:
    """Tensors, elements and differences of a whole, and what differs of operators alone."""
    made = [name for node in graph.nodes for name in node.outputs.values()]
    whole, alone = differences(graph, inputs, reference(path, inputs, made))
    told = [f"{kind}: {count:,} by {most:.3g}" for kind, (count, most) in alone.items()]
    return whole, ", ".join(told) or "-"


def census_row(name: str, form: str, folder: Path = FOLDER) -> str:
    """Row of a network in a form."""
    try:
        path, inputs = quantised(name, form, folder)
    except (ValueError, pe.PearrayError) as error:
        return f"| {name} | {form} | `quantize_static` fails: {type(error).__name__} |" + " |" * 7
    try:
        pe.load_onnx(path).graph_for(inputs)
        loads = "yes"
    except pe.PearrayError:
        loads = "no"
    graph = pe.load_onnx(path, fallback="host").graph_for(inputs)
    host = host_work(graph)
    left = {} if host is None else {kind.operator: 0 for kind in host.kinds if kind.refused}
    for kind in host.kinds if host is not None else ():
        if kind.refused:
            left[kind.operator] += kind.count
    share = 1.0 if host is None else host.share
    (tensors, elements, wrong), alone = _compared(graph, path, inputs)
    exact = "-"
    if wrong:
        exact = f"{_compared(pe.load_onnx(path, fallback='exact').graph_for(inputs), path, inputs)[0][2]:,}"
    cells = [name, form, loads, ", ".join(f"{kind} {count}" for kind, count in left.items()) or "-",
             f"{100 * share:.1f} %", f"{tensors:,}", f"{elements:,}", f"{wrong:,}", alone, exact]
    return f"| {' | '.join(cells)} |"


def rtl_row(name: str, form: str) -> str:
    """Row of a run on RTL."""
    path, inputs = quantised(name, form, FOLDER)
    result = pe.run(pe.load_onnx(path, fallback="exact"), inputs, on=CONFIG, keep="all")
    expected = reference(path, inputs, list(result.outputs))
    wrong = sum(int(np.count_nonzero(result.outputs[key] != value)) for key, value in expected.items())
    programs, parts = (1, 0) if result.host is None else (result.host.programs, result.host.parts)
    return (f"| {name} | {form} | {programs} | {parts} | {result.cycles:,} | "
            f"{sum(value.size for value in expected.values()):,} | {wrong:,} |")


def page(rows: list[str], runs: list[str]) -> str:
    """The page of these rows."""
    heading = f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|\n"
    return INTRODUCTION + heading + "\n".join(rows) + "\n" + RTL + "\n".join(runs) + "\n"


def main(names: list[str]) -> None:
    """Print the rows of some networks, or write the page of all."""
    rows = []
    for name in names or NETWORKS:
        for form in FORMS:
            rows.append(census_row(name, form))
            print(rows[-1], flush=True)
    if names:
        return
    runs = []
    for name, form in ON_RTL:
        runs.append(rtl_row(name, form))
        print(runs[-1], flush=True)
    PAGE.write_text(page(rows, runs))


if __name__ == "__main__":
    main(sys.argv[1:])
