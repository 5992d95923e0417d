"""What eager PyTorch computes, and how far off it is itself. Runs in forks of the holder."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from exportkit import calling, decisions, evidence, float64, gaps, golden, repeats, runs, sample, state, ties
from exportkit.decisions import Decisions
from exportkit.dimensions import find_symbols
from exportkit.errors import LoadError, RunError
from exportkit.evidence import Sample
from exportkit.load import Live
from exportkit.messages import Evidence, Survey, Trial
from exportkit.results import flatten, to_numpy
from exportkit.runs import Arrays
from exportkit.spec import Accept, Case, Finding, Symbol, TensorSpec
from exportkit.worker import line_of, report

_HALF_ULP_RUNS = 4
_TWO_ULP_RUNS = 8
_REDRAWS, _RESAMPLED = 3, 2  # the last draws take the example's own values: eager may refuse what lies between them
_SECONDS = 60.0  # what all eager and oracle runs together may cost, by an estimate that does not depend on the clock
_FEWEST_DRAWN = 5
_FLIP = 10  # times all evidence, or squared times another run: such a run has not been rounded otherwise, it has chosen otherwise
_ANOTHER_FORM = "returns outputs of another number, rank or type than for the example"


def survey(live: Live) -> Survey:
    """Runs forward on the example twice, refuses what is random or stateful, and finds the dimensions that vary.

    Raises:
        ExportError: two runs differ, and the text names the cause: randomness, state, mutation or layout.
    """
    report("running forward")
    torch.set_num_threads(1)
    tree, first, findings = repeats.run_twice(live)
    seconds = runs.estimate(live)
    report("finding the dimensions that vary")
    found = find_symbols(live, seconds)
    outputs = tuple(TensorSpec(name, str(value.dtype), value.shape) for name, value in first.items())
    cases = _affordable(sample.plan(replace(live.network, symbols=found.symbols), len(live.check_inputs)), seconds)
    return Survey(found.symbols, cases, tree, outputs, _digest(first), seconds, (*findings, *found.findings))


def build(live: Live, symbols: tuple[Symbol, ...], cases: tuple[Case, ...], folder: Path, device: str = "cpu") -> Evidence:
    """Runs every case in eager, in float64 and perturbed, and writes the arrays.

    Nothing is weighed or compared here, where the user's code may have replaced whatever numpy compares with.

    Args:
        device: where eager and its oracle run, "cpu" or "cuda".

    Raises:
        RunError: eager does not run on the device: no GPU for this process, no memory on it, tensors that stay on the CPU, ...
    """
    torch.set_num_threads(1)
    live.narrow, live.orders = _computes_in_16_bits(live), _orders_values(live)
    with state.preserved(live.module):  # what it keeps on the CPU for later calls is of no use elsewhere
        _, example = runs.outputs(live, live.example, seed=3)
    outcomes: dict[str, _Ran | _Refused] = {}
    # An index out of range ends all that a process does on CUDA: what may hold one runs on the CPU.
    for place, domain in ((device, "inside"), ("cpu", "outside")):
        with _running_on(live, place):
            for case in [one for one in cases if one.domain == domain]:
                report(f"computing references, case {len(outcomes) + 1} of {len(cases)}")
                outcomes[case.name] = _run_case(live, symbols, case, example)
    return replace(_evidence(live, symbols, [(case, outcomes[case.name]) for case in cases], folder, example), device=device)


@contextlib.contextmanager
def _running_on(live: Live, device: str) -> Iterator[None]:
    """Moves the network to a device, makes sure that eager runs there, and leaves it as it was."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(state.preserved(live.module))
        if device != "cpu":
            calling.allow_tf32(on=False)
            try:
                stack.enter_context(live.moved(device))
                with state.preserved(live.module):
                    runs.outputs(live, live.example, seed=3)
            except Exception as error:
                why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                raise RunError(why, where=line_of(error)) from error
            live.narrow = live.narrow or _computes_in_16_bits(live)  # autocast may be CUDA's alone
        yield


def _evidence(
    live: Live, symbols: tuple[Symbol, ...], outcomes: "Sequence[tuple[Case, _Ran | _Refused]]", folder: Path, example: Arrays
) -> Evidence:
    """Writes the arrays of all cases, and says what they prove."""
    kept: list[Case] = []
    dropped: dict[str, str] = {}
    raising: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {name: [] for name in example}
    substitutes: dict[str, None] = {}
    decided: list[Decisions] = []
    for case, outcome in outcomes:
        if isinstance(outcome, _Refused):
            (raising if outcome.raises and not case.drawn else dropped)[case.name] = outcome.reason
            if not outcome.raises or case.drawn:
                continue
            ran = _Ran(case, {f"input/{name}": to_numpy(value) for name, value in outcome.inputs.items()}, {})
        else:
            ran = outcome
        golden.write(folder / f"{case.name}.safetensors", {f"{case.name}/{key}": value for key, value in ran.arrays.items()})
        kept.append(ran.case)
        decided += [ran.decisions] if case.domain == "inside" else []
        substitutes |= dict.fromkeys([ran.substitute] if ran.substitute else [])
        for name, one in ran.samples.items():
            samples[name].append(one)
    weighed = tuple(case.name for case in kept if any(one.case == case.name for one in next(iter(samples.values()))))
    trial = Trial(folder, tuple(kept), {}, raising, len(dropped), _accepted(live, list(example)))
    findings = (
        *(Finding("warning", "no-oracle", text) for text in substitutes),
        *_unmoved(live, folder, kept),
        *(
            Finding("warning", "another-form", f"at {told} eager {_ANOTHER_FORM}")
            for told in _sizes_of([case for case, _ in outcomes], dropped)
        ),
        *(
            Finding(
                "note", "check-raises", f"{case.name} of check_inputs proves only that an artifact refuses it, too: {raising[case.name]}"
            )
            for case in kept
            if case.kind == "check" and case.name in raising
        ),
    )
    return Evidence(
        trial,
        dropped,
        weighed,
        _signature(example, kept, samples, symbols),
        _digest(example),
        narrow=live.narrow,
        ways=decisions.ways(decided),
        one_sided=decisions.one_sided(decided),
        findings=findings,
    )


def _unmoved(live: Live, folder: Path, cases: Sequence[Case]) -> Iterator[Finding]:
    """Names the integer and boolean inputs that held one value in all cases: what another value does was never seen."""
    inside = [golden.Reader(folder / f"{case.name}.safetensors") for case in cases if case.domain == "inside"]
    files = dict(zip((case.name for case in cases if case.domain == "inside"), inside, strict=True))
    for spec in live.network.inputs:
        if evidence.is_exact(spec.dtype) and live.example[spec.name].numel():
            seen = {value for case, reader in files.items() for value in reader.read(f"{case}/input/{spec.name}").ravel().tolist()}
            if len(seen) == 1:
                text = f"input {spec.name} was {seen.pop()} in all cases; check_inputs with other values would prove more"
                yield Finding("note", "one-value", text)


def _sizes_of(cases: Sequence[Case], dropped: Mapping[str, str]) -> dict[str, None]:
    """Words the sizes at which eager's outputs have another form, each once."""
    odd = [case for case in cases if _ANOTHER_FORM in dropped.get(case.name, "")]
    return dict.fromkeys(", ".join(f"{name}={size}" for name, size in case.sizes.items()) for case in odd)


def _computes_in_16_bits(live: Live) -> bool:
    class Watch(TorchDispatchMode):
        found = False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            self.found |= isinstance(result, torch.Tensor) and result.dtype in (torch.float16, torch.bfloat16)
            return result

    watch = Watch()
    with contextlib.suppress(Exception), torch.no_grad(), state.preserved(live.module), watch:
        live.call(live.example)
    return watch.found


def _orders_values(live: Live) -> bool:
    watch = ties.InOrder()
    with contextlib.suppress(Exception), torch.no_grad(), state.preserved(live.module), watch:
        live.call(live.example)
    return watch.used


def _accepted(live: Live, outputs: list[str]) -> dict[str, Accept]:
    for name, one in live.accept.items():
        if name not in outputs:
            raise LoadError(
                f"accept names {name!r}, which is no output", where=live.network.source.file, todo=f"The outputs are {', '.join(outputs)}."
            )
        if not isinstance(one, Accept) or not 0 < one.limit < np.inf or not one.reason:
            todo = f'Write accept = {{"{name}": exportkit.Accept(limit=20, reason="...")}}.'
            raise LoadError(f"accept[{name!r}] is no Accept with a limit above 0 and a reason", where=live.network.source.file, todo=todo)
    return dict(live.accept)


@dataclass(frozen=True, slots=True)
class _Ran:
    case: Case
    arrays: Arrays
    samples: dict[str, Sample]
    substitute: str = ""
    decisions: Decisions = field(default_factory=Decisions)


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    raises: bool
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)


def _run_case(live: Live, symbols: tuple[Symbol, ...], case: Case, example: Arrays) -> _Ran | _Refused:
    """Runs one case; a drawn one whose discrete choices change under rounding is drawn again."""
    outcome: _Ran | _Refused = _Refused("not drawn", raises=False)
    for attempt in range(_REDRAWS + 1):
        drawn = replace(case, seed=case.seed + 1000 * attempt, kind=case.kind if attempt < _RESAMPLED else "resampled")
        outcome = _try_case(live, symbols, drawn, example)
        if isinstance(outcome, _Ran) or not case.drawn:
            break
    return outcome


def _try_case(live: Live, symbols: tuple[Symbol, ...], case: Case, example: Arrays) -> _Ran | _Refused:
    inputs = sample.draw(live, symbols, case)
    try:
        _, eager = runs.outputs(live, inputs, seed=4)
    except Exception as error:  # noqa: BLE001 - whatever the network raises on an input is its answer
        return _Refused(
            f"eager raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", raises=True, inputs=inputs
        )
    seen = Decisions()
    with decisions.watched(seen):
        repeats.require_repeat(live, case, inputs, eager)
    if [(n, v.dtype, v.ndim) for n, v in eager.items()] != [(n, v.dtype, v.ndim) for n, v in example.items()]:
        return _Refused(f"eager {_ANOTHER_FORM}", raises=False)
    arrays = {f"input/{name}": to_numpy(value) for name, value in inputs.items()}
    arrays |= {f"eager/{name}": value for name, value in eager.items()}
    if case.domain == "outside":
        return _Ran(case, arrays, {})
    if case.drawn and (odd := _newly_odd(eager, example)):
        return _Refused(f"eager's {odd} turns NaN or infinite", raises=False)
    oracle, substitute = _oracle(live, inputs, eager)
    samples = _samples(live, case, inputs, eager, oracle)
    if case.kind != "check" and any(_unstable(one, narrow=live.narrow) for one in samples.values()):
        if case.drawn:
            return _Refused("a discrete choice inside the network changes under rounding", raises=False)
        samples = {}
    arrays |= _as_arrays(samples) | (_in_order(live, inputs, eager) if live.orders else {})
    return _Ran(case, arrays, samples, substitute, seen)


def _as_arrays(samples: Mapping[str, Sample]) -> Arrays:
    arrays: Arrays = {}
    for name, one in samples.items():
        if not evidence.is_exact(str(one.eager.dtype)):
            arrays[f"oracle/{name}"] = one.oracle
        arrays |= {f"perturbed/{name}/{number}": run for number, run in enumerate(one.perturbed)}
        if one.undetermined is not None and one.undetermined.any():
            arrays[f"undetermined/{name}"] = one.undetermined
    return arrays


def _samples(live: Live, case: Case, inputs: Mapping[str, torch.Tensor], eager: Arrays, oracle: Arrays) -> dict[str, Sample]:
    floats = [name for name, value in eager.items() if not evidence.is_exact(str(value.dtype))]
    moved = [runs.perturbed(live, inputs, seed, bit=0) for seed in range(_HALF_ULP_RUNS)] if floats else []
    far = [runs.perturbed(live, inputs, 100 + seed, bit=1) for seed in range(_TWO_ULP_RUNS)] if len(floats) < len(eager) else []
    samples = {}
    for name, value in eager.items():
        if name in floats:
            samples[name] = Sample(case.name, value, oracle[name], tuple(run[name] for run in moved if run is not None))
        else:
            samples[name] = Sample(case.name, value, value, (), _changed(value, [run[name] for run in far if run is not None]))
    return samples


def _oracle(live: Live, inputs: Mapping[str, torch.Tensor], eager: Arrays) -> tuple[Arrays, str]:
    """Computes in float64; where that cannot be, eager itself stands in, and the text says why."""
    try:
        return _in_float64(live, inputs, eager), ""
    except Exception as error:  # noqa: BLE001 - whatever an operator says of an oracle's tensor
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
        return eager, f"no float64 oracle can run this network ({why}): eager stands in, its error that of runs moved by half an ulp"


def _in_float64(live: Live, inputs: Mapping[str, torch.Tensor], eager: Arrays) -> Arrays:
    """Computes in float64; where that is far off, a discrete choice fell otherwise: computes again with eager's own choices."""
    with state.preserved(live.module):
        outcome = float64.compute(lambda: live.call(inputs))
    oracle = _arrays(outcome.value)
    if all(name in oracle and runs.close(oracle[name], value, narrow=live.narrow) for name, value in eager.items()):
        return oracle
    with state.preserved(live.module):
        _, choices = float64.record_choices(lambda: live.call(inputs))
    with state.preserved(live.module):
        outcome = float64.compute(lambda: live.call(inputs), choices)
    replayed = _arrays(outcome.value)
    return {name: replayed[name] if name in replayed and replayed[name].shape == value.shape else value for name, value in eager.items()}


def _in_order(live: Live, inputs: Mapping[str, torch.Tensor], eager: Arrays) -> Arrays:
    """Runs eager, and the oracle with its choices, with equal values taken in their order; nothing where that changes no output."""
    with ties.InOrder():
        _, tied = runs.outputs(live, inputs, seed=4)
    if all(runs.equal(tied[name], value) for name, value in eager.items()):
        return {}
    with ties.InOrder(), state.preserved(live.module):
        _, choices = float64.record_choices(lambda: live.call(inputs))
    oracle: Arrays = {}
    with contextlib.suppress(Exception), state.preserved(live.module):
        oracle = _arrays(float64.compute(lambda: live.call(inputs), choices).value)
    arrays = {f"{gaps.TIED}eager/{name}": value for name, value in tied.items()}
    for name, value in tied.items():
        if not evidence.is_exact(str(value.dtype)):
            true = oracle.get(name, value)
            arrays[f"{gaps.TIED}oracle/{name}"] = true if true.shape == value.shape else value
    return arrays


def _arrays(result: Any) -> Arrays:
    return {name: to_numpy(value) for name, value in flatten(result, frozenset())[1].items()}


def _unstable(one: Sample, *, narrow: bool) -> bool:
    """Says whether some run has chosen otherwise, not only been rounded otherwise.

    Where all runs err alike, the network is ill-conditioned: to draw again would keep the lucky draws, and call them evidence.
    """
    if evidence.is_exact(str(one.eager.dtype)):  # all of it, as where boxes are kept by a threshold, and their number changes
        return one.undetermined is not None and one.undetermined.size > 0 and bool(one.undetermined.all())
    if any(run.shape != one.eager.shape for run in one.perturbed):
        return True
    gaps = [runs.gap(one.oracle, run) for run in one.perturbed]
    errors, size = [error for error, _ in gaps], max((size for _, size in gaps), default=0.0)
    limit = max(evidence.cap(str(one.eager.dtype), narrow=narrow) * size, evidence.least(str(one.eager.dtype)))
    worst = max(errors, default=0.0)
    return worst > limit and worst > min(_FLIP * limit, _FLIP**2 * min(errors))


def _changed(value: NDArray[Any], others: Sequence[NDArray[Any]]) -> NDArray[Any]:
    changed = np.zeros(value.shape, bool)
    for run in others:
        changed |= run != value if run.shape == value.shape else True
    return changed


def _newly_odd(eager: Arrays, example: Arrays) -> str:
    """Names an output that has NaN or infinity where the example's has none."""
    for name, value in eager.items():
        if not evidence.is_exact(str(value.dtype)):
            for odd in (np.isnan, np.isinf):
                if odd(evidence.widen(value)).any() and not odd(evidence.widen(example[name])).any():
                    return name
    return ""


def _digest(arrays: Arrays) -> str:
    seen = hashlib.sha256()
    for name, value in arrays.items():
        seen.update(f"{name}{value.dtype}{value.shape}".encode())
        seen.update(value.tobytes())
    return seen.hexdigest()


def _affordable(cases: tuple[Case, ...], seconds: float) -> tuple[Case, ...]:
    """Leaves out drawn cases where forward is expensive: an eager run, its oracle (about 6 runs) and 4 perturbed ones each."""
    drawn = [case for case in cases if case.drawn]
    room = max(_FEWEST_DRAWN, int(_SECONDS / max(seconds * 11, 1e-9)))
    if room >= len(drawn):
        return cases
    unseen = [case for case in drawn if any(case.sizes != other.sizes for other in cases[:1])]
    same = [case for case in drawn if case not in unseen]
    kept = {case.name for case in [*unseen[: max(room - 2, 3)], *same[: max(2, room - len(unseen))]]}
    return tuple(case for case in cases if not case.drawn or case.name in kept)


def _signature(
    example: Arrays, cases: Sequence[Case], samples: Mapping[str, list[Sample]], symbols: tuple[Symbol, ...]
) -> tuple[TensorSpec, ...]:
    sizes = {case.name: case.sizes for case in cases}
    specs = []
    for name, value in example.items():
        shapes = [(one.eager.shape, sizes[one.case]) for one in samples[name]] or [(value.shape, {})]
        dims = tuple(_dimension(f"{name}_{axis}", [(shape[axis], size) for shape, size in shapes], symbols) for axis in range(value.ndim))
        specs.append(TensorSpec(name, str(value.dtype), dims))
    return tuple(specs)


def _dimension(name: str, seen: Sequence[tuple[int, Mapping[str, int]]], symbols: tuple[Symbol, ...]) -> int | str:
    if len({size for size, _ in seen}) == 1:
        return seen[0][0]
    for symbol in symbols:
        if all(sizes.get(symbol.name, size) == size for size, sizes in seen):  # a check of the user has no sizes
            return symbol.name
    return name
