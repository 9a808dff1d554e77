"""A decoder block on the RTL: a prompt at once and then token by token, each from one program."""

import numpy as np
from decoder_steps import Block, decoded
from encoder_layers import layer_array

from pearray.compiler.graph.passes.array import for_array
from pearray.sim.engine import Disturbance, Job, run
from pearray.workloads.decoder import DecoderShape


def test_tokens_equal_golden(rng):
    """The RTL appends keys and values where they belong, and sees no others, with a memory that stalls, too."""
    numbers = iter(range(100))

    def on_rtl(compiled, inputs):
        regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
        job = Job(compiled.config, compiled.segments + compiled.bind(inputs), compiled.program_address, regions)
        number = next(numbers)
        outcome = run(job, disturbance=Disturbance(stall=0.3, seed=number) if number % 2 else None)
        return {name: placed.from_bytes(data) for (name, placed), data in zip(
            compiled.outputs.items(), outcome.regions, strict=True)}

    shape, prompt, config = DecoderShape(32, 4, 2, 48, 10), 5, layer_array()
    block = Block.draw(rng, shape, prompt)
    made = decoded(block, prompt, config, on_rtl)
    whole = for_array(block.graphs["all"], config.array.rows, config.array.cols)
    np.testing.assert_array_equal(made, whole.golden({"x": block.x, **block.empty()})["y"])
