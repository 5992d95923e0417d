"""What a model takes, as its manifest states it: a request is compared with it before its data is looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exportkit.errors import StoreError
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.tensors import DATATYPES
from exportkit.spec import Artifact, Network, TensorSpec

_MOST_AXES = 32


@dataclass(frozen=True, slots=True)
class Range:
    """The sizes that a symbol takes: `low` to `high` (None: no bound) in multiples of `step`."""

    low: int
    high: int | None
    step: int

    def fault(self, size: int) -> str:
        """Says what is wrong with a size; "" where nothing is."""
        if size < self.low:
            return f"at least {self.low}"
        if self.high is not None and size > self.high:
            return f"at most {self.high}"
        return f"a multiple of {self.step}" if size % self.step else ""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: its datatype, and its shape with -1 where a size varies.

    Attributes:
        varies: (axis, symbol, offset): the axis has the symbol's size plus the offset.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    varies: tuple[tuple[int, str, int], ...] = ()

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Contract:
    """What goes in and out of a model.

    Attributes:
        ranges: symbol -> the sizes that it takes.
    """

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    ranges: Mapping[str, Range]

    def admit(self, name: str, datatype: str, shape: Sequence[int], sizes: dict[str, tuple[int, str]]) -> None:
        """Compares one tensor of a request with its input.

        Args:
            sizes: symbol -> (its size, the input that gave it) by the request's tensors so far; this one's are added.

        Raises:
            RequestError: there is no such input, or it is of another type or shape.
        """
        port = self.inputs.get(name)
        if port is None:
            raise RequestError(400, f"there is no input {shown(name)}; the model takes {', '.join(self.inputs) or 'none'}")
        if datatype != port.datatype:
            raise RequestError(400, f"input {name} is {shown(datatype)}, expected {port.datatype}")
        if len(shape) != len(port.shape) or len(shape) > _MOST_AXES:
            raise RequestError(400, f"input {name} has {len(shape)} axes, expected {len(port.shape)}: {list(port.shape)}")
        for axis, (size, expected) in enumerate(zip(shape, port.shape, strict=True)):
            if size < 0 or (expected >= 0 and size != expected):
                raise RequestError(400, f"input {name} has size {size} at axis {axis}, expected {expected if expected >= 0 else 'any'}")
        for axis, symbol, offset in port.varies:
            size = shape[axis] - offset
            if fault := self.ranges[symbol].fault(size):
                raise RequestError(400, f"input {name} has size {shape[axis]} at axis {axis}: {symbol} is {size}, expected {fault}")
            before, giver = sizes.setdefault(symbol, (size, name))
            if before != size:
                raise RequestError(400, f"{symbol} is {before} in input {giver} and {size} in input {name}")

    def complete(self, given: Mapping[str, Any]) -> None:
        """Makes sure that each input was given.

        Raises:
            RequestError: one is missing.
        """
        if len(given) != len(self.inputs):
            raise RequestError(400, f"input {', '.join(name for name in self.inputs if name not in given)} is missing")

    def chosen(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the outputs that a request asks for: all where it names none.

        Raises:
            RequestError: there is no such output, or it is named twice.
        """
        asked = tuple(names)
        for name in asked:
            if name not in self.outputs:
                raise RequestError(400, f"there is no output {shown(name)}; the model gives {', '.join(self.outputs)}")
        if len(set(asked)) != len(asked):
            raise RequestError(400, "an output is named twice")
        return asked or tuple(self.outputs)


def read(artifact: Artifact, network: Network) -> Contract:
    """Reads the contract of an artifact.

    Raises:
        StoreError: an element type has no name in the protocol.
    """
    places = {(name, axis): (symbol.name, offset) for symbol in network.symbols for name, axis, offset in symbol.places}
    reach: Mapping[str, int] = artifact.facts.get("reach", {})
    ranges = {symbol.name: Range(symbol.low, reach.get(symbol.name, symbol.high), symbol.step) for symbol in network.symbols}
    return Contract(
        {spec.name: _port(spec, places) for spec in artifact.inputs},
        {spec.name: _port(spec, {}) for spec in artifact.outputs},
        ranges,
    )


def _port(spec: TensorSpec, places: Mapping[tuple[str, int], tuple[str, int]]) -> Port:
    if spec.dtype not in DATATYPES:
        raise StoreError(f"cannot be served: {spec.name} is {spec.dtype}, for which the Open Inference Protocol has no name")
    varying = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    return Port(
        spec.name,
        DATATYPES[spec.dtype],
        tuple(size if isinstance(size, int) else -1 for size in spec.shape),
        tuple((axis, *places[spec.name, axis]) for axis in varying if (spec.name, axis) in places),
    )
