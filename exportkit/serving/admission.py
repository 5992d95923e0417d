"""Only what passes `exportkit check` is served: the folder is checked in children, then loaded here, as one and the same folder."""

from pathlib import Path

from exportkit import manifest, pipeline, published, store
from exportkit.errors import RejectedError
from exportkit.pipeline import Verdict
from exportkit.serving import models
from exportkit.serving.models import Model
from exportkit.serving.options import Options
from exportkit.spec import Runtime
from exportkit.worker import Host, Limits


def admit(folder: Path, checker: Host, options: Options) -> Model:
    """Checks the ONNX artifact of a folder, and loads it.

    Raises:
        RejectedError: it does not pass.
        StoreError: the folder is not whole, or changes while it is read.
        RunError: the provider is not here, or the file does not load.
    """
    limits = Limits()
    runtime = pipeline.settle(options.runtime, checker, limits)
    return store.steady(folder, lambda: _checked(folder, checker, runtime, limits))


def _checked(folder: Path, checker: Host, runtime: Runtime, limits: Limits) -> Model:
    verdict = published.check(folder, checker, runtime, limits, only="onnx", other_ways=False)
    if verdict.exit_code:
        raise RejectedError(f"does not pass the check: {_why(verdict)}", where=str(folder), todo=f"exportkit check {folder} says more.")
    return models.load(folder.absolute(), store.read_manifest(folder), runtime)


def _why(verdict: Verdict) -> str:
    report = next(report for made in verdict.made for report in made.reports if not report.outcome.startswith("passed"))
    errors = [finding.text for finding in report.findings if finding.severity == "error"]
    wrong = [
        f"{one.output} of {one.case}: {one.metric} is {one.value:.3g}, limit {one.limit:.3g}"
        for one in report.measurements
        if not one.passed
    ]
    return next(iter((*errors, *wrong, *report.undetermined)), report.outcome)


def names(folders: list[Path]) -> list[str]:
    """Reads which names folders will be served by.

    Raises:
        RejectedError: two have one.
        StoreError: one is no artifact folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        name = manifest.read_network(store.read_manifest(folder)["network"]).name
        if name in found:
            raise RejectedError(f"is a second folder of the name {name}", where=str(folder), todo=f"{found[name]} is the first: name one.")
        found[name] = folder
    return list(found)
