"""Reset of a part of a design while a condition holds."""

from amaranth.hdl import Fragment, Instance, ResetInserter

__all__ = ["PartReset"]


class PartReset(ResetInserter):
    """``ResetInserter`` that also resets the units (:mod:`pearray.hdl.blocks.unit`) inside.

    In emitted Verilog a unit is an instance of a module of its own, which ``ResetInserter`` leaves
    alone; without this, the Verilog would keep state that the simulator resets.

    The condition takes the place of the domain's reset, so that a register alone can drive what leads everywhere: it
    must hold from the cycle after a reset of the domain on. A part is made anew for each elaboration.
    """

    def on_fragment(self, fragment: Fragment) -> Fragment:
        """Add the condition to the reset of each instance, and leave the domain's away from each register."""
        result: Fragment = super().on_fragment(fragment)
        condition = self.controls["sync"]
        if isinstance(result, Instance) and "rst" in result.ports:
            _, kind = result.ports["rst"]
            result.ports["rst"] = (condition, kind)
        if "sync" in fragment.statements:
            for signal in fragment.statements["sync"]._lhs_signals():
                signal._reset_less = True
        return result
