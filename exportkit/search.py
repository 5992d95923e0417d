"""Searches for a case on which a proven artifact fails: kinds of values, sizes and seeds, shrunk to the smallest by hypothesis."""

import math
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from exportkit.attempts import Bench
from exportkit.errors import ExportError, RunError
from exportkit.files import write_whole
from exportkit.manifest import Made
from exportkit.plugins import needs
from exportkit.spec import Case, Finding, Network, Symbol

KINDS = ("like", "small", "large", "edges", "ties")  # the simplest first: hypothesis shrinks towards it
_ROUND = 20  # draws between two looks at the clock
_SEEDS = (1_000_000, 2_000_000)  # apart from those of the planned cases
_LONGEST, _MOST_ELEMENTS = 140, 1 << 17


@dataclass(frozen=True, slots=True)
class Search:
    """Where the network and its artifacts run while cases are tried.

    Attributes:
        bench: the planned cases are proven there; the files of tried cases come and go beside theirs.
        seconds: how long to look; shrinking what is found may take as long again.
        parent: the folder that keeps a failing case.
        command: what replays a case, with `--case` behind it.
    """

    bench: Bench
    network: Network
    seconds: float
    parent: Path
    command: str

    def challenge(self, made: Made) -> Made:
        """Searches a proven artifact; where a case fails, so does the artifact, and the case's arrays are kept."""
        failing = self._find(made)
        if failing is None:
            return made
        case, why = failing
        keep = self.parent / f"{self.network.name}.{made.format}.failing.safetensors"
        self._run(made, case, keep)
        sizes = ", ".join(f"{name}={size}" for name, size in case.sizes.items())
        text = f"search: {why}, on values drawn {case.kind!r}{' at ' + sizes if sizes else ''}\n"
        text += f"{keep} holds the case; replay it: {self.command} --case {words(case)}"
        *others, last = made.reports  # of a check against the network now: the one that was made against it
        finding = Finding("error", "found-by-search", text)
        return replace(made, reports=(*others, replace(last, findings=(*last.findings, finding))))

    def _find(self, made: Made) -> tuple[Case, str] | None:
        with needs("--search"):
            from hypothesis import HealthCheck, Verbosity, find, settings
            from hypothesis import strategies as st
            from hypothesis.errors import NoSuchExample
        sizes = {symbol.name: st.integers(*_steps(symbol)).map(partial(operator.mul, symbol.step)) for symbol in self.network.symbols}
        cases = st.builds(_case, st.sampled_from(KINDS), st.fixed_dictionaries(sizes), st.integers(*_SEEDS)).filter(self._affordable)
        rules = settings(
            max_examples=_ROUND, deadline=None, database=None, verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck)
        )
        started, turn = time.monotonic(), 0
        told: dict[str, str] = {}  # hypothesis asks again for what it has seen fail: the answer must stay

        def fails(case: Case) -> bool:
            key = words(case)
            patience = self.seconds * (2 if any(told.values()) else 1)
            if key not in told and time.monotonic() - started < patience:
                self.bench.listen(f"searching {made.format}, {len(told)} cases so far")
                told[key] = self._run(made, case)
            return bool(told.get(key))

        while time.monotonic() - started < self.seconds:
            turn += 1
            try:
                case = find(cases, fails, settings=rules, random=Random(turn))  # noqa: S311 - draws cases, guards nothing
            except NoSuchExample:
                continue
            return case, told[words(case)]
        return None

    def _run(self, made: Made, case: Case, keep: Path | None = None) -> str:
        """Runs one case in eager, in float64 and in the artifact; returns why it fails, "" where it does not or is no evidence."""
        bench, limits, proof = self.bench, self.bench.limits, self.bench.evidence.result()
        folder = bench.work / "cases"
        try:
            build = ("exportkit.reference:build", self.network.symbols, (case,), folder, proof.device)
            ran = bench.holder.run(*build, limits=limits, stage="computing references")
            if case.name not in ran.weighed:
                return ""
            weigh = ("exportkit.judge:weigh", folder, (*proof.weighed, case.name), proof.outputs, proof.narrow)
            budgets = bench.server.run(*weigh, limits=limits, stage="weighing eager's own error")
            trial = replace(proof.trial, cases=ran.trial.cases, budgets=budgets, raising={}, dropped=0)
            network = replace(self.network, outputs=proof.outputs)
            judge = ("exportkit.judge:judge_all", made.folder, made.artifact, network, bench.runtime, trial, False)
            reports = bench.server.run(*judge, limits=limits, stage=f"searching {made.format}")
        except RunError as error:
            return error.what
        finally:
            file = folder / f"{case.name}.safetensors"
            if keep and file.exists():
                write_whole(keep, file.read_bytes())
            file.unlink(missing_ok=True)
        for report in reports:
            for one in report.findings:
                if one.code == "does-not-run":
                    return str(one.text)
            for one in report.measurements:
                if not one.passed:
                    return f"{one.output}: {one.metric} is {one.value:.3g}, the limit is {one.limit:g}"
        return ""

    def _affordable(self, case: Case) -> bool:
        grown = [
            math.prod(size if isinstance(size, int) else case.sizes.get(size, 1) for size in spec.shape) for spec in self.network.inputs
        ]
        return max(grown, default=0) <= _MOST_ELEMENTS


def _case(kind: str, sizes: dict[str, int], seed: int) -> Case:
    return Case("searched", sizes, kind, "inside", seed)


def words(case: Case) -> str:
    """Writes a drawn case as `--case` takes it: "edges:1000017:batch=3,time=1"."""
    return f"{case.kind}:{case.seed}:" + ",".join(f"{name}={size}" for name, size in case.sizes.items())


def read(texts: Sequence[str], symbols: Sequence[Symbol]) -> tuple[Case, ...]:
    """Reads drawn cases back from their words.

    Raises:
        ExportError: the words are not understood, or name a dimension that does not vary.
    """
    cases = []
    for number, text in enumerate(texts):
        kind, _, rest = text.partition(":")
        seed, _, sizes = rest.partition(":")
        given = dict(part.partition("=")[::2] for part in sizes.split(",") if part)
        known = [symbol.name for symbol in symbols]
        if kind not in KINDS or not given.keys() <= {*known} or not all(number.isdecimal() for number in (seed, *given.values())):
            dimensions = f"the dimensions are {', '.join(known)}" if known else "no dimension varies"
            todo = f"Write KIND:SEED:DIMENSION=SIZE,... with a kind of {', '.join(KINDS)}; {dimensions}."
            raise ExportError(f"--case {text!r} is not understood", todo=todo)
        cases.append(Case(f"replayed-{number}", {name: int(size) for name, size in given.items()}, kind, "inside", int(seed)))
    return tuple(cases)


def _steps(symbol: Symbol) -> tuple[int, int]:
    """Returns the smallest and the largest size to try, in steps of the symbol."""
    high: Any = symbol.high if symbol.high is not None else max(_LONGEST, symbol.size)
    low = -(-symbol.low // symbol.step)
    return low, max(low, min(high, max(_LONGEST, symbol.size)) // symbol.step)
