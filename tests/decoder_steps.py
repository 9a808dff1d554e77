"""A small decoder block with its scales, and runs of it over tokens that follow one another."""

from dataclasses import dataclass

import numpy as np

from pearray.compiler.compile import compile_graph
from pearray.workloads.decoder import DecoderShape, calibrated, decoder_block, drawn_weights, float_block

__all__ = ["Block", "decoded"]


@dataclass
class Block:
    """A drawn block, tokens in steps of their scale, and what the block makes of them in floats."""

    shape: DecoderShape
    graphs: dict
    x: np.ndarray
    real: np.ndarray
    y_scale: float

    @classmethod
    def draw(cls, rng, shape, prompt):
        """Draw a block, with a graph for `prompt` tokens, one for each that follows, and one for all at once."""
        weights, x = drawn_weights(rng, shape), rng.normal(size=(shape.context, shape.width)).astype(np.float32)
        scales = calibrated(x, weights, shape)
        graphs = {name: decoder_block(weights, shape, scales, count, name == "step")
                  for name, count in (("step", 1), ("prompt", prompt), ("all", shape.context))}
        stored = np.clip(np.rint(x / scales.tensors["x"]), -127, 127).astype(np.int8)
        return cls(shape, graphs, stored, float_block(x, weights, shape)["y"], scales.tensors["y"])

    def empty(self):
        """Keys and values before the first token, which nobody may see."""
        cache = self.shape.groups, self.shape.context, self.shape.elements
        return {name: np.full(cache, fill, np.int8) for name, fill in (("past_k", 127), ("past_v", -128))}


def decoded(block, prompt, config, run):
    """Outputs of a prompt and of the tokens behind it, each program compiled once.

    ``run(compiled, inputs)`` gives the graph's outputs, which are compared with golden here.
    """
    programs = {name: compile_graph(block.graphs[name], config, effort=0) for name in ("prompt", "step")}
    state, made = block.empty(), []
    for first in (0, *range(prompt, len(block.x))):
        compiled = programs["step" if first else "prompt"]
        inputs = {"x": block.x[first:first + (1 if first else prompt)], **state}
        if first:
            inputs["position"] = np.array(first)
        outputs, golden = run(compiled, inputs), compiled.graph.golden(inputs)
        for name in ("y", "present_k", "present_v"):
            np.testing.assert_array_equal(outputs[name], golden[name], f"{name} at position {first}")
        made.append(outputs["y"])
        state = {"past_k": outputs["present_k"], "past_v": outputs["present_v"]}
    return np.concatenate(made)
