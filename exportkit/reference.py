"""What eager PyTorch computes, how far off it is itself, and whether it computes the same thing twice. Runs in forks of the holder."""

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from exportkit import evidence, float64, golden, perturb, sample, state
from exportkit.dimensions import find_symbols
from exportkit.errors import ExportError, LoadError
from exportkit.evidence import Sample
from exportkit.load import Live
from exportkit.messages import Evidence, Survey, Trial
from exportkit.results import flatten, to_numpy
from exportkit.spec import Accept, Case, Finding, Symbol, TensorSpec, Tree
from exportkit.worker import report

Arrays = dict[str, NDArray[Any]]

_HALF_ULP_RUNS = 4
_TWO_ULP_RUNS = 8
_REDRAWS, _RESAMPLED = 3, 2  # the last draws take the example's own values: eager may refuse what lies between them
_SECONDS = 60.0  # what all eager and oracle runs together may cost, by an estimate that does not depend on the clock
_FEWEST_DRAWN = 5
_FLIP = 10  # times all evidence, or squared times another run: such a run has not been rounded otherwise, it has chosen otherwise
_REPEATS, _SECONDS_REPEATING = 100, 2.0  # how often a network that changes its state is run again
_ANOTHER_FORM = "returns outputs of another number, rank or type than for the example"
_LOOK = "Look for a global that it changes, for numpy's or Python's generator, and for the clock."
_LATER = 10**8  # seconds, about three years


def survey(live: Live) -> Survey:
    """Runs forward on the example twice, refuses what is random or stateful, and finds the dimensions that vary.

    Raises:
        ExportError: two runs differ, and the text names the cause: randomness, state or mutation.
    """
    report("running forward")
    torch.set_num_threads(1)
    before = state.snapshot(live.module)
    tree, first = _outputs(live, live.example, seed=1)
    middle = state.snapshot(live.module)
    with _another_time():
        _, second = _outputs(live, live.example, seed=2)
    after = state.snapshot(live.module)
    changed = sorted({*state.changes(before, middle), *state.changes(middle, after)})
    seconds = _estimate(live)
    if changed:  # what a counter does may show at its tenth call only
        later = (_outputs(live, live.example, seed=2)[1] for _ in range(min(_REPEATS, int(_SECONDS_REPEATING / max(seconds, 1e-3)))))
        second = next((run for run in (second, *later) if _different(first, run)), second)
    findings = [*_judge_repeat(live, first, second, changed), *_input_mutation(live)]
    _refuse_layout(live, first)
    report("finding the dimensions that vary")
    found = find_symbols(live, seconds)
    outputs = tuple(TensorSpec(name, str(value.dtype), value.shape) for name, value in first.items())
    cases = _affordable(sample.plan(replace(live.network, symbols=found.symbols), len(live.check_inputs)), seconds)
    return Survey(found.symbols, cases, tree, outputs, _digest(first), seconds, (*findings, *found.findings))


def build(live: Live, symbols: tuple[Symbol, ...], cases: tuple[Case, ...], folder: Path) -> Evidence:
    """Runs every case in eager, in float64 and perturbed, and writes the arrays.

    Nothing is weighed or compared here, where the user's code may have replaced whatever numpy compares with.
    """
    torch.set_num_threads(1)
    live.narrow = _computes_in_16_bits(live)
    _, example = _outputs(live, live.example, seed=3)
    kept: list[Case] = []
    dropped: dict[str, str] = {}
    raising: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {name: [] for name in example}
    substitutes: dict[str, None] = {}
    for number, case in enumerate(cases):
        report(f"computing references, case {number + 1} of {len(cases)}")
        outcome = _run_case(live, symbols, case, example)
        if isinstance(outcome, _Refused):
            (raising if outcome.raises and not case.drawn else dropped)[case.name] = outcome.reason
            if not outcome.raises or case.drawn:
                continue
            outcome = _Ran(case, {f"input/{name}": to_numpy(value) for name, value in outcome.inputs.items()}, {})
        golden.write(folder / f"{case.name}.safetensors", {f"{case.name}/{key}": value for key, value in outcome.arrays.items()})
        kept.append(outcome.case)
        substitutes |= dict.fromkeys([outcome.substitute] if outcome.substitute else [])
        for name, one in outcome.samples.items():
            samples[name].append(one)
    weighed = tuple(case.name for case in kept if any(one.case == case.name for one in next(iter(samples.values()))))
    trial = Trial(folder, tuple(kept), {}, raising, len(dropped), _accepted(live, list(example)))
    findings = (
        *(Finding("warning", "no-oracle", text) for text in substitutes),
        *_unmoved(live, folder, kept),
        *(Finding("warning", "another-form", f"at {told} eager {_ANOTHER_FORM}") for told in _sizes_of(cases, dropped)),
        *(
            Finding(
                "note", "check-raises", f"{case.name} of check_inputs proves only that an artifact refuses it, too: {raising[case.name]}"
            )
            for case in kept
            if case.kind == "check" and case.name in raising
        ),
    )
    return Evidence(trial, dropped, weighed, _signature(example, kept, samples, symbols), _digest(example), live.narrow, findings)


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
        _, eager = _outputs(live, inputs, seed=4)
    except Exception as error:  # noqa: BLE001 - whatever the network raises on an input is its answer
        return _Refused(
            f"eager raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", raises=True, inputs=inputs
        )
    _require_repeat(live, case, inputs, eager)
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
    for name, one in samples.items():
        if not evidence.is_exact(str(one.eager.dtype)):
            arrays[f"oracle/{name}"] = one.oracle
        arrays |= {f"perturbed/{name}/{number}": run for number, run in enumerate(one.perturbed)}
        if one.undetermined is not None and one.undetermined.any():
            arrays[f"undetermined/{name}"] = one.undetermined
    return _Ran(case, arrays, samples, substitute)


def _require_repeat(live: Live, case: Case, inputs: Mapping[str, torch.Tensor], eager: Arrays) -> None:
    """Refuses a network that is random only now and then: two runs of the example may have been alike by chance."""
    try:
        _, again = _outputs(live, inputs, seed=5)
        different = [name for name, value in eager.items() if not _repeats(value, again.get(name), narrow=live.narrow)]
    except Exception as error:  # noqa: BLE001 - whatever the network raises the second time
        different = [f"that the second raises {type(error).__name__}"]
    if different:
        raise ExportError(
            f"forward is random or keeps state: two runs on the inputs of case {case.name} differ in {different[0]}",
            where=live.network.source.file,
            todo=_LOOK,
        )


def _repeats(value: NDArray[Any], again: NDArray[Any] | None, *, narrow: bool) -> bool:
    if again is None or again.shape != value.shape:
        return False
    # Bytes first: the file may have replaced what numpy compares with.
    return _equal(value, again) or (not evidence.is_exact(str(value.dtype)) and _close(value, again, narrow=narrow))


def _samples(live: Live, case: Case, inputs: Mapping[str, torch.Tensor], eager: Arrays, oracle: Arrays) -> dict[str, Sample]:
    floats = [name for name, value in eager.items() if not evidence.is_exact(str(value.dtype))]
    moved = [_perturbed(live, inputs, seed, bit=0) for seed in range(_HALF_ULP_RUNS)] if floats else []
    far = [_perturbed(live, inputs, 100 + seed, bit=1) for seed in range(_TWO_ULP_RUNS)] if len(floats) < len(eager) else []
    samples = {}
    for name, value in eager.items():
        if name in floats:
            runs = tuple(run[name] for run in moved if run is not None)
            samples[name] = Sample(case.name, value, oracle[name], runs)
        else:
            runs = tuple(run[name] for run in far if run is not None)
            samples[name] = Sample(case.name, value, value, (), _changed(value, runs))
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
    if all(name in oracle and _close(oracle[name], value, narrow=live.narrow) for name, value in eager.items()):
        return oracle
    with state.preserved(live.module):
        _, choices = float64.record_choices(lambda: live.call(inputs))
    with state.preserved(live.module):
        outcome = float64.compute(lambda: live.call(inputs), choices)
    replayed = _arrays(outcome.value)
    return {name: replayed[name] if name in replayed and replayed[name].shape == value.shape else value for name, value in eager.items()}


def _arrays(result: Any) -> Arrays:
    return {name: to_numpy(value) for name, value in flatten(result, frozenset())[1].items()}


def _close(oracle: NDArray[Any], eager: NDArray[Any], *, narrow: bool) -> bool:
    if oracle.shape != eager.shape:
        return False
    error, size = _gap(oracle, eager)
    return error <= evidence.cap(str(eager.dtype), narrow=narrow) * size


def _gap(oracle: NDArray[Any], run: NDArray[Any]) -> tuple[float, float]:
    """Returns the root mean square error of a run, and of the values, over the elements that are finite in both."""
    a, b = evidence.widen(oracle), evidence.widen(run)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return 0.0, 0.0
    return float(np.sqrt(np.mean((b[both] - a[both]) ** 2))), float(np.sqrt(np.mean(a[both] ** 2)))


def _unstable(one: Sample, *, narrow: bool) -> bool:
    """Says whether some run has chosen otherwise, not only been rounded otherwise.

    Where all runs err alike, the network is ill-conditioned: to draw again would keep the lucky draws, and call them evidence.
    """
    if evidence.is_exact(str(one.eager.dtype)):
        return False
    if any(run.shape != one.eager.shape for run in one.perturbed):
        return True
    gaps = [_gap(one.oracle, run) for run in one.perturbed]
    errors, size = [error for error, _ in gaps], max((size for _, size in gaps), default=0.0)
    limit = evidence.cap(str(one.eager.dtype), narrow=narrow) * size
    worst = max(errors, default=0.0)
    return worst > limit and worst > min(_FLIP * limit, _FLIP**2 * min(errors))


def _perturbed(live: Live, inputs: Mapping[str, torch.Tensor], seed: int, bit: int) -> Arrays | None:
    try:
        with perturb.weights(live.module, 7919 * (seed + 1), bit):
            return _outputs(live, perturb.inputs(inputs, 104729 * (seed + 1), bit), seed=4)[1]
    except Exception:  # noqa: BLE001 - a network that refuses a perturbed input (a strict range check) just gives no evidence there
        return None


def _changed(value: NDArray[Any], runs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    changed = np.zeros(value.shape, bool)
    for run in runs:
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


def _outputs(live: Live, inputs: Mapping[str, torch.Tensor], seed: int) -> tuple[Tree, Arrays]:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that a network would use
    with torch.no_grad():
        return _named(live, live.call(inputs))


def _named(live: Live, result: Any) -> tuple[Tree, Arrays]:
    tree, leaves = flatten(result, frozenset(spec.name for spec in live.network.inputs))
    return tree, {name: to_numpy(value) for name, value in leaves.items()}


@contextlib.contextmanager
def _another_time() -> Iterator[None]:
    """Sets the clock ahead: a result that depends on it changes."""
    seconds, nanoseconds = time.time, time.time_ns
    time.time, time.time_ns = lambda: seconds() + _LATER, lambda: nanoseconds() + _LATER * 10**9
    try:
        yield
    finally:
        time.time, time.time_ns = seconds, nanoseconds


def _judge_repeat(live: Live, first: Arrays, second: Arrays, changed: list[str]) -> list[Finding]:
    modes = [name for name in changed if name.rpartition(".")[2] == "training"]
    if modes:
        raise ExportError(
            f"forward changes the train/eval mode ({', '.join(modes[:3])}): the network that is called is not the one that was loaded",
            where=live.network.source.file,
            todo="Remove the call of train() or eval() from forward.",
        )
    different = _different(first, second)
    if different and changed:
        raise ExportError(
            f"forward mutates its own state and its result depends on it: {', '.join(changed[:3])} changes from call to call",
            where=live.network.source.file,
            todo="Return the new state as an output and take the old one as an input.",
        )
    if different:
        name, where = _random_operator(live)
        if name:
            raise ExportError(
                f"forward is random: two runs on the same inputs differ in {different[0]} ({name})",
                where=where or live.network.source.file,
                todo="Take the random numbers as an input, or draw them outside of forward.",
            )
        raise ExportError(
            f"forward is random or keeps state outside of the module: two runs on the same inputs differ in {different[0]}",
            where=live.network.source.file,
            todo=_LOOK,
        )
    if not changed:
        return []
    text = f"forward changes {', '.join(changed[:3])} without altering a later output; the artifacts hold it as it was"
    return [Finding("note", "state-frozen", text)]


def _refuse_layout(live: Live, first: Arrays) -> None:
    """Refuses a result that hangs on an input's strides, which no artifact knows."""

    def moved(other: Arrays | None) -> list[str]:
        floats = [name for name, value in first.items() if not evidence.is_exact(str(value.dtype))]
        return [name for name in floats if other is not None and not _repeats(first[name], other.get(name), narrow=True)]

    positional, keywords = live.arguments({name: _strided(value) for name, value in live.example.items()})
    try:
        with torch.no_grad():
            _, other = _named(live, live.module(*positional, **keywords))
    except Exception:  # noqa: BLE001 - eager itself wants another layout, and says so to whoever calls it
        return
    different = moved(other)
    if different and not any(moved(_perturbed(live, live.example, seed, bit=0)) for seed in range(_HALF_ULP_RUNS)):
        raise ExportError(
            f"forward depends on the memory layout of its inputs: {different[0]} is another for the same values with other strides",
            where=live.network.source.file,
            todo="Decide by values and sizes; stride(), is_contiguous() and storage offsets are in no artifact.",
        )


def _strided(value: torch.Tensor) -> torch.Tensor:
    """Copies a tensor to every second place of a buffer."""
    if not value.ndim or value.layout != torch.strided:
        return value.clone()
    buffer = value.new_zeros((*value.shape[:-1], 2 * value.shape[-1]))
    buffer[..., ::2] = value
    return buffer[..., ::2]


def _different(first: Arrays, second: Arrays) -> list[str]:
    return [name for name in first if name not in second or not _equal(first[name], second[name])]


def _random_operator(live: Live) -> tuple[str, str]:
    from exportkit.worker import user_line

    class Watch(TorchDispatchMode):
        found: tuple[str, str] = ("", "")

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not self.found[0] and torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()):
                self.found = (str(func), user_line())
            return func(*args, **(kwargs or {}))

    watch = Watch()
    with torch.no_grad(), watch:
        live.call(live.example)
    return watch.found


def _input_mutation(live: Live) -> list[Finding]:
    args = {name: value.clone() for name, value in live.example.items()}
    positional, keywords = live.arguments(args)
    with torch.no_grad():
        live.module(*positional, **keywords)
    names = [name for name, value in args.items() if not _equal(to_numpy(value), to_numpy(live.example[name]))]
    text = f"forward changes its input {', '.join(names)} in place; callers of the ONNX artifact keep theirs unchanged"
    return [Finding("warning", "input-mutated", text)] if names else []


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _digest(arrays: Arrays) -> str:
    seen = hashlib.sha256()
    for name, value in arrays.items():
        seen.update(f"{name}{value.dtype}{value.shape}".encode())
        seen.update(value.tobytes())
    return seen.hexdigest()


def _estimate(live: Live) -> float:
    """Estimates the seconds of one eager run from its operations, not from the clock."""

    class Count(TorchDispatchMode):
        operations = 0
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            self.operations += 1
            self.elements += result.numel() if isinstance(result, torch.Tensor) else 0
            return result

    weight = sum(p.numel() * p.element_size() for p in live.module.parameters())
    flops, count = FlopCounterMode(display=False), Count()
    try:
        with torch.no_grad(), state.preserved(live.module), flops, count:
            live.call(live.example)
    except Exception:  # noqa: BLE001 - a network that no dispatch mode can watch is taken for a cheap one
        return weight / 4e9
    return count.operations * 1e-5 + count.elements * 1e-9 + flops.get_total_flops() / 2e10 + weight / 4e9


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
