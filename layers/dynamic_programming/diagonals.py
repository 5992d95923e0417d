"""Tables by their anti-diagonals: all cells of one can be filled at once, as they hang on the two diagonals before alone."""

import torch
from torch.nn import functional


def skew(table: torch.Tensor, fill: float) -> torch.Tensor:
    """Lays a table's anti-diagonals out as rows, with a border of one row above and one column on the left.

    Shapes:
        table: (B, N, M). Output: (N + M + 1, B, N + 1), contiguous; [d, b, i] is cell (i - 1, d - i - 1) of table b, and `fill` where
        there is none. A table of dynamic programming with its border, (N + 1, M + 1), has cell (i, d - i) in the same place.
    """
    batch, rows, columns = table.shape[0], table.shape[1] + 1, table.shape[2] + 1
    # Each row is made longer by `rows` and read as if it were by one less: row i moves i places to the right.
    wide = functional.pad(table, [1, rows, 1, 0], value=fill).reshape(batch, rows * (columns + rows))
    moved = wide[:, : rows * (columns + rows - 1)].view(batch, rows, columns + rows - 1)
    return moved.permute(2, 0, 1).contiguous()


def down(diagonal: torch.Tensor, fill: float) -> torch.Tensor:
    """Moves a diagonal, (B, N + 1), one row down: [b, i] is what stood at i - 1, and `fill` at 0."""
    return functional.pad(diagonal, [1, 0], value=fill)[:, :-1]


def at_end(diagonals: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Reads cell (rows[b], columns[b]) of each table, (B,), from its stacked diagonals, (N + M + 1, B, N + 1)."""
    return diagonals[rows + columns, torch.arange(rows.shape[0], device=rows.device), rows]


def check_table(name: str, table: torch.Tensor, row_mask: torch.Tensor, column_mask: torch.Tensor) -> None:
    """Refuses what is no table (B, N, M) with masks (B, N) and (B, M).

    Raises:
        ValueError: it is not.
    """
    if table.dim() != 3:
        raise ValueError(f"{name} must be (B, N, M), got {list(table.shape)}")
    check_mask("row_mask", row_mask, table.shape[0], table.shape[1])
    check_mask("column_mask", column_mask, table.shape[0], table.shape[2])


def check_mask(name: str, mask: torch.Tensor, batch: int, length: int) -> None:
    """Refuses what is no boolean matrix of these sizes.

    Raises:
        ValueError: it is not.
    """
    if mask.dim() != 2 or mask.dtype != torch.bool or mask.shape[0] != batch or mask.shape[1] != length:
        raise ValueError(f"{name} must be bool ({batch}, {length}), got {mask.dtype} {list(mask.shape)}")
