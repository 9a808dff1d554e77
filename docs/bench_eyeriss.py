"""The chip Eyeriss and the preset of its name side by side: a part of docs/bench.py, and the page docs/eyeriss.md."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pearray as pe
from pearray.golden.gating import accesses
from pearray.golden.models import ALEXNET_CONV
from pearray.golden.row_stationary import LayerMapping, Mapping
from pearray.workloads.published import ALEXNET_FIGURES
from pearray.workloads.workload import load_workload

__all__ = ["INTRODUCTION", "PREDICTED", "eyeriss", "page", "predictions"]

PAGE = Path(__file__).parent / "eyeriss.md"

INTRODUCTION = (
    "The five CONV layers of AlexNet, four images, on the preset `eyeriss`, under our mapping and under the paper's; "
    "[eyeriss.md](eyeriss.md) sets both beside the published chip, layer by layer. MB are 10^6 bytes. Processing is "
    "all cycles but those in which the array waits for memory.")

BATCH = 4

#: Cycles of the core in a millisecond.
CYCLES_PER_MS = 200_000

#: Counts of a record that the closed-form model predicts, with what they are.
PREDICTED = {
    "macs": "products done",
    "gated": "products gated",
    "passed": "sums to the PE above",
    "ifmap_reads": "ifmap words, buffer to array",
    "psum_reads": "psum words, buffer to array",
    "psum_writes": "psum words, array to buffer",
    "filter_reads": "lines of filters",
    "ifmap_spad_writes": "ifmap words into PEs",
    "filter_spad_writes": "filter words into PEs",
}

#: Counts of loads and of time.
UNPREDICTED = {
    "fills": "lines loaded into the buffer",
    "stall_dram": "cycles waiting for memory",
}

Record = dict[str, Any]
Measure = Callable[..., Record]


def _arguments() -> dict[str, list[str]]:
    """Arguments of `pearray` for our mapping and the paper's."""
    own = ["run", "alexnet-conv", "--on", "eyeriss", "--set", f"workload.batch={BATCH}"]
    return {"own": own, "paper": [*own, "--set", "workload.mapping=paper"]}


def rows() -> list[str]:
    """First cells of :func:`eyeriss`."""
    return [f"`pearray {' '.join(arguments)}`" for arguments in _arguments().values()]


def eyeriss(measure: Measure) -> Iterator[str]:
    """Table of the totals; writes the page of the layers besides."""
    yield ("| command | active PEs | global buffer MB | processing | cycles | DRAM MB | mismatches | s of run "
           "| Verilog |")
    yield "|---|---|---|---|---|---|---|---|---|"
    records = {}
    for (source, arguments), command in zip(_arguments().items(), rows(), strict=True):
        record = records[source] = measure(*arguments)
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | | |"
            continue
        dram = (record["dram_read_bytes"] + record["dram_write_bytes"]) / 1e6
        yield (f"| {command} | {record['active_pes']:g} | {record['global_buffer_bytes'] / 1e6:.2f} "
               f"| {record['processing_cycles']:,} | {record['cycles']:,} | {dram:.2f} "
               f"| {record['mismatches']} of {record['checked']:,} | {record['wall_s']:.0f} "
               f"| `{record['verilog_sha256'][:12]}` |")
    if not any("error" in record for record in records.values()):
        workload = load_workload("alexnet-conv", 0, {"batch": BATCH}, pe.load_config("eyeriss").hardware)
        PAGE.write_text(page(records["own"], records["paper"], list(workload.inputs.values())))


def predictions(layers: list[Record], ifmaps: list[np.ndarray]) -> list[dict[str, int]]:
    """Counts of the layers of a run as the closed-form model has them, by the names of :data:`PREDICTED`."""
    config = pe.load_config("eyeriss").hardware
    predicted = []
    for shape, layer, ifmap in zip(ALEXNET_CONV, layers, ifmaps, strict=True):
        mapped = LayerMapping(layer=shape, mapping=Mapping(**layer["mapping"]), batch=len(ifmap),
                              filter_lanes=config.filter_lanes, psum_lanes=config.psum_lanes)
        predicted.append(accesses(mapped, ifmap))
    return predicted


TEMPLATE = """\
# Eyeriss, published and rebuilt

<!-- Written by `python docs/bench.py --only eyeriss`: change docs/bench_eyeriss.py, not this. -->

Eyeriss (Chen, Krishna, Emer, Sze: JSSC 52(1), 2017) is the chip that the row-stationary dataflow comes from: 168 PEs
of 16-bit fixed point with scratchpads of their own, multicast networks, a global buffer of 108 KB, zero gating, and
run-length coding. Its paper prints what the five CONV layers of AlexNet cost, four images at a time. The preset
`eyeriss` has the same PEs, scratchpads, buses and buffer, and the same link to memory: one budget of 64 bits in 10/3
core cycles for reads and writes together, 60 MHz to a core at 200 MHz.{extras} Here both stand side by side. Ours are
counters of the RTL:

```sh
pearray run alexnet-conv --on eyeriss --set workload.batch=4
pearray run alexnet-conv --on eyeriss --set workload.batch=4 --set workload.mapping=paper
```

Ifmaps are drawn with the published shares of zeros; the bias of each channel leaves as many in the ofmaps as the next
layer's ifmaps have, and 80 % behind CONV5. Every output is compared with NumPy: {own_wrong} differ under our mapping,
{paper_wrong} under the paper's (Verilog `{verilog}`).

## The whole net

{goals}

If all 168 PEs were busy in every cycle, the net would take {floor:.2f} M cycles, and with the paper's active PEs
{paper_floor:.2f} M. Seconds of the whole command: {own_s:.0f} and {paper_s:.0f}, on two cores that had other work
too.

## Mappings

Ofmap channels (m), images (n) and rows (e) whose psums the global buffer holds; filters (p) and channels (q) of a PE;
PE sets on different channels (r) and on different filters (t). Ours may have `images` too: a pass takes so many of
the n, and the filters stay for the next pass, which takes others.

{mappings}

The paper's are its table III but for CONV3, which is printed as q 4, r 1, t 4. With those, ifmaps and psums would
take 69.2 MB of the global buffer. Among the mappings that use 156 PEs, q 3, r 2, t 2 alone gives the printed 50.2 MB;
CONV4 and CONV5 have that too. So that is what runs here. `--set workload.mapping=FILE` takes others, from a TOML file
with a table of the seven parameters for each layer, such as `[conv1]` and below it `m = 96`.

## Layer by layer

### Active PEs

{active_pes}

A set's rows by its columns, by the sets: R e r t. The total is the mean by processing time. Filters of 11 or 5 rows
do not fill 12 rows, nor do 13 ofmap rows fill 14 columns, unless a mapping folds other sets around.

### Global buffer, MB

{global_buffer_mb}

Ifmap words to the array, and psums both ways; loads and stores do not count, nor do they in the paper. Under the
paper's mapping the counters are those of the paper, as far as it prints them: a pass reads and writes each of its
psums once (the first pass reads biases, as it would read zeros), and each of its ifmap rows once, padding included.
Our mapping is the one that costs least time and DRAM by our model. Where it has more channels in a pass (q r), fewer
passes read and write each psum.

### Processing, M cycles

{processing_ms}

The paper's are its milliseconds at 200 MHz. With all active PEs busy in every cycle, the paper's mapping would take
{paper_floor:.2f} M cycles. The chip takes {chip_loss:.0f} % more, because PEs wait for the first filters and windows
of each pass ("ramp-up"). Ours takes {our_loss:.0f} % more under the same mapping: the scratchpads of a PE are rings,
in which filters and windows of the next pass come behind those in use, so that a PE goes on to the next pass without
a pause and without waiting for other PEs. What is left are setups, and first passes that have nothing to hide behind.
Where our mapping takes two images of four at a time (CONV3 to CONV5), its passes are half as long, which costs 3 % of
processing, or less where filters queue in the PEs (`pe.filter_queue`), and leaves room for a second tile, which saves a
quarter of the cycles with DRAM.

### Cycles with DRAM, M

{total_ms}

What is more than above is waiting for memory. The chip does not process while ifmaps are loaded or ofmaps stored. Our
mapping leaves room for a second tile, or a second block of psums, where that saves time; loads and stores then go on
under the passes. Under the paper's mapping there is no such room but in CONV2 (two tiles of ifmaps and the psums of n
4, m 64 would be 105 KB), so that its passes wait for each tile, and longer than the chip's: our decoder makes one
word of a run-length code in a cycle, 5,400 cycles for a tile of CONV3, which bears on a run only where nothing hides
it.

### DRAM, MB

{dram_mb}

Reads and writes in beats of 8 bytes; ours hold the program, setups of the PEs and biases too. Ifmaps of CONV1 have no
zeros and are read plain; all others are read, and all ofmaps are written, as run-length codes. Filters are not coded,
and are read again for each group of images and for each strip; so are ifmap rows that neighbouring strips share, and
ifmaps for each block of m filters. CONV1 under the paper's mapping is the exception: a pass takes one channel of
three, and since images stand in memory as NHWC, with the channels of a pixel side by side, each of the three readings
takes at least the whole image. Our mapping keeps the tile of all three channels.

### Zeros, %

{ifmap_zeros}

Ifmaps are drawn with exactly the published shares. The paper does not print those of ofmaps, but what CONV2 to CONV5
read is what the layers before wrote. Its total is a mean whose weights it does not give.

## The closed-form model

`golden/row_stationary` predicts what passes do from a layer's shape and mapping alone, and `golden/gating.py` from
the ifmaps' zeros besides which products are gated. These are the counts of the RTL; where one is not as predicted,
the prediction stands behind it.

{model}
"""

_COLUMNS = " | ".join(f"CONV{index}" for index in range(1, 6))


def page(own: Record, paper: Record, ifmaps: list[np.ndarray]) -> str:
    """Make the page of two runs: our mapping and the paper's.

    Parameters
    ----------
    own, paper : dict
        What ``pearray run --json`` wrote.
    ifmaps : list of ndarray
        Ifmaps of the layers (N, C, H, W), whose zeros decide which products are gated.
    """
    quantities: dict[str, tuple[str, float, Callable[[Record], float]]] = {
        "active_pes": (".0f", 1, lambda of: of["active_pes"]),
        "global_buffer_mb": (".2f", 1, lambda of: of["global_buffer_bytes"] / 1e6),
        "processing_ms": (".2f", CYCLES_PER_MS / 1e6, lambda of: of["processing_cycles"] / 1e6),
        "total_ms": (".2f", CYCLES_PER_MS / 1e6, lambda of: of["cycles"] / 1e6),
        "dram_mb": (".2f", 1, _dram_mb),
        "ifmap_zeros": (".2f", 1, lambda of: 100 * of.get("ifmap_zeros", float("nan"))),
    }
    tables = {name: "\n".join(_quantity(name, *how, own, paper)) for name, how in quantities.items()}
    floor = sum(layer["macs"] / layer["active_pes"] for layer in paper["layers"])
    return TEMPLATE.format(
        extras=_extras(), own_wrong=f"{own['mismatches']} of {own['checked']:,}", verilog=own["verilog_sha256"][:12],
        paper_wrong=f"{paper['mismatches']} of {paper['checked']:,}", goals="\n".join(_goals(own, paper)),
        floor=own["macs"] / own["pes"] / 1e6, own_s=own["wall_s"], paper_s=paper["wall_s"],
        paper_floor=floor / 1e6, our_loss=100 * (paper["processing_cycles"] / floor - 1),
        chip_loss=100 * (ALEXNET_FIGURES["processing_ms"][-1] * CYCLES_PER_MS / floor - 1),
        mappings="\n".join(_mappings(own, paper)), model="\n".join(_model(own, paper, ifmaps)), **tables)


def _extras() -> str:
    """What the preset has beside what the paper tells of the chip."""
    hardware = pe.load_config("eyeriss").hardware
    beats, skips, parts = hardware.pe.filter_queue, hardware.global_buffer.skip_zeros, []
    if beats:
        parts.append(f"a queue of {beats} beats of filters ({beats * hardware.filter_lanes} words) before the filter "
                     "scratchpad of each PE")
    if skips:
        parts.append("a coder of ofmaps that takes the zeros of four words in a cycle with the word beside them")
    return f" It has besides {' and '.join(parts)}, which the paper does not tell of." if parts else ""


def _goals(own: Record, paper: Record) -> Iterator[str]:
    yield "| | at most | our mapping | the paper's mapping | published |"
    yield "|---|---|---|---|---|"
    goals: list[tuple[str, Callable[[Record], float], float, float]] = [
        ("processing cycles, M", lambda run: run["processing_cycles"] / 1e6, 20.70,
         ALEXNET_FIGURES["processing_ms"][-1] * CYCLES_PER_MS / 1e6),
        ("cycles with DRAM, M", lambda run: run["cycles"] / 1e6, 21.0,
         ALEXNET_FIGURES["total_ms"][-1] * CYCLES_PER_MS / 1e6),
        ("DRAM, MB", _dram_mb, 15.8, ALEXNET_FIGURES["dram_mb"][-1]),
    ]
    for what, of, most, chip in goals:
        missed = "" if of(own) <= most else ", **missed**"
        yield f"| {what} | {most:.2f} | {of(own):.2f}{missed} | {of(paper):.2f} | {chip:.2f} |"
    rest: list[tuple[str, str, Callable[[Record], float], float]] = [
        ("global buffer, MB", ".2f", lambda run: run["global_buffer_bytes"] / 1e6,
         ALEXNET_FIGURES["global_buffer_mb"][-1]),
        ("active PEs", ".0f", lambda run: run["active_pes"], ALEXNET_FIGURES["active_pes"][-1]),
        ("MACs over PEs x processing cycles, %", ".1f",
         lambda run: 100 * run["macs"] / (run["pes"] * run["processing_cycles"]), 76.6),
    ]
    for what, form, of, chip in rest:
        yield f"| {what} | | {of(own):{form}} | {of(paper):{form}} | {chip:{form}} |"


def _mappings(own: Record, paper: Record) -> Iterator[str]:
    yield f"| | {_COLUMNS} |"
    yield "|---" * 6 + "|"
    for name, run in (("our mapping", own), ("the paper's mapping", paper)):
        cells = (", ".join(f"{key} {value}" for key, value in layer["mapping"].items()) for layer in run["layers"])
        yield f"| {name} | " + " | ".join(cells) + " |"


def _quantity(name: str, form: str, factor: float, of: Callable[[Record], float], own: Record,
              paper: Record) -> Iterator[str]:
    yield f"| | {_COLUMNS} | total |"
    yield "|---" * 7 + "|"
    for label, run in (("our mapping", own), ("the paper's mapping", paper)):
        total = "" if name == "ifmap_zeros" else f"{of(run):{form}}"
        yield f"| {label} | " + " | ".join(f"{of(layer):{form}}" for layer in run["layers"]) + f" | {total} |"
    if name == "ifmap_zeros":
        cells = " | ".join(f"{100 * layer['ofmap_zeros']:{form}}" for layer in own["layers"])
        yield f"| ofmaps, ours | {cells} | |"
    printed = ".1f" if name.endswith("_mb") else form
    yield "| published | " + " | ".join(f"{value * factor:{printed}}" for value in ALEXNET_FIGURES[name]) + " |"


def _model(own: Record, paper: Record, ifmaps: list[np.ndarray]) -> Iterator[str]:
    for label, run in (("our mapping", own), ("the paper's mapping", paper)):
        yield f"| {label} | {_COLUMNS} |"
        yield "|---" * 6 + "|"
        predicted = predictions(run["layers"], ifmaps)
        for name, what in PREDICTED.items():
            cells = []
            for layer, expected in zip(run["layers"], predicted, strict=True):
                counted = layer["counters"][name]
                wrong = "" if counted == expected[name] else f", **not {expected[name]:,}**"
                cells.append(f"{counted:,}{wrong}")
            yield f"| {what} | " + " | ".join(cells) + " |"
        for name, what in UNPREDICTED.items():
            yield f"| {what} | " + " | ".join(f"{layer['counters'][name]:,}" for layer in run["layers"]) + " |"
        yield ""


def _dram_mb(of: Record) -> float:
    return float(of["dram_read_bytes"] + of["dram_write_bytes"]) / 1e6
