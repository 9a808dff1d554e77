"""What the engine of post-processing asks of its lanes, whatever numbers they make outputs of."""

from typing import Any, ClassVar

from amaranth.lib import data

from ..blocks.unit import Unit
from ..shell.config import Config

__all__ = ["PostLane"]


class PostLane(Unit):
    """One output per cycle, of a sum that came :attr:`latency` cycles before; there is no flow control.

    A value's settings are given :attr:`settings_cycle` cycles after the value itself, so that one register holds them
    for all lanes while values of two commands are on their way.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    members : dict
        Ports.
    """

    #: What is the same for all values of a command; its ``of`` makes the fields of one.
    SETTINGS: ClassVar[type[data.Struct]]

    def __init__(self, config: Config, members: dict[str, Any]):
        self._config = config
        super().__init__(members)

    @property
    def settings_cycle(self) -> int:
        """Cycles from a value to its settings."""
        return self.settings_cycle_of(self._config)

    @property
    def latency(self) -> int:
        """Cycles from a value to its output."""
        return self.latency_of(self._config)

    @classmethod
    def settings_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its settings."""
        raise NotImplementedError

    @classmethod
    def score_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its score, with ``post.softmax``."""
        return cls.settings_cycle_of(config)

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from a value to its output."""
        raise NotImplementedError
