"""Requantisation of one sum per cycle, exact to the last bit by each of three rules."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.multiplier import Multiplier
from ..blocks.pipeline import delay, taps
from ..shell.commands import Rounding

__all__ = ["RESULT_BITS", "WIDE_RESULT_BITS", "Requantiser"]

#: Bits of a float32 significand, the hidden one included.
SIGNIFICAND_BITS = 24

#: Bits of a result before its zero point is added. Zero point and clamp have 17 bits signed, so a
#: magnitude of at least 2**17 - 1 ends at a clamp whatever it was.
RESULT_BITS = 19

#: Bits of a result where it counts as far as float32 tells whole numbers apart.
WIDE_RESULT_BITS = 26


class Requantiser(wiring.Component):
    """Pipeline that rounds a sum times a scale to an integer.

    The throughput is one value per cycle and the latency :attr:`latency` cycles. There is no flow
    control: a value given in one cycle leaves ``latency`` cycles later. One multiplier serves all
    rules.

    * ``Rounding.ONNX``: ``rint(float32(sum) * scale)``. The sum is normalised and rounded to 24
      bits (nearest even), as is the product with the significand of the scale; the result is then
      rounded to an integer (nearest even). A scale of zero, and a subnormal one, gives zero, which
      is exact: the product is less than ``2**-77``. Scales with the largest exponent
      (infinity, NaN) give the greatest magnitude. The sign of the scale is ignored.
    * ``Rounding.TFLITE_DOUBLE``: gemmlowp's saturating rounding doubling high multiply of
      ``sum << -shift`` (which wraps to 32 bits) by the multiplier, then a rounding right shift.
      The first rounds ``product / 2**31`` to the nearest integer with halves upwards (nudge and
      truncating division come to that), the second rounds halves away from zero.
    * ``Rounding.TFLITE_SINGLE``: ``(sum * multiplier + 2**(30 + shift)) >> (31 + shift)``, for sums of any
      width. Where ``shift`` is negative the multiplier must be at least ``2**30``, as TensorFlow Lite's
      always are (any other is exactly equal to a normalised one, or to one with ``shift`` 0).
    * ``Rounding.NONE``: the sum itself, on :py:`raw`.

    The double rule is defined on int32: a wider sum is first saturated to 32 bits.

    Parameters
    ----------
    width : int
        Bits of a sum: 32, or up to 48.
    result_bits : int
        Bits of a result: :data:`RESULT_BITS`, or :data:`WIDE_RESULT_BITS`. With these, results of ``Rounding.ONNX`` are
        saturated at magnitudes of exactly ``2**24 - 1``, and others at one between ``2**24 - 1`` and ``2**24``.

    Members
    -------
    valid : :py:`In(1)`
        Whether a value is given.
    rounding : :py:`In(Rounding)`
        Rule for this value.
    sum : :py:`In(signed(width))`
        Biased sum.
    scale : :py:`In(32)`
        float32 scale, or int32 multiplier (not negative).
    shift : :py:`In(signed(6))`
        Right shift of the TFLite rules, -30 to 31.
    result_valid : :py:`Out(1)`
        ``valid``, ``latency`` cycles later.
    result : :py:`Out(signed(result_bits))`
        Rounded value. One that does not fit 18 bits signed is saturated, at a magnitude between
        ``2**17 - 1`` and ``2**17``, which any clamp of 17 bits hides; wide ones are as said above.
    raw : :py:`Out(signed(width))`
        With ``Rounding.NONE`` the sum, whose low bits are then ``result``; otherwise undefined.

    Raises
    ------
    ValueError
        If ``width`` is not between 32 and 48.
    """

    def __init__(self, width: int = 32, result_bits: int = RESULT_BITS):
        if not 32 <= width <= 48:
            raise ValueError(f"width of a sum must be in 32..48, not {width!r}")
        self._width, self._result_bits = width, result_bits
        super().__init__({
            "valid": In(1),
            "rounding": In(Rounding),
            "sum": In(signed(width)),
            "scale": In(32),
            "shift": In(signed(6)),
            "result_valid": Out(1),
            "result": Out(signed(result_bits)),
            "raw": Out(signed(width)),
        })

    @property
    def width(self) -> int:
        """Bits of a sum."""
        return self._width

    @property
    def latency(self) -> int:
        """Cycles from a sum to its result."""
        return self.latency_of(self.width)

    @classmethod
    def latency_of(cls, width: int) -> int:
        """Return the latency in cycles for sums of ``width`` bits."""
        return cls._operands_cycle(width) + Multiplier.LATENCY + 6

    @staticmethod
    def _steps(width: int) -> list[tuple[int, ...]]:
        """Distances of the normalising shifter, stage by stage."""
        return ([(32,)] if width > 32 else []) + [(16,), (8,), (4,), (2, 1)]

    @classmethod
    def _operands_cycle(cls, width: int) -> int:
        """Cycle in which the operands of the multiplier stand in their registers."""
        return 1 + len(cls._steps(width)) + 2

    @property
    def _wide(self) -> bool:
        """Whether a result may have as many bits as a significand, so that a product is aligned a bit further left."""
        return self._result_bits == WIDE_RESULT_BITS

    @property
    def _operands(self) -> int:
        return self._operands_cycle(self.width)

    def elaborate(self, platform):
        """Build the pipeline; ``name[t]`` is a value ``t`` cycles after its sum came in."""
        m = Module()

        cycles = self.latency
        m.d.comb += self.result_valid.eq(delay(m, self.valid, cycles, "valid"))
        mode = {
            "onnx": taps(m, self.rounding == Rounding.ONNX, cycles, "onnx", reset_less=True),
            "double": taps(m, self.rounding == Rounding.TFLITE_DOUBLE, cycles, "double", reset_less=True),
            "single": taps(m, self.rounding == Rounding.TFLITE_SINGLE, cycles, "single", reset_less=True),
            "none": taps(m, self.rounding == Rounding.NONE, cycles, "none", reset_less=True),
        }
        scale = taps(m, self.scale, self._operands - 2, "scale", reset_less=True)
        shift = taps(m, self.shift, self._operands - 2, "shift", reset_less=True)

        normal, zeros, overflow = self._normalise(m, mode, shift)
        product = self._multiply(m, mode, scale, normal)
        fixed, distance, overflow = self._first_rounding(
            m, mode, scale, shift, normal, zeros, overflow, product)
        whole, sticky = self._align(m, fixed, distance)
        self._second_rounding(m, mode, whole, sticky, overflow)
        return m

    def _normalise(self, m, mode, shift):
        """Shift left: by its leading zeros a magnitude (ONNX), by ``-shift`` a sum (TFLite).

        Returns the shifted value, the distance that it was shifted, and for the single rule
        whether the shift overflowed, all ``self._operands - 2`` cycles after the sum.
        """
        width, onnx = self.width, mode["onnx"]
        value = Signal(width, name="magnitude", reset_less=True)
        m.d.sync += value.eq(Mux(onnx[0] & self.sum[-1], -self.sum, self.sum))
        left = Signal(5, name="left_1", reset_less=True)
        m.d.sync += left.eq(Mux((mode["double"][0] | mode["single"][0]) & self.shift[-1], -self.shift, 0))
        zeros, overflow = Const(0, 0), Const(0, 1)

        for cycle, steps in enumerate(self._steps(width), 1):
            taken = []
            for step in steps:
                top_zero = ~value[-step:].any()
                take = Signal(name=f"take_{step}")
                if step == 32:
                    m.d.comb += take.eq(onnx[cycle] & top_zero)
                    value = Mux(take, value << step, self._saturated(m, mode, cycle, value))[:width]
                else:
                    m.d.comb += take.eq(Mux(onnx[cycle], top_zero, left[step.bit_length() - 1]))
                    lost = value[width - 1 - step:]
                    overflow = overflow | take & lost.any() & ~lost.all()
                    value = Mux(take, value << step, value)[:width]
                taken.insert(0, take)
            suffix = cycle + 1
            register = Signal(width, name=f"normal_{suffix}", reset_less=True)
            count = Signal(len(zeros) + len(taken), name=f"zeros_{suffix}", reset_less=True)
            lost_any = Signal(name=f"overflow_{suffix}", reset_less=True)
            next_left = Signal(5, name=f"left_{suffix}", reset_less=True)
            m.d.sync += [
                register.eq(value),
                count.eq(Cat(*taken, zeros)),
                lost_any.eq(overflow & mode["single"][cycle]),
                next_left.eq(left),
            ]
            value, zeros, overflow, left = register, count, lost_any, next_left
        return value, zeros, overflow

    def _saturated(self, m, mode, cycle, value):
        """Saturate a wide sum to 32 bits for the double rule."""
        high = value[31:]
        outside = Signal(name="outside_int32")
        m.d.comb += outside.eq(mode["double"][cycle] & high.any() & ~high.all())
        limit = Cat((~value[-1]).replicate(31), value[-1].replicate(self.width - 31))
        return Mux(outside, limit, value)

    def _multiply(self, m, mode, scale, normal):
        """Round the sum to float32's significand and multiply.

        The scale's significand is placed so that both floating and Q31 products have the bit that
        the first rounding keeps in place 30 or 31.
        """
        now = self._operands - 2
        onnx = mode["onnx"][now]
        below = self.width - SIGNIFICAND_BITS
        significand = normal[below:]
        # The double rule's shift wraps to 32 bits.
        whole = normal if self.width == 32 else Mux(mode["double"][now], normal[:32].as_signed(), normal)
        truncated = Signal(self.width, name="truncated", reset_less=True)
        up = Signal(name="round_significand", reset_less=True)
        a = Signal(signed(self.width), name="sum_operand", reset_less=True)
        m.d.sync += [
            truncated.eq(Mux(onnx, significand, whole)),
            up.eq(onnx & normal[below - 1] & (normal[:below - 1].any() | significand[0])),
            a.eq(truncated + up),
        ]

        none = mode["none"][now]
        fraction = scale[now][:SIGNIFICAND_BITS - 1]
        placed = Signal(signed(33), name="scale_placed", reset_less=True)
        with m.If(onnx):
            m.d.sync += placed.eq(Cat(Const(0, 7), fraction, Const(1, 1)))
        with m.Elif(none):
            m.d.sync += placed.eq(1 << 31)
        with m.Else():
            m.d.sync += placed.eq(scale[now].as_signed())
        # Synthesis makes resets of the choice; the multipliers take in only registers without.
        b = delay(m, placed, 1, "scale_operand", reset_less=True)

        m.submodules.multiplier = multiplier = Multiplier(self.width)
        m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
        return multiplier.product

    def _first_rounding(self, m, mode, scale, shift, normal, zeros, overflow, product):
        """Round the product to a significand (ONNX) or an integer (TFLite double).

        Returns ``product >> 30``, rounded in place 0 or 1, the distance that it must still be
        shifted right to leave one bit below the units, and whether it overflows.
        """
        # Distance: of the product's units for ONNX, the shift for TFLite.
        now = self._operands - 2
        exponent = scale[now][SIGNIFICAND_BITS - 1:31]
        difference = Signal(signed(10), name="exponent_difference", reset_less=True)
        m.d.sync += difference.eq(zeros - exponent)
        biased = Signal(signed(10), name="exponent_distance", reset_less=True)
        m.d.sync += biased.eq(difference + (150 + self._wide - self.width))
        nonzero = delay(m, normal[-1], 2, "nonzero", reset_less=True)
        right = delay(m, Mux(shift[now][-1], 0, shift[now][:5]), 2, "right", reset_less=True)
        flowed = delay(m, overflow, 2, "left_overflow", reset_less=True)
        after = now + 2
        onnx, none = mode["onnx"][after], mode["none"][after]
        distance = Signal(5, name="distance", reset_less=True)
        large = Signal(name="large", reset_less=True)
        with m.If(onnx):
            m.d.sync += [
                # A shift of 31 leaves nothing of 27 bits, so it stands for any longer one.
                distance.eq(Mux(biased[5:9].any(), 31, biased[:5])),
                large.eq(nonzero & (biased < (0 if self._wide else 4))),
            ]
        with m.Else():
            m.d.sync += [distance.eq(Mux(none, 0, right)), large.eq(flowed)]
        now = self._operands + Multiplier.LATENCY
        distance = delay(m, distance, now + 2 - (after + 1), "distance", reset_less=True)
        large = delay(m, large, now + 2 - (after + 1), "large", reset_less=True)

        # Rounding: the floating product has its first one in bit 54 or 53.
        onnx, double = mode["onnx"][now], mode["double"][now]
        sticky = product[:29].any()
        top = product[54]
        kept = Signal(signed(self.width + 2), reset_less=True)
        up = Signal(2, name="round_product", reset_less=True)
        fixed = Signal(signed(self.width + 2), reset_less=True)
        m.d.sync += [
            kept.eq(Cat(product[30] & ~(double | onnx & top), product[31:])),
            up[0].eq(onnx & ~top & product[29] & (sticky | product[30])),
            up[1].eq(Mux(onnx, top & product[30] & (product[29] | sticky | product[31]),
                         double & product[30])),
            fixed.eq(Mux(mode["onnx"][now + 1], kept + up << 1, kept + up) if self._wide else kept + up),
        ]
        return fixed, distance, large

    def _align(self, m, fixed, distance):
        """Shift right in two stages, collecting whether ones went out below."""
        value, sticky = fixed, Const(0, 1)
        for stage, steps in enumerate(((4, 3), (2, 1, 0))):
            for step in steps:
                take = distance[step]
                sticky = sticky | take & value[:1 << step].any()
                value = Mux(take, value.shift_right(1 << step), value)
            register = Signal(signed(self.width + 2), name=f"aligned_{stage}", reset_less=True)
            lost = Signal(name=f"sticky_{stage}", reset_less=True)
            m.d.sync += [register.eq(value), lost.eq(sticky)]
            value, sticky = register, lost
            distance = delay(m, distance, 1, f"distance_aligned_{stage}", reset_less=True)
        return value, sticky

    def _second_rounding(self, m, mode, whole, sticky, large):
        """Round to an integer, saturate, and give a floating result its sign."""
        now = self._operands + Multiplier.LATENCY + 4
        onnx, double, none = mode["onnx"][now], mode["double"][now], mode["none"][now]
        negative = delay(m, self.sum[-1], now, "negative", reset_less=True)
        large = delay(m, large, 2, "large_aligned", reset_less=True)
        half, integer, minus = whole[0], whole[1:], whole[-1]

        bits = self._result_bits
        low = delay(m, integer[:bits - 1], 1, "integer", reset_less=True)
        high = delay(m, integer[bits - 1:32], 1, "integer_high", reset_less=True)
        saturate = Signal(reset_less=True)
        limit_negative = Signal(reset_less=True)
        up = Signal(reset_less=True)
        sign = Signal(reset_less=True)
        outside = integer[bits - 2:]
        # A wide result that is saturated has no half: a product that is too large is shifted by 31, and one of 24 bits
        # has none.
        m.d.sync += [
            saturate.eq(~none & (large | outside.any() & ~outside.all())),
            # A sum that wrapped (double rule) has another sign than its result.
            limit_negative.eq(~onnx & Mux(double, minus, negative)),
            # Half to even; half away from zero; half up.
            up.eq(half & Mux(onnx, sticky | integer[0], ~double | ~minus | sticky)),
            sign.eq(onnx & negative),
        ]

        limit = Cat((~limit_negative).replicate(bits - 2), limit_negative)
        bounded = Mux(saturate, limit, low)
        result = Signal(signed(bits), reset_less=True)
        # -(x + up) is ~x + ~up: one addition both rounds and negates.
        m.d.sync += result.eq((bounded ^ sign.replicate(bits - 1)).as_signed() + (up ^ sign))
        parts = [result[:bits - 1], delay(m, high, 1, "raw_high", reset_less=True)]
        if self.width > 32:
            parts.append(delay(m, self.sum[32:], self.latency, "raw_top", reset_less=True))
        m.d.comb += [self.result.eq(result), self.raw.eq(Cat(*parts))]
