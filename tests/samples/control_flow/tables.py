"""Writes networks whose two nested loops fill a table cell by cell, at random; some can be filled along their diagonals, some cannot."""

import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

FILE = "table.py"
_NUMBERS = count()
_NEAR = ((-1, 0), (0, -1), (-1, -1))
_FAR = (*_NEAR, (-2, -1), (0, 0), (0, -2), (1, 0), (-1, 1), (0, 1), (1, -1))  # the last four need what is not there yet, or no more
# What a cell of each kind of table is: where it stands, the axes before and behind, and what else is read.
_TABLES = {
    "scalar": ("dp[{}, {}]", "", "", ("x[{i}, {j}]", "a[{i}]", "b[{j}]", "w[i % 3]", "x[0, 0]")),
    "batch": ("dp[:, {}, {}]", "x.shape[0], ", "", ("x[:, {i}, {j}]", "a[:, {i}]", "b[:, {j}]")),
    "vector": ("dp[{}, {}]", "", ", 3", ("x[{i}, {j}]", "a[{i}]", "b[{j}]", "w", "self.layer(a[{i}])")),
    "one of many": ("dp[k, {}, {}]", "x.shape[0], ", "", ("x[k, {i}, {j}]", "a[k, {i}]", "b[k, {j}]", "a[k][{i}]")),
}
_OF_TWO = ("({} + {})", "({} - {})", "({} * {})", "torch.minimum({}, {})", "torch.max({}, {})", "torch.where({0} > {1}, {0}, {1})")
_OF_KIND = {
    "scalar": ("min({}, {})", "torch.stack([{}, {}]).min()", "({} + float({}))", "torch.stack([{}, {}]).logsumexp(0)"),
    "batch": (
        "torch.stack([{}, {}], 1).logsumexp(1)", "torch.stack([{}, {}]).amin(0)", "torch.stack([{}, {}], -1).max(-1)[0]",
        "torch.stack([{}, {}], 1).sum(dim=1)",
    ),
    "vector": ("torch.norm({} - {})", "({} - {}).pow(2).sum().sqrt()", "torch.softmax({} + {}, -1)", "({} + self.layer({}))"),
    "one of many": ("max({}, {})", "torch.stack([{}, {}]).logsumexp(0)"),
}  # fmt: skip
_CONDITIONS = ("i > j", "i == 0 and j == 0", "i > 1 and j > 1", "i == 0 or j == 0", "not (i == 0 and j == 0)", "abs(i - j) <= 1", "i >= 2")
SIZES = ((5, 4), (1, 1), (2, 7), (0, 3), (3, 0), (1, 5))


@dataclass(frozen=True)
class Table:
    """A network, and how to draw its inputs for a table of so many rows and columns."""

    source: str
    network: nn.Module
    draw: Callable[[int, int], tuple[Tensor, ...]]


class _Writer:
    def __init__(self, seed: int) -> None:
        self.any = random.Random(seed)  # noqa: S311
        self.kind = self.any.choice(list(_TABLES))
        self.cell, self.before, self.behind, self.others = _TABLES[self.kind]
        self.turned = self.any.random() < 0.3
        self.add = (self.any.choice((0, 1, 1, 2)), self.any.choice((0, 1, 1, 2)))
        self.counts_from = self.add if self.any.random() < 0.5 else (0, 0)

    def index(self, counter: int, more: int) -> str:
        name, more = "ij"[counter], more - self.counts_from[counter]
        return name if not more else f"{name} {'+' if more > 0 else '-'} {abs(more)}"

    def at(self, row: int, column: int) -> str:
        places = [self.index(0, row), self.index(1, column)]
        return self.cell.format(*(reversed(places) if self.turned else places))

    def value(self, terms: list[str]) -> str:
        """Joins terms by operations of two."""
        joined = terms[0]
        for term in terms[1:]:
            tensors = "[" in joined and "[" in term
            joined = self.any.choice((*_OF_TWO, *_OF_KIND[self.kind]) if tensors else _OF_TWO[:3]).format(joined, term)
        return joined

    def terms(self) -> list[str]:
        away = [self.any.choice(_FAR if self.any.random() < 0.25 else _NEAR) for _ in range(self.any.choice((1, 2, 3)))]
        cells = [(self.add[0] + row, self.add[1] + column) for row, column in away]
        read = [self.at(*one) for one in cells if min(one) >= 0 or self.any.random() < 0.1]
        counters = {"i": self.index(0, 0), "j": self.index(1, 0)}
        others = [one.format(**counters) for one in self.any.sample(self.others, self.any.choice((1, 2)))]
        numbers = [self.any.choice(("abs(i - j)", "float(i)", "i * 0.5"))] if self.any.random() < 0.2 else []
        whole = [*read, *others]
        self.any.shuffle(whole)
        return [*whole, *numbers]

    def body(self) -> list[str]:
        cell, terms = self.at(*self.add), self.terms()
        form = self.any.random()
        if form < 0.15:
            return [f"{cell} += {self.value(terms)}"]
        if form < 0.5 and self.kind in ("scalar", "one of many"):
            flag = self.any.choice((*_CONDITIONS, f"{next(one for one in terms if '[' in one)} > 0"))
            otherwise = ["else:", f"    {cell} = {self.value(self.terms())}"] if self.any.random() < 0.7 else []
            return [f"if {flag}:", f"    {cell} = {self.value(terms)}", *otherwise]
        return [f"v = {self.value(terms)}", f"{cell} = torch.tanh(v)"] if self.any.random() < 0.3 else [f"{cell} = {self.value(terms)}"]

    def source(self) -> str:
        first = 1 if self.before else 0
        sizes = [f"n + {self.add[0]}", f"m + {self.add[1]}"]
        shape = f"{self.before}{', '.join(reversed(sizes) if self.turned else sizes)}{self.behind}"
        ranges = [f"range({low}, {size} + {low})" if low else f"range({size})" for low, size in zip(self.counts_from, "nm", strict=True)]
        loops = [*(["for k in range(x.shape[0]):"] if "k" in self.cell else []), f"for i in {ranges[0]}:", f"for j in {ranges[1]}:"]
        lines = [
            f"n, m = x.shape[{first}], x.shape[{first + 1}]",
            f"dp = torch.{self.any.choice(('zeros', 'ones'))}({shape})",
            *("    " * depth + loop for depth, loop in enumerate(loops)),
            *("    " * len(loops) + line for line in self.body()),
            "return dp",
        ]
        head = "import torch\nfrom torch import nn\n\n\nclass Network(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        layer = "        self.layer = nn.Linear(3, 3)\n\n    def forward(self, x, a, b, w):\n"
        return head + layer + "".join(f"        {line}\n" for line in lines)


def write(seed: int) -> Table:
    writer = _Writer(seed)
    source, file = writer.source(), f"{FILE[:-3]}_{next(_NUMBERS)}.py"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # TorchScript reads the source
    space: dict[str, Any] = {"__name__": file}
    exec(compile(source, file, "exec"), space)  # noqa: S102
    many, wide = (2,) if writer.before else (), (3,) if writer.behind else ()

    def draw(rows: int, columns: int) -> tuple[Tensor, ...]:
        torch.manual_seed(rows * 100 + columns)
        sizes = ((rows, columns), (rows,), (columns,))
        return (*(torch.randn(*many, *one, *wide) for one in sizes), torch.randn(3))

    torch.manual_seed(seed)
    return Table(source, space["Network"]().eval(), draw)
