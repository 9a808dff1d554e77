"""A decoder block, a prompt at once and then token by token, from one program each."""

import numpy as np
import pytest
from decoder_steps import Block, decoded
from encoder_layers import layer_array

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.passes.array import for_array
from pearray.compiler.kinds import interpreter
from pearray.workloads.decoder import DecoderShape


def _interpreted(compiled, inputs):
    machine = interpreter(compiled.config, compiled.memory_bytes + 64)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    return {name: compiled.extract(name, machine.read) for name in compiled.output_names}


@pytest.mark.parametrize(("shape", "prompt"), [
    (DecoderShape(32, 4, 2, 48, 21), 6), (DecoderShape(12, 2, 2, 10, 9), 1), (DecoderShape(24, 4, 1, 20, 11), 8)])
def test_tokens_equal_golden(shape, prompt, rng):
    """A wrong angle, place of a key, or bound of what is seen shows as a token that differs from all at once."""
    config = layer_array()
    block = Block.draw(rng, shape, prompt)
    made = decoded(block, prompt, config, _interpreted)
    whole = for_array(block.graphs["all"], config.array.rows, config.array.cols)
    np.testing.assert_array_equal(made, whole.golden({"x": block.x, **block.empty()})["y"])
    found, real = made.reshape(-1) * block.y_scale, block.real.reshape(-1)
    assert found @ real / np.linalg.norm(found) / np.linalg.norm(real) > 0.999


def test_program_of_a_step_changes_in_few_places(rng):
    """A step is compiled once: a field that followed the position and was not marked would be that of position 0."""
    shape = DecoderShape(32, 4, 2, 48, 21)
    compiled = compile_graph(Block.draw(rng, shape, 6).graphs["step"], layer_array(), effort=0)
    kinds = sorted((opcode.name, mark.field) for opcode, mark in zip(
        compiled.positions["position"].opcodes, compiled.positions["position"].marks, strict=True))
    # A load of the matrix for queries and keys, a store of a row for each head, three blocks of keys a group.
    assert kinds == [("LOAD", "dram")] + [("POST", "acc_nstep")] * 6 + [("STORE", "dram")] * 2
