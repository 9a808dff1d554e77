"""Functional model of the row-stationary array's commands.

A pass is executed from the tags with which the PEs were set up: which words each of them is sent, what it makes of
them, and through which PEs sums go.
"""

from typing import Any, ClassVar

import numpy as np

from ...golden import run_length
from ...hdl.row_stationary.commands import Destination
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.commands import ADDRESS_BITS, Opcode, Parameter
from ..cells import POSTED, ProgramError
from ..interpreter import Interpreter
from ..softmax_rows import SoftmaxRows
from .setup import decode_setups, setup_size

__all__ = ["RowStationaryInterpreter"]

_LOAD, _EXECUTE, _POST, _STORE, _MOVE = range(5)

#: Parts of a clock besides completed commands: passes that have read their ifmaps, and their filters.
_IFMAP, _FILTERS = POSTED + 1, POSTED + 2


class _Lines:
    """Lines of a buffer, with the commands that last touched them, by what they did."""

    _QUEUES: ClassVar[dict[str, tuple[int, ...]]] = {
        "load": (_LOAD,), "ifmap": (_EXECUTE, _IFMAP), "filters": (_EXECUTE, _FILTERS), "psums": (_EXECUTE,),
        "post": (POSTED,), "store": (_STORE,), "move": (_MOVE,)}

    def __init__(self, name: str, lines: int):
        self._name, self._count = name, lines
        self._last = {what: np.zeros(lines, np.int64) for what in self._QUEUES}

    def touch(self, what: str, lines: np.ndarray, ordinal: int, clock: np.ndarray, after: tuple[str, ...]) -> None:
        """Note an access, and check that what it must follow is over."""
        if lines.size and (lines.min() < 0 or lines.max() >= self._count):
            raise ProgramError(f"the {self._name} buffer has {self._count} lines, {lines.max()} is outside")
        for name in after:
            latest = int(self._last[name][lines].max(initial=0))
            known = max(int(clock[part]) for part in self._QUEUES[name])
            if latest > known:
                raise ProgramError(f"{what} of command {ordinal} touches lines of {name} of command {latest}, but "
                                   f"waits only for {known}")
        self._last[what][lines] = ordinal


def _walk(base: int, loops: list[tuple[int, int]]) -> np.ndarray:
    """Addresses of nested loops, each of a number of further iterations and a step, the outermost first."""
    found = np.array(base, np.int64)
    for count, step in loops:
        found = found[..., None] + np.arange(count + 1) * step
    return found


class RowStationaryInterpreter(Interpreter):
    """See :class:`~pearray.compiler.interpreter.Interpreter`."""

    config: RowStationaryConfig
    _CLOCKS = _FILTERS + 1

    def __init__(self, config: RowStationaryConfig, dram_bytes: int):
        super().__init__(config, dram_bytes)
        self._width = config.line_bytes
        self._buffer = np.zeros(config.buffer_lines * self._width, np.uint8)
        self._buffer_race = _Lines("global", config.buffer_lines)
        self._filters = np.zeros(config.filter_lines * self._width, np.uint8)
        self._filter_race = _Lines("filter", config.filter_lines)
        self._setups: set[int] = set()
        self._setup: dict[str, np.ndarray] | None = None
        self._mode: dict[str, Any] = {}
        self._softmax = SoftmaxRows(config.score_rows, tiles=True) if config.has_softmax else None

    def _met(self, clock: np.ndarray, opcode: Opcode, body: dict[str, Any], other: int, count: int) -> None:
        if opcode is not Opcode.LOAD or other != _EXECUTE:
            super()._met(clock, opcode, body, other, count)
            return
        early = _FILTERS if body["destination"] is Destination.FILTER_BUFFER else _IFMAP
        clock[early] = max(clock[early], count)
        # A setup gives both back when it completes, and all before it have completed then.
        clock[_EXECUTE] = max([clock[_EXECUTE], *(setup for setup in self._setups if setup <= count)])

    def _load(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        if body["destination"] is Destination.GLOBAL_BUFFER_CODED:
            self._load_coded(ordinal, clock, body)
        else:
            super()._load(ordinal, clock, body)

    def _put(self, destination: int, target: np.ndarray, values: np.ndarray, ordinal: int, clock: np.ndarray) -> None:
        lines = np.unique(target // self._width)
        if destination is Destination.FILTER_BUFFER:
            self._filter_race.touch("load", lines, ordinal, clock, ("filters",))
            self._filters[target] = values
        elif destination is Destination.GLOBAL_BUFFER:
            self._buffer_race.touch("load", lines, ordinal, clock, ("ifmap", "psums", "post", "store", "move"))
            self._buffer[target] = values
        elif destination in self._bytes:
            super()._put(destination, target, values, ordinal, clock)
        else:
            raise ProgramError(f"no memory {destination} in this kind of array")

    def _put_moved(self, destination: int, target: np.ndarray, values: np.ndarray, ordinal: int,
                   clock: np.ndarray) -> None:
        if destination is not Destination.GLOBAL_BUFFER:
            raise ProgramError(f"no MOVE to memory {destination} in this kind of array")
        self._buffer_race.touch("move", np.unique(target // self._width), ordinal, clock,
                                ("ifmap", "psums", "post", "store", "load"))
        self._buffer[target] = values

    def _load_coded(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        if body["count1"] != 1 or body["count2"] != 1 or body["dram"] % 8 or body["length"] % 8 or body["address"] % 2:
            raise ProgramError("a code must be one row of whole words, at a multiple of 8 bytes")
        code = self.dram[body["dram"]:body["dram"] + body["length"]].view("<u8")
        marks = np.flatnonzero(code >> np.uint64(63))
        if not marks.size:
            raise ProgramError(f"no last word of a code in {body['length']} bytes from {body['dram']} on")
        code = code[:marks[0] + 1]
        self._dram_race.read(body["dram"] + np.arange(8 * len(code)), ordinal, clock)
        runs = sum(int((code >> np.uint64(21 * pair) & np.uint64(31)).astype(np.int64).sum()) for pair in range(3))
        words = run_length.decode(code, runs + 3 * len(code))
        self._put(Destination.GLOBAL_BUFFER, body["address"] + np.arange(2 * len(words)),
                  words.astype("<u2").view(np.uint8), ordinal, clock)

    def _read_filters(self, lines: np.ndarray, ordinal: int, clock: np.ndarray) -> np.ndarray:
        self._filter_race.touch("filters", lines, ordinal, clock, ("load",))
        read: np.ndarray = self._filters.reshape(-1, self._width)[lines]
        return read

    def _execute(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        # What follows a setup follows the end of all before.
        clock[_EXECUTE] = max([clock[_EXECUTE], *self._setups])
        if body["setup"]:
            clock[_EXECUTE] = ordinal - 1
            lines = body["filter_base"] + np.arange(setup_size(self.config))
            self._setup = decode_setups(self._read_filters(lines, ordinal, clock).tobytes(), self.config)
            self._mode = dict(body)
            self._setups.add(ordinal)
            return
        if self._setup is None:
            raise ProgramError("the array has not been set up")
        self._pass(ordinal, clock, body)

    def _words(self, values: np.ndarray, name: str) -> np.ndarray:
        """Words that operands in the buffers stand for."""
        stored = values.view(f"<u{self.config.operand_bytes}")
        return self.config.arithmetic.words(stored, bool(self._mode[f"{name}_unsigned"]),
                                            self._mode[f"{name}_zero_point"])

    def _ifmap(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Words of a pass: (row, column, set, line, channel)."""
        loops = [(body[f"ifmap_{name}s"], body[f"ifmap_{name}_step"]) for name in ("column", "set", "line")]
        address = _walk(body["ifmap_base"], [
            (body["rows"], body["ifmap_row_step"]), *loops, (body["ifmap_channels"], 1)]) % (1 << ADDRESS_BITS)
        size = self.config.operand_bytes
        self._buffer_race.touch("ifmap", np.unique(address * size // self._width), ordinal, clock, ("load", "move"))
        if body.get("no_sign"):
            return self.config.arithmetic.words(self._buffer[address], True, self._mode["ifmap_zero_point"])
        return self._words(self._buffer, "ifmap")[address]

    def _filter_words(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Words of a pass: (set, row, filter, word)."""
        if body.get("by_word"):
            return self._single_words(ordinal, clock, body)
        beats, sets, height = body["filter_beats"] + 1, body["filter_sets"] + 1, body["filter_height"] + 1
        lines = body["filter_base"] + np.arange(beats * sets * height)
        words = self._words(self._read_filters(lines, ordinal, clock), "filter")
        words = words.reshape(beats, sets, height, -1).transpose(1, 2, 0, 3).reshape(sets, height, -1)
        kept = (beats - 1) * self.config.filter_lanes + body["filter_last"] + 1
        if kept != (body["filters"] + 1) * (body["window"] + 1):
            raise ProgramError(f"a PE gets {kept} filter words for {body['filters'] + 1} filters of "
                               f"{body['window'] + 1}")
        if kept > self.config.pe.filter_words or body["window"] + 1 > self.config.pe.ifmap_words:
            raise ProgramError(f"{kept} filter words and windows of {body['window'] + 1} are more than a PE holds")
        return words[:, :, :kept].reshape(sets, height, body["filters"] + 1, body["window"] + 1)

    def _single_words(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> np.ndarray:
        """Words of a pass that stand as a matrix: (set, row, filter, word)."""
        for name in ("rows", "psum_rows", "ifmap_lines", "filter_height"):
            if body[name]:
                raise ProgramError(f"{name} must be zero with by_word")
        address = _walk(body["filter_base"] * self._width + body["filter_last"], [
            (body["psum_sets"], body["psum_image_step"]), (body["ifmap_sets"], body["psum_row_step"]),
            (body["filters"], body["ifmap_line_step"]), (body["window"], body["ifmap_row_step"])])
        if body["filter_sets"] + 1 != address.shape[0] * address.shape[1]:
            raise ProgramError(f"filter_sets must be {address.shape[0] * address.shape[1] - 1} with by_word")
        if body["by_line"] and (address[..., ::8] % 8 != 0).any() | (np.diff(address.reshape(-1, 8)) != 1).any():
            raise ProgramError("channels must be whole lines with by_line")
        self._read_filters(np.unique(address // self._width), ordinal, clock)
        words = self._words(self._filters, "filter")[address]
        return words.reshape(-1, 1, *words.shape[2:])

    def _pass(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        setup, config = self._setup, self.config
        assert setup is not None
        ifmap, filters = self._ifmap(ordinal, clock, body), self._filter_words(ordinal, clock, body)
        windows, window, moved = body["windows"] + 1, body["window"] + 1, body["moved"]
        if body["kept"] + moved != window:
            raise ProgramError(f"kept and moved must be {window} words together, not {body['kept']} and {moved}")
        if ifmap.shape[1] * ifmap.shape[4] != window + (windows - 1) * moved:
            raise ProgramError(f"a row of {windows} windows takes {window + (windows - 1) * moved} words, not "
                               f"{ifmap.shape[1] * ifmap.shape[4]}")
        at = np.arange(windows)[:, None] * moved + np.arange(window)
        read, write, beats = self._psum_places(ordinal, clock, body)
        made: dict[tuple[int, int], np.ndarray] = {}
        for bottom, column in zip(*np.nonzero(setup["active"] * setup["bottom"]), strict=True):
            total, row = None, int(bottom)
            while True:
                if row < 0 or not setup["active"][row, column]:
                    raise ProgramError(f"the chain from PE ({bottom}, {column}) has no top")
                own = {name: int(value[row, column]) for name, value in setup.items()}
                one = self._sums_of(ifmap, filters, own, at)
                total = one if total is None else self._add(total, one)
                if setup["top"][row, column]:
                    break
                row -= 1
            t, j = int(setup["psums_row"][bottom, column]), int(setup["psums_col"][bottom, column])
            if (t, j) != (setup["psums_row"][row, column], setup["psums_col"][row, column]) or (t, j) in made:
                raise ProgramError(f"two chains, or the ends of one, have psum tag ({t}, {j})")
            if t > body["psum_sets"] or j > body["psum_rows"]:
                raise ProgramError(f"no psums are read and written for psum tag ({t}, {j})")
            if body.get("join"):
                assert self._softmax is not None
                assert read is not None
                old = self._get_sums(read[..., t, j], beats, body)
                total = self._softmax.joined(old, total, ordinal, clock, body | {"maximum": self._mode["maximum"]})
                total = self._wrapped(total)
            elif read is not None:
                total = self._add(total, self._get_sums(read[..., t, j], beats, body))
            made[t, j] = total
        if len(made) != (body["psum_sets"] + 1) * (body["psum_rows"] + 1):
            raise ProgramError(f"{len(made)} chains make the sums of {body['psum_sets'] + 1} x {body['psum_rows'] + 1}")
        self._put_sums(write, beats, made)
        if config.truncate and body["bias"] and body["fresh"]:
            raise ProgramError("sums can't be fresh and begin at biases")

    def _add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.config.arithmetic.total(a, b, bool(self._mode["maximum"]))

    def _sums_of(self, ifmap: np.ndarray, filters: np.ndarray, setup: dict[str, int], at: np.ndarray) -> np.ndarray:
        """Sums of a PE: (row, window, filter)."""
        if setup["ifmap_row"] >= ifmap.shape[2] or setup["ifmap_col"] >= ifmap.shape[3]:
            raise ProgramError(f"no ifmap words have tag ({setup['ifmap_row']}, {setup['ifmap_col']})")
        if setup["filters_row"] >= filters.shape[0] or setup["filters_col"] >= filters.shape[1]:
            raise ProgramError(f"no filters have tag ({setup['filters_row']}, {setup['filters_col']})")
        words = ifmap[:, :, setup["ifmap_row"], setup["ifmap_col"]].reshape(ifmap.shape[0], -1)[:, at]
        weights = filters[setup["filters_row"], setup["filters_col"]]
        if self._mode["maximum"]:
            sums = np.full((*words.shape[:2], len(weights)), -(1 << self.config.psum_bits - 1))
            for word in range(words.shape[2]):
                products = words[:, :, word, None] * weights[:, word]
                sums = np.where(weights[:, word] == 0, sums, np.maximum(sums, products))
            return sums
        if self.config.truncate:
            sums = np.zeros((*words.shape[:2], len(weights)), np.int64)
            for word in range(words.shape[2]):
                sums += words[:, :, word, None] * weights[:, word] >> self._mode["shift"]
        else:
            sums = (words.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)
        return self._add(sums, np.zeros_like(sums))

    def _psum_places(self, ordinal: int, clock: np.ndarray,
                     body: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray, int]:
        """Lines that are read and written, (row, window, beat, set, ofmap row), and the number of beats."""
        loops = [(body["rows"], body["psum_image_step"]), (body["windows"], body["psum_window_step"]),
                 (body["psum_beats"], 1), (body["psum_sets"], body["psum_set_step"]),
                 (body["psum_rows"], body["psum_row_step"])]
        write, read = _walk(body["psum_write"], loops) % (1 << 16), None
        if not body["fresh"]:
            steps = [(count, step if index in (2, 3) or not body["bias"] else 0)
                     for index, (count, step) in enumerate(loops)]
            read = _walk(body["psum_read"], steps) % (1 << 16)
            self._buffer_race.touch("psums", np.unique(read), ordinal, clock, ("load",))
        self._buffer_race.touch("psums", np.unique(write), ordinal, clock, ("load", "post", "store"))
        sums = body["psum_beats"] * self.config.psum_lanes + body["psum_last"] + 1
        if sums != body["filters"] + 1:
            raise ProgramError(f"{sums} sums of a window are read and written for {body['filters'] + 1} filters")
        return read, write, sums

    def _get_sums(self, lines: np.ndarray, count: int, body: dict[str, Any]) -> np.ndarray:
        kind = f"<i{self.config.psum_bytes}"
        sums: np.ndarray = self._buffer.reshape(-1, self._width)[lines].view(kind).reshape(*lines.shape[:2], -1)
        return sums[..., :count].astype(np.int64)

    def _put_sums(self, lines: np.ndarray, count: int, made: dict[tuple[int, int], np.ndarray]) -> None:
        """Write the sums of all chains in the order of the walk: of two in one place the later stays."""
        kind, lanes = f"<i{self.config.psum_bytes}", self.config.psum_lanes
        buffer = self._buffer.view(kind).reshape(-1, lanes)
        sums = np.stack([made[chain] for chain in sorted(made)], -1).reshape(*lines.shape[:2], count, *lines.shape[3:])
        for lane in range(min(lanes, count)):
            own = sums[:, :, lane::lanes]
            buffer[lines[:, :, :own.shape[2]].reshape(-1), lane] = own.reshape(-1)

    def _post(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        if self.config.truncate:
            raise ProgramError("no post-processing in fixed point")
        if not body["m_count"] or not body["n_count"]:
            raise ProgramError("post of nothing")
        if self._softmax is not None:
            self._softmax.check(body)
            if body["softmax"]:
                self._post_scores(ordinal, clock, body)
                return
        if body["scale_nstep"] and not body.get("normalise"):
            raise ProgramError("scale_nstep is zero in programs of this kind, but for rows that are normalised")
        n = np.arange(body["n_count"])
        for m in range(body["m_count"]):
            row = body["acc_base"] + n * body["acc_nstep"] + m
            self._buffer_race.touch("post", row, ordinal, clock, ("psums",))
            sums = self._buffer.view("<i4").reshape(-1, self.config.psum_lanes)[row].astype(np.int64)
            self._finish(n, m, body["scale_base"] + m * body["scale_mstep"], sums, ordinal, clock, body)

    def _post_scores(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        """Make numerators of rows of scores, each of several lines."""
        m, lanes = np.arange(body["m_count"]), self.config.psum_lanes
        if m.size * lanes % self.config.score_columns:
            raise ProgramError(f"m_count must be a multiple of {self.config.score_columns // lanes}, not {m.size}")
        row = body["acc_base"] + m
        self._buffer_race.touch("post", row, ordinal, clock, ("psums",))
        sums = self._buffer.view("<i4").reshape(-1, lanes)[row].astype(np.int64)
        self._finish(0, m, body["scale_base"], sums, ordinal, clock, body)

    def _scaled(self, m: Any, scale: int, sums: np.ndarray, ordinal: int, clock: np.ndarray,
                body: dict[str, Any]) -> np.ndarray:
        if self._softmax is None or not (body["softmax"] or body["normalise"]):
            return super()._scaled(m, scale, sums, ordinal, clock, body)
        if body["normalise"]:
            return self._softmax.normalised(sums, body)
        entry = self._entries(Parameter.SCALE, np.array([scale]), sums.shape[1], body, ordinal, clock, each=0)[0]
        scales = np.tile(entry[:, :4].copy().view("<f4").reshape(-1), self.config.score_columns // sums.shape[1])
        rows = sums.reshape(-1, self.config.score_columns)
        return self._softmax.numerators(rows, scales, ordinal, clock, body).reshape(sums.shape)

    def _store(self, ordinal: int, clock: np.ndarray, body: dict[str, Any]) -> None:
        if body["profile"] or not self.config.truncate:
            super()._store(ordinal, clock, body)
            return
        source = self._rows(body["address"], body["step2"], body["step1"], body, 1 << ADDRESS_BITS)
        if not source.size or body["address"] % 2 or body["length"] % 2:
            raise ProgramError("a store takes rows of whole words")
        self._buffer_race.touch("store", np.unique(source // self._width), ordinal, clock, ("psums",))
        words = self._buffer[source].view("<i2")
        words = np.maximum(words, 0) if body["relu"] else words
        if body["coded"]:
            if body["address"] % 8 or body["length"] % 8 or body["dram"] % 64:
                raise ProgramError("a code is made of whole lines, and stands at a multiple of 64 bytes")
            values = run_length.encode(words).view(np.uint8)
            target = body["dram"] + np.arange(len(values))
        else:
            values = words.view(np.uint8)
            target = self._rows(body["dram"], body["dram_step2"], body["dram_step1"], body, 1 << 32)
        self._dram_race.write(target, ordinal, clock)
        self.dram[target] = values
