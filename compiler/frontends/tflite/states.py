"""Variables that a file keeps from one run to the next, as inputs and outputs of its network."""

from dataclasses import dataclass, replace

import numpy as np

from ....hdl.errors import PearrayError
from .file import FileOperator, TfliteFile

__all__ = ["States", "without_states"]

_KINDS = ("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")

#: Places of variable tensors among the inputs of operators that have some, which they leave another state in.
_VARIABLE_INPUTS = {"SVDF": (4,), "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19)}


@dataclass(frozen=True)
class States:
    """Variables of a file, by what is read of them.

    Parameters
    ----------
    outputs : dict of str to str
        Inputs that stand for what is read, each with the output that is read in the next run.
    initial : dict of str to ndarray
        Values of those inputs for the first run, where the file says them.
    """

    outputs: dict[str, str]
    initial: dict[str, np.ndarray]


def without_states(where: str, file: TfliteFile) -> tuple[TfliteFile, States]:
    """Return a network without variables: what it reads is an input, and what it leaves in them an output.

    Messages begin with `where`.

    Raises
    ------
    PearrayError
        If variables are made by anything but constants.
    """
    file, own = _without_variable_tensors(where, file)
    if not any(operator.kind in _KINDS for operator in file.operators):
        return file, own
    variables = _variables(file)
    first: dict[str, int] = {}
    current: dict[str, int] = {}
    #: What is read behind an assignment, or once more, with what it is.
    same: dict[int, int] = {}
    operators = []
    for operator in file.operators:
        inputs = [same.get(number, number) for number in operator.inputs]
        if operator.kind == "READ_VARIABLE":
            name = _variable(where, variables, operator)
            if name in current:
                same[operator.outputs[0]] = current[name]
            else:
                first[name] = current[name] = operator.outputs[0]
        elif operator.kind == "ASSIGN_VARIABLE":
            current[_variable(where, variables, operator)] = inputs[1]
        elif operator.kind not in _KINDS:
            operators.append(replace(operator, inputs=inputs))
    kept = {name: number for name, number in first.items() if current[name] != number}
    changed = replace(
        file, operators=operators, inputs=[*file.inputs, *first.values()],
        outputs=[*(same.get(number, number) for number in file.outputs), *(current[name] for name in kept)])
    names = [tensor.name for tensor in file.tensors]
    initial = _initial(where, file)
    return changed, States(
        own.outputs | {names[number]: names[current[name]] for name, number in kept.items()},
        own.initial | {names[number]: initial[name] for name, number in first.items() if name in initial})


def _without_variable_tensors(where: str, file: TfliteFile) -> tuple[TfliteFile, States]:
    """Make variable tensors, of which operators leave another state, inputs, and what they leave outputs.

    They stand for zero before the first run.
    """
    tensors, operators, states = [*file.tensors], [], States({}, {})
    inputs, outputs = [*file.inputs], [*file.outputs]
    for operator in file.operators:
        made = [*operator.outputs]
        for place in _VARIABLE_INPUTS.get(operator.kind, ()):
            number = operator.inputs[place] if place < len(operator.inputs) else -1
            if number < 0 or not (before := tensors[number]).is_variable:
                continue
            if number in inputs or before.dtype is None:
                raise PearrayError(f"{where}: operator {operator.index}, {operator.kind}: its state {before.name!r} "
                                   "must be of numbers, and its own")
            tensors[number] = replace(before, note="", is_variable=False)
            tensors.append(replace(tensors[number], name=f"{before.name}:next"))
            inputs.append(number)
            outputs.append(len(tensors) - 1)
            made.append(len(tensors) - 1)
            states.outputs[before.name] = tensors[-1].name
            zero = before.zero_point[0] if before.dtype == np.int8 and before.zero_point.size else 0
            states.initial[before.name] = np.full(before.shape, zero, before.dtype)
        operators.append(replace(operator, outputs=made))
    return replace(file, tensors=tensors, operators=operators, inputs=inputs, outputs=outputs), states


def _variables(file: TfliteFile) -> dict[int, str]:
    """Name of the variable that each handle is of."""
    return {operator.outputs[0]: str((operator.options or {}).get("SharedName"))
            for operator in file.operators if operator.kind == "VAR_HANDLE" and operator.outputs}


def _variable(where: str, variables: dict[int, str], operator: FileOperator) -> str:
    expected = (1, 1) if operator.kind == "READ_VARIABLE" else (2, 0)
    if (len(operator.inputs), len(operator.outputs)) != expected or operator.inputs[0] not in variables:
        raise PearrayError(f"{where}: operator {operator.index}, {operator.kind}: it must have a variable's "
                           "handle")
    return variables[operator.inputs[0]]


def _initial(where: str, file: TfliteFile) -> dict[str, np.ndarray]:
    """Values that variables have before the first run."""
    found: dict[str, np.ndarray] = {}
    for operator in file.operators:
        if operator.kind != "CALL_ONCE":
            continue
        index = (operator.options or {}).get("InitSubgraphIndex", 0)
        if not 0 < index <= len(file.others):
            raise PearrayError(f"{where}: operator {operator.index}, CALL_ONCE: there is no subgraph {index}")
        made = file.others[index - 1]
        variables = _variables(made)
        for each in made.operators:
            value = made.tensors[each.inputs[1]].value if each.kind == "ASSIGN_VARIABLE" and len(
                each.inputs) == 2 else None
            if each.kind != "VAR_HANDLE" and value is None:
                raise PearrayError(f"{where}: operator {operator.index}, CALL_ONCE: variables must be made of "
                                   f"constants, not by {each.kind}")
            if value is not None:
                found[_variable(where, variables, each)] = value
    return found
