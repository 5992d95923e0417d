"""Does forward compute the same thing twice? Refuses randomness, state, the clock, and what hangs on the layout of an input."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from exportkit import evidence, runs, state
from exportkit.errors import ExportError
from exportkit.load import Live
from exportkit.results import to_numpy
from exportkit.runs import Arrays
from exportkit.spec import Case, Finding, Tree

_MOST, _SECONDS = 100, 2.0  # how often a network that changes its state is run again
_MOVED = 4  # runs moved by an ulp, which tell rounding from layout
_LATER = 10**8  # seconds, about three years
_LOOK = "Look for a global that it changes, for numpy's or Python's generator, and for the clock."


def run_twice(live: Live) -> tuple[Tree, Arrays, list[Finding]]:
    """Runs forward on the example at least twice.

    Raises:
        ExportError: two runs differ, and the text names the cause: randomness, state, mutation or layout.
    """
    before = state.snapshot(live.module)
    tree, first = runs.outputs(live, live.example, seed=1)
    middle = state.snapshot(live.module)
    with _another_time():
        _, second = runs.outputs(live, live.example, seed=2)
    after = state.snapshot(live.module)
    changed = sorted({*state.changes(before, middle), *state.changes(middle, after)})
    if changed:  # what a counter does may show at its tenth call only
        count = min(_MOST, int(_SECONDS / max(runs.estimate(live), 1e-3)))
        later = (runs.outputs(live, live.example, seed=2)[1] for _ in range(count))
        second = next((run for run in (second, *later) if _different(first, run)), second)
    findings = [*_judge_repeat(live, first, second, changed), *_input_mutation(live)]
    _refuse_layout(live, first)
    return tree, first, findings


def require_repeat(live: Live, case: Case, inputs: Mapping[str, torch.Tensor], eager: Arrays) -> None:
    """Refuses a network that is random only now and then: two runs of the example may have been alike by chance.

    Raises:
        ExportError: a second run of the case gives another result.
    """
    try:
        _, again = runs.outputs(live, inputs, seed=5)
        different = [name for name, value in eager.items() if not _repeats(value, again.get(name), narrow=live.narrow)]
    except Exception as error:  # noqa: BLE001 - whatever the network raises the second time
        different = [f"that the second raises {type(error).__name__}"]
    if different:
        raise ExportError(
            f"forward is random or keeps state: two runs on the inputs of case {case.name} differ in {different[0]}",
            where=live.network.source.file,
            todo=_LOOK,
        )


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
            _, other = runs.named(live, live.module(*positional, **keywords))
    except Exception:  # noqa: BLE001 - eager itself wants another layout, and says so to whoever calls it
        return
    different = moved(other)
    if different and not any(moved(runs.perturbed(live, live.example, seed, bit=0)) for seed in range(_MOVED)):
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


def _repeats(value: NDArray[Any], again: NDArray[Any] | None, *, narrow: bool) -> bool:
    if again is None or again.shape != value.shape:
        return False
    return runs.equal(value, again) or (not evidence.is_exact(str(value.dtype)) and runs.close(value, again, narrow=narrow))


def _different(first: Arrays, second: Arrays) -> list[str]:
    return [name for name in first if name not in second or not runs.equal(first[name], second[name])]


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
    names = [name for name, value in args.items() if not runs.equal(to_numpy(value), to_numpy(live.example[name]))]
    text = f"forward changes its input {', '.join(names)} in place; callers of the ONNX artifact keep theirs unchanged"
    return [Finding("warning", "input-mutated", text)] if names else []
