"""A module with loops and branches -> a module of the same weights whose forward is generated source that torch.export takes."""

import contextlib
import functools
import itertools
import linecache
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from exportkit.control_flow import attention, branches, indexing, lists, loops, places, scalars, structure, wavefront
from exportkit.control_flow.carried_views import compose, place_views
from exportkit.control_flow.emit import Source, emit
from exportkit.control_flow.graph import Graph, read
from exportkit.control_flow.mutation import Effects, functionalise
from exportkit.control_flow.scalars import is_tensor
from exportkit.control_flow.select import scripted
from exportkit.control_flow.skewing import skew
from exportkit.control_flow.slices import without_lists_of_slices
from exportkit.control_flow.tidy import read_sizes, tidy
from exportkit.errors import ExportError

_NUMBERS = itertools.count(1)


def lift(module: nn.Module, *, give_written: bool = False) -> nn.Module:
    """Returns a module that computes what `module` does, with its loops and branches as torch's operators for them.

    Args:
        module: a ScriptModule, or a module that `torch.jit.script` takes.
        give_written: of what it writes into its inputs return the last values too: `call` of what is returned puts them there.

    Raises:
        ExportError: a construct cannot be lifted; names the user's line.
    """
    source = scripted(module, lifting=True)
    graph = read(source)
    read_sizes(graph)
    without_lists_of_slices(graph)
    place_views(graph)
    effects = functionalise(graph)
    if give_written:
        _check_written(graph, effects)
        graph.block.outputs += effects.last.values()
    compose(graph)
    tidy(graph)
    skew(graph)
    built: Any = _built(emit(graph))
    places_of = {name: place for place, name in enumerate(graph.block.params)}
    built.written, built.shown = [places_of[name] for name in effects.last] if give_written else [], effects.shown
    built.same = [places_of.get(name) for name in effects.same]
    for path in graph.weights.values():
        if path in graph.tensors:
            built.register_buffer(path, graph.tensors[path], persistent=False)
        else:
            _register(built, path, _attribute(source, path))
    return built.eval()  # type: ignore[no-any-return]


def _built(source: Source) -> nn.Module:
    file = f"<lifted {next(_NUMBERS)}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(keepends=True), file)  # so that a traceback shows its lines
    space = {
        "torch": torch, "aten": torch.ops.aten, "scalars": scalars, "indexing": indexing, "lists": lists, "branches": branches,
        "loops": loops, "places": places, "structure": structure, "wavefront": wavefront, "attention": attention, **source.objects,
    }  # fmt: skip
    exec(compile(source.text, file, "exec"), space)  # noqa: S102 - of our own making
    forward = space["forward"]

    def told(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _placed(file, source.places):
            return forward(self, *args, **kwargs)

    functools.update_wrapper(told, forward)  # torch.export reads the signature
    kind = type("Lifted", (nn.Module,), {"forward": told, "call": _call, "shares_written": _shares_written, "lifted_source": source.text})
    built: nn.Module = kind()
    return built


def _check_written(graph: Graph, effects: Effects) -> None:
    for name in effects.last:
        if graph.types[name] != "Tensor":
            raise ExportError("changes a list that it was given", todo="Return the list.")


def _call(self: Any, inputs: Sequence[Any]) -> Any:
    """Calls a lifted module as the function that it was: writes into its inputs what it writes, and gives the very inputs that it gives.

    None of those that are written may show the memory of another.
    """
    result = self(*inputs)
    if self.written:
        result, *last = result
        for place, value in zip(self.written, last, strict=True):
            inputs[place].copy_(value)
    if not isinstance(result, tuple):
        return result if self.same[0] is None else inputs[self.same[0]]
    return tuple(one if place is None else inputs[place] for one, place in zip(result, self.same, strict=True))


def _shares_written(self: Any, inputs: Sequence[Any]) -> bool:
    """Says whether an input that is written shows the memory of another."""
    memories = [one.untyped_storage()._cdata if is_tensor(one) else None for one in inputs]  # noqa: SLF001 - torch has no public way
    return any(memories.count(memories[place]) > 1 for place in self.written)


@contextlib.contextmanager
def _placed(file: str, places: dict[int, str]) -> Iterator[None]:
    """Puts the user's line on an error that comes out of generated source."""
    try:
        yield
    except structure.ImpossibleError as error:
        raise RuntimeError(str(error)) from error
    except ExportError as error:
        raise ExportError(error.what, where=error.where or _place(error, file, places), todo=error.todo) from error
    except Exception as error:
        where = _place(error, file, places)
        if not where or not structure.exporting():
            raise
        text = str(error).strip().splitlines()
        raise ExportError(f"torch.export: {text[0][:240] if text else type(error).__name__}", where=where) from error


def _place(error: BaseException, file: str, places: dict[int, str]) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file and frame.lineno]
    return next((places[line] for line in reversed(lines) if line in places), "")


def _attribute(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def _register(module: nn.Module, path: str, value: torch.Tensor) -> None:
    """Registers a weight under the name that it has in the network."""
    *parents, name = path.split(".")
    for part in parents:
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = getattr(module, part)
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))
    else:
        module.register_buffer(name, value.detach())
