"""Operators of any number of tensors, whose roles are x0, x1 and so on."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ...hdl.errors import PearrayError
from .operator import Operator

__all__ = ["Several"]

#: Inputs that such an operator may have.
_MOST = 1024


class Several(Operator):
    """Base of operators that take tensors x0, x1, ..., at least one."""

    required: ClassVar[tuple[str, ...]] = ("x0",)
    optional: ClassVar[tuple[str, ...]] = tuple(f"x{index}" for index in range(1, _MOST))

    def check_roles(self, tensors: Mapping[str, Any]) -> None:
        """Check that the inputs are x0 to the last without a gap."""
        wanted = [f"x{index}" for index in range(len(tensors))]
        if not tensors or set(tensors) != set(wanted) or len(tensors) > _MOST:
            raise PearrayError(f"{self.kind} takes tensors x0, x1 and so on, one to {_MOST} of them, got "
                               f"{sorted(tensors)}")
