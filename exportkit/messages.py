"""What children tell the parent, and one child another: light values, so that reading one imports neither torch nor numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exportkit.errors import ExportKitError
from exportkit.spec import Accept, Artifact, Case, Finding, Network, Symbol, TensorSpec, Tree

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
        scale: (low, high): the cases whose largest element lies in this range.
        groups: the magnitude groups merged here; 0 holds the elements within 1e-3 of the case's largest, 1 the next factor of 1e3, ...
        rms: root mean square error, at least the rounding of the values themselves.
        max: largest error, at least the rounding of the largest value.
    """

    scale: tuple[float, float]
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
            why = "; ".join(sorted(set(self.dropped.values()))) or "no case ran"
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
        weighed: the cases whose files hold perturbed runs: those that tell eager's own error.
    """

    trial: Trial
    dropped: Mapping[str, str]
    weighed: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str


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
    """What came of one attempt, and the names of all strategies of its format."""

    made: Artifact | ExportKitError
    strategies: tuple[str, ...]
