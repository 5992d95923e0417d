"""What children tell the parent, and one child another: light values, so that reading one imports neither torch nor numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exportkit.errors import ExportKitError
from exportkit.spec import Accept, Artifact, Case, Finding, Network, Runtime, Symbol, TensorSpec, Tree

FEWEST_CASES = 3
MOST_UNDETERMINED = 0.01


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the parent learns of a loaded network."""

    network: Network
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first runs of forward told.

    Attributes:
        digest: SHA-256 of the example's outputs, to compare with those of another copy of the network.
        seconds: an estimate of one eager run from its operations and bytes: no clock, so that two runs agree.
    """

    symbols: tuple[Symbol, ...]
    cases: tuple[Case, ...]
    output_tree: Tree
    outputs: tuple[TensorSpec, ...]
    digest: str
    seconds: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Band:
    """Eager's own error among elements of one magnitude, relative to the largest element of their case.

    Attributes:
        cases: the cases that are weighed together: of comparable size, and on which eager errs comparably.
        groups: the magnitude groups merged here; 0 holds the elements within 1e-3 of the case's largest, 1 the next factor of 1e3, ...
        rms: root mean square error, at least the rounding of the values themselves.
        max: largest error, at least the rounding of the largest value.
    """

    cases: tuple[str, ...]
    groups: tuple[int, ...]
    rms: float
    max: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What the evidence says of one output.

    Attributes:
        exact: True for integers and booleans, which must be equal.
        bands: where floats may lie; empty for exact outputs.
        dropped: case -> why it is no evidence.
        cases: number of cases that are evidence.
        undetermined: share of exact elements that eager itself changes under perturbation.
        constant: True where no case changes the output.
        all_nan: True where every element of every case is NaN.
    """

    exact: bool
    dtype: str
    bands: tuple[Band, ...]
    dropped: Mapping[str, str]
    cases: int
    undetermined: float
    constant: bool
    all_nan: bool

    def shortfalls(self, name: str, needed: int) -> list[str]:
        """Returns why the evidence does not suffice; empty where it does."""
        if self.cases < min(needed, FEWEST_CASES):
            why = "; ".join(sorted(set(self.dropped.values()))) or "no case is left"
            return [f"output {name} has {self.cases} cases of evidence, {FEWEST_CASES} are needed ({why})"]
        if self.undetermined > MOST_UNDETERMINED:
            return [f"{self.undetermined:.1%} of output {name} changes when inputs and weights move by 2 ulp: too much to compare exactly"]
        return []


@dataclass(frozen=True, slots=True)
class Trial:
    """What a judge needs besides the artifact: the cases with their arrays, and eager's own error.

    Attributes:
        budgets: output -> eager's own error; filled once it is weighed.
        arrays: a folder with `{case}.safetensors`, or one file that holds them all.
        raising: case -> the error that eager raises on it.
        accept: output -> the user's own limit.
    """

    arrays: Path
    cases: tuple[Case, ...]
    budgets: Mapping[str, Budget]
    raising: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0
    accept: Mapping[str, Accept] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The cases, as they were finally drawn, and what they prove.

    Attributes:
        trial: the cases that ran, their arrays in `{case}.safetensors` of the folder, and eager's own error.
        dropped: case -> why it is none.
        device: where eager and its oracle ran, "cpu" or "cuda".
        weighed: the cases whose files hold perturbed runs: those that tell eager's own error.
        narrow: True where forward computes in 16 bits somewhere.
        ways: line that decides by a tensor's value -> how many different ways the cases took there.
        one_sided: those of these lines at which no case ever had the other answer.
    """

    trial: Trial
    dropped: Mapping[str, str]
    weighed: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str
    device: str = "cpu"
    narrow: bool = False
    ways: Mapping[str, int] = field(default_factory=dict)
    one_sided: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Screened:
    """What a file from elsewhere says of itself, once every rule holds.

    Attributes:
        inputs: a dimension that nobody names is "?", an unknown rank the one dimension "..."; dtypes of sequences begin with "sequence_",
            of optional values with "optional_".
        facts: plain JSON values: versions, counts.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt, and the names of all strategies of its format.

    Attributes:
        control_flow: the network's source has loops or branches, which one strategy may bake and another keep.
        sides: sizes at which eager takes another side of a branch than the exporter did.
    """

    made: Artifact | ExportKitError
    strategies: tuple[str, ...]
    control_flow: bool = False
    sides: tuple[Mapping[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """An ONNX node, and where it comes from in torch.

    Attributes:
        outputs: names of the values that it writes; `inputs` of those that it reads, "" for one left out.
        module: the dotted name of the torch module; "" for the network's own forward, or where nothing is known.
        kind: the module's class.
        operator: torch's operator; "" where nothing is known.
        where: "net.py:12", the user's line; `code` is its text.
    """

    name: str
    op: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    module: str = ""
    kind: str = ""
    operator: str = ""
    where: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far one value lies from what it should be.

    Attributes:
        times: error as a multiple of eager's own rounding error there; infinite where integers, shapes or NaN patterns differ.
        relative: root mean square error over root mean square of the value.
        largest: largest absolute error; `size` is the largest value.
        text: what differs, where no number tells.
    """

    times: float
    relative: float = 0.0
    largest: float = 0.0
    size: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What every step of a search for a fault needs.

    Attributes:
        folder: where the artifact's files lie; `scratch` is a folder to write to.
        runtime: where the artifact ran when it failed.
    """

    folder: Path
    artifact: Artifact
    network: Network
    trial: Trial
    runtime: Runtime
    scratch: Path


@dataclass(frozen=True, slots=True)
class Suspect:
    """What the search for a fault knows so far.

    Attributes:
        file: the model that is searched: the artifact, or the graph that onnxruntime made of it.
        optimiser: True where the artifact is right without onnxruntime's optimisations.
        case: the failing case that is searched.
        unfolded: (node's value, attribute, step) of each If, Loop or Scan whose body is searched; outermost first.
        ask: values whose reference the search needs next; empty at its end.
        fine: nodes of torch's program to record in smaller steps next.
        value: the first value whose local error is far above eager's; "" where there is none.
        nodes: the nodes that compute it from known values; the blamed one first.
        known: the known values that they read.
        local: its error where those nodes run on the reference's inputs.
        handed: the largest error of those inputs in the artifact's own run; `reached` is the value's own error there.
        others: how many later values have a local error as large.
        standard: the local error of onnx's own reference implementation on the same inputs; None where it does not run.
        alone: True where the search had no network: only runtimes are compared.
        program: True where torch's exported program is wrong already, before it became ONNX.
    """

    file: Path
    optimiser: bool
    case: str
    unfolded: tuple[tuple[str, str, int], ...] = ()
    ask: tuple[str, ...] = ()
    fine: tuple[str, ...] = ()
    value: str = ""
    nodes: tuple[Place, ...] = ()
    known: tuple[str, ...] = ()
    local: Gap = Gap(0.0)
    handed: Gap = Gap(0.0)
    reached: Gap = Gap(0.0)
    others: int = 0
    standard: Gap | None = None
    program: bool = False
    alone: bool = False
