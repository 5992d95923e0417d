"""A table filled along its anti-diagonals: what two nested loops compute cell by cell, in as many steps as it has diagonals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from exportkit.control_flow import branches, scalars
from exportkit.control_flow.indexing import put
from exportkit.control_flow.structure import Operands, exporting, fresh

_scan = torch.ops.higher_order.scan
_LONG = 2**62


@dataclass(frozen=True, slots=True)
class Leaf:
    """How the counters of row and column index a tensor that is read for a cell.

    Attributes:
        axes: the axis that each of them indexes; None where it indexes none.
        add: what is added to it.
    """

    axes: tuple[int | None, int | None]
    add: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wave:
    """Where the cells lie.

    Attributes:
        axes: the table's axes that the counters of row and column index.
        add: what is added to the counters for the cell that is written: none is negative.
        reads: the cells that are read for it, counted from it: (-1, 0) is the one above. None is positive.
        leaves: what else is read.
    """

    axes: tuple[int, int]
    add: tuple[int, int]
    reads: tuple[tuple[int, int], ...]
    leaves: tuple[Leaf, ...]

    def turned(self) -> "Wave":
        """Returns the same with rows for columns."""
        leaves = tuple(Leaf(leaf.axes[::-1], leaf.add[::-1]) for leaf in self.leaves)
        return Wave(self.axes[::-1], self.add[::-1], tuple(one[::-1] for one in self.reads), leaves)


def filled(
    counts: tuple[Any, Any],
    cells: Callable[..., Any],
    leaves: Callable[..., tuple[torch.Tensor, ...]],
    table: torch.Tensor,
    wave: Wave,
    captured: Sequence[Any] = (),
) -> torch.Tensor:
    """Fills a table.

    Args:
        counts: how many rows and columns are written.
        cells: takes the two counters, what `wave` reads of the table and of the leaves, and what is captured; gives what is written. All
            but what is captured have a last axis of lanes, one for each cell.
        leaves: takes what is captured; gives what is read besides the table.
    """

    def some(rows: Any, columns: Any, table: torch.Tensor, *rest: Any) -> tuple[Any, ...]:
        if _extent(table.shape[wave.axes[0]]) <= _extent(table.shape[wave.axes[1]]):
            return (_Diagonals((rows, columns), table, wave).filled(cells, leaves(*rest), rest),)
        turned = _Diagonals((columns, rows), table, wave.turned())
        return (turned.filled(lambda column, row, *read: cells(row, column, *read), leaves(*rest), rest),)

    def none(_rows: Any, _columns: Any, table: torch.Tensor, *_rest: Any) -> tuple[Any, ...]:
        return (table,)

    given = (*counts, table, *captured)
    if all(not scalars.is_tensor(one) and scalars.is_positive(one) for one in counts):
        return some(*given)[0]  # type: ignore[no-any-return]
    flag = scalars.logical("and", *(scalars.as_tensor(one) > 0 for one in counts))
    return branches.choose(flag, some, none, given)[0]  # type: ignore[no-any-return]


def _extent(size: Any) -> tuple[bool, int]:
    """Orders sizes by how long they may be: one that varies behind any that does not, then as the example has them."""
    hint = size.node.hint if isinstance(size, torch.SymInt) else size
    return isinstance(size, torch.SymInt), _LONG if hint is None else int(hint)


class _Diagonals:
    """The diagonals of a table of R rows and C columns, of which the rows had better be fewer: a diagonal has a lane for each.

    They are (R + C - 1, ..., R) in all; cells beside the table may be any.
    """

    def __init__(self, counts: tuple[Any, Any], table: torch.Tensor, wave: Wave) -> None:
        self.counts, self.wave = counts, wave
        self.grid = table.movedim(wave.axes, (0, 1))
        self.lanes = torch.arange(self.grid.shape[0])
        self.steps = torch.arange(self.grid.shape[0] + self.grid.shape[1] - 1)

    def filled(self, cells: Callable[..., Any], leaves: Sequence[torch.Tensor], captured: Sequence[Any]) -> torch.Tensor:
        across = self.steps.unsqueeze(1) - self.lanes  # the column of each lane's cell
        down, right = self.lanes - self.wave.add[0], across - self.wave.add[1]
        inside = (down >= 0) & (down < self.counts[0]) & (right >= 0) & (right < self.counts[1])
        # A lane without a cell to write does as the nearest that has one: whatever it reads is there.
        down, right = _within(down, self.counts[0]), _within(right, self.counts[1])
        old = _across(self.grid, self.lanes, _within(across, self.grid.shape[1]))
        read = [_leaf(x, leaf, down, right) for x, leaf in zip(leaves, self.wave.leaves, strict=True)]
        fixed = [one for one, leaf in zip(read, self.wave.leaves, strict=True) if leaf.axes[1] is None]
        moving = [one for one, leaf in zip(read, self.wave.leaves, strict=True) if leaf.axes[1] is not None]
        depth = max([1, *(-up - left for up, left in self.wave.reads)])
        above = {up: _within(self.lanes + up, self.grid.shape[0]) for up, _ in self.wave.reads if up}
        operands = Operands(down, tuple(above.values()), tuple(fixed), tuple(captured))

        def step(*given: Any) -> tuple[Any, ...]:
            before, (writes, kept, columns, *moved), rest = given[:depth], given[depth : depth + len(rows)], given[depth + len(rows) :]
            row, lanes_above, still, free = operands.build(rest)
            lanes = dict(zip(above, lanes_above, strict=True))
            seen = [_shifted(before[-up - left - 1] if up + left else kept, lanes.get(up)) for up, left in self.wave.reads]
            still, moved = list(still), list(moved)
            others = [(still if leaf.axes[1] is None else moved).pop(0) for leaf in self.wave.leaves]
            new = put(kept, (), cells(row, columns, *seen, *others, *free))
            new = branches.select(writes, new, kept)
            return (*(fresh(one) for one in (new, *before[: depth - 1])), fresh(new))

        rows = [fresh(one) for one in (inside, old, right, *moving)]
        diagonals = _scanned(step, [torch.zeros(old.shape[1:], dtype=old.dtype) for _ in range(depth)], rows, operands.values)
        lanes, columns = self.lanes.unsqueeze(1), torch.arange(self.grid.shape[1])
        grid = torch.ops.aten.index.Tensor(diagonals.movedim(-1, 1), [lanes + columns, lanes])
        return fresh(grid.movedim((0, 1), self.wave.axes))  # type: ignore[no-any-return]


def _scanned(step: Callable[..., tuple[Any, ...]], start: list[Any], rows: list[Any], captured: list[Any]) -> torch.Tensor:
    if exporting():
        return _scan(step, start, rows, tuple(captured))[-1]  # type: ignore[no-any-return]
    made = []
    for given in zip(*rows, strict=True):
        *start, new = step(*start, *given, *captured)
        made.append(new)
    return torch.stack(made)


def _within(index: torch.Tensor, size: Any) -> torch.Tensor:
    return torch.clamp(torch.minimum(index, scalars.as_tensor(size - 1)), min=0)


def _across(grid: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Takes the cells of diagonals: rows (R,), columns (K, R); gives (K, ..., R)."""
    return torch.ops.aten.index.Tensor(grid, [rows, columns]).movedim(1, -1)  # type: ignore[no-any-return]


def _leaf(x: torch.Tensor, leaf: Leaf, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Reads for all cells: by the row alone (..., R), else (K, ..., R)."""
    row, column = leaf.axes
    if column is None:
        assert row is not None
        return row_of(x, row, down + leaf.add[0])
    columns = _from_start(right + leaf.add[1], x.shape[column])
    if row is None:
        return torch.ops.aten.index.Tensor(x.movedim(column, 0), [columns]).movedim(1, -1)  # type: ignore[no-any-return]
    return _across(x.movedim((row, column), (0, 1)), _from_start(down + leaf.add[0], x.shape[row]), columns)


def _shifted(diagonal: torch.Tensor, lanes: torch.Tensor | None) -> torch.Tensor:
    return diagonal if lanes is None else diagonal.index_select(diagonal.dim() - 1, lanes)


def _from_start(index: torch.Tensor, size: Any) -> torch.Tensor:
    return torch.where(index < 0, index + size, index)


# What lanes.py writes for cells that lie side by side along a last axis.


select = branches.select


def beside(x: torch.Tensor) -> torch.Tensor:
    """Gives what is the same for all cells an axis for the lanes; a number needs none."""
    return x.unsqueeze(-1) if x.dim() else x


def with_axis(x: torch.Tensor) -> torch.Tensor:
    """Gives a cell of no axes one of size 1: torch takes 0 and -1 for axes of such, which then must not be the lanes."""
    return x if x.dim() > 1 else x.unsqueeze(0)


def across(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Repeats what is the same for all cells in each lane."""
    return x.unsqueeze(-1).expand(*x.shape, like.shape[-1])


def as_number(x: Any, kind: str) -> torch.Tensor:
    """Takes the number out of a one-element tensor in each lane, and keeps it a tensor.

    Args:
        kind: "int", "float" or "bool"; "" for that of the tensor.
    """
    plain = scalars.as_tensor(x).reshape(x.shape[-1:])
    if kind == "bool":
        return plain if plain.dtype == torch.bool else plain != 0
    return plain.to(scalars.DTYPES[{"int": int, "float": float}.get(kind) or scalars.kind_of(plain)])


def reduced(name: str, x: torch.Tensor, *order: Any) -> torch.Tensor:
    """Applies sum(), mean(), norm() and their like to all that a lane holds."""
    flat = with_axis(x).flatten(0, -2)
    if "norm" in name:
        norm: torch.Tensor = torch.linalg.vector_norm(flat, *order, dim=0)
        return norm
    return getattr(torch, {"max": "amax", "min": "amin"}.get(name, name))(flat, 0)  # type: ignore[no-any-return]


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Applies a linear layer to the last axis but the lanes."""
    product: torch.Tensor = torch.matmul(weight, x)
    return product if bias is None else product + bias.unsqueeze(-1)


def row_of(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """Takes `x[..., index, ...]` in each lane."""
    return x.index_select(dim, _from_start(index, x.shape[dim])).movedim(dim, -1)


def looked_up(x: torch.Tensor, *indices: Any) -> torch.Tensor:
    """Takes `x[i, j, ...]` in each lane; where the indices have axes of their own, these stay."""
    places = [_from_start(scalars.as_tensor(index), x.shape[axis]) for axis, index in enumerate(indices)]
    axes = max(place.dim() for place in places)
    return torch.ops.aten.index.Tensor(x, places).movedim(axes - 1, -1)  # type: ignore[no-any-return]
