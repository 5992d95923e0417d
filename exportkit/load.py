"""Loads a network file: runs the user's code under a fixed seed, and finds the network and its example inputs. Runs in a child."""

import contextlib
import copy
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import random
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exportkit import state
from exportkit.errors import LoadError
from exportkit.signature import bind, parse_inputs, take_apart
from exportkit.spec import Finding, Network, Source, TensorSpec, Tree, fill
from exportkit.worker import report, user_file


@dataclass(eq=False, slots=True)
class Live:
    """The loaded network: lives in the holder and its forks only.

    Attributes:
        module: in eval mode, on the CPU.
        example: the tensors of the example by input name: contiguous, detached, no two of one storage.
        dynamic_shapes: as the user wrote them (torch.export's form), or {input: {axis: name}} from `--input`.
    """

    network: Network
    module: nn.Module
    example: dict[str, torch.Tensor]
    check_inputs: list[dict[str, torch.Tensor]] = field(default_factory=list)
    dynamic_shapes: Any = None
    onnx_translations: Mapping[Any, Any] = field(default_factory=dict)
    accept: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, inputs: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Builds forward's arguments from tensors by input name."""
        filled = fill(self.network.input_tree, inputs)
        return filled["args"], filled["kwargs"]

    def call(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Runs forward on copies of the inputs."""
        args, kwargs = self.arguments({name: value.clone() for name, value in inputs.items()})
        return self.module(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the parent learns of a loaded network."""

    network: Network
    findings: tuple[Finding, ...]


def hold(target: str, inputs: tuple[str, ...] = (), weights: str | None = None, name: str | None = None) -> tuple[Loaded, Live]:
    """Loads a target for a holder.

    Raises:
        LoadError: the file, or what it names, cannot be used.
    """
    torch.set_num_threads(1)
    findings: list[Finding] = []
    file, _, wanted = _split(target)
    report(f"loading {target}")
    with _restored(findings):
        _seed(0)
        module_file, model, label = _find(file, wanted, bool(inputs))
        example = _example(module_file, inputs)
    model = _settle(model, label, findings)
    if weights:
        _load_weights(model, Path(weights))
    tree, tensors, baked = _inputs(model, *example.values_of())
    findings += [Finding("note", "fixed-argument", f"{key}={value!r} is fixed in the artifacts") for key, value in baked.items()]
    chosen = name or (wanted.rpartition(".")[2] if wanted else Path(file).stem if file else wanted)
    source = Source(Path(file).name if file else target, wanted or label, _digest_file(module_file), weights_digest(model))
    specs = tuple(TensorSpec(key, _dtype(value), tuple(value.shape)) for key, value in tensors.items())
    checks = [_inputs(model, *_arguments(one))[1] for one in getattr(module_file, "check_inputs", [])]
    live = Live(
        Network(chosen, specs, tree, source),
        model,
        tensors,
        checks,
        example.shapes if example.shapes is not None else getattr(module_file, "dynamic_shapes", None),
        dict(getattr(module_file, "onnx_translations", {})),
        dict(getattr(module_file, "accept", {})),
    )
    return Loaded(live.network, tuple(findings)), live


def weights_digest_of(target: str, inputs: tuple[str, ...] = (), weights: str | None = None) -> str:
    """Loads a target once more, under another seed, and returns the digest of its weights."""
    torch.set_num_threads(1)
    file, _, wanted = _split(target)
    with _restored([]):
        _seed(1)
        _, model, label = _find(file, wanted, bool(inputs))
    model = _settle(model, label, [])
    if weights:
        _load_weights(model, Path(weights))
    return weights_digest(model)


def weights_digest(model: nn.Module) -> str:
    """Returns the SHA-256 over all parameters and buffers, by name."""
    seen = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            seen.update(f"{name}={state.digest(value)}\n".encode())
    return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class _Example:
    value: Any
    shapes: Any = None

    def values_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _arguments(self.value)


def _split(target: str) -> tuple[str, str, str]:
    """Splits "net.py:object" into the file ("" for "package.module:name"), a colon, and the object."""
    file, colon, wanted = target.partition(":")
    if file.endswith((".py", ".pt", ".pth")) or not colon:
        return file, colon, wanted
    return "", colon, target


def _find(file: str, wanted: str, has_inputs: bool) -> tuple[Any, Any, str]:
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
    _must_exist(file)
    if not has_inputs:
        raise LoadError(
            "a TorchScript file holds no example inputs", where=file.name, todo='Add --input "x: float32[batch, 64]" for each input.'
        )
    try:
        model = torch.jit.load(file, map_location="cpu")
    except RuntimeError as error:
        raise LoadError(f"is no TorchScript file: {str(error).splitlines()[0]}", where=file.name) from error
    return types.SimpleNamespace(__file__=str(file)), model, file.stem


def _must_exist(file: Path) -> None:
    if file.is_dir():
        raise LoadError("is a folder", where=str(file), todo="Name the network file in it, as in `exportkit export net.py`.")
    if not file.exists():
        folder = file.parent if file.parent.is_dir() else Path()
        close = difflib.get_close_matches(file.name, [one.name for one in folder.glob("*.py")], 3)
        raise LoadError("there is no such file", where=str(file), todo=f"Did you mean {' or '.join(close)}?" if close else "")


def _run_file(file: Path) -> types.ModuleType:
    _must_exist(file)
    if file.suffix != ".py":
        raise LoadError(
            "is no Python file", where=str(file), todo="Name a .py file with `model` and `example_inputs`, or a TorchScript .pt."
        )
    file = file.absolute()
    user_file(str(file))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(file.parent))
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_of_user"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _errors_of_import(file):
        spec.loader.exec_module(module)
    return module


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


def _example(module_file: Any, texts: tuple[str, ...]) -> _Example:
    value = getattr(module_file, "example_inputs", None)
    if callable(value) and not isinstance(value, torch.Tensor):
        value = value()
    given = parse_inputs(texts)
    if value is None and not given:
        raise LoadError(
            "has no example_inputs",
            where=Path(module_file.__file__).name,
            todo='Write example_inputs = (torch.randn(2, 64),) in it, or pass --input "x: float32[batch, 64]".',
        )
    if not given:
        return _Example(value)
    shapes = {one.name: dict(one.symbols) for one in given}
    new = {one.name: one.tensor for one in given}
    if isinstance(module_file, types.SimpleNamespace):  # TorchScript takes its inputs by position
        return _Example(tuple(new.values()), {f"input_{place}": shape for place, shape in enumerate(shapes.values())})
    return _Example({**value, **new} if isinstance(value, dict) else new, shapes)


def _arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(value, dict):
        return (), value
    return (tuple(value), {}) if isinstance(value, tuple | list) else ((value,), {})


def _inputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tree, dict[str, torch.Tensor], dict[str, Any]]:
    leaves: dict[str, torch.Tensor] = {}
    baked: dict[str, Any] = {}
    trees: dict[bool, dict[str, Tree]] = {False: {}, True: {}}
    for name, value, keyword in bind(model.forward, args, kwargs):
        trees[keyword][name] = take_apart(value, name, leaves, baked)
    tree = {"dict": {"args": {"tuple": list(trees[False].values())}, "kwargs": {"dict": trees[True]}}}
    return tree, {name: _settle_tensor(name, value) for name, value in leaves.items()}, baked


def _settle_tensor(name: str, value: torch.Tensor) -> torch.Tensor:
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        raise LoadError(
            f"example input {name} is no dense tensor ({value.layout})", todo="Pass dense tensors, and convert inside the network."
        )
    if value.device.type == "meta":
        raise LoadError(f"example input {name} is on the meta device and has no values")
    return value.detach().resolve_conj().cpu().clone(memory_format=torch.contiguous_format)


def _settle(model: nn.Module, label: str, findings: list[Finding]) -> nn.Module:
    """Puts the network in eval mode and on the CPU."""
    if any(torch.nn.parameter.is_lazy(one) for one in [*model.parameters(), *model.buffers()]):
        raise LoadError(f"{label} has lazy parameters that were never initialised", todo="Run its forward once in the file.")
    devices = {one.device.type for one in [*model.parameters(), *model.buffers()]} - {"cpu"}
    if "meta" in devices:
        raise LoadError(
            f"{label} has weights on the meta device: they hold no values", todo="Load them in the file, or with --weights FILE."
        )
    if devices:
        model = model.cpu()
        findings.append(Finding("note", "moved-to-cpu", f"{label} was on {', '.join(devices)}; it is exported from the CPU"))
    if isinstance(model, torch.jit.ScriptModule):
        findings.append(Finding("note", "script-module", f"{label} is already a ScriptModule"))
    modes = [name or label for name, part in model.named_modules() if part.training]
    if modes and any(part for part in model.modules()):
        stateful = [n for n, p in model.named_modules() if isinstance(p, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd)]  # noqa: SLF001 - torch names these bases nowhere else
        severity = "warning" if stateful else "note"
        text = f"{label} was in train mode; it is exported in eval mode"
        findings.append(Finding(severity, "train-mode", text + (f", which changes {', '.join(stateful[:3])}" if stateful else "")))  # type: ignore[arg-type]
    return model.eval()


def _load_weights(model: nn.Module, file: Path) -> None:
    _must_exist(file)
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(file)
    else:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    shapes = [
        f"{k}: {tuple(weights[k].shape)}, expected {tuple(v.shape)}"
        for k, v in expected.items()
        if k in weights and weights[k].shape != v.shape
    ]
    if missing or unexpected or shapes:
        lists = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        raise LoadError(
            "does not fit the network: " + "; ".join(f"{kind}: {', '.join(keys[:5])}" for kind, keys in lists if keys), where=str(file)
        )
    model.load_state_dict(weights)


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


@contextlib.contextmanager
def _restored(findings: list[Finding]) -> Iterator[None]:
    """Puts back what a file may change for the whole process, and notes what changes results."""
    cwd = Path.cwd()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    if torch.get_default_dtype() != torch.float32:
        text = f"the file sets the default dtype to {torch.get_default_dtype()}; forward runs with float32, as a server would"
        findings.append(Finding("note", "default-dtype", text))
        torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    os.chdir(cwd)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - stands in for a stream that the file closed


@functools.cache
def _dtype_names() -> dict[torch.dtype, str]:
    return {value: name for name in dir(torch) if isinstance(value := getattr(torch, name), torch.dtype) and str(value) == f"torch.{name}"}


def _dtype(tensor: torch.Tensor) -> str:
    return _dtype_names()[tensor.dtype]


def _digest_file(module_file: Any) -> str:
    return hashlib.sha256(Path(module_file.__file__).read_bytes()).hexdigest()
