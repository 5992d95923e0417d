"""A request for inference, as both protocols state it, and the arrays that it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exportkit.serving import tensors
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.contract import Contract
from exportkit.serving.tensors import Array

# Parameters of the protocol's extensions that would change what the answer means: to ignore one would be to answer another question.
_NOT_HERE = {
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "shared_memory_region",
    "shared_memory_offset",
    "shared_memory_byte_size",
    "classification",
}


@dataclass(slots=True)
class Stated:
    """A tensor as a request states it: its data raw, or as values of JSON."""

    name: str
    datatype: str
    shape: Sequence[int]
    raw: "bytes | memoryview | None" = None
    values: Any = None


def arrays(contract: Contract, stated: Sequence[Stated]) -> dict[str, Array]:
    """Reads the inputs of a request, in the order of the contract's inputs.

    Raises:
        RequestError: they are not what the model takes.
    """
    sizes: dict[str, tuple[int, str]] = {}
    given: dict[str, Stated] = {}
    for one in stated:
        if one.name in given:
            raise RequestError(400, f"input {shown(one.name)} is given twice")
        contract.admit(one.name, one.datatype, one.shape, sizes)
        given[one.name] = one
    contract.complete(given)
    return {name: _array(given[name]) for name in contract.inputs}


def refuse_parameters(names: Sequence[str]) -> None:
    """Refuses what this server does not do.

    Raises:
        RequestError: a parameter asks for it.
    """
    for name in names:
        if name in _NOT_HERE:
            raise RequestError(400, f"this server does not know the parameter {name}")


def _array(one: Stated) -> Array:
    label = f"input {one.name}"
    if one.raw is not None:
        return tensors.from_raw(label, one.datatype, one.shape, one.raw)
    return tensors.from_values(label, one.datatype, one.shape, one.values)
