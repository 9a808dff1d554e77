"""Random schedules for the lock-step array: what to present in each cycle, and what must come out."""

from dataclasses import dataclass, field

import numpy as np
from amaranth.sim import Simulator


@dataclass
class Schedule:
    """Stimulus of a systolic array, cycle by cycle, and the outputs that it must give.

    Every method appends one operation at the earliest cycles that the array's rules allow, plus
    random idle cycles where ``stall`` is above 0. Idle operands are random.
    """

    dut: object
    rng: np.random.Generator
    stall: float = 0.0
    stimulus: dict = field(default_factory=dict)
    expected: dict = field(default_factory=dict)
    weight_free: int = 0
    vector_free: int = 0
    swap: int = 0
    os_end: int = 0
    drain: int = -10_000

    def operands(self, *shape):
        """Return random operands, the most negative ones often enough to matter."""
        half = 1 << self.dut.arithmetic.word.width - 1
        low, high = -half, half - 1
        values = self.rng.integers(low, high + 1, size=shape)
        return np.where(self.rng.random(shape) < 0.1, low, values)

    def sums(self, a, w):
        """Return the sums of words a (..., K) and w (..., K, N), in the order in which the array adds."""
        return a @ w

    def pause(self):
        """Return a random number of idle cycles."""
        return int(self.rng.geometric(1 - self.stall)) - 1 if self.stall else 0

    def at(self, cycle):
        """Return the stimulus of a cycle, for changing."""
        return self.stimulus.setdefault(cycle, {})

    def expect(self, cycle, values):
        """Note the outputs of one row of sums whose column 0 is due in a cycle."""
        for col, value in enumerate(values):
            assert self.expected.setdefault((cycle + col, col), int(value)) == value

    def weight_stationary(self, vectors, *, left=False, used=None):
        """Load a tile, whose first ``used`` vectors count, and meet it with activation vectors."""
        rows, cols = self.dut.rows, self.dut.cols
        size = cols if left else rows
        used = size if used is None else used
        lead = (self.dut.swap_lead_left if left else self.dut.swap_lead_top) - (size - used)
        tile = self.operands(rows, cols)
        start = max(self.weight_free, self.swap, self.os_end) + self.pause()
        for j in range(used):
            step = self.at(start + j)
            step["w_left" if left else "w_top"] = tile[:, j] if left else tile[j]
            step["w_control"] = {"left": left if j == 0 else self.rng.integers(2), "capture": j == 0}
        self.weight_free = start + used
        cycle = max(start + lead, self.vector_free, self.drain + self.dut.drain_interval) + self.pause()
        self.swap = cycle
        for m in range(vectors):
            vector = self.operands(rows)
            seen = tile.copy()
            if left:
                seen[:, used:] = 0
            else:
                vector[used:] = 0
            step = self.at(cycle)
            step["a"] = vector
            step["control"] = {"swap": m == 0, "drain": self.rng.integers(2), "clear": self.rng.integers(2)}
            sums = self.sums(vector, seen)
            self.expect(cycle + self.dut.ws_latency, sums[:used] if left else sums)
            self.vector_free = cycle + 1
            cycle += 1 + self.pause()

    def output_stationary(self, depth):
        """Sum ``depth`` outer products in the PEs and drain them, for each of the sums that take turns."""
        turns = self.dut.os_sums
        a = self.operands(turns, depth, self.dut.rows)
        w = self.operands(turns, depth, self.dut.cols)
        lead = self.dut.os_weight_lead
        start = max(self.weight_free, self.swap)
        cycle = first = max(start + lead, self.vector_free) + self.pause()
        for k in range(depth):
            last = k == depth - 1
            if last:
                cycle += -(-max(self.drain + self.dut.drain_interval - cycle, 0) // turns) * turns
                self.drain = cycle
            for turn in range(turns):
                step = self.at(cycle - lead)
                step["w_top"] = w[turn, k]
                step["w_control"] = {"left": 0, "capture": 1}
                self.at(cycle).update(a=a[turn, k], control={
                    "output_stationary": 1, "clear": k == 0 and turn == 0, "drain": last and turn == 0,
                    "swap": self.rng.integers(2),
                })
                cycle += 1
            self.weight_free, self.vector_free, self.os_end = cycle - lead, cycle, cycle - 1
            cycle += turns * self.pause()
        for idle in range(first, self.vector_free):
            if "a" not in self.at(idle):
                self.at(idle).update(a=np.zeros(self.dut.rows, int), control={"output_stationary": 1})
        rows = self.sums(a.transpose(0, 2, 1), w)[:, ::-1].transpose(1, 0, 2).reshape(-1, self.dut.cols)
        for i, row in enumerate(rows):
            self.expect(self.drain + self.dut.os_latency + i, row)

    def random(self, operations):
        """Append random operations of every kind."""
        for _ in range(operations):
            kind = self.rng.integers(4)
            left = bool(self.rng.integers(2))
            size = self.dut.cols if left else self.dut.rows
            if kind == 0:
                self.output_stationary(int(self.rng.integers(1, 9)))
            elif kind == 1:
                self.weight_stationary(1, left=left, used=int(self.rng.integers(1, size + 1)))
            else:
                self.weight_stationary(int(self.rng.integers(1, 2 * self.dut.rows + 2)), left=left)

    @property
    def cycles(self):
        """Cycles until the last output has come."""
        return max(cycle for cycle, _ in self.expected) + 2

    def inputs(self, cycle):
        """Return plain values of every input in a cycle."""
        step = self.stimulus.get(cycle, {})
        rows, cols = self.dut.rows, self.dut.cols
        values = {}
        for name, size in (("a", rows), ("w_top", cols), ("w_left", rows)):
            values[name] = np.asarray(step.get(name, self.operands(size))).tolist()
        for name, bits in (("control", ("swap", "output_stationary", "clear", "drain")),
                           ("w_control", ("left", "capture"))):
            given = step.get(name, {"left": self.rng.integers(2), "clear": self.rng.integers(2)})
            values[name] = {bit: int(given.get(bit, 0)) for bit in bits}
        return values

    def check(self, outputs):
        """Compare recorded ``psum`` values, one list a cycle, with the expected ones."""
        wrong = [(cycle, col, outputs[cycle][col], value) for (cycle, col), value in
                 sorted(self.expected.items()) if outputs[cycle][col] != value]
        assert not wrong, (f"{len(wrong)} of {len(self.expected)} wrong; "
                           f"(cycle, column, is, expected): {wrong[:5]}")


def run(schedule):
    """Run a schedule in Amaranth's simulator and check every output that is due."""
    dut, outputs = schedule.dut, []

    async def testbench(ctx):
        for cycle in range(schedule.cycles):
            for name, value in schedule.inputs(cycle).items():
                ctx.set(getattr(dut, name), value)
            outputs.append([ctx.get(dut.psum[col]) for col in range(dut.cols)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    schedule.check(outputs)
