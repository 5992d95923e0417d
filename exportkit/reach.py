"""How far an exported program is right: torch.export takes one side of a branch on a size, and bounds the size by it."""

import contextlib
from collections.abc import Sequence

import torch
from torch.export import ExportedProgram

from exportkit import sample, state
from exportkit.errors import ExportError
from exportkit.load import Live
from exportkit.spec import Case, Symbol

_ENDLESS = 1 << 30  # torch.export's own upper bounds where there is none lie above


def reach(live: Live, symbols: Sequence[Symbol], program: ExportedProgram) -> dict[str, int]:
    """Finds the symbols that a program holds up to a bound only, though eager goes on beyond it: name -> largest size.

    A .pt2 refuses what lies beyond; ONNX and a trace would answer.
    """
    bounds = {symbol: high for symbol in symbols if (high := _bound(live, symbol, program)) is not None}
    return {symbol.name: high for symbol, high in bounds.items() if _eager_takes(live, symbols, symbol, high + symbol.step)}


def refuse_short_reach(live: Live, symbols: Sequence[Symbol], program: ExportedProgram) -> None:
    """Refuses what would answer, without a word, beyond the sizes for which it is right.

    Raises:
        ExportError: forward branches on a size, and the program holds one side of the branch.
    """
    for name, high in reach(live, symbols, program).items():
        raise ExportError(
            f"forward branches on the size {name}: an export is right up to {high} only, eager goes on beyond",
            todo=f"Declare the range with dynamic_shapes (max={high}), or write both sides of the branch in tensor operations.",
        )


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


def _eager_takes(live: Live, symbols: Sequence[Symbol], symbol: Symbol, size: int) -> bool:
    sizes = sample.sizes_for_capture(symbols) | {symbol.name: size}
    for kind in ("like", "resampled"):
        inputs = sample.draw(live, symbols, Case("beyond", sizes, kind, "inside", 0))
        with contextlib.suppress(Exception), torch.no_grad(), state.preserved(live.module):
            live.call(inputs)
            return True
    return False
