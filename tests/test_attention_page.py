"""The page about fused attention: its links, commands and figures, and the picture drawn from a trace."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import pearray as pe
from pearray.workloads.workload import load_workload

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _module(name):
    sys.path.insert(0, str(DOCS))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def page():
    return (DOCS / "attention.md").read_text()


def _commands(page):
    shown = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    return sorted({*re.findall(r"^(pearray run [^#\n]*)", shown, re.MULTILINE),
                   *(row.strip("`") for row in _module("bench_attention").rows())})


def test_links_lead_somewhere(page):
    """A picture or a page that is not there is the first that a reader meets."""
    links = re.findall(r"\]\(([^)#]+)(#[^)]+)?\)", page)
    assert "attention.svg" in {name for name, _ in links}
    for name, anchor in links:
        assert (DOCS / name).is_file(), name
        headings = re.findall(r"^#+ (.*)$", (DOCS / name).read_text(), re.MULTILINE)
        assert not anchor or anchor[1:] in {heading.lower().replace(" ", "-") for heading in headings}, anchor
    assert "docs/attention.md" in (ROOT / "README.md").read_text()


def test_commands_parse(page):
    """A command of the page that pearray refuses gives no figure."""
    commands = _commands(page)
    assert len(commands) >= 9
    for command in commands:
        run, workload, *options = shlex.split(command)[1:]
        assert run == "run"
        chosen = list(zip(options[::2], options[1::2], strict=True))
        assert {name for name, _ in chosen} <= {"--on", "--set"}
        given = dict(value.split("=") for name, value in chosen if name == "--set")
        settings = {key.removeprefix("workload."): value == "true" for key, value in given.items()
                    if key.startswith("workload.")}
        overrides = {key: int(value) for key, value in given.items() if not key.startswith("workload.")}
        config = pe.load_config(dict(chosen)["--on"], overrides).hardware
        assert config.has_softmax
        load_workload(workload, 0, settings, config)


def test_figures_are_those_of_the_benchmarks(page):
    """If it failed, the page would compare with others' figures what no run gave."""
    rows = re.findall(r"^\| (`pearray run [^|]*`) \| ([\d.]+ %) \|", page, re.MULTILINE)
    assert len(rows) >= 6
    benchmarks = (DOCS / "benchmarks.md").read_text()
    for command, utilisation in rows:
        line = next(line for line in benchmarks.splitlines() if line.startswith(f"| {command} |"))
        assert line.split(" | ")[3] == utilisation, command


def test_every_run_equals_golden():
    """If it failed, a figure of a run with wrong outputs would stand on the page."""
    bench = _module("bench_attention")
    lines = (DOCS / "benchmarks.md").read_text().splitlines()
    for command in bench.rows():
        cells = next(line for line in lines if line.startswith(f"| {command} |")).split(" | ")
        assert re.fullmatch(r"0 of [\d,]+", cells[9]), command


@pytest.mark.parametrize(("workload", "least"), [
    ("attention:512,512,64,64,1", 2 * 512 * 64 + 2 * 2 * 512 * 64),
    ("attention:257,10,4,6,3", 3 * (257 * 10 + 2 * 10 * 10)),
])
def test_least_bytes(workload, least):
    """If it failed, traffic would be compared with another bound than the page says."""
    assert _module("bench_attention").least_bytes(workload) == least


def test_goals_that_are_missed_are_marked():
    """If it failed, a figure below its goal would stand on the page as if it reached it."""
    bench = _module("bench_attention")
    case = bench.Case("attention:512,512,64,64,1", "systolic-32x32", percent=95, bytes=1.05)
    record = {"utilisation": 0.96, "dram_read_bytes": 196608, "dram_write_bytes": 0, "macs": 1, "pes": 1, "cycles": 1,
              "ledger": {"useful": 1, "weights": 2, "stores": 3}, "mismatches": 0, "checked": 1,
              "verilog_sha256": "0" * 64}
    line = bench._row(case, "run", record)
    assert "not reached" not in line
    assert "| stores 3 |" in line
    slow = record | {"utilisation": 0.94, "dram_read_bytes": 210000}
    assert bench._row(case, "run", slow).count(": not reached") == 2


def _trace():
    """Events of two blocks of queries and two of keys; sums of the last are normalised in two parts."""
    queues = {"LOAD": [], "EXECUTE": [], "POST": [], "MOVE": [], "STORE": []}

    def add(queue, begin, cycles, **fields):
        queues[queue].append({"ph": "X", "name": f"{queue} {len(queues[queue])}", "ts": begin, "dur": cycles, "pid": 2,
                              "tid": list(queues).index(queue), "args": {"taken": begin, **fields}})

    def scores(begin, slot):
        add("EXECUTE", begin, 10, left=1, first=1, m_count0=4, n_count=1, w_base=slot * 64, w_pitch=8)

    def values(begin, shifts, is_first):
        add("EXECUTE", begin, 10, first=int(is_first), m_count0=4, n_count=2, shift_base=shifts)

    for number, (destination, dram, address) in enumerate([(1, 0, 0), (0, 128, 0), (1, 64, 64), (1, 192, 512),
                                                           (1, 256, 576)]):
        add("LOAD", number, 5, destination=destination, dram=dram, address=address, length=64)
    for at in (0, 40):
        scores(at, 0)
        scores(at + 10, 1)
        values(at + 20, at, True)
        values(at + 30, at + 4, False)
    for at in (12, 24, 52, 64):
        for part in (0, 2):
            add("POST", at + part, 2, softmax=1, m_count=2, n_count=1, out_mstep=8)
        add("MOVE", at + 4, 4, length=32)
    for at, rows in ((42, 4), (80, 2), (82, 2)):
        add("POST", at, 2, n_count=2, m_count=rows)
        add("STORE", at + 3, 2, length=rows * 16, count1=1)
    queues["POST"].sort(key=lambda event: event["ts"])
    for number, event in enumerate(queues["POST"]):
        event["name"] = f"POST {number}"
    names = [*queues, "cycles charged to"]
    charged = [{"ph": "X", "name": name, "ts": begin, "dur": 1, "pid": 2, "tid": len(queues)}
               for begin, name in ((0, "weights"), (1, "array works"))]
    return [*({"ph": "M", "name": "thread_name", "pid": 2, "tid": tid, "args": {"name": name}}
              for tid, name in enumerate(names)), *(event for each in queues.values() for event in each), *charged]


def test_picture_tells_products_apart():
    """If it failed, the picture would show softmax, moves or outputs beside products that are not theirs."""
    figure = _module("attention_figure")
    found = figure.slices(_trace())
    told = {track: [(each.label, each.block) for each in found if each.track == track] for track in figure.TRACKS}
    assert told["EXECUTE"] == [(label, block) for block in (0, 1) for label in ("QK 0", "QK 1", "AV 0", "AV 1")]
    assert [each for each in told["POST"] if each[0] != "N"] == [("S 0", 0), ("S 1", 0), ("S 0", 1), ("S 1", 1)]
    assert told["MOVE"] == [("A 0", 0), ("A 1", 0), ("A 0", 1), ("A 1", 1)]
    assert told["LOAD"] == [("K0", 0), ("Q", 0), ("K1", 0), ("V0", 0), ("V1", 0)]
    assert [each for each in told["POST"] if each[0] == "N"] == [("N", 0), ("N", 1)]
    assert {block for _, block in told["STORE"]} == {0, 1}
    assert [each[4:] for each in found if each.sort == "works"] == [(1, 2)]
    assert figure.drawing(found, "a picture").count('class="title"') == 3
