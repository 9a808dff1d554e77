"""Schedules for the lock-step array whose numbers are floats: what comes out follows from the order of additions."""

import numpy as np
from array_schedule import Schedule


class FloatSchedule(Schedule):
    """Stimulus of a systolic array of :class:`.FloatArithmetic`; words and sums are bits."""

    def operands(self, *shape):
        """Return words: numbers so far apart that sums round, some of any bits, and some that are none."""
        form = self.dut.arithmetic.format
        bits = self.rng.integers(0, 1 << form.bits, shape)
        near = bits & ~(((1 << form.exponent) - 1) << form.fraction)
        apart = min(form.bias - 1, 9)
        near |= (form.bias + self.rng.integers(-apart, apart + 1, shape)) << form.fraction
        kind = self.rng.random(shape)
        return np.where(kind < 0.9, near, bits) | (kind < 0.97).astype(np.int64) << form.bits

    def sums(self, a, w):
        """Add products to zero from the first to the last, as rows stand below one another, or as they come in time."""
        arithmetic = self.dut.arithmetic
        bits = arithmetic.bits
        total = np.zeros((*a.shape[:-1], w.shape[-1]), np.float32)
        with np.errstate(all="ignore"):
            for k in range(a.shape[-1]):
                left, right = a[..., k, None], w[..., None, k, :] if a.ndim > 1 else w[k]
                product = arithmetic.words(left, False, 0) * arithmetic.words(right, False, 0)
                counts = (left >> bits & 1) & (right >> bits & 1)
                total = total + np.where(counts == 1, product, np.float32(-0.0))
        found = total.view(np.uint32).astype(np.int64)
        found[np.isnan(total)] = 0x7FC00000
        return found
