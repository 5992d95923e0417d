"""Finds the network that a target names: runs the user's file, and picks the module in it. Runs in a child."""

import ast
import contextlib
import copy
import difflib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exportkit.errors import LoadError
from exportkit.signature import parameters_of_script
from exportkit.worker import user_file


def split(target: str) -> tuple[str, str, str]:
    """Splits "net.py:object" into the file ("" for "package.module:name"), a colon, and the object."""
    file, colon, wanted = target.partition(":")
    if file.endswith((".py", ".pt", ".pth")) or not colon:
        return file, colon, wanted
    return "", colon, target


def find(file: str, wanted: str, has_inputs: bool) -> tuple[Any, Any, str]:
    """Runs the user's code and returns (its module, the network, the network's name there)."""
    if file.endswith((".pt", ".pth")):
        return _find_script(Path(file), has_inputs)
    if file:
        module_file = _run_file(Path(file))
    else:
        package, _, wanted = wanted.partition(":")
        sys.path.insert(0, str(Path.cwd()))
        module_file = importlib.import_module(package)
        user_file(str(module_file.__file__))
    model, label = _resolve(module_file, wanted)
    return module_file, model, label


def _find_script(file: Path, has_inputs: bool) -> tuple[Any, nn.Module, str]:
    must_exist(file)
    if not has_inputs:
        raise LoadError(
            "a TorchScript file holds no example inputs", where=file.name, todo='Add --input "x: float32[batch, 64]" for each input.'
        )
    try:
        model = torch.jit.load(file, map_location="cpu")
    except RuntimeError as error:
        raise LoadError(f"is no TorchScript file: {str(error).splitlines()[0]}", where=file.name) from error
    return types.SimpleNamespace(__file__=str(file), parameters=parameters_of_script(model.forward)), model, file.stem


def must_exist(file: Path) -> None:
    if file.is_dir():
        raise LoadError("is a folder", where=str(file), todo="Name the network file in it, as in `exportkit export net.py`.")
    if not file.exists():
        folder = file.parent if file.parent.is_dir() else Path()
        close = difflib.get_close_matches(file.name, [one.name for one in folder.glob("*.py")], 3)
        raise LoadError("there is no such file", where=str(file), todo=f"Did you mean {' or '.join(close)}?" if close else "")


def _run_file(file: Path) -> types.ModuleType:
    must_exist(file)
    if file.suffix != ".py":
        raise LoadError(
            "is no Python file", where=str(file), todo="Name a .py file with `model` and `example_inputs`, or a TorchScript .pt."
        )
    file = file.absolute()
    user_file(str(file))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(file.parent))
    with _errors_of_import(file):
        name = _name(file)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def _name(file: Path) -> str:
    """Names the module of a file; one that imports relatively is named in its package, whose parents are imported first."""
    level = max((node.level for node in ast.walk(ast.parse(file.read_bytes(), file)) if isinstance(node, ast.ImportFrom)), default=0)
    if not level:
        return file.stem if file.stem not in sys.modules else f"{file.stem}_of_user"
    names, folder = [file.stem], file.parent
    while folder.name and (level > 0 or (folder / "__init__.py").exists()):
        names, folder, level = [folder.name, *names], folder.parent, level - 1
    sys.path.insert(0, str(folder))
    importlib.import_module(".".join(names[:-1]))
    return ".".join(names)


@contextlib.contextmanager
def _errors_of_import(file: Path) -> Iterator[None]:
    """Says in words what running the user's file raised."""
    try:
        yield
    except SyntaxError as error:
        where = f"{Path(error.filename or file).name}:{error.lineno}"
        raise LoadError(f"SyntaxError: {error.msg}: {(error.text or '').strip()}", where=where) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise LoadError(
            f"cannot import {error.name}", where=_line(error, file), todo=f"pip install {package}, into the environment of exportkit."
        ) from error
    except SystemExit as error:
        raise LoadError(
            f"calls SystemExit({error.code!r}) while it is imported",
            where=_line(error, file),
            todo="Guard it with `if __name__ == '__main__':`.",
        ) from error
    except (AssertionError, RuntimeError) as error:
        if "CUDA" not in str(error) and "NVIDIA" not in str(error):
            raise
        todo = "Keep the network on the CPU in the file; exportkit moves it where it must run."
        raise LoadError(f"wants CUDA, which is not here: {str(error).splitlines()[0]}", where=_line(error, file), todo=todo) from error


def _line(error: BaseException, file: Path) -> str:
    line, step = 0, error.__traceback__
    while step:
        if step.tb_frame.f_code.co_filename == str(file):
            line = step.tb_lineno
        step = step.tb_next
    return f"{file.name}:{line}" if line else file.name


def _resolve(module_file: Any, wanted: str) -> tuple[Any, str]:
    """Finds the network in the user's module."""
    file = Path(module_file.__file__).name
    if wanted:
        return _resolve_name(module_file, wanted, file), wanted
    if hasattr(module_file, "model"):
        return _instance(module_file.model, "model", file), "model"
    members = {name: value for name, value in vars(module_file).items() if not name.startswith("_")}
    instances = {name: value for name, value in members.items() if isinstance(value, nn.Module)}
    if len({id(value) for value in instances.values()}) == 1:
        name, value = next(iter(instances.items()))
        return value, name
    own = {n: v for n, v in members.items() if inspect.isclass(v) and issubclass(v, nn.Module) and v.__module__ == module_file.__name__}
    ready = {name: value for name, value in own.items() if not _needed(value)}
    if not instances and len(ready) == 1:
        name, ready_class = next(iter(ready.items()))
        return ready_class(), name
    candidates = ", ".join(sorted(instances) or sorted(own)) or "none"
    todo = f"Write `model = ...` at module level, or name one: exportkit export {file}:NAME (candidates: {candidates})."
    count = "several networks" if instances or len(ready) > 1 else "no network"
    raise LoadError(f"has {count} and no `model`", where=file, todo=todo)


def _resolve_name(module_file: Any, wanted: str, file: str) -> Any:
    name, _, method = wanted.partition(".")
    if not hasattr(module_file, name):
        close = difflib.get_close_matches(name, dir(module_file), 1)
        raise LoadError(f"has no {name}", where=file, todo=f"Did you mean {close[0]}?" if close else "")
    model = _instance(getattr(module_file, name), name, file)
    for part in method.split(".")[:-1] if method else []:
        model = getattr(model, part)
    if not method:
        return model
    last = method.rpartition(".")[2]
    found = getattr(type(model), last, None)
    if not callable(found):
        raise LoadError(f"{name} has no method {last}", where=file)
    return with_forward(model, found)


def with_forward(model: nn.Module, function: Any) -> nn.Module:
    """Returns the module with another forward, sharing all else: no wrapper, so parameters keep their names."""
    clone = copy.copy(model)
    clone.__class__ = type(type(model).__name__, (type(model),), {"forward": function, "__module__": type(model).__module__})
    return clone


def _instance(value: Any, name: str, file: str) -> Any:
    if isinstance(value, nn.Module):
        return value
    if not callable(value):
        raise LoadError(f"{name} is a {type(value).__name__}, expected an nn.Module or a function that returns one", where=file)
    if missing := _needed(value):
        kind = "class" if inspect.isclass(value) else "function"
        arguments = ", ".join(missing)
        todo = f"Write {name} = {getattr(value, '__name__', name)}({', '.join(f'{one}=...' for one in missing)})."
        raise LoadError(
            f"{name} is the {kind} {getattr(value, '__name__', name)}, which needs arguments ({arguments})", where=file, todo=todo
        )
    made = value()
    if not isinstance(made, nn.Module):
        raise LoadError(f"{name}() returns a {type(made).__name__}, expected an nn.Module", where=file)
    return made


def _needed(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
