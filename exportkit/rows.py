"""Whether the rows of a batch touch each other: what a server must know before it puts the requests of several clients into one run.

The cases are proven already, each with eager's answer to its own rows. Here the rows of several cases are shuffled into one batch: where
each case's rows then come out within the same limits, and a row of NaN leaves the others as they were, no row hangs on its company,
its place, or the size of its batch. A mean, a sort or a running sum over the batch shows, and so does padding to the longest row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exportkit import judge
from exportkit.judge import Arrays
from exportkit.messages import Trial
from exportkit.spec import Artifact, Case, Network, Runtime, Session, Symbol
from exportkit.worker import report

_FEWEST = 2  # cases that can be mixed: one holds no strangers
_ENOUGH = 64  # rows in one batch: more cases are left alone


def shown(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, trial: Trial) -> str:
    """Returns the name of the symbol along whose axis 0 of all inputs and outputs rows are apart; "" where that is not shown."""
    leading = [symbol.name for symbol in network.symbols if _leads(symbol, artifact, network)]
    return leading[0] if leading and not mixed(folder, artifact, network, runtime, trial, leading[0]) else ""


def disproved(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, data: Mapping[str, Any]) -> str:
    """Says how the golden cases of a published folder contradict its manifest's `rows`; "" where they do not. `data` is its "evidence"."""
    trial = judge.golden_trial(folder, data)
    if not any(symbol.name == artifact.rows and _leads(symbol, artifact, network) for symbol in network.symbols):
        return f"{artifact.rows} is not the first axis of every input and output"
    if len(_together(artifact, network, trial, artifact.rows)) < _FEWEST:
        return ""
    return mixed(folder, artifact, network, runtime, trial, artifact.rows)


def mixed(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, trial: Trial, symbol: str) -> str:
    """Says how rows of one batch touch each other; "" where they do not.

    Args:
        symbol: the dimension that is axis 0 of every input and output.
    """
    cases = _together(artifact, network, trial, symbol)
    if len(cases) < _FEWEST:
        return "no two cases have equal sizes beside their rows"
    report(f"mixing the rows of {len(cases)} cases")
    session = judge.load(folder, artifact, network, "onnxruntime", runtime)
    try:
        return _mixed(session, network, trial, [(case, judge.read(trial.arrays, case.name)) for case in cases])
    except Exception as error:  # noqa: BLE001 - every runtime has its own errors; such a batch is not for a server
        return f"a batch of several cases does not run: {error}"


def _mixed(session: Session, network: Network, trial: Trial, cases: Sequence[tuple[Case, Arrays]]) -> str:
    names = [spec.name for spec in network.inputs]
    counts = [len(arrays[f"input/{names[0]}"]) for _, arrays in cases]
    order = np.random.default_rng(0).permutation(sum(counts))
    batch = {name: np.concatenate([arrays[f"input/{name}"] for _, arrays in cases])[order] for name in names}
    outputs = [np.asarray(output) for output in session(batch)]
    back, ends = np.argsort(order), np.cumsum(counts)[:-1]
    for spec, output in zip(network.outputs, outputs, strict=True):
        if output.ndim == 0 or len(output) != len(order):
            return f"{spec.name} has shape {output.shape} for {len(order)} rows"
        parts = np.split(output[back], ends)
        together = [(case, {**arrays, f"result/{spec.name}": part}) for (case, arrays), part in zip(cases, parts, strict=True)]
        if far := [one for one in judge.measure_output(spec, trial, together)[0] if not one.passed]:
            return f"{spec.name} of {far[0].case} is another one among other rows: {far[0].metric} is {far[0].value:.3g}"
    return _spreads(session, network, batch, outputs)


def _spreads(session: Session, network: Network, batch: Arrays, outputs: Sequence[Any]) -> str:
    """Says which output shows a NaN of one row in others."""
    floats = [name for name, value in batch.items() if value.dtype.kind == "f"]
    if not floats:
        return ""
    spoilt = {name: value.copy() for name, value in batch.items()}
    for name in floats:
        spoilt[name][0] = np.nan
    for spec, output, again in zip(network.outputs, outputs, session(spoilt), strict=True):
        if not np.array_equal(output[1:], np.asarray(again)[1:], equal_nan=output.dtype.kind == "f"):
            return f"a NaN in one row changes others of {spec.name}"
    return ""


def _leads(symbol: Symbol, artifact: Artifact, network: Network) -> bool:
    """Says whether a symbol is axis 0 of all that goes in and out, is nowhere else, and takes any size."""
    stated = artifact.inputs + artifact.outputs
    return (
        bool(network.inputs)
        and {(name, axis, offset) for name, axis, offset in symbol.places} == {(spec.name, 0, 0) for spec in network.inputs}
        and all(spec.shape[:1] == (symbol.name,) and symbol.name not in spec.shape[1:] for spec in stated)
        and symbol.high is None
        and symbol.step == 1
        and symbol.name not in artifact.facts.get("reach", {})
    )


def _together(artifact: Artifact, network: Network, trial: Trial, rows: str) -> list[Case]:
    """Lists cases whose sizes are equal but for their rows, the largest such group, up to so many rows in all."""
    groups: dict[tuple[int, ...], list[Case]] = {}
    for case in judge.inside_cases(artifact, network, trial):
        if case.name not in trial.raising:
            sizes = tuple(case.sizes.get(symbol.name, symbol.size) for symbol in network.symbols if symbol.name != rows)
            groups.setdefault(sizes, []).append(case)
    size = next(symbol.size for symbol in network.symbols if symbol.name == rows)
    taken: list[Case] = []
    total = 0
    for case in max(groups.values(), key=len, default=[]):
        total += case.sizes.get(rows, size)
        if len(taken) < _FEWEST or total <= _ENOUGH:
            taken.append(case)
    return taken
