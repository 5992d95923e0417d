"""A failed measurement -> the ONNX node that is at fault, the torch module and line it comes from. Light: the search is in children."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exportkit.errors import ExportKitError
from exportkit.messages import Gap, Scene, Suspect
from exportkit.spec import Finding, Report
from exportkit.worker import Host, Limits

# torch's operator -> what helps; measured with torch 2.13 and onnxruntime 1.31.
_REMEDIES = {
    "scaled_dot_product_attention": "where a row's mask is false everywhere eager gives 0 and ONNX does not: keep one true in each row",
    "scatter_reduce": "ONNX has no mean, and no include_self=False: divide index_add of the values by index_add of ones",
    "repeat_interleave": "a count that is a tensor is exported wrong: gather with indices from cumsum and searchsorted",
    "cdist": "write the distance out: ((a.unsqueeze(-2) - b.unsqueeze(-3)) ** 2).sum(-1).sqrt()",
    "__rshift__": "shift as int32 or int64 and cast back: uint8 comes out as int8",
    "median": "take sort(dim).values at (n - 1) // 2",
    "cummax": "no kernel keeps eager's order of ties: take it from sort or a scan",
    "argmax": "ONNX ignores NaN: replace it before, with nan_to_num",
}

Listener = Callable[[str], None]

NAMED = ("exported", "lifted", "simplified")  # the strategies whose ONNX values bear the names of torch's nodes
_ROUNDS = 8  # a search refines at most so often
_REFERENCE = "reference.safetensors"
_RUNTIMES = "onnxruntime without optimisations, and onnx's own reference implementation where it runs,"
_STAGE = "looking for the node at fault"


def failing_case(scene: Scene, reports: Sequence[Report]) -> str:
    """Names the case to search: the one that is furthest off; "" where no measurement of a value failed."""
    failed = [one for report in reports for one in report.measurements if not one.passed]
    known = {case.name for case in scene.trial.cases}
    cases = {one.case: _rank(one.value / one.limit if one.limit else math.inf) for one in failed if one.case in known}
    if not cases and failed:  # only the mean over all cases is too large
        outputs = {one.output for one in failed}
        rest = [one for report in reports for one in report.measurements if one.output in outputs and one.case in known]
        cases = {one.case: one.value for one in rest if one.metric.startswith("largest")}
    return max(cases, key=lambda case: cases[case], default="")


def explain(
    scene: Scene, reports: Sequence[Report], repro: str | None, tracer: "Tracer", hold: Callable[[], Host] | None = None
) -> tuple[Finding, ...]:
    """Says which node makes an ONNX artifact fail, as an error; nothing where no measurement of values failed.

    Args:
        repro: a folder for the failing node alone; None for none.
        hold: makes the holder of the exported program (`intermediates.hold`); None where the network is not at hand.
    """
    case = failing_case(scene, reports)
    if not case:
        return ()
    scene.scratch.mkdir(parents=True, exist_ok=True)
    try:
        with hold() if hold and scene.artifact.strategy in NAMED else contextlib.nullcontext() as program:
            suspect = replace(tracer, program=program).search(scene, case)
            told = finding(suspect, scene.artifact.strategy if hold else "")
            if repro and suspect.value:
                call = ("exportkit.repro:write", scene, suspect, scene.scratch / _REFERENCE, told.text, Path(repro).absolute())
                tracer.server.run(*call, limits=tracer.limits, stage="writing the failing node", on_event=tracer.listen)
                told = replace(told, text=f"{told.text}\nthe node alone, with a script that shows the difference: {repro}")
    except ExportKitError as error:
        return (Finding("note", "blame", f"the fault was not traced to a node: {error.what}", error.where),)
    return (told,)


@dataclass(frozen=True, slots=True)
class Tracer:
    """Runs a search.

    Attributes:
        server: forks searchers; it never saw the network.
        program: holds the exported program that tells what each value should be; None where there is none.
    """

    server: Host
    limits: Limits
    listen: Listener
    program: Host | None = None

    def search(self, scene: Scene, case: str) -> Suspect:
        """Searches an artifact for the first node that is wrong by itself.

        Raises:
            ExportKitError: the artifact or the program does not run.
        """
        reference = scene.scratch / _REFERENCE
        suspect: Suspect = self._ask("begin", scene, case)
        for _ in range(_ROUNDS):
            if not suspect.ask:
                break
            if not self._record(scene, suspect, reference):
                return replace(suspect, ask=(), alone=True)
            suspect = self._ask("look", scene, suspect, reference)
        if not suspect.value:
            return suspect
        fine = self._record_fine(scene, suspect)
        found: Suspect = self._ask("narrow", scene, suspect, reference, fine)
        return replace(found, alone=self.program is None)

    def _record(self, scene: Scene, suspect: Suspect, reference: Path) -> bool:
        if self.program is None:
            alone = ("exportkit.alone:record", scene, suspect, reference)
            return bool(self.server.run(*alone, limits=self.limits, stage="computing intermediate values", on_event=self.listen))
        call = ("exportkit.intermediates:record", scene.trial.arrays, suspect.case, suspect.ask, reference)
        self.program.run(*call, limits=self.limits, stage="computing intermediate values", on_event=self.listen)
        return True

    def _record_fine(self, scene: Scene, suspect: Suspect) -> Path | None:
        if self.program is None or len(suspect.nodes) == 1 or not suspect.fine:
            return None
        path = scene.scratch / "fine.safetensors"
        call = ("exportkit.intermediates:record_fine", scene.trial.arrays, suspect.case, suspect.fine, path)
        self.program.run(*call, limits=self.limits, stage="computing intermediate values", on_event=self.listen)
        return path

    def _ask(self, step: str, *args: Any) -> Any:
        return self.server.run(f"exportkit.suspects:{step}", *args, limits=self.limits, stage=_STAGE, on_event=self.listen)


def finding(suspect: Suspect, made_by: str = "") -> Finding:
    """Words what a search found, in at most nine lines.

    Args:
        made_by: the strategy that made the artifact, where its network is at hand.
    """
    if not suspect.value:
        return Finding("error", "blame", _nothing_found(suspect, made_by))
    return Finding("error", "blame", "\n".join(_lines(suspect)), suspect.nodes[0].where)


def _nothing_found(suspect: Suspect, made_by: str) -> str:
    if suspect.program:
        return (
            f"torch's exported program is wrong already ({suspect.case}): it holds fixed what depends on values or sizes.\n"
            "No ONNX node is at fault: look for branches and loops of Python in forward that read a tensor or a size."
        )
    if suspect.alone and made_by:
        return (
            f"no node can be named: what is {made_by} keeps no names of torch's values\n"
            f"{_RUNTIMES} give the same: the file holds another computation than forward's"
        )
    if suspect.alone:
        return f"without the network nobody can tell which node is wrong: `exportkit export net.py` names it\n{_RUNTIMES} give the same"
    return f"no single node is at fault ({suspect.case}): run alone on eager's inputs each stays near its own rounding error"


def _lines(suspect: Suspect) -> list[str]:
    place, local = suspect.nodes[0], suspect.local
    who = f"node {place.name or 'without a name'} ({place.op})"
    others = [f"{one.name} ({one.op})" for one in suspect.nodes[1:4]]
    more = f" and {len(suspect.nodes) - 4} more" if len(suspect.nodes) > 4 else ""  # noqa: PLR2004 - three are enough to read
    fault = f"is the first suspect, then {', '.join(others)}{more}" if others else "is at fault"
    right = "a right runtime's" if suspect.alone else "eager's own"
    lines = [f"{who} {fault}: {suspect.value} is the first value that is wrong by itself"]
    lines += [f"it stands in the body of {value}, step {step + 1}" for value, _, step in suspect.unfolded[-1:]]
    if place.operator:
        lines.append(f"it stands for {place.operator} in {place.module or 'forward'} ({place.kind or 'the network'}): {place.code}")
    times = "" if local.text else f", {local.times:.2g}x {right} rounding error"
    lines.append(f"run alone on {right} inputs ({suspect.case}): {_words(local)}{times}")
    if suspect.reached.relative or suspect.reached.text:
        lines.append(f"in the artifact: {_words(suspect.reached)}, from inputs that are {suspect.handed.relative:.1e} off themselves")
    if suspect.others:
        lines.append(f"{suspect.others} later value{'s are' if suspect.others > 1 else ' is'} wrong by itself, too")
    return [*lines, *_verdict(suspect)]


def _words(one: Gap) -> str:
    if one.text:
        return one.text
    return f"off by {one.relative:.1e} of its rms, at most {one.largest:.2g} beside values up to {one.size:.2g}"


def _verdict(suspect: Suspect) -> Iterator[str]:
    """Says whose fault it is, and what to do."""
    operator = suspect.nodes[0].operator
    known = next((text for name, text in _REMEDIES.items() if name in operator), "")
    if suspect.optimiser:
        yield "without onnxruntime's optimisations the artifact is right: the optimiser is at fault, not the conversion"
        yield "serve with graph_optimization_level = ORT_ENABLE_BASIC or less, and report it to onnxruntime"
    elif suspect.standard is not None and suspect.standard.times < suspect.local.times / 10:
        yield f"onnx's reference implementation is {suspect.standard.times:.2g}x off on the same inputs: onnxruntime's kernel is at fault"
        yield known or "serve with another onnxruntime, or write the line in other operators, and report it to onnxruntime"
    else:
        if suspect.standard is not None:
            yield "onnx's reference implementation gives the same: the conversion is at fault, not onnxruntime"
        if known or operator.startswith("aten."):
            yield known or f"write it in other operators, or translate it yourself: onnx_translations = {{torch.ops.{operator}: ...}}"


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value
