"""From what a study says of augmentation to operations that are known to fit the images. Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from losstune.spaces.errors import InputError
from losstune.trainables.augmentation.operations import OPERATIONS, Operation

# ((operation, ((parameter, value), ...)), ...): checked, with the parameters that were given; hashable.
Operations = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


def checked(items: Iterable[Any], where: str) -> Operations:
    """A list of operations, each a name or {name: {parameter: value}}, in one form; its own result passes unchanged.

    Raises InputError for an unknown operation or parameter and for a value out of bounds.
    """
    return tuple(_operation(item, where) for item in items)


def output_shape(operations: Operations, input_shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The shape of an image after the operations.

    Raises InputError for feature vectors and for images that an operation cannot take.
    """
    if operations and len(input_shape) != 3:
        raise InputError(f"{where}: {operations[0][0]} is for images, not feature vectors; allowed: none")
    shape = tuple(input_shape)
    for name, given in operations:
        operation = OPERATIONS[name]
        try:
            shape = operation.output_shape(shape, operation.settled(dict(given)))
        except InputError as error:
            raise InputError(f"{where}.{name}: {error}") from None
    return shape


def _operation(item: Any, where: str) -> tuple[str, tuple[tuple[str, Any], ...]]:
    name, given = _name_and_parameters(item, where)
    if name not in OPERATIONS:
        raise InputError(f"{where}: unknown operation {name!r}; allowed: {', '.join(OPERATIONS)}")
    operation = OPERATIONS[name]
    return name, tuple((key, _value(operation, name, key, value, where)) for key, value in given.items())


def _name_and_parameters(item: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], tuple):
        return item[0], dict(item[1])
    if isinstance(item, Mapping) and len(item) == 1:
        [(name, given)] = item.items()
        if given is None or isinstance(given, Mapping):
            return str(name), given or {}
    raise InputError(f"{where}: {item!r} is not an operation; allowed: a name, or {{name: {{parameter: value}}}}")


def _value(operation: Operation, name: str, key: Any, value: Any, where: str) -> Any:
    if key not in operation.parameters:
        allowed = ", ".join(operation.parameters)
        raise InputError(f"{where}.{name}: unknown parameter {key!r}; allowed: {allowed}")
    return operation.parameters[key].check(value, f"{where}.{name}.{key}")
