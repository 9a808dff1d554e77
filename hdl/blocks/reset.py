"""Reset of a part of a design while a condition holds."""

from amaranth.hdl import Fragment, Instance, ResetInserter

__all__ = ["PartReset"]


class PartReset(ResetInserter):
    """``ResetInserter`` that also resets the units (:mod:`pearray.hdl.blocks.unit`) inside.

    In emitted Verilog a unit is an instance of a module of its own, which ``ResetInserter`` leaves
    alone; without this, the Verilog would keep state that the simulator resets.
    """

    def on_fragment(self, fragment: Fragment) -> Fragment:
        """Add the condition to the reset of each instance."""
        result: Fragment = super().on_fragment(fragment)
        if isinstance(result, Instance) and "rst" in result.ports:
            value, kind = result.ports["rst"]
            result.ports["rst"] = (value | self.controls["sync"], kind)
        return result
