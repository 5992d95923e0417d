"""Dynamic programs over two sequences; the oracles list all alignments."""

import math

import numpy as np
import torch
from contract import Subject, ragged, swap

from layers.dynamic_programming import (
    DynamicTimeWarping,
    EditDistance,
    NeedlemanWunsch,
    Sinkhorn,
    SinkhornConverged,
    SmithWaterman,
    SoftDTW,
)

SIZES = ({"batch": 2, "rows": 3, "columns": 4}, {"batch": 3, "rows": 5, "columns": 2}, {"batch": 1, "rows": 4, "columns": 5})
EDGES = (
    {"batch": 2, "rows": 1, "columns": 1},
    {"batch": 2, "rows": 0, "columns": 2},
    {"batch": 2, "rows": 3, "columns": 0},
    {"batch": 2, "rows": 0, "columns": 0},
    {"batch": 0, "rows": 3, "columns": 2},
)
MASKS = {"row_mask": {0: "batch", 1: "rows"}, "column_mask": {0: "batch", 1: "columns"}}
TABLE = {0: "batch", 1: "rows", 2: "columns"}
TABLE_A, TABLE_B = MASKS.values()


def draw(batch, rows, columns):
    """Draws tables of which the last has no rows: an infinite cost is shown, where there are costs."""
    return torch.randn(batch, rows, columns), ragged(batch, rows), ragged(batch, columns, 1)


def tables(table, row_mask, column_mask):
    """Yields each table of a batch without its padding."""
    for one, rows, columns in zip(table, row_mask, column_mask, strict=True):
        yield one[: int(rows.sum()), : int(columns.sum())].detach().numpy()


def warpings(n, m):
    """Lists the paths from (0, 0) to (n - 1, m - 1) by steps of one in either or both."""
    if n == 0 or m == 0:
        return [()] if n == m else []
    if n == m == 1:
        return [((0, 0),)]
    before = [(n - 1, m), (n, m - 1), (n - 1, m - 1)]
    return [(*path, (n - 1, m - 1)) for i, j in before if i and j for path in warpings(i, j)]


def costs(table):
    return {path: sum(table[cell] for cell in path) for path in warpings(*table.shape)}


def soft_dtw(layer, *inputs, gamma=0.7):
    totals = [[-gamma * math.log(sum(math.exp(-c / gamma) for c in costs(one).values()) or 1e-999)] if costs(one) else [math.inf]
              for one in tables(*inputs)]  # fmt: skip
    return torch.tensor(totals, dtype=torch.float64).reshape(len(inputs[0]))


def dtw(layer, *inputs):
    totals, paths = [], torch.full((len(inputs[0]), sum(inputs[0].shape[1:]), 2), -1)
    for number, one in enumerate(tables(*inputs)):
        every = costs(one)
        best = min(every, key=every.get, default=None)
        totals.append(math.inf if best is None else every[best])
        for place, cell in enumerate(best or ()):
            paths[number, place] = torch.tensor(cell)
    return torch.tensor(totals, dtype=torch.float64), paths


def alignments(n, m):
    """Lists the global alignments, each as (matched cells, steps in gaps)."""
    if n == 0 or m == 0:
        return [((), n + m)]
    found = [((*cells, (n - 1, m - 1)), gaps) for cells, gaps in alignments(n - 1, m - 1)]
    found += [(cells, gaps + 1) for cells, gaps in alignments(n - 1, m)]
    return found + [(cells, gaps + 1) for cells, gaps in alignments(n, m - 1)]


def best(table, gap):
    return max(sum(table[cell] for cell in cells) + gap * gaps for cells, gaps in alignments(*table.shape))


def needleman_wunsch(layer, *inputs):
    return torch.tensor([best(one, -0.4) for one in tables(*inputs)], dtype=torch.float64)


def smith_waterman(layer, *inputs):
    scores = []
    for one in tables(*inputs):
        n, m = one.shape
        parts = [one[a:b, c:d] for a in range(n) for b in range(a, n + 1) for c in range(m) for d in range(c, m + 1)]
        scores.append(max([0.0, *(best(part, -0.4) for part in parts)]))
    return torch.tensor(scores, dtype=torch.float64)


def draw_tokens(batch, rows, columns):
    a, b = torch.randint(0, 3, (batch, rows)), torch.randint(0, 3, (batch, columns))
    return a, b, ragged(batch, rows), ragged(batch, columns)


def distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


def edit_distance(layer, a, b, a_mask, b_mask):
    pairs = zip(a, b, a_mask, b_mask, strict=True)
    return torch.tensor([distance(x[p].tolist(), y[q].tolist()) for x, y, p, q in pairs], dtype=torch.int64)


def draw_transport(batch, rows, columns, least=1):
    """Draws weights that add up to 1, with zeros where there is padding; weights are not differentiable at zero."""
    shares = [torch.rand(batch, size) + 0.2 for size in (rows, columns)]
    shares = [one * ragged(batch, one.shape[1], least) for one in shares]
    return torch.rand(batch, rows, columns), *(one / one.sum(1, keepdim=True) for one in shares)


def scaled(cost, a, b, epsilon, done):
    """Scales rows and columns of exp(-cost / epsilon) until `done` says so of the number and the error."""
    kernel, u, v, number = np.exp(-cost / epsilon), np.ones_like(a), np.ones_like(b), 0
    error = np.inf
    if not cost.size:
        return cost, 7
    while not done(number, error):
        u = np.divide(a, kernel @ v, out=np.zeros_like(a), where=a > 0)
        v = np.divide(b, kernel.T @ u, out=np.zeros_like(b), where=b > 0)
        number, error = number + 1, abs(u * (kernel @ v) - a).sum()
    return u[:, None] * kernel * v, number


def each(done, *inputs):
    found = [scaled(c.numpy(), a.numpy(), b.numpy(), 0.2, done) for c, a, b in zip(*inputs, strict=True)]
    plans = np.array([plan for plan, _ in found]).reshape(inputs[0].shape)
    return torch.from_numpy(plans), torch.tensor([number for _, number in found], dtype=torch.int64)


def wrong(name):
    return (
        (name, swap(0, lambda one: one[0])),
        ("row_mask", swap(1, lambda one: one.float())),
        ("column_mask", swap(2, lambda one: one[0])),
    )


TRANSPORT = {"cost": TABLE, "rows": MASKS["row_mask"], "columns": MASKS["column_mask"]}
WRONG_TRANSPORT = tuple((name, swap(place, lambda one: one[0])) for place, name in enumerate(TRANSPORT))
SOLID = ({**SIZES[0], "least": 4}, *SIZES[1:])
FULL = ({"batch": 2, "rows": 1, "columns": 1}, {"batch": 0, "rows": 3, "columns": 2})
EMPTY = ({"batch": 2, "rows": 0, "columns": 2}, {"batch": 2, "rows": 2, "columns": 0})
SUBJECTS = (
    Subject("soft_dtw", lambda: SoftDTW(0.7), draw, soft_dtw, SIZES, EDGES, {"cost": TABLE, **MASKS}, wrong("cost")),
    Subject("dynamic_time_warping", DynamicTimeWarping, draw, dtw, SIZES, EDGES, {"cost": TABLE, **MASKS}, wrong("cost")),
    Subject(
        "needleman_wunsch",
        lambda: NeedlemanWunsch(-0.4),
        draw,
        needleman_wunsch,
        SIZES,
        EDGES,
        {"similarity": TABLE, **MASKS},
        wrong("similarity"),
    ),
    Subject(
        "smith_waterman",
        lambda: SmithWaterman(-0.4),
        draw,
        smith_waterman,
        SIZES,
        EDGES,
        {"similarity": TABLE, **MASKS},
        wrong("similarity"),
    ),
    Subject(
        "edit_distance",
        EditDistance,
        draw_tokens,
        edit_distance,
        SIZES,
        EDGES,
        {"a": TABLE_A, "b": TABLE_B, "a_mask": TABLE_A, "b_mask": TABLE_B},
        (
            ("a", swap(0, lambda one: one[0])),
            ("b", swap(1, lambda one: one[0])),
            ("a_mask", swap(2, lambda one: one.long())),
            ("b_mask", swap(3, lambda one: one[0])),
        ),
        differentiable=False,
    ),
    Subject(
        "sinkhorn",
        lambda: Sinkhorn(0.2, 7),
        draw_transport,
        lambda layer, *inputs: each(lambda number, _: number == 7, *inputs)[0],
        SOLID,
        (*FULL, *EMPTY),
        TRANSPORT,
        WRONG_TRANSPORT,
        slack=32,  # a rounding of the cost counts 1 / epsilon times
    ),
    Subject(
        "sinkhorn_converged",
        lambda: SinkhornConverged(0.2, 1e-3, 500),
        draw_transport,
        lambda layer, *inputs: each(lambda number, error: error <= 1e-3, *inputs),
        SOLID,
        FULL,
        TRANSPORT,
        WRONG_TRANSPORT,
        slack=32,
    ),
)
