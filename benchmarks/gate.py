"""Runs exportkit's own gate in one process: the same steps as `exportkit export`, without its children.

A child for each step would cost more than the step. The networks here come with the benchmark, so nothing has to be kept apart.
"""

import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exportkit import attempts, judge, load, reference, state
from exportkit.attempts import Bench
from exportkit.errors import ExportKitError
from exportkit.formats import onnx
from exportkit.load import Live
from exportkit.manifest import Made
from exportkit.messages import Evidence
from exportkit.spec import Artifact, Finding, Network, Report, Runtime
from exportkit.worker import Limits


@dataclass(frozen=True, slots=True)
class Here:
    """Stands in for a child process: runs the task in this one."""

    held: tuple[Any, ...] = ()

    def run(self, task: str, *args: Any, limits: Any = None, stage: str = "", on_event: Any = None) -> Any:  # noqa: ARG002 - a Host's arguments
        module, _, function = task.partition(":")
        return getattr(importlib.import_module(module), function)(*self.held, *args)


class _Judging(Bench):
    """Does not ask which node is at fault: that takes a process that holds the network."""

    def blame(self, failed: object) -> tuple[Finding, ...]:  # noqa: ARG002 - the base's argument
        return ()


@dataclass(frozen=True, slots=True)
class Proof:
    """A network, its evidence, and what the gate said of one artifact."""

    live: Live
    network: Network
    evidence: Evidence
    made: Made

    @property
    def artifact(self) -> Artifact:
        assert self.made.artifact is not None
        return self.made.artifact

    @property
    def file(self) -> Path:
        assert self.made.folder is not None
        return self.made.folder / self.artifact.files[0]


def hold(file: str) -> Live:
    """Loads a network file and moves its weights, so that no norm is the identity, as after training."""
    _, live = load.hold(file)
    train(live.module, 0)
    return live


def gather(live: Live, folder: Path, seed: int = 0) -> tuple[Network, Evidence]:
    """Surveys a network and computes the evidence; another seed draws other cases."""
    folder.mkdir(parents=True)
    with state.preserved(live.module):  # what eager caches must not reach the export
        survey = reference.survey(live)
        cases = tuple(replace(case, seed=case.seed + 100_000 * seed) if case.kind != "check" else case for case in survey.cases)
        evidence = reference.build(live, survey.symbols, cases, folder)
    budgets = judge.weigh(folder, evidence.weighed, evidence.outputs, evidence.narrow)
    evidence = replace(evidence, trial=replace(evidence.trial, budgets=budgets))
    network = replace(live.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
    return network, evidence


def prove(live: Live, network: Network, evidence: Evidence, work: Path, form: str) -> Proof:
    """Makes an artifact by the strategies of its format, and judges it."""
    onnx.warm()
    future: Future[Evidence] = Future()
    future.set_result(evidence)
    bench = _Judging(Here(), Here((live,)), work, Limits(), lambda _: None, "cpu", None, None, None, future)  # type: ignore[arg-type]
    first = bench.make([(form, 0)], network)[form]
    made = bench.prove(form, network, first, 0.0)
    return Proof(live, replace(network, outputs=evidence.outputs), evidence, made)


def judge_file(proof: Proof, file: Path) -> Report:
    """Judges another file in the artifact's place.

    Raises:
        ExportKitError: the runtime does not load it.
    """
    artifact = replace(proof.artifact, files=(file.name,))
    reports = judge.judge_all(file.parent, artifact, proof.network, Runtime(), proof.evidence.trial, probing=False)
    return reports[0]


def session(proof: Proof, file: Path) -> Any:
    """Opens a file in the backend of the artifact's format."""
    from exportkit import plugins

    backend = {"onnx": "onnxruntime"}.get(proof.artifact.format, proof.artifact.format)
    return plugins.load("backends", backend).load(file.parent, replace(proof.artifact, files=(file.name,)), proof.network, "cpu")


def why(report: Report) -> str:
    """Says in a line why a verdict is not "passed"."""
    return attempts.why([report]) or "; ".join(report.undetermined)


def narrowed(report: Report) -> set[str]:
    """Lists the warnings that the artifact takes fewer sizes than eager."""
    return {one.text for one in report.findings if one.code == "dimension-narrowed" and one.severity == "warning"}


def run(opened: Any, network: Network, inputs: Mapping[str, Any]) -> list[Any] | None:
    """Runs one case; None where the runtime refuses it."""
    try:
        return list(opened({spec.name: inputs[spec.name] for spec in network.inputs}))
    except ExportKitError:
        return None


def networks(folders: Sequence[str]) -> list[str]:
    """Lists the network files of folders, or files named."""
    files: list[Path] = []
    for name in folders:
        path = Path(name)
        files += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [str(file) for file in files if file.name != "__init__.py"]


def train(module: torch.nn.Module, seed: int) -> None:
    """Moves weights and running statistics at random, by a tenth of their spread."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * 0.1 * (parameter.std() if parameter.numel() > 1 and parameter.std() > 0 else 1.0))
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator) * 0.5)


def as_arrays(inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in inputs.items()}
