"""Small networks of which a host must compute parts, as CumSum has no program."""

import numpy as np
from onnx_chain import dequantised, stored
from onnx_models import draw, make_model

__all__ = ["NETWORKS", "drawn"]

_PADS = {"pads": [1, 1, 1, 1]}


def _convolution(rng, source, name, channels, constants):
    """Convolution between stored tensors, as three nodes."""
    constants |= {f"{name}_w": draw(rng, (channels, channels, 3, 3), np.int8), f"{name}_w_s": np.float32(0.004),
                  f"{name}_w_z": np.int8(0), f"{name}_s": np.float32(0.05), f"{name}_z": np.int8(3)}
    return [("DequantizeLinear", [source, f"{source}_s", f"{source}_z"], [f"{name}_in"], {}),
            ("DequantizeLinear", [f"{name}_w", f"{name}_w_s", f"{name}_w_z"], [f"{name}_w_d"], {}),
            ("Conv", [f"{name}_in", f"{name}_w_d"], [f"{name}_f"], _PADS), stored(f"{name}_f", name)]


def _summed(source, name, constants, ready=False):
    """Sums along the last axis between stored tensors."""
    constants |= {f"{name}_s": np.float32(0.1), f"{name}_z": np.int8(-5), "axis": np.int64(3)}
    before = [] if ready else [("DequantizeLinear", [source, f"{source}_s", f"{source}_z"], [f"{name}_in"], {})]
    return [*before, ("CumSum", [source if ready else f"{name}_in", "axis"], [f"{name}_f"], {}),
            stored(f"{name}_f", name)]


def _twice(rng, constants):
    """Programs before, between and behind two parts on the host."""
    return [*_convolution(rng, "x", "a", 4, constants), *_summed("a", "b", constants),
            *_convolution(rng, "b", "c", 4, constants), *_summed("c", "d", constants),
            *_convolution(rng, "d", "y", 4, constants)], ["y"]


def _beside(rng, constants):
    """Sums that stand beside a convolution, and meet it again."""
    constants |= {"y_s": np.float32(0.1), "y_z": np.int8(0)}
    return [*_convolution(rng, "x", "a", 4, constants), *_summed("x", "b", constants), dequantised("a"),
            dequantised("b"), ("Add", ["a_d", "b_d"], ["y_f"], {}), stored("y_f", "y")], ["y"]


def _around(rng, constants):
    """Real numbers that meet again behind a program what a program makes of them: they stay with the host."""
    constants |= {"y_s": np.float32(0.1), "y_z": np.int8(0)}
    return [*_summed("x", "a", constants), *_convolution(rng, "a", "b", 4, constants), dequantised("b"),
            ("Mul", ["a_f", "b_d"], ["y_f"], {}), stored("y_f", "y")], ["y"]


def _shared(rng, constants):
    """Real numbers that a program and the host need: both make them."""
    constants |= {"t_s": np.float32(0.02), "t_z": np.int8(1)}
    return [dequantised("x"), ("Transpose", ["x_d"], ["t_f"], {"perm": [0, 1, 3, 2]}), stored("t_f", "t"),
            *_summed("t_f", "s", constants, ready=True), *_convolution(rng, "t", "y", 4, constants)], ["y", "s"]


def _ends(rng, constants):
    """Outputs of real numbers and of places, which the host makes, beside one of a program."""
    return [*_convolution(rng, "x", "a", 4, constants), *_summed("a", "b", constants), dequantised("b"),
            ("ArgMax", ["b_d"], ["places"], {"axis": 1}), ("CumSum", ["b_d", "axis"], ["real"], {})], [
                "places", "real", "a"]


def _first(rng, constants):
    """A part on the host before all programs, and one behind them."""
    return [*_summed("x", "a", constants), *_convolution(rng, "a", "b", 4, constants), *_summed("b", "y", constants)
            ], ["y"]


#: Networks by name, and the parts that they have: "A" of the accelerator, "H" of the host.
NETWORKS = {"twice": (_twice, "AHAHA"), "beside": (_beside, "HA"), "around": (_around, "HAH"),
            "shared": (_shared, "AH"), "ends": (_ends, "AH"), "first": (_first, "HAH")}


def drawn(name, rng):
    """Model of a network, and its input."""
    maker, _ = NETWORKS[name]
    size = tuple(int(value) for value in rng.integers(1, 8, 2))
    x = draw(rng, (1, 4, *size), np.int8)
    constants = {"x_s": np.float32(rng.uniform(0.01, 0.03)), "x_z": np.int8(rng.integers(-20, 20))}
    nodes, outputs = maker(rng, constants)
    return make_model(nodes, {"x": x}, outputs, constants, 17), {"x": x}
