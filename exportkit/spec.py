"""The values that flow through exportkit, and the protocols of its plugins. No torch, no onnx.

A *tree* is a JSON-able template of nested arguments or results: exactly one of
`{"leaf": NAME}`, `{"constant": VALUE}`, `{"tuple": [...]}`, `{"list": [...]}`, `{"dict": {KEY: ...}}`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Dimension = int | str
Tree = Mapping[str, Any]
Severity = Literal["note", "warning", "error"]
Domain = Literal["inside", "outside"]
Outcome = Literal["passed", "passed with warnings", "undetermined", "failed"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a signature.

    Attributes:
        dtype: numpy's name of the element type ("float32", "bfloat16", "bool", ...).
        shape: a dimension is an int, or the name of a symbol.
        low: smallest value inside the domain, None where unknown.
        high: largest value inside the domain, inclusive.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    low: float | int | None = None
    high: float | int | None = None


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dimension that varies.

    Attributes:
        places: (input name, axis, offset): the axis has the symbol's size plus the offset.
        size: its size in the user's example.
        step: it varies in multiples of this (an image side that must divide by 32).
        low: smallest size that the user declared or that eager accepts.
        high: largest size that the user declared, None where there is no bound.
        declared: True where the user asked for it: an artifact that loses it fails.
    """

    name: str
    places: tuple[tuple[str, int, int], ...]
    size: int
    step: int = 1
    low: int = 1
    high: int | None = None
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where a network came from: `file` as the user gave it, digests as hexadecimal SHA-256."""

    file: str
    object: str
    digest: str
    weights_digest: str


@dataclass(frozen=True, slots=True)
class Network:
    """What exportkit knows of a network without holding it."""

    name: str
    inputs: tuple[TensorSpec, ...]
    input_tree: Tree
    source: Source
    symbols: tuple[Symbol, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    output_tree: Tree = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One set of inputs: case 0 is the example; `seed` draws the others anew, bit for bit.

    `kind` says how it was drawn: "example", "check", "like" (the example's distribution), "small", "large", "edges", "ties", "grown" or
    "resampled" (see draws.py), or, outside the domain, "zeros", "huge", "nan", "masked", "out-of-range".
    """

    name: str
    sizes: Mapping[str, int]
    kind: str
    domain: Domain
    seed: int

    @property
    def drawn(self) -> bool:
        """True where exportkit chose the values, inside the domain: it may leave the case out."""
        return self.domain == "inside" and self.kind not in ("example", "check")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where artifacts run.

    Attributes:
        device: "cpu" or "cuda"; as asked for also "auto": CUDA where onnxruntime really has such a device.
        ort_library: the library of the network's own onnxruntime operators; an artifact never brings native code along.
        allow_cpu_nodes: nodes that CUDA has no kernel for are told, and fail nothing.
    """

    device: str = "cpu"
    ort_library: str | None = None
    allow_cpu_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that exportkit made; the signature is read back from the file itself (a .pt holds none).

    Attributes:
        rows: the symbol along whose axis 0 of all inputs and outputs no row touches another, as rows.py shows; "" where that is not shown.
    """

    format: str
    files: tuple[str, ...]
    strategy: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number and its limit: NaN never passes."""

    case: str
    output: str
    metric: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reader must know besides the numbers.

    Severity "error" fails the artifact it is about, "warning" fails it under `--strict`, "note" never does.
    """

    severity: Severity
    code: str
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on one artifact on one backend.

    Attributes:
        undetermined: why the evidence does not suffice; empty where it does.
        differences: output -> {"max_abs": ..., "max_rel": ..., "times_eager_rms": ..., "times_eager_max": ...}.
        cases: how many ran inside and outside the domain, at how many sizes the export never saw, and how many were dropped.
        facts: what the backend told: providers, placement.
        against: the network's file that a published artifact was compared with later; "" for the cases of its own export.
    """

    network: str
    artifact: Artifact
    backend: str
    device: str
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    undetermined: tuple[str, ...] = ()
    differences: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cases: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    against: str = ""

    @property
    def outcome(self) -> Outcome:
        severities = {finding.severity for finding in self.findings}
        if "error" in severities or not all(m.passed for m in self.measurements):
            return "failed"
        if self.undetermined or not self.measurements:
            return "undetermined"
        return "passed with warnings" if "warning" in severities else "passed"


@dataclass(frozen=True, slots=True)
class Accept:
    """The user's word that an output may differ by up to `limit` times eager's own error, and why."""

    limit: float
    reason: str


class Session(Protocol):
    """A loaded artifact: called for each case, arrays in by name, one array out for each output of the network.

    Attributes:
        facts: what ran it, plain JSON values.
    """

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def __call__(self, inputs: Mapping[str, Any]) -> list[Any]: ...


class Backend(Protocol):
    """Runs an artifact."""

    formats: tuple[str, ...]

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> Session: ...

    def ways(self, folder: Path, artifact: Artifact, network: Network, device: str) -> Mapping[str, Callable[[], Session]]:
        """Lists how else deployments run an artifact that loads; each loads it anew."""
        ...


def leaf_names(tree: Tree) -> Iterator[str]:
    """Yields the names of a tree's leaves in the order of `torch.utils._pytree`."""
    if "leaf" in tree:
        yield tree["leaf"]
    for child in tree.get("tuple", tree.get("list", tree.get("dict", {}).values())):
        yield from leaf_names(child)


def fill(tree: Tree, leaves: Mapping[str, Any]) -> Any:
    """Puts values in the places of a tree's leaves."""
    if "leaf" in tree:
        return leaves[tree["leaf"]]
    if "tuple" in tree:
        return tuple(fill(child, leaves) for child in tree["tuple"])
    if "list" in tree:
        return [fill(child, leaves) for child in tree["list"]]
    if "dict" in tree:
        return {key: fill(child, leaves) for key, child in tree["dict"].items()}
    return tree["constant"]
