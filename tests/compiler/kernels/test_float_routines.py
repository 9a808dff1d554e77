"""Operators of floats as programs of routines, in the functional model, whose every bit must be golden's."""

import numpy as np
import pytest
from drawn_routines import OPERATORS, check_graph, check_operator, draw_operator, routine_configuration
from training_steps import digit_step

import pearray as pe
from pearray.compiler import operators as op
from pearray.compiler.compile import Unmapped
from pearray.compiler.kinds import compiler_for
from pearray.compiler.timing.routines import routine_postings
from pearray.hdl.errors import PearrayError


@pytest.mark.parametrize("name", OPERATORS)
def test_programs_equal_golden(rng, name):
    """A place, an order or a padding of a lowering that is not golden's shows in some bit of some drawn shape."""
    for form, lanes in (("bfloat16", 2), ("bfloat16", 4), ("float8_e4m3fn", 1)):
        system = routine_configuration(form, lanes)
        for _ in range(2):
            operator, tensors = draw_operator(rng, name, form)
            check_operator(operator, tensors, system, () if rng.random() < 0.7 else None)


def test_rows_that_come_in_parts(rng):
    """A row of more elements than half of the memory has room for would lose what its lanes have kept so far."""
    system = routine_configuration(scratchpads__vector_bytes=512, scratchpads__output_bytes=256)
    for operator, tensors in (
            (op.Softmax(axis=-1), {"x": rng.standard_normal((3, 150)).astype(np.float32)}),
            (op.SumTo((1,)), {"x": rng.standard_normal((211,)).astype(np.float32)}),
            (op.Function("gelu"), {"x": rng.standard_normal((5, 97)).astype(np.float32)})):
        check_operator(operator, tensors, system)


def test_loads_come_under_routines(rng):
    """Halves of the memory that do not take turns would make lanes wait for every element."""
    system = pe.load_config("systolic-8x8-bf16")
    tensors = {role: rng.standard_normal((64, 64)).astype(np.float32) for role in ("w", "dw", "v")}
    program = check_operator(op.SGD(lr=0.1, momentum=0.9), tensors, system).program
    commands = [(command.opcode.value - 1, command.body) for command in program.commands]
    busy = sum(posting.done for posting in routine_postings(system.hardware, program, commands).values())
    assert compiler_for(system.hardware).cycles(system.hardware, program) < 1.05 * busy


def test_numbers_that_are_known_are_literals(rng):
    """A constant of one element that were loaded would cost a LOAD, and a group of the memory, for nothing."""
    tensors = {"a": rng.standard_normal((4, 5)).astype(np.float32), "b": np.float32(0.1)}
    known, given = (check_operator(op.Mul(), tensors, routine_configuration(), constants)
                    for constants in (("b",), ()))
    assert given.program.counts["load"] == known.program.counts["load"] + 1


def test_what_no_routine_computes_is_named(rng):
    """An operator that is lost on the way to a program would be found by nobody but the user."""
    system = routine_configuration()
    pair = {name: rng.standard_normal((5, 4)).astype(np.float32) for name in ("x0", "x1")}
    with pytest.raises(Unmapped, match="Max has no lowering for this accelerator yet"):
        check_operator(op.Max(), pair, system)
    table = {"w": np.zeros((1 << 14, 64), np.float32), "indices": np.zeros(65, np.int64)}
    with pytest.raises(PearrayError, match="rows of the table times elements that are looked up must be at most"):
        check_operator(op.Embedding(), table, system)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    with pytest.raises(PearrayError, match=r"operator must be one of .* not Function"):
        check_operator(op.Function("relu"), {"x": x}, routine_configuration(post__routines=0))
    with pytest.raises(PearrayError, match=r"x must be of type bfloat16 or float32 for this accelerator, not int8"):
        check_operator(pe.Slice((0,), (1,), (0,)), {"x": np.zeros((2, 3), np.int8)}, system)


def test_memories_that_are_too_small_are_named(rng):
    """Windows of more elements than a lane has room for in two halves would overwrite one another."""
    tensors = {role: rng.standard_normal(9).astype(np.float32) for role in ("w", "dw", "m", "v")}
    tensors["v"] **= 2
    system = routine_configuration(lanes=4, scratchpads__vector_bytes=128)
    with pytest.raises(PearrayError, match=r"scratchpads.vector_bytes must be greater to hold 4 groups of 4 numbers"):
        check_operator(op.Adam(lr=0.1), tensors | {"step": np.asarray(1)}, system)


def test_a_step_of_training_is_one_program(rng):
    """A tensor that a pass moves to another place or order, or a race between operators, spoils some new weight."""
    graph, inputs = digit_step(rng, 1)
    compiled = check_graph(graph, pe.load_config("systolic-8x8-bf16"), inputs)
    assert {layer.kind for layer in compiled.layers} >= {"Adam", "Conv2dGrad", "PoolGrad", "Rounded"}


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
@pytest.mark.parametrize("operator", [op.Function("relu"), op.Softmax()], ids=["function", "softmax"])
def test_tensors_without_elements_are_named(operator, shape):
    """If it failed, an empty tensor would end in a traceback of the compiler."""
    with pytest.raises(PearrayError, match=r"x must have at least one element on an array of floats, not shape"):
        check_operator(operator, {"x": np.zeros(shape, np.float32)}, routine_configuration())


def test_numbers_beyond_float32_are_infinite(rng):
    """If it failed, a large number of an operator would end in a traceback of the compiler."""
    x = rng.standard_normal((3, 5)).astype(np.float32)
    check_operator(op.RMSNorm(epsilon=1e300), {"x": x, "gamma": x[0]}, routine_configuration())
