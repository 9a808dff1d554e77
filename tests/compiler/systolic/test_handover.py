"""How soon POSTs give their banks back, against what both engines do, row by row."""

import numpy as np
import pytest
from execute_model import config, draw

import pearray as pe
from pearray.compiler.cells import ProgramError
from pearray.compiler.kinds import interpreter
from pearray.compiler.systolic.handover import release
from pearray.compiler.systolic.timing import Latencies, execution
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.config import Post
from pearray.hdl.systolic.execute import Execute


def most_rows(cfg, post, execute):
    """Most rows that may be left, found by listing when each row is read and when it is come to."""
    groups, depth = cfg.array.cols // cfg.post.lanes, cfg.sum_rows
    vectors, _, period, _, _ = execution(cfg, execute)
    untouched = Execute.untouched_of(cfg)
    come = {(execute["acc_base"] + vector) % depth: untouched + vector for vector in reversed(range(vectors))}
    base = post["acc_base"] + (post["n_count"] - 1) * post["acc_nstep"]
    for left in range(post["m_count"], 0, -1):
        read = {(base + post["m_count"] - left + row) % depth: (row + 1) * groups - 1 for row in range(left)}
        if all(last <= come.get(row, last) and last <= untouched + period for row, last in read.items()):
            return left
    return 0


@pytest.mark.parametrize(("shape", "lanes"), [((8, 8), 2), ((4, 4), 4), ((3, 6), 1)])
def test_rows_left(rng, shape, lanes):
    """A row more would be written over unread, a row less would let the array wait; of commands drawn at random."""
    cfg = config(*shape, depth=64)
    object.__setattr__(cfg, "post", Post(lanes=lanes))
    few, found = Latencies.of(cfg).few, 0
    for _ in range(300):
        execute = draw(cfg, rng, str(rng.choice(["fold", "runs", "left"])), pixels=int(rng.choice([3, 20, 60])))
        execute |= {"first": 1, "acc_base": int(rng.integers(0, 64))}
        post = {"m_count": int(rng.integers(1, 64)), "n_count": int(rng.integers(1, 3)),
                "acc_base": int(rng.integers(0, 64)), "acc_nstep": int(rng.integers(0, 64))}
        most = most_rows(cfg, post, execute)
        assert release(cfg, post, execute) == (most if most > few else 0)
        found += most > few
    assert found > 50, "too few POSTs that give their bank back sooner"


@pytest.mark.parametrize("fields", [{"first": 0}, {"output_stationary": 1}, {"rescale": 1}])
def test_others_wait(rng, fields):
    """What adds to sums, shifts them or comes to its last row first would meet rows that have yet to be read."""
    cfg = config(8, 8, depth=64)
    execute = draw(cfg, rng, "fold", pixels=60) | {"first": 1, "acc_base": 0} | fields
    assert release(cfg, {"m_count": 60, "n_count": 1}, execute) == 0


def test_programs(rng):
    """A compiled layer gives banks back sooner, and one that would do so a row too soon is refused."""
    cfg = pe.load_config("systolic-8x8").hardware
    x, w = (rng.integers(-128, 128, shape, np.int8) for shape in ((40, 30), (30, 24)))
    compiled = pe.compile(pe.Gemm(requant=pe.Requant.onnx(1.0, 0, 1.0, 0, 500.0, 0)), {"a": x, "b": w},
                          on=cfg).compiled()
    commands = compiled.program.commands
    posts = [command for command in commands if command.opcode is Opcode.POST]
    early = [post for post in posts if post.body.get("release", 0) > Latencies.of(cfg).few]
    assert early, "no POST gives its bank back sooner"
    run(compiled, compiled.program.encode(), x, w)
    early[0].body["release"] += 1
    with pytest.raises(ProgramError, match="rows left"):
        run(compiled, type(compiled.program).of(cfg.commands, commands).encode(), x, w)


def run(compiled, program, x, w):
    """Run a program in the place of a compiled one."""
    machine = interpreter(compiled.config, compiled.memory_bytes)
    machine.write([*compiled.segments, *compiled.bind({"a": x, "b": w}), (compiled.program_address, program)])
    machine.run(compiled.program_address)
