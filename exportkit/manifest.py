"""The manifest: everything a later reader needs to know of an artifact folder, as JSON that does not vary between two runs."""

import dataclasses
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportkit import plugins
from exportkit.spec import Artifact, Case, Finding, Network, Report, Source, Symbol, TensorSpec

GOLDEN = "golden.safetensors"
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy", "safetensors", "exportkit")


@dataclass(frozen=True, slots=True)
class Made:
    """One format's way: what was tried, what came of it, and the verdicts.

    Attributes:
        earlier: (strategy, reason) of each strategy that was tried before and why it was left.
        refused: why there is no artifact; "" where there is one.
        folder: where the files lie until they are published.
    """

    format: str
    artifact: Artifact | None
    reports: tuple[Report, ...]
    earlier: tuple[tuple[str, str], ...] = ()
    refused: str = ""
    seconds: float = 0.0
    folder: Path | None = None

    @property
    def outcome(self) -> str:
        outcomes = [report.outcome for report in self.reports]
        order = ("failed", "undetermined", "passed with warnings", "passed")
        return "failed" if self.refused or not outcomes else next(name for name in order if name in outcomes)

    @property
    def lost(self) -> tuple[str, ...]:
        """Names the inferred dimensions that the artifact fixes."""
        texts = [finding.text for report in self.reports for finding in report.findings if finding.code == "dimension-fixed"]
        return tuple(dict.fromkeys(text.partition(" (")[0] for text in texts))

    @property
    def bounded(self) -> tuple[str, ...]:
        """Names the dimensions that eager takes beyond where the artifact ends: torch.export held one side of a branch."""
        return tuple(self.artifact.facts.get("reach", ())) if self.artifact else ()

    @property
    def good(self) -> bool:
        return self.outcome.startswith("passed")


def compose(
    network: Network,
    made: Sequence[Made],
    cases: Sequence[Case],
    budgets: Mapping[str, Any],
    golden: Mapping[str, Any],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Composes the manifest of one export; plain JSON values."""
    return {
        "network": as_json(network),
        "formats": {one.format: _format(one) for one in made},
        "evidence": {"cases": as_json(list(cases)), "budgets": as_json(dict(budgets)), **golden},
        "findings": as_json(list(findings)),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Lists the versions of Python and of the packages that make and run artifacts."""
    from importlib import metadata  # a tenth of what `exportkit --help` takes

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, Any]:
    """Describes the machine: for `run.json`, which no digest covers."""
    return {"system": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count()}


def as_json(value: Any) -> Any:
    """Turns the frozen values into plain dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(child) for child in value]
    return value


def read_network(data: Mapping[str, Any]) -> Network:
    """Reads the network back from a manifest."""
    return Network(
        data["name"],
        tuple(map(read_spec, data["inputs"])),
        data["input_tree"],
        Source(**data["source"]),
        tuple(Symbol(**{**one, "places": tuple(tuple(place) for place in one["places"])}) for one in data["symbols"]),
        tuple(map(read_spec, data["outputs"])),
        data["output_tree"],
    )


def read_spec(data: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(**{**data, "shape": tuple(data["shape"])})


def read_artifact(data: Mapping[str, Any]) -> Artifact:
    """Reads an artifact back from a manifest.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    inputs, outputs = (tuple(map(read_spec, data[key])) for key in ("inputs", "outputs"))
    if data["format"] not in plugins.names("formats") or not data["files"] or not isinstance(data["facts"], Mapping):
        raise ValueError(f"{data['format']} is no format with files and facts")
    return Artifact(data["format"], tuple(data["files"]), data["strategy"], inputs, outputs, data["facts"], str(data["rows"]))


def _format(made: Made) -> dict[str, Any]:
    return {
        "artifact": as_json(made.artifact),
        "earlier": [{"strategy": strategy, "reason": reason} for strategy, reason in made.earlier],
        "outcome": made.outcome,
        "reports": [
            {key: value for key, value in as_json(report).items() if key not in ("artifact", "network", "against")}
            | {"outcome": report.outcome}
            for report in made.reports
        ],
    }
