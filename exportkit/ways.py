"""Other ways in which deployments run the same artifact, measured beside the one that is judged: with TF32, as a CUDA graph."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from exportkit.errors import RunError
from exportkit.spec import Finding, Report, Session

TF32, CUDA_GRAPH = "TF32", "CUDA graph"


def measure(verdict: Report, ways: Mapping[str, Callable[[], Session]], judge: Callable[[Session], Report]) -> Report:
    """Adds to a report what the other ways give: its fact "ways", and a finding for each that ran.

    Args:
        ways: each loads the artifact anew; the session of the one before is gone by then, so that weights are held once.
    """
    facts: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, load in ways.items():
        try:
            told = judge(load())
        except RunError as error:
            facts[name] = {"refused": error.what}
            continue
        facts[name] = {"outcome": told.outcome, "differences": told.differences}
        findings += _words(name, told)
    return replace(verdict, facts={**verdict.facts, "ways": facts}, findings=(*verdict.findings, *findings)) if facts else verdict


def _words(name: str, told: Report) -> Iterator[Finding]:
    result = _result(told)
    if name == TF32:
        default = "onnxruntime's default" if told.backend == "onnxruntime" else "torch's in cuDNN's convolutions and recurrent layers"
        yield Finding("note", "tf32", f"proven without TF32; with it, {default} on CUDA, {result}")
    elif told.outcome == "failed":
        yield Finding("warning", "cuda-graph", f"as a CUDA graph it computes something else: {result}")
    else:
        yield Finding("note", "cuda-graph", f"as a CUDA graph, too, {result}")


def _result(told: Report) -> str:
    errors = [one.text for one in told.findings if one.severity == "error"]
    far = [one for one in told.measurements if not one.passed]
    if errors or not far:
        return errors[0] if errors else "all outputs are within the limits"
    worst = max(far, key=lambda one: one.value / one.limit if one.limit else one.value)
    return f"{worst.output} is outside of them: {worst.metric} is {worst.value:.3g}, the limit is {worst.limit:g}"
