"""Functions of float32 numbers as sequences of float32 operations: what golden models and lanes compute, bit for bit.

Each function takes an arithmetic (:class:`.float_steps.Steps`) and one value, and parameters behind it;
:func:`.float_steps.evaluate` gives it arrays. Coefficients are those of polynomials whose greatest relative error is
least, found by weighted least squares in float64 and rounded to float32. The greatest errors, against float64 over all
exponents and signs (``tests/golden/test_float_functions.py``), in units in the last place, are

=========================  =====================================================================
function                   bound
=========================  =====================================================================
exp, log                   1
exp2                       1.25
sigmoid, tanh, erf         2.5
silu                       4, or |x| units of the least subnormal number
gelu                       8, or |x| units of the least subnormal number
gelu_tanh                  2 of |x|'s
derivatives                of sigmoid and tanh 5, of gelu, gelu_tanh and silu 2.5 of 1's
=========================  =====================================================================

Infinite arguments have the limits that the functions have, zeros keep their sign where the function is odd at zero, and
what is no number stays so.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .float_steps import NONE, Steps, V

__all__ = ["DERIVATIVES", "FUNCTIONS", "bounded", "erf", "exp", "exp2", "log", "number"]

#: ln 2 in two parts, the first so short that its products with exponents are exact.
_LN2 = 0.693359375, math.log(2) - 0.693359375

#: Of (exp(r) - 1 - r) / r**2, for |r| up to ln 2 / 2; powers of r from the least, as in all that follow.
_EXP = 0.4999999403953552, 0.16666515171527863, 0.04166845604777336, 0.008369418792426586, 0.0013813142431899905

#: Of (2**r - 1) / r, for |r| up to a half.
_EXP2 = (0.6931471824645996, 0.24022647738456726, 0.05550329387187958, 0.009618449956178665, 0.0013400170719251037,
         0.00015352315676864237)

#: Of (log(1 + f) - f + f**2 / 2) / f**3, for 1 + f between the root of a half and that of two.
_LOG = (0.3333331048488617, -0.25000008940696716, 0.2000216692686081, -0.16668090224266052, 0.1421855241060257,
        -0.12403086572885513, 0.1189352497458458, -0.11694324761629105, 0.06757530570030212)

#: Of (tanh(x) / x - 1) / x**2 in powers of x**2, for x**2 up to :data:`_TANH_SMALL`.
_TANH = -0.3333328366279602, 0.13331469893455505, -0.05374161899089813, 0.02064412832260132, -0.005709488410502672
_TANH_SMALL = 0.390625

#: Of erf(x) / x in powers of x**2, for x**2 up to 1.
_ERF = (2 / math.sqrt(math.pi), -0.37612631916999817, 0.11283630132675171, -0.026855483651161194, 0.005191291682422161,
        -0.0008035031496547163, 7.933108281577006e-05)

#: Of exp(a**2 / 2) * Q(a) / u in powers of u = 1 / (1 + _TAIL_STEP * a), Q being what a normal number exceeds a by.
_TAIL_STEP = 0.345
_TAIL = (0.13762010633945465, 0.13800524175167084, 0.11736197024583817, 0.1112678274512291, -0.036238230764865875,
         0.18505515158176422, -0.26915407180786133, 0.14423386752605438, -0.02815186232328415)

#: Where normal numbers' tails are less than any number of float32, and logistic ones times the argument.
_NORMAL_END, _LOGISTIC_END = 16.0, 128.0

#: Coefficients of twice the argument of the hyperbolic tangent in GELU's tanh form.
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR

_SIGN, _MAGNITUDE = 0x80000000, 0x7FFFFFFF


def number(s: Steps[V], value: float) -> V:
    """Literal of the float32 that is nearest to a number."""
    return s.literal(int(np.float32(value).view(np.uint32)))


def bounded(s: Steps[V], x: V, low: float | None, high: float | None) -> V:
    """Limit to low..high; what is no number stays so."""
    if low is not None:
        least = number(s, low)
        x = s.select(s.less(x, least), least, x)
    if high is not None:
        most = number(s, high)
        x = s.select(s.less(most, x), most, x)
    return x


def _polynomial(s: Steps[V], x: V, coefficients: Sequence[float]) -> V:
    """Horner's rule."""
    made = number(s, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        made = s.add(s.multiply(made, x), number(s, coefficient))
    return made


def _times_power(s: Steps[V], x: V, exponent: V) -> V:
    """``x * 2**exponent`` for exponents -252 to 254, rounded once where x is normal: by two powers, half each."""
    biased = s.integer_add(exponent, s.literal(254))
    one, places = s.literal(1), s.literal(23)
    low = s.shift_right(biased, one)
    high = s.shift_right(s.integer_add(biased, one), one)
    return s.multiply(s.multiply(x, s.shift_left(low, places)), s.shift_left(high, places))


def _exp(s: Steps[V], x: V, small: V | None = None) -> V:
    """Exponential of -128 to 89, and of a small number besides: ``exp(x + small)``."""
    exponent = s.to_integer(s.multiply(x, number(s, 1 / math.log(2))))
    whole = s.to_float(exponent)
    high, low = (s.multiply(whole, number(s, part)) for part in _LN2)
    rest = s.subtract(s.subtract(x, high), low)
    if small is not None:
        rest = s.add(rest, small)
    bent = s.multiply(s.multiply(rest, rest), _polynomial(s, rest, _EXP))
    return _times_power(s, s.add(s.add(rest, bent), number(s, 1)), exponent)


def exp(s: Steps[V], x: V) -> V:
    """Exponential function."""
    return _exp(s, bounded(s, x, -104, 89))


def exp2(s: Steps[V], x: V) -> V:
    """Power of two."""
    x = bounded(s, x, -151, 129)
    exponent = s.to_integer(x)
    rest = s.subtract(x, s.to_float(exponent))
    return _times_power(s, s.add(s.multiply(rest, _polynomial(s, rest, _EXP2)), number(s, 1)), exponent)


def log(s: Steps[V], x: V) -> V:
    """Natural logarithm; of zeros minus infinity, of what is negative no number."""
    # Subnormal numbers are made normal ones.
    is_small = s.less(x, number(s, 2.0 ** -126))
    normal = s.select(is_small, s.multiply(x, number(s, 2.0 ** 23)), x)
    # Bits above those of the root of a half: their high ones are the exponent, and the rest lies in an octave from it.
    base = int(np.float32(math.sqrt(0.5)).view(np.uint32))
    above = s.integer_add(normal, s.literal(-base))
    places = s.literal(23)
    exponent = s.integer_add(s.shift_right(s.integer_add(above, s.literal(127 << 23)), places),
                             s.select(is_small, s.literal(-127 - 23), s.literal(-127)))
    fraction = s.integer_add(s.bit_and(above, s.literal(0x7FFFFF)), s.literal(base))
    rest = s.subtract(fraction, number(s, 1))
    square, whole = s.multiply(rest, rest), s.to_float(exponent)
    high, low = (s.multiply(whole, number(s, part)) for part in _LN2)
    bent = s.add(s.multiply(s.multiply(rest, square), _polynomial(s, rest, _LOG)), low)
    bent = s.subtract(bent, s.multiply(square, number(s, 0.5)))
    made = s.add(s.add(rest, bent), high)
    zero, infinity = number(s, 0), number(s, math.inf)
    special = s.select(s.less(x, zero), s.literal(NONE), s.add(x, x))
    special = s.select(s.equal(x, zero), number(s, -math.inf), special)
    return s.select(s.bit_and(s.less(zero, x), s.less(x, infinity)), made, special)


def _falling(s: Steps[V], x: V, steep: float = 1.0) -> V:
    """``exp(-steep * |x|)``."""
    negative = s.bit_or(x, s.literal(_SIGN))
    return exp(s, negative if steep == 1 else s.multiply(negative, number(s, steep)))


def sigmoid(s: Steps[V], x: V) -> V:
    """``1 / (1 + exp(-x))``."""
    return _logistic(s, x, _falling(s, x))


def _logistic(s: Steps[V], x: V, falling: V) -> V:
    one = number(s, 1)
    return s.divide(s.select(s.less(x, number(s, 0)), falling, one), s.add(falling, one))


def _logistic_density(s: Steps[V], falling: V) -> V:
    """``exp(-|x|) / (1 + exp(-|x|))**2``."""
    total = s.add(falling, number(s, 1))
    return s.divide(falling, s.multiply(total, total))


def _sigmoid_derivative(s: Steps[V], x: V) -> V:
    return _logistic_density(s, _falling(s, x))


def tanh(s: Steps[V], x: V) -> V:
    """Hyperbolic tangent: ``(exp(2 x) - 1) / (exp(2 x) + 1)``, or a polynomial where that is small."""
    square, one = s.multiply(x, x), number(s, 1)
    small = s.multiply(x, s.add(s.multiply(square, _polynomial(s, square, _TANH)), one))
    cut = bounded(s, x, -10, 10)
    power = _exp(s, s.add(cut, cut))
    great = s.divide(s.subtract(power, one), s.add(power, one))
    return s.select(s.less(square, number(s, _TANH_SMALL)), small, great)


def _tanh_derivative(s: Steps[V], x: V) -> V:
    return s.multiply(_logistic_density(s, _falling(s, x, 2.0)), number(s, 4))


def _bell(s: Steps[V], a: V) -> V:
    """``exp(-a**2 / 2)`` for a up to :data:`_NORMAL_END`: the square of a's first digits is exact."""
    short = s.bit_and(a, s.literal(0xFFFFF000))
    minus_half = number(s, -0.5)
    small = s.multiply(s.multiply(s.subtract(a, short), s.add(a, short)), minus_half)
    return _exp(s, s.multiply(s.multiply(short, short), minus_half), small)


def _tail(s: Steps[V], a: V, bell: V) -> V:
    """Probability that a normal number exceeds a, for a up to :data:`_NORMAL_END`."""
    one = number(s, 1)
    unit = s.divide(one, s.add(s.multiply(a, number(s, _TAIL_STEP)), one))
    return s.multiply(s.multiply(_polynomial(s, unit, _TAIL), unit), bell)


def _normal(s: Steps[V], x: V) -> tuple[V, V]:
    """Probability that a normal number is less than x, and ``exp(-x**2 / 2)``."""
    a = bounded(s, s.bit_and(x, s.literal(_MAGNITUDE)), None, _NORMAL_END)
    bell = _bell(s, a)
    tail = _tail(s, a, bell)
    return s.select(s.less(x, number(s, 0)), tail, s.subtract(number(s, 1), tail)), bell


def erf(s: Steps[V], x: V) -> V:
    """Error function."""
    square, one = s.multiply(x, x), number(s, 1)
    small = s.multiply(x, _polynomial(s, square, _ERF))
    a = s.multiply(s.bit_and(x, s.literal(_MAGNITUDE)), number(s, math.sqrt(2)))
    a = bounded(s, a, None, _NORMAL_END)
    tail = _tail(s, a, _bell(s, a))
    sign = s.bit_or(s.bit_and(x, s.literal(_SIGN)), one)
    great = s.multiply(s.subtract(one, s.add(tail, tail)), sign)
    return s.select(s.less(square, one), small, great)


def gelu(s: Steps[V], x: V) -> V:
    """``x * (1 + erf(x / sqrt(2))) / 2``."""
    return s.multiply(bounded(s, x, -_NORMAL_END, None), _normal(s, x)[0])


def _gelu_derivative(s: Steps[V], x: V) -> V:
    share, bell = _normal(s, x)
    density = s.multiply(bell, number(s, 1 / math.sqrt(2 * math.pi)))
    return s.add(share, s.multiply(bounded(s, x, -_NORMAL_END, _NORMAL_END), density))


def gelu_tanh(s: Steps[V], x: V) -> V:
    """``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``, which is ``x`` times a logistic function."""
    cut = bounded(s, x, -_NORMAL_END, _NORMAL_END)
    slope = s.add(s.multiply(s.multiply(cut, cut), number(s, _CUBIC)), number(s, _LINEAR))
    return s.multiply(bounded(s, x, -_NORMAL_END, None), sigmoid(s, s.multiply(cut, slope)))


def _gelu_tanh_derivative(s: Steps[V], x: V) -> V:
    cut = bounded(s, x, -_NORMAL_END, _NORMAL_END)
    cubic, linear = s.multiply(s.multiply(cut, cut), number(s, _CUBIC)), number(s, _LINEAR)
    argument = s.multiply(cut, s.add(cubic, linear))
    falling = _falling(s, argument)
    slope = s.add(s.multiply(cubic, number(s, 3)), linear)
    bent = s.multiply(s.multiply(cut, slope), _logistic_density(s, falling))
    return s.add(_logistic(s, argument, falling), bent)


def silu(s: Steps[V], x: V) -> V:
    """``x * sigmoid(x)``, also called swish."""
    return s.multiply(bounded(s, x, -_LOGISTIC_END, None), sigmoid(s, x))


def _silu_derivative(s: Steps[V], x: V) -> V:
    falling = _falling(s, x)
    bent = s.multiply(bounded(s, x, -_LOGISTIC_END, _LOGISTIC_END), _logistic_density(s, falling))
    return s.add(_logistic(s, x, falling), bent)


def _relu(s: Steps[V], x: V) -> V:
    return bounded(s, x, 0, None)


def _relu_derivative(s: Steps[V], x: V) -> V:
    zero = number(s, 0)
    return s.select(s.less(zero, x), number(s, 1), zero)


def _between(s: Steps[V], x: V, low: float, high: float, inside: float) -> V:
    """A number for what lies between two, 0 for all else."""
    return s.select(s.bit_and(s.less(number(s, low), x), s.less(x, number(s, high))), number(s, inside), number(s, 0))


def _clip_derivative(s: Steps[V], x: V, low: float, high: float) -> V:
    return _between(s, x, low, high, 1)


def _leaky_relu(s: Steps[V], x: V, alpha: float) -> V:
    return s.select(s.less(x, number(s, 0)), s.multiply(x, number(s, alpha)), x)


def _leaky_relu_derivative(s: Steps[V], x: V, alpha: float) -> V:
    return s.select(s.less(number(s, 0), x), number(s, 1), number(s, alpha))


def _line(s: Steps[V], x: V, alpha: float, beta: float) -> V:
    return s.add(s.multiply(x, number(s, alpha)), number(s, beta))


def _hard_sigmoid(s: Steps[V], x: V, alpha: float, beta: float) -> V:
    return bounded(s, _line(s, x, alpha, beta), 0, 1)


def _hard_sigmoid_derivative(s: Steps[V], x: V, alpha: float, beta: float) -> V:
    return _between(s, _line(s, x, alpha, beta), 0, 1, alpha)


def _hard_swish(s: Steps[V], x: V) -> V:
    return s.multiply(x, _hard_sigmoid(s, x, 1 / 6, 0.5))


def _hard_swish_derivative(s: Steps[V], x: V) -> V:
    inside = s.add(s.divide(x, number(s, 3)), number(s, 0.5))
    above = s.select(s.less(x, number(s, 3)), inside, number(s, 1))
    return s.select(s.less(number(s, -3), x), above, number(s, 0))


#: Functions by the names of activations, of an arithmetic, a value, and the activation's parameters.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu": _relu, "clip": bounded, "leaky_relu": _leaky_relu, "sigmoid": sigmoid, "tanh": tanh, "gelu": gelu,
    "gelu_tanh": gelu_tanh, "silu": silu, "hard_sigmoid": _hard_sigmoid, "hard_swish": _hard_swish,
}

#: Their derivatives. Where a function has a kink it is that of the level, or less steep, side, as in PyTorch.
DERIVATIVES: dict[str, Callable[..., Any]] = {
    "relu": _relu_derivative, "clip": _clip_derivative, "leaky_relu": _leaky_relu_derivative,
    "sigmoid": _sigmoid_derivative, "tanh": _tanh_derivative, "gelu": _gelu_derivative,
    "gelu_tanh": _gelu_tanh_derivative, "silu": _silu_derivative, "hard_sigmoid": _hard_sigmoid_derivative,
    "hard_swish": _hard_swish_derivative,
}
