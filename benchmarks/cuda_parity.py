"""Parity on a GPU: the part of benchmarks/cuda.py that judges."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuda_page import Row
from cuda_steps import export, load

RUNS = 10  # that must give the same bits


def parity(file: Path, dtype: str, device: str) -> list[Row]:
    """Judges the artifacts of one network on a device, and again on the CPU."""
    with tempfile.TemporaryDirectory() as scratch:
        live = load(file, dtype)
        verdict = export(live, Path(scratch), device)
        elsewhere = _outcomes(verdict.folder) if verdict.folder and device != "cpu" else {}
        rows = []
        for made in verdict.made:
            report = made.reports[0] if made.reports else None
            row = {"network": live.network.name, "dtype": dtype, "format": made.format, "outcome": made.outcome, "why": made.refused}
            if report is not None:
                row |= _placed(report.facts) | {
                    "error": max((one["times_eager_rms"] for one in report.differences.values()), default=0.0),
                    "ways": {name: _way(told) for name, told in report.facts.get("ways", {}).items()},
                    "findings": [finding.text for finding in report.findings if finding.severity != "note"],
                }
            if made.artifact and made.good:
                row["strategy"] = made.artifact.strategy
                row["same bits"] = _repeats(verdict, made.artifact, device)
            if elsewhere.get(made.format, made.outcome) != made.outcome:
                row["on the CPU"] = elsewhere[made.format]
            rows.append(row)
        return rows


def _outcomes(folder: Path) -> dict[str, str]:
    import exportkit

    return {made.format: made.outcome for made in exportkit.check(folder).made}


def _placed(facts: Mapping[str, Any]) -> Row:
    from exportkit import placement

    counts = {provider: sum(operators.values()) for provider, operators in facts.get("placement", {}).items()}
    strangers = Counter(one["operator"] for one in facts.get("on_cpu", ()) if one["why"] != placement.CHEAPER)
    loops = sum(one["count"] for one in facts.get("copies_in_loops", ()))
    return {"nodes": counts, "without a kernel": dict(strangers), "copies at each step": loops} if counts else {}


def _way(told: Mapping[str, Any]) -> str | float:
    if "refused" in told:
        return f"refused: {told['refused']}"
    return max((one["times_eager_rms"] for one in told["differences"].values()), default=0.0)


def _repeats(verdict: Any, artifact: Any, device: str) -> bool:
    """Says whether ten runs of an artifact give the same bits."""
    from exportkit import judge, manifest, plugins, store
    from exportkit.spec import Runtime

    data = store.read_manifest(verdict.folder)
    network = manifest.read_network(data["network"])
    backend = next(name for name in plugins.names("backends") if artifact.format in plugins.load("backends", name).formats)
    session = judge.load(verdict.folder, artifact, network, backend, Runtime(device))
    trial = judge.golden_trial(verdict.folder, data["evidence"])
    case = next(one for one in trial.cases if one.domain == "inside" and one.name not in trial.raising)
    arrays = judge.read(trial.arrays, case.name)
    inputs = {spec.name: arrays[f"input/{spec.name}"] for spec in network.inputs}
    first, *others = [[output.tobytes() for output in session(inputs)] for _ in range(RUNS)]
    return all(one == first for one in others)
