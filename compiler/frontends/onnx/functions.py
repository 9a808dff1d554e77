"""ONNX operators that apply a function to each element of one tensor: which function a node stands for."""

from collections.abc import Callable, Collection

import numpy as np

from ....golden.activation import FUNCTIONS, function_of
from ....hdl.errors import PearrayError
from .builder import MICROSOFT, OnnxNode

__all__ = ["FUSED", "UNARY", "is_function", "unary"]

#: Functions that are one form of an operator: that, and the attribute with the value that asks for it. The first of an
#: operator is what it means without the attribute.
_FORMS: dict[str, tuple[str, str, object]] = {
    "gelu": ("Gelu", "approximate", "none"), "gelu_tanh": ("Gelu", "approximate", "tanh"),
    "silu": ("Swish", "alpha", 1.0),
}

#: Functions of Microsoft's operators, which may add a bias, one number for each index of the last axis, before.
FUSED = {"BiasGelu": "gelu", "FastGelu": "gelu_tanh", "Gelu": "gelu"}


def _operator(name: str) -> str:
    return _FORMS[name][0] if name in _FORMS else "".join(map(str.capitalize, name.split("_")))


#: Operators of the standard, and the functions that each may apply.
UNARY: dict[str, list[str]] = {}
for _name in FUNCTIONS:
    UNARY.setdefault(_operator(_name), []).append(_name)


def is_function(node: OnnxNode) -> bool:
    """Whether a node applies a function to each element of its first input."""
    known: dict[str, Collection[str]] = {"": UNARY, MICROSOFT: FUSED}
    return node.op_type in known.get(node.domain, ())


def unary(node: OnnxNode, bias: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function of float32 numbers that a node applies.

    Parameters
    ----------
    node : OnnxNode
        One that :func:`is_function`.
    bias : (C,) float32 array, optional
        What is added before. Then the function makes (C, 256) of (256,) numbers.

    Raises
    ------
    PearrayError
        If an attribute is unknown, or asks for a form that there is not.
    """
    if node.domain == MICROSOFT:
        node.take()
        function = function_of(FUSED[node.op_type])
        if bias is None:
            return function
        added = np.asarray(bias, np.float32)[:, None]
        return lambda x: function(np.asarray(x, np.float32) + added)
    names = UNARY[node.op_type]
    forms = {_FORMS[name][2]: name for name in names if name in _FORMS}
    if not forms:
        return function_of((names[0], *node.take(**FUNCTIONS[names[0]].parameters).values()))
    attribute = _FORMS[names[0]][1]
    value = node.take(**{attribute: next(iter(forms))})[attribute]
    if value not in forms:
        raise PearrayError(f"{attribute} must be {' or '.join(map(repr, forms))}, not {value!r}")
    return function_of(forms[value])
