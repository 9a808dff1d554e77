"""Routines written as functions: their instructions compute what the functions say, in the registers there are."""

import numpy as np
import pytest

from pearray.compiler.routines.assembler import assemble
from pearray.compiler.routines.lanes import Lanes
from pearray.compiler.routines.values import Lane
from pearray.golden.float_functions import DERIVATIVES, FUNCTIONS
from pearray.golden.float_steps import NUMPY
from pearray.hdl.arithmetic.float_formats import FORMATS
from pearray.hdl.errors import PearrayError
from pearray.hdl.routines.instructions import REGISTERS, SLOTS, Instruction, Operation

LANES = 4


def run(lines, values, lanes, passes=1):
    """Run lines on lanes in one pass after another; loads get values by name. Return what is stored, by name."""
    stored = {}
    for number in range(passes):
        frame = lanes.frame(np.array([number]), SLOTS)
        for line in lines:
            fields = dict(zip("abc", line.arguments, strict=False))
            if line.operation.is_store:
                stored[line.name] = np.array(frame.read(fields["a"])[0])
            elif line.operation.is_memory:
                frame.write(line.dst, values[line.name][number][None])
            else:
                frame.compute(Instruction(op=line.operation, dst=line.dst, literal=line.literal, **fields))
        frame.end()
    return stored


def bits(rng, passes=1):
    """Float32 numbers for each pass, slot and lane, as bits."""
    return (rng.standard_normal((passes, SLOTS, LANES)) * 3).astype(np.float32).view(np.uint32)


PARAMETERS = {"clip": (-0.5, 1.0), "leaky_relu": (0.1,), "hard_sigmoid": (0.2, 0.5)}


@pytest.mark.parametrize("table", [FUNCTIONS, DERIVATIVES], ids=["functions", "derivatives"])
def test_functions_are_what_golden_has_of_them(rng, table):
    """A register that is given out while its value is still to be read spoils some function of those with many."""
    for name, function in table.items():
        lane, x = Lane({"x": False, "y": False}), bits(rng)
        lane.store("y", function(lane, lane.load("x"), *PARAMETERS.get(name, ())))
        found = assemble(name, lane, (), (), repeats=True)
        lanes = Lanes(LANES, FORMATS["bfloat16"])
        run(found.before, {}, lanes)
        stored = run(found.each, {"x": x}, lanes)["y"]
        assert (stored == function(NUMPY, x[0], *PARAMETERS.get(name, ()))).all(), name


def test_drawn_routines_compute_what_they_say(rng):
    """An order of evaluation, or a state that is overwritten too soon, would show in one of many drawn graphs."""
    operations = [Operation.ADD, Operation.SUB, Operation.MUL, Operation.XOR, Operation.INTEGER_ADD, Operation.LESS]
    for _ in range(60):
        lane, passes = Lane(dict.fromkeys(("x", "y", "f"), False)), int(rng.integers(1, 4))
        values = [lane.load("x"), lane.load("f"), lane.state("s"), lane.state("t"), lane.number(0.5), lane.number(2.0)]
        for _ in range(int(rng.integers(1, 14))):
            pair = [values[place] for place in rng.integers(0, len(values), 2)]
            values.append(lane.compute(operations[rng.integers(len(operations))], *pair))
            if rng.random() < 0.2:
                values.append(lane.select(values[-1], *pair))
        ends = [values[place] for place in rng.integers(0, len(values), 3)]
        lane.become("s", ends[0])
        lane.become("t", ends[1])
        lane.store("y", ends[2])
        x, fixed, states = bits(rng, passes), np.repeat(bits(rng), passes, 0), bits(rng, 2)
        found = assemble("drawn", lane, ("s", "t"), {"f"}, repeats=True)
        lanes = Lanes(LANES, FORMATS["bfloat16"])
        lanes.registers[[REGISTERS - 1, REGISTERS - 2]] = states
        run(found.before, {"f": fixed}, lanes)
        stored = run(found.each, {"x": x, "f": fixed}, lanes, passes)["y"]
        expected = expect(lane, ends, x, fixed[0], dict(zip("st", states, strict=True)))
        assert (stored == expected[2]).all()
        assert all((lanes.registers[REGISTERS - 1 - place] == expected[place]).all() for place in range(2))


def expect(lane, ends, x, fixed, states):
    """What becomes of states, and what is stored at last, pass by pass, from the graph of values itself."""
    of_two = {Operation.ADD: NUMPY.add, Operation.SUB: NUMPY.subtract, Operation.MUL: NUMPY.multiply,
              Operation.XOR: NUMPY.bit_xor, Operation.INTEGER_ADD: NUMPY.integer_add, Operation.LESS: NUMPY.less}

    def evaluate(value, number):
        if value.operation is None:
            return states[value.name]
        if value.operation is Operation.SET:
            return np.full((SLOTS, LANES), value.literal, np.uint32)
        if value.operation is Operation.LOAD_WORD:
            return x[number] if value.name == "x" else fixed
        arguments = [evaluate(each, number) for each in value.arguments]
        if value.operation is Operation.SELECT:
            return np.where(arguments[2] != 0, arguments[0], arguments[1])
        with np.errstate(all="ignore"):
            return of_two[value.operation](*arguments)

    for number in range(len(x)):
        made = [evaluate(each, number) for each in ends]
        states = dict(zip("st", made, strict=False))
    return made


def test_what_is_alike_in_all_passes_is_computed_once(rng):
    """Constants that are set in each pass would take as long as what is computed with them."""
    lane = Lane(dict.fromkeys(("x", "rate", "y"), False))
    lane.store("y", lane.load("x") * (lane.load("rate") * 0.5) + 1.0)
    found = assemble("scaled", lane, (), {"rate"}, repeats=True)
    assert [line.operation.name for line in found.each] == ["LOAD_WORD", "MUL", "ADD", "STORE_WORD"]
    assert {line.operation for line in found.before} == {Operation.SET, Operation.LOAD_WORD, Operation.MUL}


def test_constants_beyond_the_registers_are_set_where_they_are_read(rng):
    """A polynomial of more coefficients than registers must still be computed, in more instructions."""
    lane, x = Lane({"x": False, "y": False}), bits(rng)
    made, coefficients = lane.load("x"), rng.standard_normal(30).tolist()
    for coefficient in coefficients:
        made = made * lane.load("x") + coefficient
    lane.store("y", made)
    found, lanes = assemble("long", lane, (), (), repeats=True), Lanes(LANES, FORMATS["bfloat16"])
    run(found.before, {}, lanes)
    expected = x[0].view(np.float32)
    for coefficient in coefficients:
        expected = expected * x[0].view(np.float32) + np.float32(coefficient)
    assert (run(found.each, {"x": x}, lanes)["y"] == expected.view(np.uint32)).all()


def test_too_many_values_at_a_time_are_refused():
    """A routine that does not fit must be named, and not be computed in registers that others have."""
    lane = Lane({"y": False} | {f"x{number}": False for number in range(20)})
    first = [lane.load(f"x{number}") * 2.0 for number in range(20)]
    total = first[0]
    for value in first[1:]:
        total = total * value
    for value in first:
        total = total + value
    lane.store("y", total)
    with pytest.raises(PearrayError, match="wide: a routine must need at most 16 registers, 1 of them for states"):
        assemble("wide", lane, ("s",), (), repeats=True)
    with pytest.raises(PearrayError, match="many: a routine must have at most 16 states, not 17"):
        assemble("many", Lane({}), [f"s{number}" for number in range(17)], (), repeats=True)
