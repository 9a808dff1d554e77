"""The one exception that a user's mistake raises."""

__all__ = ["PearrayError"]


class PearrayError(ValueError):
    """A mistake of the user, told in one line: the field, its value, what is allowed, what to do."""
