"""Functions made of float32 steps: bounds against float64, what is special, and the same bits by another arithmetic."""

import math
import operator
import struct

import numpy as np
import pytest

from pearray.golden import float_functions
from pearray.golden.activation import FUNCTIONS as ACTIVATIONS
from pearray.golden.float_functions import DERIVATIVES, FUNCTIONS
from pearray.golden.float_steps import NONE, NUMPY, evaluate

torch = pytest.importorskip("torch")

ELEMENTARY = {name: getattr(float_functions, name) for name in ("exp", "exp2", "log", "erf")}
ALL = ELEMENTARY | FUNCTIONS | {f"derivative of {name}": function for name, function in DERIVATIVES.items()}
PARAMETERS = {"clip": (-0.5, 1.25), "leaky_relu": (0.125,), "hard_sigmoid": (0.2, 0.5)}
SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 2.0 ** -126, 3.4e38, -3.4e38], np.float32)


def parameters_of(name):
    """Parameters that a function is tried with."""
    return PARAMETERS.get(name.removeprefix("derivative of "), ())


def called(name, x):
    """A function of an array."""
    return evaluate(lambda s, x: ALL[name](s, x, *parameters_of(name)), x)


def falling(x):
    """``exp(-|x|)``, in float64."""
    return torch.exp(-x.abs())


def sigmoid(x):
    """Logistic function without overflow."""
    return torch.where(x < 0, falling(x), torch.ones_like(x)) / (1 + falling(x))


def density(x):
    """Derivative of it."""
    return falling(x) / (1 + falling(x)) ** 2


def normal(x):
    """Probability that a normal number is less, without cancellation."""
    return torch.special.erfc(-x / math.sqrt(2)) / 2


def bent(x):
    """Argument of the logistic function in the tanh form of GELU."""
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)


def bent_slope(x):
    """Derivative of that form; where the argument is great the function is straight."""
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x ** 2)
    return sigmoid(bent(x)) + torch.where(x.abs() < 100, x * density(bent(x)) * slope, torch.zeros_like(x))


#: Function in float64; units in the last place; units in the last place of x beside them; and of 1 or more beside them.
BOUNDS = {
    "exp": (torch.exp, 1, 0, 0), "exp2": (torch.exp2, 1.25, 0, 0), "log": (torch.log, 1, 0, 0),
    "erf": (torch.erf, 2.5, 0, 0), "sigmoid": (sigmoid, 2.5, 0, 0), "tanh": (torch.tanh, 2.5, 0, 0),
    "gelu": (lambda x: x * normal(x), 8, 0, 0), "silu": (lambda x: x * sigmoid(x), 4, 0, 0),
    "gelu_tanh": (lambda x: x * sigmoid(bent(x)), 0, 2, 0),
    "derivative of sigmoid": (density, 5, 0, 0), "derivative of tanh": (lambda x: 4 * density(2 * x), 5, 0, 0),
    "derivative of gelu": (lambda x: normal(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi), 0, 0, 2.5),
    "derivative of silu": (lambda x: sigmoid(x) + x * density(x), 0, 0, 2.5),
    "derivative of gelu_tanh": (bent_slope, 0, 0, 2.5),
}


def unit(x):
    """Units in the last place of float32 of magnitudes."""
    return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(x), 2.0 ** -126))) - 23)


def arguments(rng, count):
    """Numbers of all exponents and signs, and more of those where functions bend."""
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    corners = np.array([0.625, math.sqrt(0.5), 1, math.sqrt(2), 9, 10, 13, 16, 18, 87.34, 88.72, 103.97, 128, 149.5])
    around = corners.astype(np.float32).view(np.uint32)[:, None] + np.arange(-300, 300)
    found = np.concatenate([SPECIAL, around.astype(np.uint32).view(np.float32).reshape(-1), bits,
                            *(rng.uniform(-limit, limit, count).astype(np.float32) for limit in (1, 20, 155))])
    return np.concatenate([found, -found])


def check_bound(name, x):
    """Compare a function with float64, where that is finite in float32; elsewhere it is the same."""
    function, units, of_x, of_one = BOUNDS[name]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        wanted = function(torch.from_numpy(x.astype(np.float64))).numpy()
        rounded = wanted.astype(np.float32)
    made, finite = called(name, x), np.isfinite(rounded) & np.isfinite(x)
    with np.errstate(invalid="ignore"):
        # What is multiplied by x last was rounded before, maybe to a subnormal number.
        subnormal = np.abs(x.astype(np.float64)) * 2.0 ** -149 if name in ("gelu", "silu") else 0
        bound = np.maximum(np.maximum(units * unit(wanted), subnormal), of_x * unit(x))
        bound = np.maximum(bound, of_one * 2.0 ** -23 * np.maximum(np.abs(wanted), 1) if of_one else 0)
        excess = np.abs(made.astype(np.float64) - wanted)[finite] / bound[finite]
    assert np.nanmax(excess) <= 1, (name, x[finite][np.nanargmax(excess)])
    assert not np.isnan(excess).any()
    limits = ~finite & np.isfinite(x)
    np.testing.assert_array_equal(made[limits], rounded[limits])


@pytest.mark.parametrize("name", BOUNDS)
def test_errors_are_within_bounds(rng, name):
    """If it failed, a coefficient, the reduction of arguments or a limit of one would be wrong."""
    check_bound(name, arguments(rng, 50_000))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_errors_of_millions_are_within_bounds(rng, name):
    """If it failed, a bound in the module's table would be one of few arguments only."""
    for _ in range(4):
        check_bound(name, arguments(rng, 500_000))


@pytest.mark.parametrize(("name", "at_zero", "at_infinity", "at_minus_infinity"), [
    ("exp", (1, 1), np.inf, 0), ("exp2", (1, 1), np.inf, 0), ("log", (-np.inf, -np.inf), np.inf, np.nan),
    ("erf", (0, -0.0), 1, -1), ("sigmoid", (0.5, 0.5), 1, 0), ("tanh", (0, -0.0), 1, -1),
    ("gelu", (0, -0.0), np.inf, -0.0), ("gelu_tanh", (0, -0.0), np.inf, -0.0), ("silu", (0, -0.0), np.inf, -0.0),
    ("relu", (0, -0.0), np.inf, 0), ("derivative of gelu", (0.5, 0.5), 1, 0), ("derivative of silu", (0.5, 0.5), 1, 0),
    ("derivative of gelu_tanh", (0.5, 0.5), 1, 0), ("derivative of tanh", (1, 1), 0, 0),
])
def test_limits(name, at_zero, at_infinity, at_minus_infinity):
    """If it failed, an infinite argument would make what is no number, or a zero lose its sign."""
    made = called(name, np.array([0, -0.0, np.inf, -np.inf, np.nan], np.float32))
    wanted = np.array([*at_zero, at_infinity, at_minus_infinity, np.nan], np.float32)
    np.testing.assert_array_equal(made, wanted)
    real = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(made[real]), np.signbit(wanted[real]))


def test_what_is_subnormal_is_rounded_once():
    """If it failed, exponentials too small for normal numbers would be zero, or off by more than half a unit."""
    x = np.linspace(-103.5, -87.5, 4001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (exact < 2.0 ** -126).any()
    assert (np.abs(called("exp", x) - exact) <= 0.5001 * 2.0 ** -149 + 2.0 ** -23 * exact).all()
    for bits in (1, 2, 3, 1 << 22, (1 << 23) - 1):
        value = np.array([bits], np.uint32).view(np.float32)
        assert called("log", value)[0] == np.float32(np.log(value.astype(np.float64)))[0]


def to_float(bits):
    """Number of a pattern."""
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def to_bits(value):
    """Pattern of the nearest float32."""
    with np.errstate(over="ignore", under="ignore"):
        return NONE if math.isnan(value) else struct.unpack("<I", np.float32(value).tobytes())[0]


def in_float64(function):
    """A step that is rounded to float64 first, which loses nothing twice."""
    def step(a, b):
        with np.errstate(all="ignore"):
            return to_bits(float(function(np.float64(to_float(a)), np.float64(to_float(b)))))

    return step


def to_integer(a):
    """Nearest integer, as lanes have it."""
    value = 0 if math.isnan(to_float(a)) else to_float(a)
    limited = min(max(value, -2.0 ** 31), 2.0 ** 31 - 1)
    return round(limited) & 0xFFFFFFFF


class Scalars:
    """The same steps on Python's integers."""

    literal = staticmethod(lambda bits: bits & 0xFFFFFFFF)
    add, subtract, multiply, divide = (staticmethod(in_float64(function)) for function in (
        operator.add, operator.sub, operator.mul, operator.truediv))
    less = staticmethod(lambda a, b: int(to_float(a) < to_float(b)))
    equal = staticmethod(lambda a, b: int(to_float(a) == to_float(b)))
    select = staticmethod(lambda condition, one, other: one if condition else other)
    integer_add = staticmethod(lambda a, b: (a + b) & 0xFFFFFFFF)
    bit_and, bit_or = staticmethod(operator.and_), staticmethod(operator.or_)
    shift_left = staticmethod(lambda a, count: (a << (count & 31)) & 0xFFFFFFFF)
    shift_right = staticmethod(lambda a, count: a >> (count & 31))
    to_integer = staticmethod(to_integer)
    to_float = staticmethod(lambda a: to_bits(float(a - (a >> 31 << 32))))


@pytest.mark.parametrize("name", ALL)
def test_another_arithmetic_makes_the_same_bits(rng, name):
    """If it failed, a function would use what only NumPy has, or NumPy would not round each step to float32."""
    found = arguments(rng, 40)
    x = np.concatenate([SPECIAL, np.array([0x7F800001, 0xFFC00000, NONE], np.uint32).view(np.float32),
                        rng.choice(found, 200)])
    made, scalars = called(name, x).view(np.uint32), Scalars()
    for bits, wanted in zip(x.view(np.uint32), made, strict=True):
        assert ALL[name](scalars, int(bits), *parameters_of(name)) == wanted, hex(bits)


def test_numpy_steps():
    """If it failed, a golden model would round, compare or shift otherwise than the instruction of a lane."""
    def floats(*values):
        return np.array(values, np.float32).view(np.uint32)

    with np.errstate(invalid="ignore"):
        assert NUMPY.to_integer(floats(0.5, 1.5, -2.5, 3e9, -3e9, np.nan, np.inf)).view(np.int32).tolist() == [
            0, 2, -2, 2 ** 31 - 1, -2 ** 31, 0, 2 ** 31 - 1]
        assert NUMPY.root(floats(4, -1)).tolist() == [*floats(2), NONE]
    words = np.array([0x80000001, 3], np.uint32)
    assert NUMPY.to_float(np.array([-3, 1 << 24 | 1], np.int32).view(np.uint32)).view(np.float32).tolist() == [
        -3, 1 << 24]
    assert NUMPY.shift_right(words, NUMPY.literal(33)).tolist() == [0x40000000, 1]
    assert NUMPY.shift_left(words, NUMPY.literal(1)).tolist() == [2, 6]
    assert NUMPY.bit_xor(words, NUMPY.literal(-1)).tolist() == [0x7FFFFFFE, 0xFFFFFFFC]
    assert NUMPY.integer_less(words, NUMPY.literal(2)).tolist() == [1, 0]
    assert NUMPY.less(floats(-0.0, np.nan), floats(0, 1)).tolist() == [0, 0]
    assert NUMPY.equal(floats(-0.0, np.nan), floats(0, np.nan)).tolist() == [1, 0]


def test_every_activation_is_one():
    """If it failed, a network with an activation that runs forward could not be trained."""
    assert {"relu", "clip", *ACTIVATIONS} == {*FUNCTIONS} == {*DERIVATIVES}
