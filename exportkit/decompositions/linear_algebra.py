"""Factorisations and solutions of matrices as steps over their columns: torch's ONNX exporter (2.13) has none of torch.linalg's.

Each takes its operator's own arguments. The steps are written out, so matrices have a fixed size up to `LARGEST`; of batches any.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten

LARGEST = 64  # rows; beyond, the steps make more of a graph than runtimes like to load


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its plainer form."""
    rules: dict[Any, Callable[..., Any]] = {
        aten.linalg_cholesky_ex.default: _cholesky,
        aten.cholesky_solve.default: _cholesky_solve,
        aten.linalg_solve_triangular.default: _solve_triangular,
        aten._linalg_solve_ex.default: _solve,  # noqa: SLF001 - the operators' own names, as below
        aten.linalg_inv_ex.default: _inverse,
        aten._linalg_slogdet.default: _slogdet,  # noqa: SLF001
        aten.linalg_lu_factor_ex.default: _lu_factor,
    }
    for whole, inner, places in (  # torch's own compositions, which end in checks for errors that no graph can raise
        (aten.linalg_cholesky.default, _cholesky, 1),
        (aten.linalg_solve.default, _solve, 1),
        (aten.linalg_inv.default, _inverse, 1),
        (aten.inverse.default, _inverse, 1),
        (aten.linalg_slogdet.default, _slogdet, 2),
        (aten.slogdet.default, _slogdet, 2),
        (aten.linalg_lu_factor.default, _lu_factor, 2),
    ):
        rules[whole] = functools.partial(_first, inner, places)
    return {operator: _where_small(rule) for operator, rule in rules.items()}


def _first(rule: Callable[..., Any], count: int, *args: Any, **options: Any) -> Any:
    """Returns the first results of a rule, one of them alone."""
    results = rule(*args, **options)
    if results is NotImplemented:
        return NotImplemented
    return results[0] if count == 1 else results[:count]


def _where_small(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Leaves real matrices of another size than can be written out to the exporter."""

    def spelled(matrix: Any, *args: Any, **options: Any) -> Any:
        sizes = [size for one in (matrix, *args) if isinstance(one, torch.Tensor) for size in one.shape[-2:-1]]
        if matrix.is_complex() or not all(isinstance(size, int) and size <= LARGEST for size in sizes):
            return NotImplemented
        return rule(matrix, *args, **options)

    return spelled


def _cholesky(a: Any, *, upper: bool = False, check_errors: bool = False) -> tuple[Any, Any]:  # noqa: ARG001 - torch's signature
    """Computes one column after the other (Golub and Van Loan, "Matrix Computations", 4.2.5); of a matrix without a factor, NaN."""
    a = a.mT if upper else a
    columns: list[Any] = []
    for j in range(a.shape[-1]):
        rest = a[..., j:, j]
        if columns:
            done = torch.stack(columns, -1)
            rest = rest - (done[..., j:, :] @ done[..., j, :].unsqueeze(-1)).squeeze(-1)
        column = rest / rest[..., :1].sqrt()
        columns.append(torch.nn.functional.pad(column, (j, 0)))
    factor = torch.stack(columns, -1) if columns else a.clone()
    return (factor.mT.contiguous() if upper else factor), _no_fault(a)


def _solve_triangular(a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """Substitutes one row after the other."""
    if not left:
        return _solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    size = a.shape[-1]
    rows: dict[int, Any] = {}
    for i in reversed(range(size)) if upper else range(size):
        known = sorted(rows)
        row = b[..., i : i + 1, :].expand(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), 1, b.shape[-1])
        if known:
            row = row - a[..., i : i + 1, known[0] : known[-1] + 1] @ torch.cat([rows[k] for k in known], -2)
        rows[i] = row if unitriangular else row / a[..., i : i + 1, i : i + 1]
    return torch.cat([rows[i] for i in range(size)], -2)


def _cholesky_solve(b: Any, factor: Any, upper: bool = False) -> Any:
    lower = factor.mT if upper else factor
    return _solve_triangular(lower.mT, _solve_triangular(lower, b, upper=False), upper=True)


def _lu(a: Any) -> tuple[Any, Any, Any]:
    """Eliminates with partial pivoting (Golub and Van Loan, 3.4.1).

    Returns:
        Both factors in one matrix; (..., n) int32, the row that each step swapped with its own, counted from 1; the order of the rows.
    """
    size = a.shape[-1]
    places = torch.arange(size, device=a.device).expand(a.shape[:-1])
    order, pivots = places, []
    for j in range(size):
        pivot = a[..., j:, j].abs().argmax(-1, keepdim=True) + j
        swapped = torch.where(places == j, pivot, torch.where(places == pivot, torch.full_like(places, j), places))
        a, order = a.gather(-2, swapped.unsqueeze(-1).expand(a.shape)), order.gather(-1, swapped)
        pivots.append(pivot + 1)
        factor = a[..., j + 1 :, j : j + 1] / a[..., j : j + 1, j : j + 1]
        below = a[..., j + 1 :, j + 1 :] - factor * a[..., j : j + 1, j + 1 :]
        a = torch.cat([a[..., : j + 1, :], torch.cat([a[..., j + 1 :, :j], factor, below], -1)], -2)
    return a, torch.cat(pivots, -1).int(), order


def _lu_factor(a: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:  # noqa: ARG001 - torch's signature
    if not pivot or a.shape[-1] != a.shape[-2] or a.shape[-1] == 0:
        return NotImplemented
    factors, pivots, _ = _lu(a)
    return factors, pivots, _no_fault(a)


def _solve(a: Any, b: Any, *, left: bool = True, check_errors: bool = False) -> Any:  # noqa: ARG001 - torch's signature
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])  # as torch.linalg.solve tells a batch of vectors
    if not left or a.shape[-1] == 0:
        return NotImplemented
    factors, pivots, order = _lu(a)
    result = _substituted(factors, order, b.unsqueeze(-1) if vector else b)
    return (result.squeeze(-1) if vector else result), factors, pivots, _no_fault(a)


def _inverse(a: Any, *, check_errors: bool = False) -> Any:  # noqa: ARG001 - torch's signature
    if a.shape[-1] == 0:
        return NotImplemented
    factors, _, order = _lu(a)
    return _substituted(factors, order, torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand(a.shape)), _no_fault(a)


def _substituted(factors: Any, order: Any, b: Any) -> Any:
    batch = torch.broadcast_shapes(factors.shape[:-2], b.shape[:-2])
    b = b.expand(*batch, *b.shape[-2:])
    b = b.gather(-2, order.unsqueeze(-1).expand(b.shape))
    return _solve_triangular(factors, _solve_triangular(factors, b, upper=False, unitriangular=True), upper=True)


def _slogdet(a: Any) -> Any:
    """Takes the determinant from the factors, which it returns too (torch's own may be those of the transpose)."""
    if a.shape[-1] == 0:
        return NotImplemented
    factors, pivots, _ = _lu(a)
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    swaps = (pivots != torch.arange(1, a.shape[-1] + 1, device=a.device)).sum(-1)
    sign = diagonal.sign().prod(-1) * (1 - 2 * (swaps % 2)).to(a.dtype)
    return sign, diagonal.abs().log().sum(-1), factors, pivots


def _no_fault(a: Any) -> Any:
    return torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)
