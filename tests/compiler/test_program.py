"""Assembler and interpreter: the rule against deadlock, the format, and races that must be found."""

from pathlib import Path

import numpy as np
import pytest
from random_workloads import configuration, operands

import pearray as pe
from pearray.compiler.cells import ProgramError
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import Program, disassemble
from pearray.compiler.validate import validate
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.hdl.shell.waits import near
from pearray.hdl.systolic.commands import COMMANDS, Destination

COPY = {"length": 16, "count1": 1, "count2": 1}
EXECUTE = {"m_count0": 8, "m_count1": 1, "m_count2": 1, "k_total": 2, "run": 2, "run_count": 1, "n_count": 1,
           "first": 1}


def _run(program, config=None):
    machine = interpreter(config or configuration(), 4096)
    machine.write([(0, program.encode())])
    return machine, machine.run(0)


def test_waits_name_earlier_commands_only():
    """A wait for a later command could deadlock: it must never be encoded."""
    program = Program(COMMANDS)
    with pytest.raises(ValueError, match=r"^execute command 1 waits for load command 1 of 0$"):
        program.execute({"load": 1}, **EXECUTE)
    assert program.load({}, **COPY) == 1
    assert program.execute({"load": 1}, **EXECUTE) == 1


def test_encoding_is_read_back():
    """What the assembler writes is what the hardware reads."""
    program = Program(COMMANDS)
    program.load({}, **COPY, destination=Destination.WEIGHT.value, dram=4096)
    program.execute({"load": 1}, **EXECUTE, a_zero_point=-5, m_step0=(1 << 20) - 1)
    encoded = program.encode()
    assert len(encoded) == 3 * COMMAND_BYTES
    load, execute = disassemble(encoded, COMMANDS)
    assert load.body["destination"] is Destination.WEIGHT
    assert (execute.waits["load"], execute.body["a_zero_point"], execute.body["m_step0"]) == (1, -5, (1 << 20) - 1)


def test_waits_survive_long_programs(rng):
    """Counts wrap; a wait for something long past, or one that is left out, must not look like one for the future."""
    bits = 6
    program = Program(COMMANDS, bits)
    # A STORE that LOADs could leave far behind.
    program.store({}, length=1)
    for _ in range(300):
        program.load({"load": int(rng.integers(program.counts["load"] + 1))} if rng.integers(2) else {}, **COPY, fill=1)
    program.execute({"load": 1}, **EXECUTE)
    encoded = program.encode()
    validate(encoded, bits, held=1 << bits - 1)
    before = dict.fromkeys(program.counts, 0)
    for wanted, command in zip(program.commands, disassemble(encoded, COMMANDS, bits), strict=True):
        for name, total in before.items():
            count = command.waits[name]
            assert max(wanted.waits.get(name, 0), total - near(bits)) <= count <= total
        before[command.opcode.name.lower()] += 1


@pytest.mark.parametrize("name", ["configuration", "row_stationary"])
def test_layers_whose_counts_wrap(rng, name):
    """Waits that were moved would let a command overtake what it needs, or hold one back that must go on."""
    config = pe.load_config(Path(__file__).parents[1] / "cocotb" / f"{name}.toml").hardware
    graph = Graph.of(pe.Gemm(), {"a": operands(rng, (40, 300)), "b": operands(rng, (300, 170))})
    inputs = {role: operands(rng, graph.tensors[role].shape) for role in graph.inputs}
    compiled = compile_graph(graph, config)
    program = Program.of(config.commands, compiled.program.commands, 8)
    assert max(program.counts.values()) > 512
    encoded = program.encode()
    validate(encoded, 8, queues=config.commands.queues)
    machine = interpreter(config, compiled.memory_bytes + 64)
    machine.write([*compiled.segments, (compiled.program_address, encoded), *compiled.bind(inputs)])
    machine.run(compiled.program_address, 8)
    np.testing.assert_array_equal(compiled.extract("y", machine.read), graph.golden(inputs)["y"])


def test_short_programs_are_encoded_as_they_are(rng):
    """Waits that need not move would hold commands back, or change programs that are kept by their hash."""
    program = Program(COMMANDS)
    for _ in range(100):
        program.load({"execute": program.counts["execute"] // 2}, **COPY)
        program.execute({"load": int(rng.integers(program.counts["load"] + 1))}, **EXECUTE)
    commands = disassemble(program.encode(), COMMANDS)
    assert [command.waits for command in commands] == [
        dict.fromkeys(program.counts, 0) | command.waits for command in program.commands]


def test_the_interpreter_compares_as_gates_do():
    """A program that hangs on hardware would pass on the interpreter."""
    machine = interpreter(configuration(), 4096)
    fill = COPY | {"fill": 1}
    machine.write([(0, b"".join(COMMANDS.encode(Opcode.LOAD, {}, fill) for _ in range(9)))])
    message = r"^command 8: LOAD waits for ever, for load command 16 of 8 before it$"
    with pytest.raises(ProgramError, match=message):
        machine.run(0, 4)
    program = Program(COMMANDS, 4)
    for _ in range(50):
        program.load({}, **fill)
    machine.write([(0, program.encode())])
    assert machine.run(0, 4) == 50


@pytest.mark.parametrize(("ending", "message"), [
    ({"load": 0}, "command 1: END waits only for 0 of 1 load commands"),
    ({"load": 1, "store": 2}, "command 1: END waits for ever, for store command 2 of 0 before it"),
])
def test_the_end_waits_for_all(ending, message):
    """The run would end before all is done, or never; both would pass unseen."""
    machine = interpreter(configuration(), 4096)
    machine.write([(0, COMMANDS.encode(Opcode.LOAD, {}, COPY | {"fill": 1}) + COMMANDS.encode(Opcode.END, ending, {}))])
    with pytest.raises(ProgramError, match=rf"^{message}$"):
        machine.run(0)


def test_a_post_given_back_has_not_written():
    """An EXECUTE that waits for a POST knows its sums to be read, but not its outputs to be written."""
    program = Program(COMMANDS)
    program.load({}, **COPY, dram=1024)
    program.load({}, **COPY, dram=1024, destination=Destination.WEIGHT.value)
    program.execute({"load": 2}, **EXECUTE)
    program.post({"execute": 1}, n_count=1, m_count=8, out_mstep=32)
    # The bank may be used again as soon as the POST has been given back.
    program.execute({"post": 1}, **EXECUTE)
    assert _run(program)[1] == 5
    program.store({"execute": 2}, length=256, count1=1, count2=1, dram=2048)
    with pytest.raises(ProgramError, match=r"^command 5: store command 1 reads output that post command 1 writes"):
        _run(program)


def test_a_read_before_its_load_is_found():
    """Without this check a missing wait would pass on the interpreter and fail on hardware now and then."""
    program = Program(COMMANDS)
    program.load({}, **COPY, dram=1024)
    program.load({}, **COPY, dram=1024, destination=Destination.WEIGHT.value)
    program.execute({"load": 1}, **EXECUTE)
    with pytest.raises(ProgramError, match=r"^command 2: execute command 1 reads weight that load command 2 writes"):
        _run(program)


def test_an_overwrite_before_its_read_is_found():
    """A load that does not wait for the execute that still reads the place destroys operands."""
    program = Program(COMMANDS)
    program.load({}, **COPY, dram=1024)
    program.load({}, **COPY, dram=1024, destination=Destination.WEIGHT.value)
    program.execute({"load": 2}, **EXECUTE)
    program.load({}, **COPY, dram=1024)
    with pytest.raises(ProgramError, match=r"^command 3: load command 3 overwrites activation that execute command 1"):
        _run(program)


def test_waits_are_transitive():
    """A store that waits for a post has also waited for what the post waited for."""
    program = Program(COMMANDS)
    program.load({}, **COPY, dram=1024)
    program.load({}, **COPY, dram=1024, destination=Destination.WEIGHT.value)
    program.execute({"load": 2}, **EXECUTE)
    program.post({"execute": 1}, n_count=1, m_count=8, out_mstep=32)
    program.store({"post": 1}, length=256, count1=1, count2=1, dram=2048)
    program.load({"store": 1}, **COPY, dram=2048)
    machine, commands = _run(program)
    assert commands == 6
    assert machine.read(2048, 4) == bytes(4)


def test_contraction_follows_the_document(rng):
    """Runs, jumps and tiles of EXECUTE against a sum written out element by element."""
    config = configuration(rows=4, cols=4)
    machine = interpreter(config, 4096)
    a, w = rng.integers(-128, 128, 256, dtype=np.int8), rng.integers(-128, 128, 256, dtype=np.int8)
    program = Program(COMMANDS)
    program.load({}, length=256, count1=1, count2=1, dram=1024)
    program.load({}, length=256, count1=1, count2=1, dram=2048, destination=Destination.WEIGHT.value)
    program.execute({"load": 2}, m_count0=3, m_count1=2, m_count2=1, m_step0=5, m_step1=31, k_total=11, run=3,
                    run_count=2, jump1=7, jump2=13, n_count=2, a_nstep=2, w_pitch=9, w_nstep=4, acc_base=1,
                    acc_nstep=6, first=1, a_zero_point=3, w_zero_point=-2)
    program.post({"execute": 1}, n_count=2, m_count=6, acc_base=1, acc_nstep=6, out_mstep=16, out_nstep=96)
    program.store({"post": 1}, length=192, count1=1, count2=1, dram=3072)
    machine.write([(0, program.encode()), (1024, a.tobytes()), (2048, w.tobytes())])
    machine.run(0)
    sums = np.frombuffer(machine.read(3072, 192), "<i4").reshape(2, 6, 4)
    for n in range(2):
        for m in range(6):
            for c in range(4):
                total, offset = 0, 0
                for k in range(11):
                    x = int(a[n * 2 + m // 3 * 31 + m % 3 * 5 + offset]) - 3
                    total += x * (int(w[n * 4 + k * 9 + c]) + 2)
                    offset += 1 + 7 * ((k + 1) % 3 == 0) + 13 * ((k + 1) % 6 == 0)
                assert sums[n, m, c] == total, (n, m, c)


def test_malformed_commands_are_refused():
    """Nothing to do, or outputs off their grid, is a mistake of the compiler."""
    program = Program(COMMANDS)
    program.post({}, n_count=1, m_count=1, out_base=2)
    with pytest.raises(ProgramError, match=r"^command 0: output address must be a multiple of 8$"):
        _run(program)
    program = Program(COMMANDS)
    program.load({}, length=0, count1=1, count2=1)
    with pytest.raises(ProgramError, match=r"^command 0: load of nothing$"):
        _run(program)
