"""Draw docs/attention.svg, which engine of a run of attention does what when, from a trace.

``pearray run attention:512,512,64,64,1 --on systolic-32x32 --trace trace.json``, then ``python
docs/attention_figure.py trace.json``. One head, and numerators of one byte.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TRACKS", "Slice", "drawing", "slices"]

PAGE = Path(__file__).parent / "attention.svg"

#: Tracks, from above, with what stands beside them.
TRACKS = {"LOAD": "load", "EXECUTE": "array", "POST": "vector engine", "MOVE": "move", "STORE": "store",
          "cycles charged to": "array works"}

#: What a slice does: what the legend says, and colours for queries of even and of odd blocks.
SORTS = {
    "QK": ("QK: queries times keys", "#93c5fd", "#3b82f6"),
    "S": ("S: softmax, scores to numerators", "#86efac", "#22c55e"),
    "A": ("A: numerators to the activations", "#a7f3d0", "#34d399"),
    "AV": ("AV: numerators times values", "#fdba74", "#f97316"),
    "N": ("N: outputs normalised, and stored", "#d8b4fe", "#a855f7"),
    "load": ("K, V, Q: keys, values, queries loaded", "#e2e8f0", "#cbd5e1"),
    "works": ("the array works", "#475569", "#475569"),
}

#: Cycles of each panel, and of gaps that are not drawn.
_CYCLES, _GAP = 3600, 3

_LEFT, _WIDTH, _ROW, _BAR, _TOP, _PANEL = 104, 960, 24, 20, 84, 204


class Slice(NamedTuple):
    """What a track does from a cycle to that behind the last; `block` is that of the queries."""

    track: str
    sort: str
    label: str
    block: int
    begin: int
    end: int


Event = dict[str, Any]


def _by_track(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Slices of the trace by the name of their track, in order."""
    found = list(events)
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in found
             if event["ph"] == "M" and event["name"] == "thread_name"}
    tracks: dict[str, list[Event]] = {name: [] for name in names.values()}
    for event in found:
        if event["ph"] == "X":
            tracks[names[event["pid"], event["tid"]]].append(event)
    for name, each in tracks.items():
        # Commands are numbered; those of several tracks of a queue are mixed.
        each.sort(key=lambda event: int(event["name"].split()[1]) if name in TRACKS and name.isupper()
                  else event["ts"])
    return tracks


def _changes(keys: Iterable[Any]) -> Iterator[int]:
    """Count how often what is given has changed so far."""
    before, number = object(), -1
    for key in keys:
        number += key != before
        before = key
        yield number


def _products(tracks: dict[str, list[Event]]) -> dict[str, list[tuple[str, int]]]:
    """What each EXECUTE, POST of scores, and MOVE does, and the number of its product, counted through."""
    execute = [event["args"] for event in tracks["EXECUTE"]]
    pitch = next(body["w_pitch"] for body in execute if body.get("left"))
    # Keys that follow one another stand in different places, as do shifts.
    scores = _changes((body.get("bank", 0), body.get("w_base", 0) - body.get("a_base", 0) % pitch)
                      for body in execute if body.get("left"))
    values = _changes(body.get("shift_base", 0) for body in execute if not body.get("left"))
    numbers = [("QK", next(scores)) if body.get("left") else ("AV", next(values)) for body in execute]
    sizes = [0] * (numbers[-1][1] + 1)
    for (sort, number), body in zip(numbers, execute, strict=True):
        if sort == "AV":
            sizes[number] = body["m_count0"]
    posts = [event["args"] for event in tracks["POST"] if event["args"].get("softmax")]
    moves = [event["args"]["length"] // posts[0]["out_mstep"] for event in tracks["MOVE"]]
    rows = [each["m_count"] for each in posts]
    return {"EXECUTE": numbers, "POST": [("S", number) for number in _filled(sizes, rows)],
            "MOVE": [("A", number) for number in _filled(sizes, moves)]}


def _outputs(tracks: dict[str, list[Event]], blocks: Sequence[int]) -> dict[str, list[int]]:
    """Blocks of queries of the POSTs that normalise, and of the STOREs, from those of the EXECUTEs."""
    tiles = [0] * (max(blocks) + 1)
    for block, body in zip(blocks, (event["args"] for event in tracks["EXECUTE"]), strict=True):
        if body.get("first") and not body.get("left"):
            tiles[block] += body["n_count"] * body["m_count0"]
    posts = [event["args"]["n_count"] * event["args"]["m_count"] for event in tracks["POST"]
             if not event["args"].get("softmax")]
    stores = [event["args"]["length"] * event["args"]["count1"] for event in tracks["STORE"]]
    sizes = [size * sum(stores) // sum(tiles) for size in tiles]
    return {"POST": list(_filled(tiles, posts)), "STORE": list(_filled(sizes, stores))}


def _filled(sizes: Sequence[int], counts: Iterable[int]) -> Iterator[int]:
    """Number of what has some size, to which each of some counts that come one after another belongs."""
    number, done = 0, 0
    for count in counts:
        if done == sizes[number]:
            number, done = number + 1, 0
        done += count
        yield number


def _loads(tracks: dict[str, list[Event]]) -> Iterator[str]:
    """What each LOAD brings."""
    bodies = [event["args"] for event in tracks["LOAD"]]
    keys = {event["args"].get("w_base", 0) for event in tracks["EXECUTE"]
            if event["args"].get("left") and event["args"].get("first")}
    kinds = ["Q" if not body.get("destination") else "" if body["destination"] != 1 else
             "K" if body.get("address", 0) in keys else "V" for body in bodies]
    first = {kind: min(body.get("dram", 0) for body, each in zip(bodies, kinds, strict=True) if each == kind)
             for kind in set(kinds)}
    size = {kind: max(body["length"] for body, each in zip(bodies, kinds, strict=True) if each == kind)
            for kind in set(kinds)}
    for body, kind in zip(bodies, kinds, strict=True):
        yield f"{kind}{(body.get('dram', 0) - first[kind]) // size[kind]}" if kind in ("K", "V") else kind


def _times(events: Sequence[Event]) -> Iterator[tuple[int, int]]:
    """From when a command is taken, or the one before is done, until it is done."""
    free = 0
    for event in events:
        end = event["ts"] + event["dur"]
        yield max(event["args"]["taken"], free), end
        free = max(free, end)


def slices(events: Iterable[Event]) -> list[Slice]:
    """What the tracks do, from the events of a trace; what adjoins and is of one product is one."""
    tracks = _by_track(events)
    found, products = [], _products(tracks)
    # Products AV by which outputs begin anew are those of the next block of queries.
    blocks: dict[int, int] = {}
    starts: list[int] = []
    for event, (sort, number) in zip(tracks["EXECUTE"], products["EXECUTE"], strict=True):
        if sort == "AV" and number not in blocks:
            if event["args"].get("first"):
                starts.append(number)
            blocks[number] = len(starts) - 1
    outputs = _outputs(tracks, [blocks[number] for _, number in products["EXECUTE"]])
    timed = {track: list(zip(tracks[track], _times(tracks[track]), strict=True)) for track in TRACKS if track.isupper()}
    for track, numbers in products.items():
        times = [time for event, time in timed[track] if track != "POST" or event["args"].get("softmax")]
        found.extend(Slice(track, sort, f"{sort} {number - starts[blocks[number]]}", blocks[number], *time)
                     for (sort, number), time in zip(numbers, times, strict=True))
    for track, numbers in outputs.items():
        times = [time for event, time in timed[track] if not event["args"].get("softmax")]
        found.extend(Slice(track, "N", "N", block, *time) for block, time in zip(numbers, times, strict=True))
    found.extend(Slice("LOAD", "load", label, 0, *time)
                 for label, (_, time) in zip(_loads(tracks), timed["LOAD"], strict=True))
    found.extend(Slice("cycles charged to", "works", "", 0, event["ts"], event["ts"] + event["dur"])
                 for event in tracks["cycles charged to"] if event["name"] == "array works")
    return list(_merged(found))


def _merged(found: Iterable[Slice]) -> Iterator[Slice]:
    """Take what adjoins and is the same for one."""
    held: Slice | None = None
    for each in found:
        if held is not None and held[:4] == each[:4] and each.begin - held.end <= _GAP:
            held = held._replace(end=each.end)
            continue
        if held is not None:
            yield held
        held = each
    if held is not None:
        yield held


def _windows(found: Sequence[Slice]) -> list[tuple[str, int]]:
    """Titles and first cycles of the panels."""
    last = max(each.end for each in found)
    change = next((each.begin for each in found if each.sort == "AV" and each.block == 1), last // 2)
    return [("The run begins", 0), ("The next block of queries begins", change - _CYCLES // 2),
            ("The run ends", last - _CYCLES * 19 // 20)]


def _panel(found: Sequence[Slice], title: str, begin: int, top: int) -> Iterator[str]:
    """Lines of a panel."""
    scale = (_WIDTH - _LEFT - 16) / _CYCLES
    yield f'<text x="16" y="{top + 14}" class="title">{escape(title)}</text>'
    for number, (track, name) in enumerate(TRACKS.items()):
        y = top + 24 + number * _ROW
        yield f'<text x="{_LEFT - 8}" y="{y + 14}" class="track">{name}</text>'
        yield f'<rect x="{_LEFT}" y="{y}" width="{_CYCLES * scale:.1f}" height="{_BAR}" fill="#f8fafc"/>'
        for each in found:
            first, end = max(each.begin, begin), min(each.end, begin + _CYCLES)
            if each.track != track or first >= end:
                continue
            x, width = _LEFT + (first - begin) * scale, (end - first) * scale
            yield (f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" class="slice" '
                   f'fill="{SORTS[each.sort][1 + each.block % 2]}"/>')
            if each.label and width >= 5.6 * len(each.label):
                yield f'<text x="{x + width / 2:.1f}" y="{y + 14}" class="label">{each.label}</text>'
    bottom = top + 24 + len(TRACKS) * _ROW
    for cycle in range(-(-begin // 500) * 500, begin + _CYCLES + 1, 500):
        x = _LEFT + (cycle - begin) * scale
        yield f'<line x1="{x:.1f}" y1="{top + 22}" x2="{x:.1f}" y2="{bottom}" class="tick"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 12}" class="cycle">{cycle:,}</text>'


def drawing(found: Sequence[Slice], caption: str) -> str:
    """The picture as SVG."""
    windows = _windows(found)
    height = _TOP + len(windows) * _PANEL
    style = (".title{font-size:14px;font-weight:600;fill:#0f172a}.track{font-size:12px;fill:#334155;text-anchor:end}"
             ".label{font-size:10px;fill:#0f172a;text-anchor:middle}.cycle{font-size:10px;fill:#475569;"
             "text-anchor:middle}.key{font-size:12px;fill:#334155}.slice{stroke:#ffffff;stroke-width:0.6}"
             ".tick{stroke:#94a3b8;stroke-width:0.6;stroke-dasharray:2 3}")
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
             'font-family="Helvetica, Arial, sans-serif">', f"<title>{escape(caption)}</title>",
             f"<style>{style}</style>", f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>']
    for number, (text, even, odd) in enumerate(SORTS.values()):
        x, y = 16 + number % 3 * 312, 12 + number // 3 * 22
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="14" fill="{even}"/>')
        lines.append(f'<rect x="{x + 12}" y="{y}" width="12" height="14" fill="{odd}"/>')
        lines.append(f'<text x="{x + 30}" y="{y + 12}" class="key">{escape(text)}</text>')
    last = max(each.end for each in found)
    for number, (title, begin) in enumerate(windows):
        lines.extend(_panel(found, f"{title}: cycles {begin:,} to {min(begin + _CYCLES, last):,}", begin,
                            _TOP + number * _PANEL))
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    """Read the trace, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, help="what `pearray run --trace` wrote")
    found = slices(json.loads(parser.parse_args().trace.read_text())["traceEvents"])
    PAGE.write_text(drawing(found, "Engines of a run of fused attention"))


if __name__ == "__main__":
    main()
