"""Where forward decides by the value of a tensor. A trace holds the way that it saw: cases that went another way prove it.

Sizes are no values: the tracer follows them, and eager's own are numbers that no tensor holds. A branch on a size is found in the guards of
an export (guards.py); where there is none, the trace alone tells its line.
"""

import ast
import contextlib
import functools
import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import _tensor_str

from exportkit import diagnosis

_READS = ("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__", "item", "tolist", "numpy")
_OF_SIZES = {"aten::size", "aten::numel", "aten::dim", "aten::len"}
_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))  # no network's own code


@dataclass(slots=True)
class Decisions:
    """What forward read of its tensors, by the line that reads, as "net.py:12".

    Attributes:
        answers: where it was a boolean: the answers, in their order.
        numbers: where it was a number, which Python may compare with anything.
        sizes: where a trace took a boolean that hangs on sizes alone.
        packages: which of these lines are an installed package's.
    """

    answers: dict[str, list[bool]] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    sizes: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)


@contextlib.contextmanager
def watched(seen: Decisions) -> Iterator[None]:
    """Records what a run of forward reads of tensors; inside of `torch.jit.trace`, of those that hang on the values of inputs."""
    own = {name: getattr(torch.Tensor, name) for name in _READS}
    inherited = [name for name in _READS if name not in vars(torch.Tensor)]
    inside = [False]  # a read calls others

    def recording(read: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(read)
        def recorded(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if inside[0]:
                return read(tensor, *args, **kwargs)
            inside[0] = True
            try:
                value = read(tensor, *args, **kwargs)
                origin = _hangs_on(tensor) if torch._C._get_tracing_state() else "values"  # noqa: SLF001 - torch has no public way
                if origin == "values" or (origin == "sizes" and isinstance(value, bool)):
                    _record(seen, value, sys._getframe(1), of_size=origin == "sizes")  # noqa: SLF001 - the usual way to a caller
            finally:
                inside[0] = False
            return value

        return recorded

    for name, read in own.items():
        setattr(torch.Tensor, name, recording(read))
    try:
        yield
    finally:
        for name, read in own.items():
            delattr(torch.Tensor, name) if name in inherited else setattr(torch.Tensor, name, read)


def _record(seen: Decisions, value: Any, frame: FrameType | None, *, of_size: bool) -> None:
    if frame and _only_raises(frame.f_code.co_filename, frame.f_lineno):
        return
    while frame and frame.f_code.co_filename.startswith(_OWN):
        if frame.f_code.co_filename == _tensor_str.__file__:
            return  # a tensor as text, which decides nothing
        frame = frame.f_back
    if frame is None or _only_raises(frame.f_code.co_filename, frame.f_lineno):
        return
    place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    if not diagnosis.is_user_file(frame.f_code.co_filename):
        seen.packages.add(place)
    if of_size:
        seen.sizes.add(place)
    elif isinstance(value, bool):
        seen.answers.setdefault(place, []).append(value)
    else:
        seen.numbers.add(place)


def _hangs_on(tensor: torch.Tensor) -> str:
    """Says what leads to a tensor of the trace that is being made: "values" of an input, else "sizes" of one, else ""."""
    try:
        todo, known, found = [torch._C._get_value_trace(tensor)], set(), ""  # type: ignore[attr-defined]  # noqa: SLF001 - torch has no public way
    except RuntimeError:
        return ""  # a constant
    while todo:
        value = todo.pop()
        node = value.node()
        if node.kind() == "prim::Param" and value.type().kind() == "TensorType":
            return "values"
        if node.kind() in _OF_SIZES:
            found = "sizes"
        elif value.debugName() not in known:
            known.add(value.debugName())
            todo += node.inputs()
    return found


@functools.cache
def _only_raises(file: str, line: int) -> bool:
    """Says whether a line decides no more than whether to raise: eager has no other side to compare with."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and node.lineno <= line <= (node.end_lineno or 0):
            return True
        if isinstance(node, ast.If) and node.test.lineno <= line <= (node.test.end_lineno or 0):
            return isinstance(node.body[-1], ast.Raise) and not node.orelse
    return False


def ways(runs: Sequence[Decisions]) -> dict[str, int]:
    """Counts, for each line that decides, the different ways that the runs took there."""
    lines = dict.fromkeys(line for run in runs for line in run.answers)
    return {line: len({tuple(run.answers.get(line, ())) for run in runs}) for line in lines}


def one_sided(runs: Sequence[Decisions]) -> tuple[str, ...]:
    """Lists the user's own lines that decide, and at which no run ever had the other answer.

    Libraries ask much that an export does not: whether a mask is full, say, so that eager may leave it out.
    """
    answers: dict[str, set[bool]] = {}
    for run in runs:
        for line in run.answers.keys() - run.packages:
            answers.setdefault(line, set()).update(run.answers[line])
    return tuple(sorted(line for line, given in answers.items() if len(given) == 1))
