"""How far an exported program is right: torch.export takes one side of a branch on a size, and bounds the size by it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from exportkit import guards, sample, state
from exportkit.errors import ExportError
from exportkit.load import Live
from exportkit.results import flatten
from exportkit.spec import Case, Symbol

_MOST = 1 << 26  # elements of inputs that are tried: a bound of 16 million, as torch.quantile has, is no branch that anybody wrote
_CASE, _CASES = 1 << 17, 8  # elements of inputs that are a case, and the most cases
_ENDLESS = 1 << 30  # torch.export's own upper bounds where there is none lie above

Run = Callable[[Mapping[str, torch.Tensor]], Any]


def reach(live: Live, symbols: Sequence[Symbol], program: ExportedProgram) -> dict[str, int]:
    """Finds the symbols that a program holds up to a bound only, though eager goes on beyond it: name -> largest size.

    A .pt2 refuses what lies beyond; ONNX and a trace would answer.
    """
    return {symbol.name: high for symbol, high, _, _ in _beyond(live, symbols, program)}


def refuse_short_reach(live: Live, symbols: Sequence[Symbol], program: ExportedProgram) -> None:
    """Refuses what would answer, without a word, beyond the sizes for which it is right.

    Raises:
        ExportError: forward branches on a size, and the program holds one side of the branch.
    """
    for symbol, high, _, _ in _beyond(live, symbols, program):
        raise _short(symbol, high)


def refuse_other_beyond(live: Live, symbols: Sequence[Symbol], program: ExportedProgram, run: Run) -> None:
    """Refuses a module that was made of the same run as a program, and computes something else beyond what bounds the program.

    Not every bound is a branch: that of a slice, of a table of positions say, harms nothing where the result does not read it.

    Args:
        run: calls the module with tensors by input name; it checks no sizes.

    Raises:
        ExportError: forward branches on a size, and the module holds one side of the branch.
    """
    for symbol, high, inputs, want in _beyond(live, symbols, program, far=True):
        if not _agrees(live, run, inputs, want):
            raise _short(symbol, high)
    refuse_other_side(live, symbols, program, run)


def refuse_other_side(live: Live, symbols: Sequence[Symbol], program: ExportedProgram, run: Run) -> None:
    """Refuses a module that was made of the same run as a program, and computes something else where a guard of the program is broken.

    Args:
        run: as `refuse_other_beyond` has it.

    Raises:
        ExportError: names the guard, and the line that asked.
    """
    usual = sample.sizes_for_capture(symbols)
    for guard, sizes, inputs, want in _sides(live, symbols, program):
        if _agrees(live, run, inputs, want) is False:  # a refusal in so many words is the judge's to weigh
            at = ", ".join(f"{name} = {size}" for name, size in sizes.items() if size != usual[name])
            raise ExportError(
                f"forward branches on a size: an export is right where {guard.text}, eager computes something else at {at}",
                where=guard.where,
                todo="Leave these sizes out with dynamic_shapes, or write both sides of the branch in tensor operations.",
            )


def sides(live: Live, symbols: Sequence[Symbol], program: ExportedProgram) -> tuple[dict[str, int], ...]:
    """Lists sizes at which eager takes the other side of a branch of which a program holds one: no artifact is proven without them."""
    usual = sample.sizes_for_capture(symbols)
    found = [usual | {symbol.name: high + symbol.step} for symbol, high, _, _ in _beyond(live, symbols, program)]
    found += [sizes for _, sizes, _, _ in _sides(live, symbols, program)]
    return tuple(
        one for place, one in enumerate(found) if one not in found[:place] and sample.elements(live.network, symbols, one) <= _CASE
    )[:_CASES]


def _sides(
    live: Live, symbols: Sequence[Symbol], program: ExportedProgram
) -> Iterator[tuple[guards.Guard, dict[str, int], Mapping[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Yields each guard of a program with the first sizes that break it and that eager takes, inputs of them, and eager's results."""
    tensors = dict(zip([spec.name for spec in live.network.inputs], tensors_of(program), strict=True))
    for guard in guards.breakable(program, tensors, symbols, sample.sizes_for_capture(symbols)):
        for choice in (guard.alone, guard.together):
            for sizes in choice:
                if drawn := _drawn(live, symbols, sizes):
                    yield guard, sizes, *drawn
                    break


def _agrees(live: Live, run: Run, inputs: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor]) -> bool | None:
    """Says whether a module gives what eager gave; None where it raises."""
    try:
        with torch.no_grad(), state.preserved(live.module):
            got = flatten(run(inputs), frozenset())[1]
    except Exception:  # noqa: BLE001 - whatever it raises, eager did not
        return None
    return all(_alike(one, other) for one, other in zip(got.values(), want.values(), strict=True))


def _short(symbol: Symbol, high: int) -> ExportError:
    return ExportError(
        f"forward branches on the size {symbol.name}: an export is right up to {high} only, eager goes on beyond",
        todo=f"Declare the range with dynamic_shapes (max={high}), or write both sides of the branch in tensor operations.",
    )


def _alike(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Says whether two results are of one branch: how close they are is measured elsewhere."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    largest = want.abs().nan_to_num(0, 0).max().item() if want.numel() and want.is_floating_point() else 0.0
    return torch.allclose(got, want, rtol=1e-3, atol=1e-4 * largest, equal_nan=True)


def tensors_of(program: ExportedProgram) -> list[torch.Tensor]:
    """Lists the stand-ins of the user's tensors, in order."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    named = [values.get(str(name)) for name in program.graph_signature.user_inputs]
    return [value for value in named if isinstance(value, torch.Tensor)]


def _bound(live: Live, symbol: Symbol, program: ExportedProgram) -> int | None:
    """Returns the largest size that a program takes; None where it has no bound below the user's own."""
    name, axis, offset = symbol.places[0]
    names = [spec.name for spec in live.network.inputs]
    size = dict(zip(names, tensors_of(program), strict=True))[name].shape[axis]
    if isinstance(size, int) or size.node.expr not in program.range_constraints:
        return None
    high = program.range_constraints[size.node.expr].upper
    bounded = high < _ENDLESS and (symbol.high is None or high - offset < symbol.high)
    return int(high) - offset if bounded else None


def _beyond(
    live: Live, symbols: Sequence[Symbol], program: ExportedProgram, *, far: bool = False
) -> Iterator[tuple[Symbol, int, Mapping[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Yields symbols that bound a program, the bound, and inputs of the next size with eager's results, where eager takes it.

    Args:
        far: of twice the bound, too: behind a bound that harms nothing another may lie, of which the program tells nothing.
    """
    for symbol in symbols:
        if (high := _bound(live, symbol, program)) is None:
            continue
        for size in (high + symbol.step, 2 * high) if far else (high + symbol.step,):
            if drawn := _drawn(live, symbols, sample.sizes_for_capture(symbols) | {symbol.name: size}):
                yield symbol, high, *drawn


def _drawn(
    live: Live, symbols: Sequence[Symbol], sizes: Mapping[str, int]
) -> tuple[Mapping[str, torch.Tensor], dict[str, torch.Tensor]] | None:
    """Draws inputs of these sizes, with eager's results; None where eager takes none, or they are too large to try."""
    if sample.elements(live.network, symbols, sizes) > _MOST:
        return None
    for kind in ("like", "resampled"):
        inputs = sample.draw(live, symbols, Case("beyond", dict(sizes), kind, "inside", 0))
        with contextlib.suppress(Exception), torch.no_grad(), state.preserved(live.module):
            return inputs, flatten(live.call(inputs), frozenset())[1]
    return None
