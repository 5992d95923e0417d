"""Writes small scriptable networks: loops, branches, lists and in-place writes, nested at random.

Every choice is one number, asked of the caller, and 0 is the plainest: hypothesis shrinks a failing program by lowering them.
"""

import linecache
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

FILE = "generated.py"
WIDTH = 3
_KINDS = ("int", "row", "list", "table", "list", "copy", "scalar", "float", "bool", "numbers", "grid")
Pick = Callable[[int], int]  # a number from 0 to below the one given

_HEAD = """\
import torch
from typing import List
from torch import Tensor, nn


def blend(a: Tensor, b: Tensor, share: float) -> Tensor:
    return share * a + (1 - share) * b


def shrunk(a: Tensor, limit: float) -> Tensor:
    if a.abs().sum() > limit:
        return a * 0.5
    return a


class Generated(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.gate = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x, y, mask, index):
"""


@dataclass(frozen=True, slots=True)
class Generated:
    """A network and its source.

    Attributes:
        batched: x and y are (2, N, 3), and the loops run over axis 1; else they are (N, 3).
    """

    source: str
    batched: bool

    def network(self) -> nn.Module:
        space: dict[str, Any] = {"__name__": "generated"}
        linecache.cache[FILE] = (len(self.source), None, self.source.splitlines(keepends=True), FILE)
        exec(compile(self.source, FILE, "exec"), space)
        torch.manual_seed(0)
        return space["Generated"]().eval()

    def draw(self, length: int) -> tuple[Tensor, ...]:
        torch.manual_seed(length)
        shape = (2, length, WIDTH) if self.batched else (length, WIDTH)
        return torch.randn(shape), torch.randn(shape), torch.rand(length) > 0.4, torch.randint(0, 3, (length,))


@dataclass(slots=True)
class _Scope:
    """The variables that have a value at a place, by type, and what stands around it."""

    names: dict[str, list[str]] = field(default_factory=dict)
    loops: int = 0
    leaves: bool = False  # inside of a loop of its own: `break` and `continue` may stand here

    def of(self, kind: str) -> list[str]:
        return self.names.get(kind, [])

    def add(self, kind: str, name: str) -> str:
        self.names.setdefault(kind, []).append(name)
        return name

    def inner(self, *, loop: bool = False) -> "_Scope":
        names = {kind: list(known) for kind, known in self.names.items()}
        return _Scope(names, self.loops + loop, self.leaves or loop)


def generate(pick: Pick, statements: int = 6) -> Generated:
    """Writes a program.

    Args:
        statements: so many may stand before no more loops and branches are begun.
    """
    return _Writer(pick, statements).program()


class _Writer:
    def __init__(self, pick: Pick, statements: int) -> None:
        self.pick, self.left = pick, statements
        self.lines: list[str] = []
        self.depth = 2
        self.batched = False
        self.made = 0
        self.result = ""

    # ---- choices

    def one(self, *options: Any) -> Any:
        return options[self.pick(len(options))]

    def rarely(self) -> bool:
        return self.pick(4) == 3

    def new(self, letter: str) -> str:
        self.made += 1
        return f"{letter}{self.made}"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    # ---- the whole

    def program(self) -> Generated:
        self.batched = self.rarely()
        scope = _Scope()
        self.line(f"n = x.shape[{1 if self.batched else 0}]")
        scope.add("int", "n")
        given = [self.declare(scope, kind) for kind in ("row", self.one(*_KINDS), self.one(*_KINDS))]
        self.result = f"return {', '.join(dict.fromkeys(given))}"
        self.for_loop(scope) if not self.rarely() else self.while_loop(scope)
        for _ in range(self.pick(3)):
            self.statement(scope)
        self.line(self.result)
        return Generated(_HEAD + "\n".join(self.lines) + "\n", self.batched)

    def declare(self, scope: _Scope, kind: str) -> str:
        """Declares a variable that the network returns; gives the expression to return."""
        if kind == "row":
            like = f"x[{':, ' if self.batched else ''}0]"
            zeros = "torch.zeros(2, 3)" if self.batched else "torch.zeros(3)"
            name = self.new("h")
            self.line(f"{name} = {self.one(zeros, f'torch.zeros_like({like})', f'{like} * 0.5', f'{like}.clone()', like)}")
            return scope.add("row", name)
        if kind == "list":
            name = self.new("out")
            if self.pick(3) == 2:
                self.line(f"{name}: List[Tensor] = []")
                scope.add("empty", name)
            else:
                self.line(f"{name} = [{self.row(scope, 1)}]")
                scope.add("list", name)
            stacked = [f"torch.stack({name})", f"torch.stack({name}, 1)", f"torch.cat({name}, {int(self.batched)})"]
            return self.one(*stacked, f"torch.stack({name}), {name}[-1]")
        if kind in ("table", "copy"):
            name = self.new("table")
            self.line(f"{name} = {'torch.zeros_like(x)' if kind == 'table' else self.one('x.clone()', 'x * 0.5')}")
            return scope.add("table", name)
        if kind == "grid":
            name = self.new("dp")
            self.line(f"{name} = torch.zeros(n + 1, 4)")
            return scope.add("grid", name)
        if kind == "scalar":
            name = self.new("s")
            self.line(f"{name} = {self.one('torch.zeros(())', 'x.sum() * 0.1', 'torch.tensor(0.5)')}")
            return scope.add("scalar", name)
        if kind == "numbers":
            name = self.new("picks")
            self.line(f"{name}: List[int] = {self.one('[]', '[1]', '[n]')}")
            scope.add("numbers", name)
            return f"torch.tensor({name}), len({name})"
        name = self.new({"int": "k", "float": "f", "bool": "b"}[kind])
        start = {"int": ("0", "1", "n", "-1"), "float": ("1.0", "0.25"), "bool": ("False", "True")}[kind]
        self.line(f"{name} = {self.one(*start)}")
        return scope.add(kind, name)

    # ---- statements

    def body(self, scope: _Scope, least: int = 1) -> None:
        self.depth += 1
        for _ in range(least + self.pick(3)):
            self.statement(scope)
        self.depth -= 1

    def statement(self, scope: _Scope) -> None:
        self.left -= 1
        simple = [self.assign, self.assign, self.write, self.append, self.number, self.augment]
        nested = [self.branch, self.for_loop, self.while_loop, self.swap, self.local]
        deep = self.left <= 0 or self.depth > 5
        options = simple if deep else simple + nested
        if scope.leaves:
            options = [*options, self.leave]
        self.one(*options)(scope)

    def assign(self, scope: _Scope) -> None:
        if not scope.of("row"):
            return self.number(scope)
        name = self.one(*scope.of("row"))
        wrap = self.one("torch.tanh({})", "torch.tanh({})", "0.5 * ({})", "torch.clamp({}, -2.0, 2.0)")
        return self.line(f"{name} = {wrap.format(self.row(scope, 2))}")

    def augment(self, scope: _Scope) -> None:
        if not scope.of("row"):
            return self.write(scope)
        name = self.one(*scope.of("row"))
        row = self.row(scope, 1)
        return self.line(
            self.one(
                f"{name} += torch.tanh({row})",
                f"{name} *= 0.5",
                f"{name}[{self.dots()}{self.pick(WIDTH)}] = {self.scalar(scope, 1)}",
                f"{name}[{name} > 0.6137] = 0.25",
                f"{name}.add_(torch.tanh({row}))",
            )
        )

    def write(self, scope: _Scope) -> None:
        if scope.of("grid") and self.pick(2) == 0:
            name, row, column = self.one(*scope.of("grid")), self.index(scope), self.column(scope)
            places = [f"{row} + 1, {column} + 1", f"{row}, {column}", f"-1, {column}"]
            return self.line(f"{name}[{self.one(*places)}] = {self.scalar(scope, 2)}")
        if not scope.of("table"):
            return self.append(scope)
        name, at = self.one(*scope.of("table")), self.index(scope)
        rows = f"{name}[{self.at(at)}]"
        return self.line(
            self.one(
                f"{rows} = torch.tanh({self.row(scope, 2)})",
                f"{rows} += torch.tanh({self.row(scope, 1)})",
                f"{name}[{self.at(at)}, {self.column(scope)}] = {self.scalar(scope, 1)}",
                f"{name}[{self.at(at)}, 1:] = {self.scalar(scope, 1)}",
                f"{rows} *= 0.5",
                f"{name}[{name} > 0.6137] = 0.25",
                f"{name}[{self.at(f'{at}:')}] = {self.scalar(scope, 1)}",
                f"{rows}[{self.dots()}0] = {self.scalar(scope, 1)}",
                f"{name}[{self.at(f'{at} : {at} + 1')}] += {self.scalar(scope, 1)}",
                f"{name}[{self.at(f'{at}:')}, {self.pick(WIDTH)}] += 0.25",
            )
        )

    def append(self, scope: _Scope) -> None:
        known = scope.of("list") + scope.of("empty")
        if known and not (scope.of("numbers") and self.rarely()):
            return self.line(f"{self.one(*known)}.append({self.row(scope, 2)})")
        if scope.of("numbers"):
            return self.line(f"{self.one(*scope.of('numbers'))}.append({self.int(scope, 1)})")
        return self.number(scope)

    def number(self, scope: _Scope) -> None:
        ints = [name for name in scope.of("int") if name.startswith("k")]
        kinds = [kind for kind in ("scalar", "float", "bool") if scope.of(kind)] + ["int"] * bool(ints)
        if not kinds:
            return self.augment(scope)
        kind = self.one(*kinds)
        if kind == "int":
            name = self.one(*ints)
            return self.line(
                self.one(f"{name} += 1", f"{name} = ({self.int(scope, 2)}) % 7", f"{name} -= 1", f"{name} = min({self.int(scope, 1)}, 5)")
            )
        name = self.one(*scope.of(kind))
        if kind == "scalar":
            return self.line(self.one(f"{name} = torch.tanh({self.scalar(scope, 2)})", f"{name} += torch.tanh({self.scalar(scope, 1)})"))
        if kind == "float":
            return self.line(self.one(f"{name} = {name} * 0.5", f"{name} += 0.25", f"{name} = {self.float(scope)}"))
        return self.line(f"{name} = {self.bool(scope, 2)}")

    def swap(self, scope: _Scope) -> None:
        if len(scope.of("row")) < 2:
            return self.local(scope)
        a, b = scope.of("row")[:2]
        return self.line(self.one(f"{a}, {b} = {b}, {a}", f"{a}, {b} = torch.tanh({a} + {b}), {a}"))

    def local(self, scope: _Scope) -> None:
        kind = self.one("row", "scalar", "int")
        if kind == "row":
            text, name = self.row(scope, 2), self.new("r")
        elif kind == "scalar":
            text, name = self.scalar(scope, 2), self.new("s")
        else:
            text, name = self.int(scope, 2), self.new("j")
        self.line(f"{name} = {text}")
        scope.add(kind, name)

    def branch(self, scope: _Scope) -> None:
        self.line(f"if {self.bool(scope, 2)}:")
        self.body(scope.inner())
        for _ in range(self.pick(2)):
            self.line(f"elif {self.bool(scope, 1)}:")
            self.body(scope.inner())
        if self.pick(2):
            self.line("else:")
            self.body(scope.inner())

    def leave(self, scope: _Scope) -> None:
        self.line(f"if {self.bool(scope, 1)}:")
        self.depth += 1
        early = [] if "torch." in self.result else [self.result]  # a list that grows is not to be returned from inside of the loop
        self.line(self.one("break", "continue", *early))
        self.depth -= 1

    # ---- loops

    def for_loop(self, scope: _Scope) -> None:
        inner = scope.inner(loop=True)
        head = self.head(scope, inner)
        self.line(f"for {head}:")
        self.body(inner, least=2 if scope.loops == 0 else 1)

    def head(self, scope: _Scope, inner: _Scope) -> str:
        i = self.new("t")
        kind = self.pick(14)
        if kind < 6:
            inner.add("index", i)
            inner.add("int", i)
            if kind == 1:
                inner.add("before", i)
            ranges = ("n", "1, n", "n - 1, -1, -1", "0, n, 2", "n - 1", "n - 2, -1, -2")
            if kind == 4:
                inner.add("after", i)
            return f"{i} in range({ranges[kind]})"
        if kind == 6:
            inner.add("column", i)
            inner.add("int", i)
            return f"{i} in range(x.shape[-1])"
        if kind == 7:
            inner.add("int", i)
            return f"{i} in range({self.one('3', '2', '20')})"
        if kind == 8:
            inner.add("int", i)
            return f"{i} in range(abs({self.int(scope, 1)}) % 4)"
        if kind == 9 and scope.of("list"):
            inner.add("seen", i)
            return f"{i} in {self.one(*scope.of('list'))}"
        if kind == 10 and scope.of("index"):
            inner.add("index", i)
            inner.add("int", i)
            return f"{i} in range({self.one(*scope.of('index'))}{self.one('', ' + 1')})"
        rows, more = self.new("a"), self.new("b")
        inner.add("seen", rows)
        x, y = ("x.unbind(1)", "y.unbind(1)") if self.batched else self.one(("x", "y"), ("x.unbind(0)", "y"))
        if kind == 11:
            return f"{rows} in {x}"
        inner.add("index", i)
        inner.add("int", i)
        if kind == 12:
            return f"{i}, {rows} in enumerate({x})"
        inner.add("seen", more)
        return f"{i}, ({rows}, {more}) in enumerate(zip({x}, {y}))"

    def while_loop(self, scope: _Scope) -> None:
        inner, count = scope.inner(loop=True), self.new("c")
        kind = self.pick(4)
        self.line(f"{count} = 0")
        limit = "n" if kind == 0 else self.one("4", "6", "n + 1")
        extra = {2: f" and {self.bool(scope, 1)}"}.get(kind, "")
        inner.add("int", count)
        if kind == 3:
            self.line("while True:")
            self.depth += 1
            self.line(f"if {count} >= {limit}{self.one('', f' or {self.bool(scope, 1)}')}:")
            self.line("    break")
            self.depth -= 1
        else:
            self.line(f"while {count} < {limit}{extra}:")
        if kind == 0:
            inner.add("index", count)
        self.depth += 1
        early = self.pick(2) and kind != 0
        if early:
            self.line(f"{count} += 1")
        self.depth -= 1
        inner.leaves = bool(early)  # a `continue` before the counter would never end
        self.body(inner)
        self.depth += 1
        if not early:
            self.line(f"{count} += {self.one('1', '1', '2')}")
        self.depth -= 1
        scope.add("int", count)

    # ---- expressions

    def dots(self) -> str:
        return ":, " if self.batched else ""

    def at(self, index: str) -> str:
        return f"{self.dots()}{index}"

    def index(self, scope: _Scope) -> str:
        """Writes an int at which x has a row, where it has one at all."""
        known = scope.of("index")
        if not known:
            return self.one("0", "-1")
        i = self.one(*known)
        options = [i, i, f"{i} - 1", f"n - 1 - {i}", f"-{i} - 1"]
        options += [f"{one} + 1" for one in scope.of("after")]
        return self.one(*options)

    def column(self, scope: _Scope) -> str:
        return self.one(*(scope.of("column") or ["0"]), str(self.pick(WIDTH)))

    def row(self, scope: _Scope, depth: int) -> str:
        known = scope.of("row") + scope.of("seen")
        plain = [f"x[{self.at(self.index(scope))}]", f"y[{self.at(self.index(scope))}]", *known, *known]
        plain += [f"{name}[{self.at(self.index(scope))}]" for name in scope.of("table")]
        plain += [f"{name}[{self.one('-1', '0')}]" for name in scope.of("list")]
        if depth <= 0 or self.pick(3) == 0:
            return self.one(*plain)
        a, lazily = self.row(scope, depth - 1), lambda: self.row(scope, depth - 1)
        axis = int(self.batched)
        kind = self.pick(16)
        if kind < 3:
            return f"{a} + {lazily()}"
        if kind == 3:
            return f"self.cell({a})"
        if kind == 4:
            return f"{a} * {self.float(scope)}"
        if kind == 5:
            return f"blend({a}, {lazily()}, 0.75)"
        if kind == 6:
            return f"torch.where({a} > 0.137, {lazily()}, {a})"
        if kind == 7:
            return f"torch.maximum({a}, {lazily()})"
        if kind == 8:
            return f"{a} - {self.int(scope, 1)}"
        if kind == 9:
            return f"{a} * {self.scalar(scope, 0)}"
        if kind == 10:
            return f"torch.sigmoid(self.gate({a})) * {lazily()}"
        if kind == 11:
            i = self.index(scope)
            return f"x[{self.at(f': {i} + 1')}].sum({axis})" if scope.of("index") else f"x.mean({axis})"
        if kind == 12 and scope.of("list"):
            return f"torch.stack({self.one(*scope.of('list'))}).mean(0)"
        if kind == 13:
            return f"shrunk({a}, 2.137)"
        if kind == 14:
            return f"y[{self.at(f'int(index[{self.index(scope)}]) % n')}]"
        return f"({a} if {self.bool(scope, 0)} else {lazily()})"

    def scalar(self, scope: _Scope, depth: int) -> str:
        row = self.row(scope, max(0, depth - 1))
        cell = f"x[{'0, ' if self.batched else ''}{self.index(scope)}, {self.column(scope)}]"
        plain = [f"({row}).sum()", cell, *scope.of("scalar"), *scope.of("scalar"), f"({row})[{'0, ' if self.batched else ''}1]"]
        for name in scope.of("grid"):
            plain += [f"{name}[{self.index(scope)}, {self.column(scope)}]", f"{name}[{self.index(scope)} + 1, {self.column(scope)}]"]
        text = self.one(*plain)
        if depth <= 0:
            return text
        kind = self.pick(5)
        if kind == 0:
            return text
        if kind == 1:
            return f"{text} + {self.scalar(scope, depth - 1)}"
        if kind == 2:
            return f"torch.minimum({text}, {self.scalar(scope, depth - 1)})"
        if kind == 3:
            return f"{text} * {self.float(scope)}"
        return f"({text} + {self.int(scope, 0)})"

    def int(self, scope: _Scope, depth: int) -> str:
        known = scope.of("int")
        plain = [*known, *known, "1", "2", f"int(index[{self.index(scope)}])"]
        plain += [f"len({name})" for name in scope.of("list") + scope.of("numbers") + scope.of("empty")]
        text = self.one(*plain)
        if depth <= 0:
            return text
        other = lambda: self.int(scope, depth - 1)  # noqa: E731
        kind = self.pick(8)
        if kind < 2:
            return text
        if kind == 2:
            return f"{text} + {other()}"
        if kind == 3:
            return f"max({text}, {other()})"
        if kind == 4:
            return f"({text} - {other()})"
        if kind == 5:
            return f"int(({self.row(scope, 0)}).argmax())"
        if kind == 6:
            return f"({text}) // 2"
        return f"({text} if {self.bool(scope, 0)} else {other()})"

    def float(self, scope: _Scope) -> str:
        known = scope.of("float")
        plain = ["0.5", *known, *known, f"(0.1 * {self.one(*scope.of('int'))})", f"torch.tanh({self.scalar(scope, 0)}).item()", "1 / n"]
        return self.one(*plain)

    def bool(self, scope: _Scope, depth: int) -> str:
        known = scope.of("int")
        numbers = self.one(*known)
        plain = [
            f"bool({self.scalar(scope, 0)} > 0.137)",
            f"{numbers} % 2 == 0",
            f"{numbers} > {self.one('1', '2', '3')}",
            f"bool(mask[{self.index(scope)}])",
            f"{numbers} < {self.int(scope, 0)}",
            "n > 3",
            f"bool(({self.row(scope, 0)} > 0.6137).any())",
            *scope.of("bool"),
            *scope.of("bool"),
        ]
        plain += [f"len({name}) > 2" for name in scope.of("list") + scope.of("empty")]
        text = self.one(*plain)
        if depth <= 0:
            return text
        kind = self.pick(5)
        if kind < 2:
            return text
        if kind == 2:
            return f"not {text}"
        return f"({text} {self.one('and', 'or')} {self.bool(scope, depth - 1)})"
