"""Registers into the multipliers of ECP5.

Yosys maps a product to a MULT18X18D, and leaves registers at its operands and its product in the
fabric, though the multiplier has registers of its own. With those, nextpnr times it above 260 MHz
(speed grade 6); without, below 150, before any wire to it is counted. So this pass works on
the mapped netlist, in the form of Yosys's JSON: a register moves into the multiplier where that
changes neither the value nor the time of any other signal.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["pack_registers"]

_OPERAND_BITS = 18
_PRODUCT_BITS = 36
_Bit = int | str


class _Netlist:
    """Module of a mapped netlist, by the bit: what drives it, and how many read it."""

    def __init__(self, module: Mapping[str, Any]):
        self.cells: dict[str, dict[str, Any]] = module["cells"]
        self.registers: dict[_Bit, str] = {}
        self.readers: dict[_Bit, list[str]] = {}
        self.ports = {bit for port in module["ports"].values() for bit in port["bits"]}
        for name, cell in self.cells.items():
            if cell["type"] == "TRELLIS_FF":
                self.registers[cell["connections"]["Q"][0]] = name
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] != "output":
                    for bit in bits:
                        self.readers.setdefault(bit, []).append(name)

    def control(self, name: str) -> tuple[_Bit, _Bit] | None:
        """Return clock and enable of a register that a multiplier could hold, otherwise None.

        It must begin with 0, and have neither set nor reset.
        """
        cell = self.cells[name]
        parameters, pins = cell["parameters"], cell["connections"]
        kind = {key: str(value).strip() for key, value in parameters.items()}
        if (kind.get("REGSET", "RESET") != "RESET" or kind.get("CLKMUX", "CLK") != "CLK"
                or kind.get("CEMUX", "1") not in ("1", "CE")
                or pins.get("LSR", ["0"]) not in ([], ["0"], ["x"])):
            return None
        enable = pins["CE"][0] if kind.get("CEMUX") == "CE" else "1"
        return pins["CLK"][0], enable

    def data(self, name: str) -> _Bit:
        """Return what a register takes."""
        pins: dict[str, list[_Bit]] = self.cells[name]["connections"]
        return pins["DI"][0]

    def remove(self, name: str) -> None:
        """Drop a register."""
        cell = self.cells.pop(name)
        del self.registers[cell["connections"]["Q"][0]]
        for port, bits in cell["connections"].items():
            if port != "Q":
                for bit in bits:
                    self.readers[bit].remove(name)


def _operand(netlist: _Netlist, pins: Mapping[str, list[_Bit]], letter: str) -> list[str | None] | None:
    """Return the register behind each bit of an operand (None where it's 0), or None if it has none."""
    registers: list[str | None] = []
    for index in range(_OPERAND_BITS):
        bit = pins[f"{letter}{index}"][0]
        if bit in ("0", "x"):
            registers.append(None)
        elif bit in netlist.registers:
            registers.append(netlist.registers[bit])
        else:
            return None
    return registers if _control(netlist, registers) else None


def _product(netlist: _Netlist, pins: Mapping[str, list[_Bit]]) -> list[str | None] | None:
    """Return the only reader of each bit of a product, a register (None where nobody reads), or None."""
    registers: list[str | None] = []
    for index in range(_PRODUCT_BITS):
        bit = pins.get(f"P{index}", ["x"])[0]
        readers = netlist.readers.get(bit, [])
        if not readers and bit not in netlist.ports:
            registers.append(None)
            continue
        if bit in netlist.ports or len(readers) != 1:
            return None
        cell = netlist.cells[readers[0]]
        if cell["type"] != "TRELLIS_FF" or cell["connections"]["DI"][0] != bit:
            return None
        registers.append(readers[0])
    return registers if _control(netlist, registers) else None


def _control(netlist: _Netlist, registers: Iterable[str | None]) -> tuple[_Bit, _Bit] | None:
    """Return the clock and enable that registers share, or None if they share none."""
    controls = {netlist.control(name) for name in registers if name is not None}
    return controls.pop() if len(controls) == 1 else None


def _set(multiplier: dict[str, Any], stage: str, control: tuple[_Bit, _Bit], enables: list[_Bit]) -> None:
    """Switch one of a multiplier's registers on."""
    clock, enable = control
    if enable not in enables:
        enables.append(enable)
    number = enables.index(enable)
    multiplier["parameters"] |= {f"REG_{stage}_CLK": "CLK0", f"REG_{stage}_CE": f"CE{number}",
                                 f"REG_{stage}_RST": "RST0"}
    for port, bit in (("CLK0", clock), (f"CE{number}", enable), ("RST0", "0")):
        multiplier["connections"][port] = [bit]
        multiplier["port_directions"][port] = "input"


def _find(netlist: _Netlist) -> dict[str, dict[str, list[str | None]]]:
    """Return the registers that could move into each multiplier, by stage: both operands and the product."""
    found: dict[str, dict[str, list[str | None]]] = {}
    for name, cell in netlist.cells.items():
        if cell["type"] == "MULT18X18D" and not any(key.startswith("REG_") for key in cell["parameters"]):
            pins = cell["connections"]
            candidates = {"INPUTA": _operand(netlist, pins, "A"), "INPUTB": _operand(netlist, pins, "B"),
                          "OUTPUT": _product(netlist, pins)}
            found[name] = {stage: registers for stage, registers in candidates.items() if registers is not None}

    # A register between two multipliers is the first one's product, not the second one's operand.
    products = {register for stages in found.values() for register in stages.get("OUTPUT", []) if register}
    for stages in found.values():
        for stage in ("INPUTA", "INPUTB"):
            if not products.isdisjoint(stages.get(stage, [])):
                del stages[stage]
    return found


def _move(netlist: _Netlist, name: str, stage: str, registers: list[str | None]) -> set[str]:
    """Connect a multiplier past its registers; return those of an operand, which others may read too."""
    pins = netlist.cells[name]["connections"]
    operands = set()
    for index, register in enumerate(registers):
        if register is None:
            continue
        if stage == "OUTPUT":
            pins[f"P{index}"] = list(netlist.cells[register]["connections"]["Q"])
            netlist.remove(register)
        else:
            pin = f"{stage[-1]}{index}"
            bit, value = pins[pin][0], netlist.data(register)
            netlist.readers[bit].remove(name)
            netlist.readers.setdefault(value, []).append(name)
            pins[pin] = [value]
            operands.add(register)
    return operands


def pack_registers(module: dict[str, Any], *, most_enables: int = 0) -> Counter[str]:
    """Move registers into the multipliers of a mapped module, in place.

    An operand's register is doubled if others read it too. A register of the product moves if nothing
    else reads the product. Registers with set or reset, or another initial value than 0, stay,
    those of a multiplier whose registers have different clocks, and an operand's if the other one's cannot move.

    Parameters
    ----------
    module : dict
        A flat module, mapped to ECP5's cells, as in Yosys's JSON.
    most_enables : int
        How many multipliers may hold registers with a clock enable of their own. Four multipliers
        that stand in one block of the device share four enables, a constant 1 among them, and the placer finds no
        place for the last ones when blocks get full. Beyond this number no register with an enable moves.

    Returns
    -------
    Counter
        Registers by place: ``INPUTA``, ``INPUTB``, ``OUTPUT``, each a multiplier's whole operand or product.
    """
    netlist = _Netlist(module)
    found = _find(netlist)

    def control(registers: list[str | None]) -> tuple[_Bit, _Bit]:
        shared = _control(netlist, registers)
        assert shared is not None, "a stage was found by its registers' common control"
        return shared

    enabled = sum(any(control(registers)[1] != "1" for registers in stages.values()) for stages in found.values())
    packed: Counter[str] = Counter()
    operands: set[str] = set()
    for name, stages in found.items():
        if enabled > most_enables:
            stages = {stage: registers for stage, registers in stages.items() if control(registers)[1] == "1"}
        # With a register at one operand only, nextpnr times both operands as though the multiplier had none.
        if not {"INPUTA", "INPUTB"} <= stages.keys():
            stages = {stage: registers for stage, registers in stages.items() if stage == "OUTPUT"}
        if len({control(registers)[0] for registers in stages.values()}) != 1:
            continue
        cell = netlist.cells[name]
        enables: list[_Bit] = []
        for stage, registers in stages.items():
            _set(cell, stage, control(registers), enables)
            packed[stage] += 1
        for stage, registers in stages.items():
            operands |= _move(netlist, name, stage, registers)
    for register in operands:
        if register in netlist.cells:
            bit = netlist.cells[register]["connections"]["Q"][0]
            if not netlist.readers.get(bit) and bit not in netlist.ports:
                netlist.remove(register)
    return packed
