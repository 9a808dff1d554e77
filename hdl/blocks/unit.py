"""Design units that stand many times: simulated as they are, elaborated and emitted once.

A component that stands more than once in a design (a PE, a row, a lane) inherits :class:`Unit`
instead of :class:`amaranth.lib.wiring.Component`, and its parent writes ::

    unit.add(m, f"lane_{index}", Lane(config), platform)

instead of ``m.submodules[f"lane_{index}"] = Lane(config)``. Nothing else changes: ports are
connected as ever. The parent must hand on the ``platform`` that its ``elaborate`` was given, and
ordinary submodules in between do so by themselves.

In simulation, where ``platform`` is None, the unit is an ordinary submodule. While Verilog is
emitted (``sim/verilog.py``), ``platform`` is a :class:`Units`: the parent then gets an instance of
a module, and the module itself is made from the first unit with the same class and arguments.
"""

import inspect
import re
from collections.abc import Hashable
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["Unit", "Units", "add", "ports", "restore_names"]


class Unit(wiring.Component):
    """Component whose Verilog depends on its class and constructor arguments alone.

    Arguments must be hashable (integers, strings, frozen configurations), and the unit may use no
    clock domain but ``sync``.

    Raises
    ------
    TypeError
        If an argument isn't hashable.
    """

    #: Name of the Verilog module; by default that of the class, in lower case with underscores.
    unit_name: str = ""

    _unit_key: tuple[Hashable, ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "unit_name" not in cls.__dict__:  # a class attribute, or a property where parameters decide
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__)
            cls.unit_name = words.lower()

    def __new__(cls, *args: Any, **kwargs: Any) -> "Unit":
        """Make the object, and note the arguments that tell it from other units."""
        self = super().__new__(cls, src_loc_at=1)
        bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = tuple(bound.arguments.items())[1:]
        try:
            hash(arguments)
        except TypeError:
            raise TypeError(f"Arguments of unit {cls.__name__} must be hashable, not {arguments!r}") from None
        self._unit_key = (cls, arguments)
        return self

    @property
    def unit_key(self) -> Hashable:
        """What two units must have in common to be one Verilog module."""
        return self._unit_key


class Units:
    """Platform under which Verilog is emitted: collects the units of a design.

    Parameters
    ----------
    top : str
        Name of the top module, which no unit may take.

    Attributes
    ----------
    modules : dict of str to Unit
        One unit for each Verilog module that instances ask for, in the order of first use.
    """

    def __init__(self, top: str) -> None:
        self._top = top
        self.modules: dict[str, Unit] = {}
        self._names: dict[Hashable, str] = {}
        self._made: dict[Hashable, tuple[str, dict[str, tuple[int, bool]]]] = {}

    def name(self, component: Unit) -> str:
        """Return the name of the module that stands for a unit, adding it if it's new."""
        key = component.unit_key
        if key not in self._names:
            name = component.unit_name
            number = 1
            while name == self._top or name in self.modules:
                number += 1
                name = f"{component.unit_name}_{number}"
            self._names[key] = name
            self.modules[name] = component
        return self._names[key]

    def module(self, kind: type[Unit], arguments: tuple[Any, ...]) -> tuple[str, dict[str, tuple[int, bool]]]:
        """Return the name of the module of a unit given by class and arguments, and its ports.

        Ports are name to (width, whether it's an input). The unit is made once however often it's
        asked for, which matters for units with thousands of ports.
        """
        key = (kind, arguments)
        if key not in self._made:
            component = kind(*arguments)
            _use(component)
            widths = {port: (len(value), is_input) for port, (value, is_input) in ports(component).items()}
            self._made[key] = self.name(component), widths
        return self._made[key]


def _use(component: Unit) -> None:
    """Keep Amaranth from warning that a component is never elaborated: only the first of its kind is."""
    component._MustUse__used = True  # type: ignore[attr-defined]


def ports(component: wiring.Component) -> dict[str, tuple[Value, bool]]:
    """Return the Verilog ports of a component: name to (value, whether it's an input).

    A port's name is its member path joined with underscores. Members that are constants (the
    ``ready`` of an ``always_ready`` stream) or have no bits have no port.

    Raises
    ------
    ValueError
        If two members would get one name, or one is called ``clk`` or ``rst``.
    """
    result: dict[str, tuple[Value, bool]] = {}
    for path, member, value in component.signature.flatten(component):
        name = "_".join(map(str, path))
        value = Value.cast(value)
        # A constant can't be a port (amaranth-lang/amaranth#1574), and no bits would become [-1:0].
        if isinstance(value, Const) or not len(value):
            continue
        if name in result or name in ("clk", "rst"):
            raise ValueError(f"port name {name!r} of {type(component).__name__} must be unique and neither "
                             "clk nor rst")
        result[name] = (value, member.flow == In)
    return result


def restore_names(component: wiring.Component) -> None:
    """Call the signals of a component's ports like the ports, whatever :func:`add` called them."""
    for port, (value, _) in ports(component).items():
        if isinstance(value, Signal):
            value.name = port


def add(m: Module, name: str, component: Unit, platform: object) -> None:
    """Add a unit to a module: a submodule in simulation, an instance in emitted Verilog.

    Parameters
    ----------
    m : Module
        Parent.
    name : str
        Name of the submodule or instance.
    component : Unit
        Unit; the parent uses its ports as those of any submodule.
    platform : object
        The argument of the parent's ``elaborate``.

    Raises
    ------
    TypeError
        If ``component`` isn't a :class:`Unit`.
    """
    if not isinstance(component, Unit):
        raise TypeError(f"component {name!r} must be a Unit, not {component!r}")
    if not isinstance(platform, Units):
        m.submodules[name] = component
        return
    _use(component)
    connections: list[tuple[str, str, Value]] = [("i", "clk", ClockSignal()), ("i", "rst", ResetSignal())]
    for port, (value, is_input) in ports(component).items():
        if isinstance(value, Signal):
            # The signal becomes a wire of the parent, where many units have ports of this name.
            value.name = f"{name}_{port}"
        connections.append(("i" if is_input else "o", port, value))
    m.submodules[name] = Instance(platform.name(component), *connections)
