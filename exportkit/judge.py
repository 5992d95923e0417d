"""Judges one artifact on one backend, in a process that never imported the network."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit import evidence, gaps, golden, placement, plugins, ways
from exportkit.evidence import Errors, Sample, read_budget
from exportkit.messages import FEWEST_CASES, Budget, Trial
from exportkit.spec import Accept, Artifact, Case, Finding, Measurement, Network, Report, Runtime, Session, TensorSpec
from exportkit.worker import report

Arrays = dict[str, NDArray[Any]]
Range = tuple[int, float]  # the smallest and the largest size that an artifact takes


def weigh(folder: Path, cases: Sequence[str], outputs: Sequence[TensorSpec], narrow: bool) -> dict[str, Budget]:
    """Weighs eager's own error from the files of cases, in a process that the user's code never touched."""
    samples: dict[str, list[Sample]] = {spec.name: [] for spec in outputs}
    for case in cases:
        reader = golden.Reader(folder / f"{case}.safetensors")
        keys = set(reader.names())
        for spec in outputs:
            runs = sorted(key for key in keys if key.startswith(f"{case}/perturbed/{spec.name}/"))
            eager, oracle, loose = (f"{case}/{kind}/{spec.name}" for kind in ("eager", "oracle", "undetermined"))
            one = Sample(
                case,
                reader.read(eager),
                reader.read(oracle if oracle in keys else eager),
                tuple(map(reader.read, runs)),
                reader.read(loose) if loose in keys else None,
            )
            samples[spec.name].append(one)
            if f"{case}/{gaps.TIED}oracle/{spec.name}" in keys:  # an artifact may be measured by this run as well
                tied, true = (reader.read(f"{case}/{gaps.TIED}{kind}/{spec.name}") for kind in ("eager", "oracle"))
                samples[spec.name].append(Sample(case, tied, true, ()))
    return {spec.name: evidence.weigh(samples[spec.name], spec.dtype, narrow=narrow) for spec in outputs}


def judge_all(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, trial: Trial, probing: bool) -> tuple[Report, ...]:
    """Judges an artifact on every backend that takes its format; with `probing`, outside the domain too where it passes inside."""
    reports = []
    for name in plugins.names("backends"):
        if artifact.format not in plugins.load("backends", name).formats:
            continue
        report(f"loading {artifact.files[0]} in {name}")
        session = load(folder, artifact, network, name, runtime)
        verdict = placed(judge(session, artifact, network, name, runtime.device, trial), runtime)
        if probing and verdict.outcome.startswith("passed"):
            found = probe(session, artifact, network, name, trial)
            outside = sum(case.domain == "outside" for case in trial.cases)
            verdict = replace(verdict, findings=(*verdict.findings, *found), cases={**verdict.cases, "outside": outside})
        reports.append(verdict)
    return tuple(reports)


def placed(verdict: Report, runtime: Runtime) -> Report:
    """Adds what is to be said of nodes that run elsewhere than was asked for."""
    found = placement.findings(verdict.facts, allowed=runtime.allow_cpu_nodes)
    return replace(verdict, findings=(*verdict.findings, *found))


def judge_ways(
    reports: Sequence[Report], folder: Path, artifact: Artifact, network: Network, runtime: Runtime, trial: Trial
) -> tuple[Report, ...]:
    """Adds to an artifact's reports what it gives as deployments run it otherwise (ways.py)."""

    def in_all(verdict: Report) -> Report:
        report(f"running {artifact.files[0]} in {verdict.backend} with TF32")
        others = _backend(verdict.backend, runtime).ways(folder, artifact, network, runtime.device)
        return ways.measure(verdict, others, lambda session: judge(session, artifact, network, verdict.backend, verdict.device, trial))

    return tuple(map(in_all, reports))


def judge_golden(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, data: Mapping[str, Any]) -> tuple[Report, ...]:
    """Judges a published artifact on the golden cases of its folder; `data` is the manifest's "evidence"."""
    return judge_all(folder, artifact, network, runtime, golden_trial(folder, data), probing=False)


def golden_trial(folder: Path, data: Mapping[str, Any]) -> Trial:
    """Reads a published folder's cases back."""
    cases = tuple(Case(**case) for case in data["cases"] if case["name"] not in data["left_out"])
    budgets = {name: read_budget(budget) for name, budget in data["budgets"].items()}
    accept = {name: Accept(**one) for name, one in data["accept"].items()}
    return Trial(folder / data["file"], cases, budgets, data["raising"], len(data["left_out"]), accept)


def judge(
    session: Session, artifact: Artifact, network: Network, backend: str, device: str, trial: Trial, *, may_refuse: bool = True
) -> Report:
    """Runs an artifact on every case inside the domain and measures it against the oracle.

    Args:
        may_refuse: an artifact that refuses sizes takes less, and is not wrong; a server of one that is proven must take all.
    """
    names = [spec.name for spec in network.outputs]
    taken = _stated(artifact, network)
    inside = inside_cases(artifact, network, trial)
    results: list[tuple[Case, Arrays | None]] = []
    failures: dict[str, str] = {}
    tied: list[str] = []
    for number, case in enumerate(inside):
        report(f"checking {artifact.files[0]} in {backend}, case {number + 1} of {len(inside)}")
        arrays = read(trial.arrays, case.name)
        try:
            outputs = session({spec.name: arrays[f"input/{spec.name}"] for spec in network.inputs})
            given = dict(zip(names, outputs, strict=True))
            reference, in_order = gaps.nearest(arrays, {name: np.asarray(value) for name, value in given.items()})
            tied += [case.name] if in_order else []
            results.append((case, {**reference, **{f"result/{name}": value for name, value in given.items()}}))
        except Exception as error:  # noqa: BLE001 - every runtime has its own errors; each is the artifact's answer on this case
            failures[case.name] = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            results.append((case, None))
    if may_refuse:
        taken |= _shown(artifact, network, [case for case in inside if case.name not in trial.raising], failures)
    counted = [(case, arrays) for case, arrays in results if _applies(case, network, taken)]
    told = _report(artifact, network, backend, device, trial, counted, failures, taken, session.facts)
    return replace(told, findings=(*told.findings, *_tie_findings([case.name for case, _ in counted if case.name in tied])))


def probe(session: Session, artifact: Artifact, network: Network, backend: str, trial: Trial) -> tuple[Finding, ...]:
    """Runs an artifact outside the domain: what differs from eager there is a warning."""
    names = [spec.name for spec in network.outputs]
    taken = _stated(artifact, network)
    told: dict[str, list[str]] = {}
    for case in trial.cases:
        if case.domain == "inside" or not _applies(case, network, taken):
            continue
        report(f"probing {artifact.files[0]} in {backend}: {case.name}")
        arrays = read(trial.arrays, case.name)
        if text := _strays(session, network, names, arrays, trial.raising.get(case.name)):
            told.setdefault(text, []).append(case.name)
    return tuple(Finding("warning", "outside-domain", f"outside the domain ({', '.join(cases)}): {text}") for text, cases in told.items())


def load(folder: Path, artifact: Artifact, network: Network, backend: str, runtime: Runtime) -> Session:
    session: Session = _backend(backend, runtime).load(folder, artifact, network, runtime.device)
    return session


def _backend(name: str, runtime: Runtime) -> Any:
    plugin = plugins.load("backends", name)
    return replace(plugin, ort_library=runtime.ort_library) if runtime.ort_library and hasattr(plugin, "ort_library") else plugin


def read(arrays: Path, case: str) -> Arrays:
    reader = golden.Reader(arrays / f"{case}.safetensors" if arrays.is_dir() else arrays)
    prefix = f"{case}/"
    wanted = [key for key in reader.names() if key.startswith(prefix) and not key.startswith(f"{prefix}perturbed/")]
    return {key.removeprefix(prefix): reader.read(key) for key in wanted}


def inside_cases(artifact: Artifact, network: Network, trial: Trial) -> list[Case]:
    """Lists the cases inside the domain whose sizes the artifact takes by its own signature."""
    taken = _stated(artifact, network)
    return [case for case in trial.cases if case.domain == "inside" and _applies(case, network, taken)]


def _stated(artifact: Artifact, network: Network) -> dict[str, Range]:
    """Lists the symbols that the artifact's own signature states as numbers."""
    signature = {spec.name: spec for spec in artifact.inputs}
    taken: dict[str, Range] = {}
    for symbol in network.symbols:
        for name, axis, offset in symbol.places:
            size = signature[name].shape[axis] if name in signature else symbol.name
            if isinstance(size, int):
                taken[symbol.name] = (size - offset, size - offset)
    for name, high in artifact.facts.get("reach", {}).items():
        taken.setdefault(name, (1, high))
    return taken


def _applies(case: Case, network: Network, taken: Mapping[str, Range]) -> bool:
    sizes = {symbol.name: symbol.size for symbol in network.symbols} | dict(case.sizes)
    return all(low <= sizes[name] <= high for name, (low, high) in taken.items())


def _shown(artifact: Artifact, network: Network, cases: Sequence[Case], failures: Mapping[str, str]) -> dict[str, Range]:
    """Finds the sizes that an artifact refuses whatever its signature says: it is loud there, so that it takes less, but is not wrong.

    A symbol is fixed where an artifact without a signature runs at the example's size alone; it begins higher where the artifact refuses
    smaller sizes than any that it takes. The fewest symbols that explain all refusals are taken; what none explains stays a failure.
    """
    ran, refused = ([case for case in cases if (case.name in failures) is failed] for failed in (False, True))
    fixed: dict[str, Range] = {}
    begins: dict[str, Range] = {}
    for symbol in network.symbols if ran and refused else ():
        good, bad = ({case.sizes.get(symbol.name, symbol.size) for case in some} for some in (ran, refused))
        if good == {symbol.size} and bad - good and not artifact.inputs:
            fixed[symbol.name] = (symbol.size, symbol.size)
        elif min(bad) < min(good):
            begins[symbol.name] = (min(good), math.inf)
    for count in range(len(begins) + 1):
        for some in itertools.combinations(begins.items(), count):
            if not any(_applies(case, network, fixed | dict(some)) for case in refused):
                return fixed | dict(some)
    return fixed


def _report(
    artifact: Artifact,
    network: Network,
    backend: str,
    device: str,
    trial: Trial,
    results: list[tuple[Case, Arrays | None]],
    failures: Mapping[str, str],
    taken: Mapping[str, Range],
    facts: Mapping[str, Any],
) -> Report:
    measurements: list[Measurement] = []
    differences: dict[str, dict[str, float]] = {}
    compared = [(case, arrays) for case, arrays in results if arrays is not None and case.name not in trial.raising]
    for spec in network.outputs:
        found, differences[spec.name] = measure_output(spec, trial, compared)
        measurements += found
    findings = [
        *_dimension_findings(network, taken),
        *_run_findings(results, failures, trial),
        *_form_findings(network, compared),
        *_accept_findings(trial, measurements),
        *_output_findings(network, trial),
        *_package_findings(artifact, facts),
    ]
    ran = {case.name for case, _ in compared}
    counts = {
        "inside": len(ran),
        "outside": 0,
        "dropped": trial.dropped,
        "sizes": len({tuple(sorted(case.sizes.items())) for case, _ in compared if _unseen(case, network)}),
    }
    return Report(
        network.name,
        artifact,
        backend,
        device,
        tuple(measurements),
        tuple(findings),
        tuple(_shortfalls(network, trial, taken, counts)),
        differences,
        counts,
        dict(facts),
    )


def measure_output(spec: TensorSpec, trial: Trial, compared: Sequence[tuple[Case, Arrays]]) -> tuple[list[Measurement], dict[str, float]]:
    """Measures one output of all cases whose arrays hold `result/{output}`; returns the differences to eager in other units, too."""
    budget = trial.budgets[spec.name]
    accepted = trial.accept[spec.name].limit if spec.name in trial.accept else None
    measurements: list[Measurement] = []
    errors: list[Errors] = []
    worst = [0.0, 0.0]
    for case, arrays in compared:
        eager, result = arrays[f"eager/{spec.name}"], np.asarray(arrays[f"result/{spec.name}"])
        sample = Sample(case.name, eager, arrays.get(f"oracle/{spec.name}", eager), (), arrays.get(f"undetermined/{spec.name}"))
        if f"oracle/{spec.name}" not in arrays and not budget.exact:
            budget = replace(budget, dropped={**budget.dropped, case.name: "no oracle"})
        found, error = evidence.measure(spec.name, budget, sample, result, accepted=accepted)
        measurements += found
        if error is not None:
            errors.append(error)
        if result.shape == eager.shape:
            worst = [max(a, b) for a, b in zip(worst, evidence.difference(result, eager), strict=True)]
    measurements += evidence.measure_all(spec.name, errors, accepted=accepted)
    times = {m.metric: m.value for m in measurements if m.metric.endswith("/ eager's")}
    largest = max((m.value for m in measurements if m.metric == "largest error / eager's"), default=0.0)
    return measurements, {
        "max_abs": worst[0],
        "max_rel": worst[1],
        "times_eager_rms": times.get("rms error / eager's", 0.0),
        "times_eager_max": largest,
        "limit_rms": accepted or evidence.RMS_FACTOR,
        "limit_max": accepted or evidence.MAX_FACTOR,
    }


def _unseen(case: Case, network: Network) -> bool:
    return any(case.sizes.get(symbol.name, symbol.size) != symbol.size for symbol in network.symbols)


def _dimension_findings(network: Network, taken: Mapping[str, Range]) -> Iterable[Finding]:
    for symbol in network.symbols:
        if symbol.name not in taken:
            continue
        places = ", ".join(f"{name} axis {axis}" for name, axis, _ in symbol.places)
        low, high = taken[symbol.name]
        if high < math.inf and low < high:
            text = f"dimension {symbol.name} ({places}) goes on in eager, this artifact takes up to {high:g}"
            yield Finding("error" if symbol.high else "warning" if symbol.declared else "note", "dimension-narrowed", text)
        elif low < high:
            text = f"dimension {symbol.name} ({places}) may be {symbol.low} in eager, this artifact takes {low} or more"
            yield Finding("warning" if symbol.declared else "note", "dimension-narrowed", text)
        elif symbol.declared:
            text = f"dimension {symbol.name} ({places}) was asked to vary, the artifact fixes it at {low}"
            yield Finding("error", "dimension-lost", text)
        else:
            text = f"dimension {symbol.name} ({places}) varies in eager, this artifact takes {low} only"
            yield Finding("note", "dimension-fixed", text)


def _tie_findings(cases: Sequence[str]) -> Iterable[Finding]:
    if cases:
        shown = f"{', '.join(cases[:2])}{f' and {len(cases) - 2} more' if len(cases) > 2 else ''}"  # noqa: PLR2004 - two examples are enough to read
        text = f"on {shown} equal values are taken in their order, where torch's topk or sort, which leave it open, take another"
        yield Finding("warning", "ties", text)


def _package_findings(artifact: Artifact, facts: Mapping[str, Any]) -> Iterable[Finding]:
    for name in facts.get("packages", ()):
        yield Finding("note", "needs-package", f"{artifact.files[0]} uses operators of {name}: it loads after `import {name}`")


def _run_findings(results: list[tuple[Case, Arrays | None]], failures: Mapping[str, str], trial: Trial) -> Iterable[Finding]:
    told: dict[str, list[str]] = {}
    for case, arrays in results:
        if case.name in trial.raising and arrays is not None:
            text = f"answers on {case.name}, where {trial.raising[case.name]}"
            yield Finding("error", "answers-where-eager-raises", text)
        elif case.name not in trial.raising and arrays is None:
            sizes = ", ".join(f"{name}={size}" for name, size in case.sizes.items())
            told.setdefault(failures[case.name], []).append(f"{case.name} ({sizes})" if sizes else case.name)
    for text, cases in told.items():
        more = f" and {len(cases) - 2} more" if len(cases) > 2 else ""  # noqa: PLR2004 - two examples are enough to read
        yield Finding("error", "does-not-run", f"does not run on {', '.join(cases[:2])}{more}: {text}")


def _form_findings(network: Network, compared: Sequence[tuple[Case, Arrays]]) -> Iterable[Finding]:
    """Names the outputs of another shape or element type, once each."""
    for spec in network.outputs:
        forms = ((case.name, arrays[f"eager/{spec.name}"], np.asarray(arrays[f"result/{spec.name}"])) for case, arrays in compared)
        wrong = next(((case, want, got) for case, want, got in forms if want.shape != got.shape or want.dtype != got.dtype), None)
        if wrong:
            case, want, got = wrong
            text = f"{spec.name} is {_form(got)} on {case}, eager gives {_form(want)}"
            yield Finding("error", "another-form", text)


def _form(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _accept_findings(trial: Trial, measurements: Sequence[Measurement]) -> Iterable[Finding]:
    """Shows where the user's own limit holds, and warns once it is not needed any more."""
    usual = {"rms error / eager's": evidence.RMS_FACTOR, "largest error / eager's": evidence.MAX_FACTOR}
    for name, accept in trial.accept.items():
        text = f"output {name} may differ by up to {accept.limit:g}x eager's own error: {accept.reason}"
        if any(one.output == name and one.value > usual.get(one.metric, np.inf) for one in measurements):
            yield Finding("note", "accepted", text)
        else:
            yield Finding("warning", "accepted", f"{text} (it does not need to: take it out of accept)")


def _output_findings(network: Network, trial: Trial) -> Iterable[Finding]:
    for spec in network.outputs:
        budget = trial.budgets[spec.name]
        if budget.all_nan:
            yield Finding("error", "all-nan", f"output {spec.name} is NaN everywhere, on every case: nothing can be proven")
        elif budget.constant and network.inputs:
            yield Finding("warning", "constant-output", f"output {spec.name} does not depend on the input: it is the same on every case")


def _shortfalls(network: Network, trial: Trial, taken: Mapping[str, Range], counts: Mapping[str, int]) -> Iterable[str]:
    needed = FEWEST_CASES if network.inputs else 1
    for spec in network.outputs:
        yield from trial.budgets[spec.name].shortfalls(spec.name, needed)
    if counts["inside"] < needed:
        yield f"verified on {counts['inside']} case(s) only, {needed} are needed"
    if any(symbol.name not in taken for symbol in network.symbols) and not counts["sizes"]:
        yield "verified at the example's sizes only, although sizes vary"


def _strays(session: Session, network: Network, names: list[str], arrays: Arrays, raised: str | None) -> str:
    """Says how an artifact's answer outside the domain differs from eager's; empty where it does not."""
    try:
        outputs = session({spec.name: arrays[f"input/{spec.name}"] for spec in network.inputs})
    except Exception as error:  # noqa: BLE001 - refusing an input outside the domain is a fair answer
        return "" if raised else f"refuses ({str(error).strip().splitlines()[0][:120]}) where eager answers"
    if raised:
        return f"answers where {raised}"
    for name, output in zip(names, outputs, strict=True):
        eager, result = arrays[f"eager/{name}"], np.asarray(output)
        if result.shape != eager.shape:
            return f"{name} has shape {result.shape}, eager {eager.shape}"
        a, b = evidence.widen(result), evidence.widen(eager)
        odd = ~np.isfinite(a) | ~np.isfinite(b)
        if (odd & ~((a == b) | (np.isnan(a) & np.isnan(b)))).any():
            return f"{name} has NaN or infinity at other places than eager"
        scale = float(np.abs(b[~odd]).max()) if (~odd).any() else 0.0
        if (~odd).any() and float(np.abs(a - b)[~odd].max()) > 1e-3 * scale:
            return f"{name} differs from eager"
    return ""
