"""A module with loops and branches -> a module of the same weights whose forward is generated source that torch.export takes."""

import contextlib
import functools
import itertools
import linecache
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from exportkit.control_flow import branches, indexing, lists, loops, scalars, structure
from exportkit.control_flow.emit import Source, emit
from exportkit.control_flow.graph import read
from exportkit.control_flow.mutation import functionalise
from exportkit.control_flow.select import scripted
from exportkit.control_flow.slices import without_lists_of_slices
from exportkit.control_flow.tidy import read_sizes, tidy
from exportkit.errors import ExportError

_NUMBERS = itertools.count(1)


def lift(module: nn.Module) -> nn.Module:
    """Returns a module that computes what `module` does, with its loops and branches as torch's operators for them.

    Args:
        module: a ScriptModule, or a module that `torch.jit.script` takes.

    Raises:
        ExportError: a construct cannot be lifted; names the user's line.
    """
    source = scripted(module)
    graph = read(source)
    read_sizes(graph)
    without_lists_of_slices(graph)
    functionalise(graph)
    tidy(graph)
    built = _built(emit(graph))
    for path in graph.weights.values():
        if path in graph.tensors:
            built.register_buffer(path, graph.tensors[path], persistent=False)
        else:
            _register(built, path, _attribute(source, path))
    return built.eval()


def _built(source: Source) -> nn.Module:
    file = f"<lifted {next(_NUMBERS)}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(keepends=True), file)  # so that a traceback shows its lines
    space = {
        "torch": torch, "aten": torch.ops.aten, "scalars": scalars, "indexing": indexing, "lists": lists, "branches": branches,
        "loops": loops, "structure": structure, **source.objects,
    }  # fmt: skip
    exec(compile(source.text, file, "exec"), space)  # noqa: S102 - of our own making
    forward = space["forward"]

    def told(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _placed(file, source.places):
            return forward(self, *args, **kwargs)

    functools.update_wrapper(told, forward)  # torch.export reads the signature
    kind = type("Lifted", (nn.Module,), {"forward": told, "lifted_source": source.text})
    built: nn.Module = kind()
    return built


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
