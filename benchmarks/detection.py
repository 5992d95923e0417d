"""How many faults does the gate catch? Seeds faults into good artifacts, and counts.

    python benchmarks/detection.py [--quick] [--each 6] [--jobs 2] [--json FILE] [NETWORK ...]

Every network of benchmarks/networks is exported and proven once, by the steps of `exportkit export`. Then mutations.py seeds faults into
the artifact, and the gate judges each mutant on the cases that it would judge any artifact on. Of the mutants are set aside, and counted:
- loud: the runtime does not load it, or not run it on the example. Nobody ships that.
- below rounding: on 200 inputs that the network's own `draw` gives (the gate never sees them), at other sizes too, mutant and artifact on
  the same runtime never differ by more than eager's own error on those inputs.
Beside the gate stand three rules in use, on the same mutants: that of `torch.onnx.export(verify=True)` on the example, `numpy.allclose`
with rtol=1e-3 and atol=1e-5, and Polygraphy's default (1e-5, 1e-5), both on the example and on four draws of its sizes.
A mutant that takes fewer sizes than the artifact, and of which the gate says so, counts as caught: that is a warning, and fails with
`--strict`. Their number is told. Faults of a single element of a weight are told apart. Figures repeat bit for bit on one machine: seeds
draw everything.
"""

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gate
import mutations
import numpy as np
import onnx
import torch

from exportkit import evidence, float64, sample
from exportkit.errors import ExportKitError
from exportkit.evidence import Sample
from exportkit.results import flatten, to_numpy
from exportkit.spec import Case

RULES = ("gate", "torch verify", "allclose", "polygraphy")
DRAWS = 200
QUICK = ("image_classifier", "text_encoder", "sequence_lstm", "graph_attention", "table_boxes", "dynamic_crf")
LIMIT = evidence.MAX_FACTOR


@dataclass(frozen=True, slots=True)
class Row:
    """One mutant.

    Attributes:
        aside: "", "loud" or "below rounding".
        caught: the rules that catch it.
        why: the gate's words; of a survivor, what the 200 inputs show.
    """

    network: str
    form: str
    kind: str
    name: str
    aside: str
    caught: tuple[str, ...]
    why: str
    warned: bool = False


def examine(file: str, each: int, quick: bool) -> list[Row]:
    """Exports one network, and judges its mutants."""
    _quiet()
    torch.set_num_threads(1)
    name = Path(file).stem
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        live = gate.hold(file)
        network, evidence = gate.gather(live, work / "cases")
        yard = _Yardstick(live, runpy.run_path(file)["draw"])
        for form in ("onnx",) if quick else ("onnx", "torchscript"):
            proof = gate.prove(live, network, evidence, work / form, form)
            if not proof.made.outcome.startswith("passed"):
                rows.append(
                    Row(name, form, "", "the good artifact", "not proven", (), proof.made.refused or gate.why(proof.made.reports[0]))
                )
                continue
            if form == "onnx":
                sizes = {symbol.name: symbol.size for symbol in network.symbols}
                model = onnx.load(proof.file)
                bench = _Bench(proof, yard, _without_fault(model, proof.file.with_name("good.onnx")))
                for mutant in mutations.mutants(model, 0, each, sizes):
                    target = proof.file.with_name("mutant.onnx")
                    onnx.save(mutant.model, target)
                    rows.append(bench.judge(name, form, mutant.kind, mutant.name, target))
            else:
                bench = _Bench(proof, yard, proof.file)
                for kind, text, module in mutations.scripted_mutants(str(proof.file), 0, each):
                    target = proof.file.with_name("mutant.pt")
                    torch.jit.save(module, target)
                    rows.append(bench.judge(name, form, kind, text, target))
    return rows


def _without_fault(model: Any, file: Path) -> Path:
    """Writes the model as mutants are written: a runtime that knows the shapes inside fuses other nodes, and rounds otherwise."""
    plain = mutations.prepared(model)
    del plain.graph.value_info[:]
    onnx.save(plain, file)
    return file


def _arrays(result: Any) -> dict[str, Any]:
    return {name: to_numpy(value) for name, value in flatten(result, frozenset())[1].items()}


def _eager(live: Any, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    with torch.no_grad():
        return _arrays(live.call(inputs))


class _Yardstick:
    """Eager and the oracle on inputs that the gate never sees: what an artifact may differ by, by measurement."""

    def __init__(self, live: Any, draw: Callable[[Any], Any]) -> None:
        self.inputs, self.oracles = [], []
        samples: dict[str, list[Sample]] = collections.defaultdict(list)
        names = [spec.name for spec in live.network.inputs]
        for number in range(DRAWS):
            inputs = dict(zip(names, draw(np.random.default_rng([7, number])), strict=True))
            eager = _eager(live, inputs)
            oracle = _arrays(float64.compute(lambda inputs=inputs: live.call(inputs)).value)
            self.inputs.append({name: to_numpy(value) for name, value in inputs.items()})
            self.oracles.append(oracle)
            for name, value in eager.items():
                samples[name].append(Sample(str(number), value, oracle[name], ()))
        self.budgets = {name: evidence.weigh(found, str(found[0].eager.dtype)) for name, found in samples.items()}

    def gap(self, number: int, name: str, good: Any, other: Any) -> float:
        """Returns how far two results of one input lie apart, in units of eager's largest error."""
        budget, oracle = self.budgets[name], self.oracles[number][name]
        if good.shape != other.shape or good.dtype != other.dtype:
            return np.inf
        if budget.exact:
            return np.inf if (good != other).any() else 0.0
        a, b = evidence.widen(good), evidence.widen(other)
        if ((np.isnan(a) != np.isnan(b)) | (np.isinf(a) != np.isinf(b))).any():
            return np.inf
        with np.errstate(invalid="ignore"):
            moved = np.asarray(oracle, np.float64) + np.where(a == b, 0.0, b - a)
        still = np.asarray(oracle, np.float64)
        found, _ = evidence.measure(name, budget, Sample(str(number), still, still, ()), moved)
        return max((one.value for one in found if one.metric.startswith("largest")), default=0.0)


class _Bench:
    """One good artifact, and what it gives on the inputs of both generators."""

    def __init__(self, proof: Any, yard: _Yardstick, good: Path) -> None:
        self.proof, self.yard = proof, yard
        opened = gate.session(proof, good)
        self.narrowed = gate.narrowed(gate.judge_file(proof, good))
        self.good = [gate.run(opened, proof.network, inputs) for inputs in yard.inputs]
        sizes = {symbol.name: symbol.size for symbol in proof.network.symbols}
        cases = [Case(f"plain-{seed}", sizes, "like" if seed else "example", "inside", 5_000 + seed) for seed in range(5)]
        drawn = [sample.draw(proof.live, proof.network.symbols, case) for case in cases]
        self.plain = [(gate.as_arrays(inputs), _eager(proof.live, inputs)) for inputs in drawn]

    def judge(self, network: str, form: str, kind: str, name: str, file: Path) -> Row:
        try:
            opened = gate.session(self.proof, file)
        except ExportKitError as error:
            return Row(network, form, kind, name, "loud", (), error.what)
        answers = [gate.run(opened, self.proof.network, inputs) for inputs, _ in self.plain]
        if answers[0] is None:
            return Row(network, form, kind, name, "loud", (), "does not run on the example")
        report = gate.judge_file(self.proof, file)
        caught = [rule for rule, found in zip(RULES[1:], self._rules(answers), strict=True) if found]
        warned = report.outcome.startswith("passed") and bool(gate.narrowed(report) - self.narrowed)
        if warned or not report.outcome.startswith("passed"):
            caught.insert(0, "gate")
        gaps = self._gaps(opened, first_only="gate" in caught)
        aside = "" if any(gap > 1 for gap in gaps) else "below rounding"
        why = gate.why(report) if "gate" in caught else _excuse(gaps)
        return Row(network, form, kind, name, aside, tuple(caught), why, warned)

    def _gaps(self, opened: Any, *, first_only: bool) -> list[float]:
        """Measures mutant against artifact on the 200 inputs; with `first_only` until one differs."""
        gaps: list[float] = []
        names = [spec.name for spec in self.proof.network.outputs]
        for number, inputs in enumerate(self.yard.inputs):
            good = self.good[number]
            if good is None:
                continue
            other = gate.run(opened, self.proof.network, inputs)
            gap = np.inf if other is None else max(self.yard.gap(number, n, g, o) for n, g, o in zip(names, good, other, strict=True))
            gaps.append(float(gap))
            if first_only and gap > 1:
                break
        return gaps

    def _rules(self, answers: Sequence[list[Any] | None]) -> tuple[bool, bool, bool]:
        """Says what the rules in use find: True where one is broken."""
        pairs = []
        for number, ((_, eager), answer) in enumerate(zip(self.plain, answers, strict=True)):
            for place, spec in enumerate(self.proof.network.outputs):
                pairs.append((number, eager[spec.name], None if answer is None else np.asarray(answer[place])))
        verify = any(_breaks(eager, result, _verify) for number, eager, result in pairs if number == 0)
        return verify, any(_breaks(e, r, _allclose) for _, e, r in pairs), any(_breaks(e, r, _polygraphy) for _, e, r in pairs)


def _excuse(gaps: Sequence[float]) -> str:
    """Says what the 200 inputs show of a mutant that the gate passes."""
    if max(gaps) <= LIMIT:
        return f"within the limits: off by at most {max(gaps):.3g}x eager's largest error (the limit is {LIMIT:g}x)"
    over = sum(gap > LIMIT for gap in gaps)
    return f"rare: beyond the limit on {over} of {DRAWS} inputs, and on none of the gate's cases"


def _breaks(eager: Any, result: Any, rule: Callable[[Any, Any], bool]) -> bool:
    if result is None or result.shape != eager.shape:
        return True
    return bool(eager.size) and not rule(np.asarray(result, np.float64), np.asarray(eager, np.float64))


def _verify(result: Any, eager: Any) -> bool:
    """torch 2.13, torch/onnx/_internal/exporter/_core.py, step 6, and _verification.py: |d| < 5e-3 and |d| / |expected| < 0.1."""
    gap = np.abs(result - eager)
    relative = gap / np.clip(np.abs(eager), 1e-7, None)
    return bool(gap.max() < 5e-3 and relative.max() < 1e-1)  # noqa: PLR2004 - its numbers


def _allclose(result: Any, eager: Any) -> bool:
    return bool(np.allclose(result, eager, rtol=1e-3, atol=1e-5, equal_nan=True))


def _polygraphy(result: Any, eager: Any) -> bool:
    """Polygraphy's default, elementwise: an element is wrong where both its absolute and its relative difference exceed 1e-5."""
    gap = np.abs(result - eager)
    wrong = (gap > 1e-5) & (gap > 1e-5 * np.abs(eager))  # noqa: PLR2004 - its numbers
    return not (wrong | (np.isnan(result) != np.isnan(eager))).any()


def _quiet() -> None:
    """Silences what torch and onnxruntime print about mutants."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table's lines: rates per kind of fault, whole weights and single elements apart, then the survivors."""
    good = [row for row in rows if row.aside != "not proven"]
    yield f"{len(good)} mutants of {len({row.network for row in good})} networks"
    for row in rows:
        if row.aside == "not proven":
            yield f"no mutants: {row.network} as {row.form} is not proven: {row.why}"
    yield ""
    yield f"{'fault':38} {'mutants':>7} {'loud':>5} {'below':>6} {'judged':>6} " + " ".join(f"{rule:>13}" for rule in RULES)
    for form in ("onnx", "torchscript"):
        whole = [row for row in good if row.form == form and not row.kind.startswith("element")]
        single = [row for row in good if row.form == form and row.kind.startswith("element")]
        for part, title in ((whole, f"{form}: all but single elements"), (single, f"{form}: single elements")):
            for kind in sorted({row.kind for row in part}):
                yield _line(kind, [row for row in part if row.kind == kind])
            if part:
                yield _line(title, part)
    yield f"caught though below rounding: {sum(row.aside == 'below rounding' and 'gate' in row.caught for row in good)}"
    yield f"caught by a warning alone, as it takes fewer sizes: {sum(row.warned and not row.aside for row in good)}"
    yield ""
    for row in good:
        if not row.aside and "gate" not in row.caught:
            yield f"survives: {row.network}.{row.form}: {row.name}: {row.why}"


def _line(title: str, rows: Sequence[Row]) -> str:
    judged = [row for row in rows if not row.aside]
    count = collections.Counter(row.aside for row in rows)
    rates = " ".join(f"{sum(rule in row.caught for row in judged) / max(len(judged), 1):13.1%}" for rule in RULES)
    return f"{title:38} {len(rows):7} {count['loud']:5} {count['below rounding']:6} {len(judged):6} {rates}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[str(Path(__file__).parent / "networks")], help="files or folders")
    parser.add_argument("--quick", action="store_true", help="six networks, two faults of a kind, ONNX alone: about a minute")
    parser.add_argument("--each", type=int, default=6, help="faults of a kind and network")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    files = [file for file in gate.networks(args.networks) if not args.quick or Path(file).stem in QUICK]
    each = 2 if args.quick else args.each
    started = time.monotonic()
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        tasks = {pool.submit(examine, file, each, args.quick): file for file in files}
        for done, task in enumerate(concurrent.futures.as_completed(tasks), 1):
            rows += task.result()
            print(f"[{time.monotonic() - started:5.0f} s] {done} of {len(files)}: {Path(tasks[task]).stem}", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: (row.network, row.form))
    for line in table(rows):
        print(line)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
