"""Systolic array of processing elements, weight- or output-stationary at run time."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.delay import Skew
from ..blocks.unit import Unit, add
from ..errors import PearrayError
from .pe import pe_control
from .pe_rows import PEBlock

__all__ = ["ArrayControl", "DiagonalArrayControl", "SystolicArray", "WeightControl", "array_control"]


class ArrayControl(data.Struct):
    """Control bits that accompany an activation vector."""

    #: Weight-stationary: this vector and later ones use the tile loaded last.
    swap: unsigned(1)
    #: The vector is an element of sums that stay in the PEs.
    output_stationary: unsigned(1)
    #: Output-stationary: the vector, and those that take turns with it, are the first of their sums. Set with the
    #: first of them only.
    clear: unsigned(1)
    #: Output-stationary: they are the last of their sums, which then leave. Set with the first of them only.
    drain: unsigned(1)


class DiagonalArrayControl(data.Struct):
    """The same, in an array with tiles of Toeplitz matrices."""

    swap: unsigned(1)
    #: Weight-stationary, with ``swap``: the tile is the one on ``w_top`` and ``w_left`` in the cycle after this one.
    diagonal: unsigned(1)
    output_stationary: unsigned(1)
    clear: unsigned(1)
    drain: unsigned(1)


def array_control(toeplitz: bool) -> type[data.Struct]:
    """Control bits of an activation vector, in an array with tiles of Toeplitz matrices or without."""
    return DiagonalArrayControl if toeplitz else ArrayControl


class WeightControl(data.Struct):
    """Control bits that accompany a weight vector."""

    #: The tile enters from the left, not from the top. Read with ``capture`` and kept until the next.
    left: unsigned(1)
    #: The vector is the first of a tile; in output-stationary mode, each vector.
    capture: unsigned(1)


class SystolicArray(Unit):
    """R x C systolic array with double-buffered weights, the lock-step core of an accelerator.

    The array provides no flow control: it takes one vector of activations and one of weights every
    cycle and never stalls. All inputs are unskewed; skew registers are inside. Whoever drives it
    knows from the latencies below which outputs count. Row r works r additions after row 0, whatever cycles the
    arithmetic takes for one (A below).

    Write t for the cycle in which an input is presented; an output "in cycle t + n" can be read
    after n clock edges.

    **Weight-stationary.** A tile is a matrix W of R x C. From the top, vector j is its row j, and
    vectors j = 0 ... R-1 are presented in consecutive cycles on ``w_top``. From the left
    (``w_control.left``), vector j is its column j, and vectors 0 ... C-1 are presented on
    ``w_left``: that loads the transpose of what the same vectors would load from the top.
    ``w_control.capture`` marks vector 0 only. An activation vector x with ``swap`` is the first to
    use the tile; it may come ``swap_lead_top`` (``swap_lead_left``) cycles after vector 0, or any
    later. Vector 0 of the next tile comes in the cycle of that swap or any later one. So tiles may
    follow one another every R (C) cycles, even if each meets one activation vector only. The sum
    over r of x[r] * W[r, c] is ``psum[c]`` in cycle t + ``ws_latency`` + c.

    A tile from the top whose last rows meet zero activations only may end after K < R vectors; then
    K stands for R in these rules. So may a tile from the left whose last columns don't count. The
    direction may change from one tile to the next without a gap.

    **Toeplitz matrices.** With ``toeplitz``, a tile whose row r is row r - 1 one column further to the right needs no
    loading. Its swap vector comes with ``control.diagonal``, and in the next cycle row 0 stands on ``w_top``, column 0
    on ``w_left``; the swap carries them on from PE to PE diagonally. Another swap comes A + 1 cycles after it, or any
    later. Vectors of a tile from the top or from the left that is to come next may pass at the same time, but for that
    cycle.

    **Output-stationary.** Vectors x and w with the same number are presented ``os_weight_lead``
    cycles apart, w first, from the top, with ``capture`` set; PE (r, c) adds x[r] * w[c] to its sum.
    An addition of A cycles leaves room for A sums in each PE, which take turns: vectors come in groups of A
    consecutive cycles, one for each sum. ``clear`` marks the first group of sums, ``drain`` the last. Between groups,
    a multiple of A idle cycles keeps ``output_stationary`` set and presents x = 0. ``swap`` is of no effect. The A
    sums of row R-1 are on ``psum`` in cycle t + ``os_latency`` + c for column c and in the A - 1 cycles
    after it, t being the cycle of the drain vector; those of row R-2 follow, and so on up to row 0. The next
    sums may begin in the cycle after the drain group, but their own drain comes no earlier than
    ``drain_interval`` = A R cycles after that one; nor does a weight-stationary vector. Vector 0 of a
    weight-stationary tile may be presented in the cycle of the last vector of the drain group or any later one.

    Parameters
    ----------
    rows, cols : int
        Processing elements, at least 1 x 1.
    arithmetic : Arithmetic
        Numbers that the array computes with.
    products : int
        Products that a partial sum can hold.
    toeplitz : bool
        Whether weights can be passed on diagonally; at least 2 x 2 PEs.

    Members
    -------
    a : :py:`In(ArrayLayout(word, rows))`
        Activation vector x.
    control : :py:`In(array_control(toeplitz))`
        Its control bits.
    w_top : :py:`In(ArrayLayout(word, cols))`
        Weight vector from the top.
    w_left : :py:`In(ArrayLayout(word, rows))`
        Weight vector from the left.
    w_control : :py:`In(WeightControl)`
        Control bits of either.
    psum : :py:`Out(ArrayLayout(psum, cols))`
        Sums, column c one cycle after column c-1.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    unit_name = "systolic_array"

    def __init__(self, rows: int, cols: int, arithmetic: Arithmetic, products: int, toeplitz: bool = False):
        for name, value, high in (("rows", rows, 1024), ("cols", cols, 1024), ("products", products, 1 << 20)):
            if not isinstance(value, int) or not 1 <= value <= high:
                raise PearrayError(f"{name} must be an integer in 1..{high}, not {value!r}")
        self._rows = rows
        self._cols = cols
        self._arithmetic = arithmetic
        self._products = products
        self._toeplitz = toeplitz
        super().__init__({
            "a": In(data.ArrayLayout(arithmetic.word, rows)),
            "control": In(array_control(toeplitz)),
            "w_top": In(data.ArrayLayout(arithmetic.word, cols)),
            "w_left": In(data.ArrayLayout(arithmetic.word, rows)),
            "w_control": In(WeightControl),
            "psum": Out(data.ArrayLayout(arithmetic.psum(products), cols)),
        })

    @property
    def rows(self) -> int:
        """Rows of processing elements."""
        return self._rows

    @property
    def cols(self) -> int:
        """Columns of processing elements."""
        return self._cols

    @property
    def arithmetic(self) -> Arithmetic:
        """Numbers that the array computes with."""
        return self._arithmetic

    @property
    def psum_shape(self) -> Shape:
        """Shape of a partial sum."""
        return self._arithmetic.psum(self._products)

    @property
    def ws_latency(self) -> int:
        """Cycles from a weight-stationary vector to its sum in column 0."""
        return self.ws_latency_of(self._rows, self._arithmetic)

    @staticmethod
    def ws_latency_of(rows: int, arithmetic: Arithmetic) -> int:
        """Return the cycles from a weight-stationary vector to its sum in column 0 of an array of some rows.

        Two registers, the product, an addition a row, and the drain register.
        """
        return 2 + arithmetic.product_latency + (rows + 1) * arithmetic.add_latency

    @property
    def os_latency(self) -> int:
        """Cycles from the drain vector to the first sum of row R-1 in column 0."""
        return self.ws_latency

    @property
    def os_sums(self) -> int:
        """Output-stationary sums of a PE, which take turns."""
        return self._arithmetic.add_latency

    @property
    def swap_lead_top(self) -> int:
        """Least number of cycles from vector 0 of a tile from the top to its swap vector."""
        return self._rows

    @property
    def swap_lead_left(self) -> int:
        """Least number of cycles from vector 0 of a tile from the left to its swap vector."""
        return self._cols

    @property
    def os_weight_lead(self) -> int:
        """Cycles from an output-stationary weight vector to its activation vector."""
        return 1

    @property
    def turn_gap(self) -> int:
        """Idle weight cycles between tiles that enter from different directions."""
        return 0

    @property
    def toeplitz_interval(self) -> int:
        """Least number of cycles from the swap of a tile whose weights are passed on diagonally to the next swap."""
        return self._arithmetic.add_latency + 1

    @property
    def drain_interval(self) -> int:
        """Least number of cycles from a drain vector to the next, or to a weight-stationary vector."""
        return self.drain_interval_of(self._rows, self._arithmetic)

    @staticmethod
    def drain_interval_of(rows: int, arithmetic: Arithmetic) -> int:
        """Return the drain interval of an array of some rows: the cycles in which all sums of a column leave."""
        return rows * arithmetic.add_latency

    def elaborate(self, platform):
        """Build the array."""
        m = Module()

        block = PEBlock(self._rows, self._cols, self._arithmetic, self._products, self._toeplitz)
        add(m, "pes", block, platform)

        # Operands. A token enters column c, or row r, with that element's share of vector 0.
        addition = self._arithmetic.add_latency
        a = Signal.like(self.a, reset_less=True)
        m.d.sync += a.eq(self.a)
        tokens = Signal(max(addition * (self._rows - 1) + 1, self._cols))
        m.d.comb += tokens[0].eq(self.w_control.capture)
        m.d.sync += tokens[1:].eq(tokens[:-1])
        for name, vector, wires, step in (("a_skew", a, block.a_left, addition),
                                          ("w_left_skew", self.w_left, block.weight_left, addition),
                                          ("w_top_skew", self.w_top, block.weight_above, 1)):
            skew = Skew(self._arithmetic.word.width, len(wires), step=step)
            add(m, name, skew, platform)
            for i, wire in enumerate(wires):
                m.d.comb += [skew.i[i].eq(vector[i]), wire.eq(skew.o[i])]
        for wires, step in ((block.token_left, addition), (block.token_above, 1)):
            for wire, token in zip(wires, tokens[::step], strict=False):
                m.d.comb += wire.eq(token)

        if self._toeplitz:
            m.d.comb += [wire.eq(above) for wire, above in zip(block.active_above, block.weight_above[1:], strict=True)]

        # Control bits.
        control, drains = self._control(m)
        for r, wire in enumerate(block.control_left):
            for stage in range(addition if r else 0):
                entering = Signal(control.shape(), name=f"control_{r}_{stage}" if stage else f"control_{r}")
                m.d.sync += entering.eq(control)
                control = entering
            move = Signal(name=f"move_{r}", init=1)
            if r < self._rows - 1:
                # Row r has its sums rows-1-r additions before the last row has, and keeps them until then, so
                # that all sums of a column move down together.
                hold = Signal(name=f"hold_{r}")
                with m.If(drains[r]):
                    m.d.sync += hold.eq(1)
                with m.Elif(drains[-1]):
                    m.d.sync += hold.eq(0)
                m.d.comb += move.eq(control.drain | ~hold)
            m.d.comb += [wire.eq(control), wire.move.eq(move)]

        for col, sums in enumerate(block.sum):
            m.d.comb += self.psum[col].eq(sums)

        return m

    def _control(self, m):
        """Bring the control bits of a vector to the times at which the first PE needs them.

        Return them, and a vector that tells which rows see the last drain of output-stationary sums.
        """
        control = Signal(pe_control(self._toeplitz))
        stationary = self.control.output_stationary
        product, addition = self._arithmetic.product_latency, self._arithmetic.add_latency

        # Weight-stationary sums leave through the last row's drain register too, which costs the cycles of
        # its depth but no multiplexer. While drained sums move down, idle cycles must not look like those.
        leave = Signal()
        drain = Signal()
        m.d.comb += leave.eq(stationary & self.control.drain)
        leave, last = _turns(m, leave, addition, "leave")
        clear, _ = _turns(m, self.control.clear, addition, "clear")
        if self._rows > 1:
            draining = Signal(range(addition * (self._rows - 1) + 1))
            with m.If(last):
                m.d.sync += draining.eq(addition * (self._rows - 1))
            with m.Elif(draining != 0):
                m.d.sync += draining.eq(draining - 1)
            m.d.comb += drain.eq(leave | ~stationary & (draining == 0))
        else:
            m.d.comb += drain.eq(leave | ~stationary)

        left = Signal()
        m.d.sync += left.eq(control.left)
        m.d.comb += [
            control.left.eq(Mux(self.w_control.capture, self.w_control.left, left)),
            control.through.eq(stationary),
        ]
        diagonal = [("diagonal", self.control.diagonal & ~stationary, 1)] if self._toeplitz else []
        for name, value, delay in (("swap", self.control.swap | stationary, 1), *diagonal,
                                   ("output_stationary", stationary, 1 + product),
                                   ("clear", clear, 1 + product),
                                   ("drain", drain, 1 + product + addition)):
            line = Signal(delay, name=f"{name}_delay")
            m.d.sync += line.eq(Cat(value, line))
            m.d.comb += control[name].eq(line[-1])
        first = product + addition
        drains = Signal(first + 1 + addition * (self._rows - 1))
        m.d.sync += drains.eq(Cat(last, drains))
        return control, drains[first::addition]


def _turns(m: Module, bit: Value, turns: int, name: str) -> tuple[Value, Value]:
    """Repeat a bit for all sums that take turns.

    Return whether it was set in this cycle or one of the ``turns - 1`` before, and the bit of so many cycles before.
    """
    if turns == 1:
        return bit, bit
    line = Signal(turns - 1, name=f"{name}_turns")
    m.d.sync += line.eq(Cat(bit, line))
    return bit | line.any(), line[-1]
