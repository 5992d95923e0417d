"""Which dimensions vary, and which move together: read from the user's `dynamic_shapes`, or found by trying eager at other sizes."""

import contextlib
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from exportkit import sample, state
from exportkit.errors import LoadError
from exportkit.load import Live
from exportkit.results import flatten
from exportkit.spec import Case, Finding, Symbol, fill

Place = tuple[str, int]
_GROUP_LIMIT = 4  # larger groups are tried whole and by axis, not by pairs
_SEED = 9_000


@dataclass(frozen=True, slots=True)
class Found:
    """The dimensions that vary."""

    symbols: tuple[Symbol, ...]
    findings: tuple[Finding, ...] = ()


def find_symbols(live: Live, seconds: float) -> Found:
    """Finds the symbols of a network.

    Args:
        seconds: what one eager run costs, by estimate; where it is much, fewer sizes are tried.

    Raises:
        LoadError: `dynamic_shapes` names an input or an axis that is not there, or eager takes no other size on a declared dimension.
    """
    trial = _Trial(live, max(24, min(200, int(60 / max(seconds, 1e-3)))))
    if live.dynamic_shapes is None:
        groups = _group(trial, [(name, axis) for name, value in live.example.items() for axis in range(value.ndim)])
        return Found(_named(live, [trial.measured(places) for places in groups]))
    declared = _declared(live)
    named: dict[str, list[Place]] = {}
    for place, one in declared.items():
        if one.name:
            named.setdefault(one.name, []).append(place)
    symbols = [_declared_symbol(live, name, places, declared) for name, places in named.items()]
    free = _group(trial, [place for place, one in declared.items() if not one.name])
    symbols += [replace(trial.measured(places), declared=True) for places in free]
    lost = {place for place, one in declared.items() if not one.name} - {place for places in free for place in places}
    if lost:
        name, axis = min(lost)
        raise LoadError(
            f"dynamic_shapes lets axis {axis} of {name} vary, but eager takes no other size there: {trial.last_error}",
            where=live.network.source.file,
            todo="Take the axis out of dynamic_shapes, or mend the network.",
        )
    return Found(_named(live, symbols))


class _Trial:
    """Runs eager at other sizes, a bounded number of times."""

    def __init__(self, live: Live, runs: int) -> None:
        self.live, self.runs = live, runs
        self.last_error = ""
        self._known: dict[Any, bool] = {}
        with torch.no_grad(), state.preserved(live.module):
            result = live.call(live.example)
        self._odd, self._form = _oddities(result), _form(result)

    def accepts(self, moves: Mapping[Place, int]) -> bool:
        """Says whether eager takes the example with some axes longer by these amounts."""
        key = tuple(sorted(moves.items()))
        if key not in self._known:
            self._known[key] = self._run(moves)
        return self._known[key]

    def _run(self, moves: Mapping[Place, int]) -> bool:
        if self.runs <= 0 or any(self.live.example[name].shape[axis] + move < 1 for (name, axis), move in moves.items()):
            return False
        self.runs -= 1
        kinds = ("like", "resampled")  # eager may refuse a value that lies between those of the example
        return any(self._takes(moves, kind) for kind in kinds)

    def _takes(self, moves: Mapping[Place, int], kind: str) -> bool:
        symbols = tuple(Symbol(f"{name}@{axis}", ((name, axis, 0),), self.live.example[name].shape[axis]) for name, axis in moves)
        sizes = {symbol.name: symbol.size + moves[symbol.places[0][:2]] for symbol in symbols}
        inputs = sample.draw(self.live, symbols, Case("trial", sizes, kind, "inside", _SEED))
        try:
            # The fused kernels of attention read beyond a tensor that is too short; the plain one refuses it.
            with torch.no_grad(), state.preserved(self.live.module), sdpa_kernel(SDPBackend.MATH):
                result = self.live.call(inputs)
            if _form(result) != self._form:
                self.last_error = "it returns outputs of another number, rank or type"
                return False
            return not (_oddities(result) - self._odd)
        except Exception as error:  # noqa: BLE001 - refusing a size is an answer
            self.last_error = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            return False

    def step(self, places: Sequence[Place]) -> int:
        """Returns the smallest step by which these axes can grow together; 0 for none."""
        size = min(self.live.example[name].shape[axis] for name, axis in places)
        divisors = [k for k in range(2, size + 1) if size % k == 0] if size > 1 else []
        for step in [1, *divisors]:
            if self.accepts(dict.fromkeys(places, step)) and self.accepts(dict.fromkeys(places, 2 * step)):
                return step
        return 0

    def measured(self, places: Sequence[Place]) -> Symbol:
        """Describes a group that moves: its step and its smallest size."""
        sizes = [self.live.example[name].shape[axis] for name, axis in places]
        size, step = min(sizes), self.step(places)
        offsets = tuple((name, axis, own - size) for (name, axis), own in zip(places, sizes, strict=True))
        low = size
        for candidate in sorted({size - (size - c) // step * step for c in (1, 2, 3, 4, 5, 7, 8) if c < size} - {0}):
            if candidate > 0 and self.accepts(dict.fromkeys(places, candidate - size)):
                low = candidate
                break
        return Symbol("", offsets, size, step, max(low, 1), None)


def _group(trial: _Trial, places: Sequence[Place]) -> list[tuple[Place, ...]]:
    """Groups the axes that move: alone, with axes of the same size, or with any other by the same amount."""
    groups: list[tuple[Place, ...]] = []
    taken: set[Place] = set()
    for candidate in _candidates(trial, places, taken):
        if candidate and not taken & set(candidate) and trial.step(candidate):
            groups.append(candidate)
            taken |= set(candidate)
    left = [place for place in places if place not in taken]
    for wanted in (*([place] for place in left), left, *([place for place in left if place[1] == axis] for axis in {p[1] for p in left})):
        _join(trial, groups, wanted)
    return _jointly(trial, groups)


def _join(trial: _Trial, groups: list[tuple[Place, ...]], wanted: Sequence[Place]) -> None:
    """Adds axes to a group that grows without them but not they without the group: a mask may have rows that nobody reads."""
    for number, group in enumerate(groups):
        sizes = {trial.live.example[name].shape[axis] for name, axis in group}
        more = [(name, axis) for name, axis in wanted if {trial.live.example[name].shape[axis]} == sizes]
        if more and not any(set(more) & set(other) for other in groups) and trial.step((*more, *group)):
            groups[number] = (*more, *group)
            return


def _candidates(trial: _Trial, places: Sequence[Place], taken: set[Place]) -> Iterator[tuple[Place, ...]]:
    yield from ((place,) for place in places)
    sizes: dict[int, list[Place]] = {}
    for place in places:
        sizes.setdefault(trial.live.example[place[0]].shape[place[1]], []).append(place)
    for group in sizes.values():
        left = [place for place in group if place not in taken]
        for axis in {place[1] for place in left}:
            yield tuple(place for place in left if place[1] == axis)
        yield tuple(left)
        for size in range(min(len(left) - 1, _GROUP_LIMIT), 1, -1):
            yield from itertools.combinations(left, size)
        yield from (tuple(p for p in left if p != out) for out in left if len(left) > _GROUP_LIMIT)
    left = [place for place in places if place not in taken]
    yield from itertools.combinations(left, 2)  # axes of other sizes that move by the same amount: a cache and its mask
    for axis in {place[1] for place in left}:
        yield tuple(place for place in left if place[1] == axis)


def _jointly(trial: _Trial, groups: list[tuple[Place, ...]]) -> list[tuple[Place, ...]]:
    """Keeps the groups that also move all at once by different amounts; those that do not are joined with another, or left out."""
    kept: list[tuple[Place, ...]] = []
    for group in groups:
        joined = next((place for place in range(len(kept)) if not _together(trial, [*kept, group])), None)
        if joined is None or _together(trial, [*kept, group]):
            kept.append(group)
            continue
        for place, other in enumerate(kept):
            merged = [*kept[:place], (*other, *group), *kept[place + 1 :]]
            if trial.step(merged[place]) and _together(trial, merged):
                kept = merged
                break
    return kept


def _together(trial: _Trial, groups: Sequence[Sequence[Place]]) -> bool:
    moves = [(group, trial.step(group)) for group in groups]
    first = {place: step * (1 + number) for number, (group, step) in enumerate(moves) for place in group}
    second = {place: step * (len(moves) - number + 1) for number, (group, step) in enumerate(moves) for place in group}
    return trial.accepts(first) and trial.accepts(second)


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the user wrote for one axis; no name: Dim.AUTO or Dim.DYNAMIC."""

    name: str
    low: int = 1
    high: int | None = None
    offset: int = 0


def _declared(live: Live) -> dict[Place, _Declared]:
    found: dict[Place, _Declared] = {}
    shapes = live.dynamic_shapes
    bound, flat = _arguments(live)
    if not isinstance(shapes, Mapping):
        names = flat if isinstance(shapes, list | tuple) and len(shapes) > len(bound) else bound  # *args one by one, too
        shapes = dict(_paired(live, "forward", list(names), shapes))
    for name, shape in shapes.items():
        if name not in (arguments := bound if name in bound else flat):
            raise LoadError(
                f"dynamic_shapes names {name!r}, which is no input",
                where=live.network.source.file,
                todo=f"The inputs are {', '.join(bound)}.",
            )
        _walk(live, name, arguments[name], shape, found)
    return found


def _arguments(live: Live) -> tuple[dict[str, Any], dict[str, Any]]:
    """Maps forward's parameters to input names in the form of their arguments: as torch.export does, *args one entry; and one by one."""
    tree = live.network.input_tree["dict"]
    leaves = {spec.name: spec.name for spec in live.network.inputs}
    args = [fill(one, leaves) for one in tree["args"]["tuple"]]
    kwargs = {key: fill(one, leaves) for key, one in tree["kwargs"]["dict"].items()}
    flat = {one if isinstance(one, str) else f"argument {place}": one for place, one in enumerate(args)} | kwargs
    try:
        return dict(inspect.signature(live.module.forward).bind(*args, **kwargs).arguments), flat
    except (TypeError, ValueError):  # a ScriptModule's forward has no signature in Python
        return flat, flat


def _paired(live: Live, holder: str, children: Sequence[Any], shapes: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(shapes, list | tuple) or len(shapes) > len(children):
        count = f"{len(shapes)} entries" if isinstance(shapes, list | tuple) else f"a {type(shapes).__name__}"
        raise LoadError(
            f"dynamic_shapes holds {count} for {holder}, which takes {len(children)}",
            where=live.network.source.file,
            todo="Write it as torch.export takes it: an entry for each argument of forward, such as {0: Dim.DYNAMIC} or None.",
        )
    return zip(children, shapes, strict=False)


def _walk(live: Live, name: str, argument: Any, shape: Any, found: dict[Place, _Declared]) -> None:
    if shape is None or argument is None:
        return
    if isinstance(argument, Mapping):
        if strange := [key for key in shape if key not in argument] if isinstance(shape, Mapping) else [shape]:
            raise LoadError(
                f"dynamic_shapes names {strange[0]!r} of {name}, which holds {', '.join(argument)}", where=live.network.source.file
            )
        for key, one in shape.items():
            _walk(live, f"{name}[{key!r}]", argument[key], one, found)
    elif not isinstance(argument, str):
        for place, (child, one) in enumerate(_paired(live, name, argument, shape)):
            _walk(live, f"{name}[{place}]", child, one, found)
    else:
        rank = live.example[argument].ndim
        for axis, dim in shape.items() if isinstance(shape, Mapping) else enumerate(shape):
            if not -rank <= axis < rank:
                raise LoadError(f"dynamic_shapes names axis {axis} of {argument}, which has {rank}", where=live.network.source.file)
            if (one := _read_dim(dim)) is not None:
                found[argument, axis % rank] = one


def _read_dim(dim: Any) -> _Declared | None:
    from torch.export import Dim  # 1 s to import, and only needed where the user, who imported it, wrote one

    if dim is None or isinstance(dim, int) or dim is Dim.STATIC:
        return None
    if dim in (Dim.AUTO, Dim.DYNAMIC):
        return _Declared("")
    if isinstance(dim, str):
        return _Declared(dim)
    root = getattr(dim, "root", None)
    if root is not None:
        offset = dim.fn(0) if dim.fn(1) - dim.fn(0) == 1 else 0
        return _Declared(root.__name__, offset=offset) if dim.fn(1) - dim.fn(0) == 1 else _Declared("")
    high = getattr(dim, "max", None)
    return _Declared(dim.__name__, max(int(getattr(dim, "min", 1)), 1), high if isinstance(high, int) and high < 2**31 else None)


def _declared_symbol(live: Live, name: str, places: Sequence[Place], declared: Mapping[Place, _Declared]) -> Symbol:
    sizes = [live.example[tensor].shape[axis] - declared[tensor, axis].offset for tensor, axis in places]
    if len(set(sizes)) > 1:
        told = ", ".join(f"{tensor} axis {axis} = {live.example[tensor].shape[axis]}" for tensor, axis in places)
        raise LoadError(f"dimension {name} has several sizes in the example: {told}", where=live.network.source.file)
    axes = tuple((tensor, axis, declared[tensor, axis].offset) for tensor, axis in places)
    low = max(declared[place].low for place in places)
    high = min((high for place in places if (high := declared[place].high) is not None), default=None)
    if not low <= sizes[0] <= (high or sizes[0]):
        raise LoadError(
            f"dynamic_shapes lets {name} be {low} to {high or 'any size'}, and it is {sizes[0]} in the example",
            where=live.network.source.file,
            todo="Widen the range, or give an example inside of it.",
        )
    return Symbol(name, axes, sizes[0], 1, low, high, declared=True)


def _named(live: Live, symbols: Sequence[Symbol]) -> tuple[Symbol, ...]:
    """Names the symbols that the user did not: "batch" for the first axis of the first tensor, else "x_1"."""
    first = next(iter(live.example), "")
    taken = set(live.example) | {symbol.name for symbol in symbols if symbol.name}
    named = []
    for symbol in symbols:
        name = symbol.name
        if not name:
            shares = any(place[:2] == (first, 0) for place in symbol.places)
            whole = live.example[first].ndim > 1 or len(symbol.places) > 1 if first else False
            name = "batch" if shares and whole else f"{symbol.places[0][0]}_{symbol.places[0][1]}"
            while name in taken:
                name += "_"
            taken.add(name)
        named.append(replace(symbol, name=name))
    return tuple(named)


def _form(result: Any) -> list[tuple[str, torch.dtype, int]]:
    """Lists the outputs by name, element type and rank."""
    return [(name, leaf.dtype, leaf.ndim) for name, leaf in flatten(result, frozenset())[1].items()]


def _oddities(result: Any) -> set[str]:
    """Names the kinds of values that are not finite."""
    odd: set[str] = set()
    for leaf in torch.utils._pytree.tree_leaves(result):  # noqa: SLF001 - torch's own tree of results
        if isinstance(leaf, torch.Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            with contextlib.suppress(RuntimeError, NotImplementedError):
                odd |= {"nan"} if bool(torch.isnan(leaf).any()) else set()
                odd |= {"inf"} if bool(torch.isinf(leaf).any()) else set()
    return odd
