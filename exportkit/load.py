"""Loads a network: runs the user's code under a fixed seed, and gets the module and its example inputs ready. Runs in a child."""

import contextlib
import hashlib
import inspect
import os
import random
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exportkit import state
from exportkit.errors import LoadError
from exportkit.find import find, must_exist, split
from exportkit.messages import Loaded
from exportkit.results import dtype_name
from exportkit.signature import bind, parse_inputs, take_apart
from exportkit.spec import Finding, Network, Source, TensorSpec, Tree, fill
from exportkit.worker import report, user_file


@dataclass(eq=False, slots=True)
class Live:
    """The loaded network: lives in the holder and its forks only.

    Attributes:
        module: in eval mode, on `device`.
        example: the tensors of the example by input name: contiguous, detached, no two of one storage.
        dynamic_shapes: as the user wrote them (torch.export's form), or {input: {axis: name}} from `--input`.
        narrow: True where forward computes in 16 bits somewhere, whatever it returns; the first runs tell.
        orders: True where forward orders values, and torch leaves open in which order equal ones come (ties.py).
        device: where forward runs, "cpu" or "cuda"; the example and every case stay on the CPU, so that they are the same everywhere.
    """

    network: Network
    module: nn.Module
    example: dict[str, torch.Tensor]
    check_inputs: list[dict[str, torch.Tensor]] = field(default_factory=list)
    dynamic_shapes: Any = None
    onnx_translations: Mapping[Any, Any] = field(default_factory=dict)
    accept: Mapping[str, Any] = field(default_factory=dict)
    narrow: bool = False
    orders: bool = False
    device: str = "cpu"

    def arguments(self, inputs: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Builds forward's arguments from tensors by input name."""
        filled = fill(self.network.input_tree, inputs)
        return filled["args"], filled["kwargs"]

    def call(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Runs forward on copies of the inputs."""
        args, kwargs = self.arguments({name: value.to(self.device, copy=True) for name, value in inputs.items()})
        return self.module(*args, **kwargs)

    @contextlib.contextmanager
    def moved(self, device: str) -> Iterator[None]:
        """Runs forward on a device: the weights are moved there and back, and never held twice."""
        if device == self.device:
            yield
            return
        home, self.device = self.device, device
        try:
            self.module.to(device)
            yield
            if device == "cuda":
                torch.cuda.synchronize()  # an error on the GPU shows here at the latest, and not as what the network answers
        finally:
            self.device = home
            self.module.to(home)


def hold(target: str, inputs: tuple[str, ...] = (), weights: str | None = None, name: str | None = None) -> tuple[Loaded, Live]:
    """Loads a target for a holder.

    Raises:
        LoadError: the file, or what it names, cannot be used.
    """
    torch.set_num_threads(1)
    findings: list[Finding] = []
    file, _, wanted = split(target)
    report(f"loading {target}")
    with _restored(findings):
        _seed(0)
        module_file, model, label = find(file, wanted, bool(inputs))
        example = _example(module_file, inputs)
        checks = getattr(module_file, "check_inputs", [])
        checks = checks() if callable(checks) else checks
    model = _settle(model, label, findings)
    if weights:
        _load_weights(model, Path(weights))
    chosen = name or (target.rpartition(":")[2].rpartition(".")[2] if wanted else Path(file).stem)
    source = Source(Path(file).name if file else target, wanted or label, _digest_file(module_file.__file__), weights_digest(model))
    if example.shapes is None:
        example = replace(example, shapes=getattr(module_file, "dynamic_shapes", None))
    live = _ready(model, example, checks, chosen, source, findings)
    live.onnx_translations = dict(getattr(module_file, "onnx_translations", {}))
    live.accept = dict(getattr(module_file, "accept", {}))
    return Loaded(live.network, tuple(findings)), live


def hold_object(given: "Given", name: str | None) -> tuple[Loaded, Live]:
    """Gets a network object of the calling process ready, in a fork of that process.

    Raises:
        LoadError: the network or its inputs cannot be used.
    """
    torch.set_num_threads(1)
    findings: list[Finding] = []
    kind = type(given.model)
    label = name or kind.__name__
    report(f"reading {label}")
    with _restored(findings):
        model = _settle(given.model, label, findings)
        try:
            file = inspect.getsourcefile(kind) or ""
        except TypeError:  # defined in an interactive session
            file = ""
        user_file(file)
        source = Source(Path(file).name or label, kind.__name__, _digest_file(file) if file else "", weights_digest(model))
        live = _ready(model, _Example(given.example_inputs, given.dynamic_shapes), given.check_inputs, label, source, findings)
    return Loaded(live.network, tuple(findings)), live


@dataclass(frozen=True, slots=True)
class Given:
    """A network object and what a network file would say of it."""

    model: nn.Module
    example_inputs: Any
    dynamic_shapes: Any = None
    check_inputs: Sequence[Any] = ()


def _ready(model: nn.Module, example: "_Example", checks: Sequence[Any], name: str, source: Source, findings: list[Finding]) -> Live:
    tree, tensors, baked = _inputs(model, *_arguments(example.value))
    findings += [Finding("note", "fixed-argument", f"{key}={value!r} is fixed in the artifacts") for key, value in baked.items()]
    specs = tuple(TensorSpec(key, dtype_name(value), tuple(value.shape)) for key, value in tensors.items())
    checked = [_inputs(model, *_arguments(one))[1] for one in checks]
    for number, one in enumerate(checked):
        if (found := _form(one)) != (expected := _form(tensors)):
            raise LoadError(f"check_inputs[{number}] holds {found}, the example {expected}", where=source.file)
    return Live(Network(name, specs, tree, source), model, tensors, checked, example.shapes)


def _form(tensors: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name}: {dtype_name(value)} of rank {value.ndim}" for name, value in tensors.items())


def weights_digest_of(target: str, inputs: tuple[str, ...] = (), weights: str | None = None) -> str:
    """Loads a target once more, under another seed, and returns the digest of its weights."""
    torch.set_num_threads(1)
    file, _, wanted = split(target)
    with _restored([]):
        _seed(1)
        _, model, label = find(file, wanted, bool(inputs))
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
        known = module_file.parameters
        order = [name for name in known if name in new] if new.keys() <= set(known) else list(new)
        names = [*known, *(f"input_{place}" for place in range(len(known), len(order)))]
        return _Example(tuple(new[name] for name in order), {names[place]: shapes[name] for place, name in enumerate(order)})
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
    """Puts the network in eval mode and on the CPU, and takes off what torch.compile put around it or its parts."""
    model = _uncompiled(model, label, findings)
    if any(torch.nn.parameter.is_lazy(one) for one in [*model.parameters(), *model.buffers()]):
        raise LoadError(f"{label} has lazy parameters that were never initialised", todo="Run its forward once in the file.")
    devices = {one.device.type for one in [*model.parameters(), *model.buffers()]} - {"cpu"}
    if "meta" in devices:
        raise LoadError(
            f"{label} has weights on the meta device: they hold no values", todo="Load them in the file, or with --weights FILE."
        )
    if devices:
        try:
            model = model.cpu()
        except RuntimeError as error:  # CUDA that the caller has started is of no use in a fork of it
            raise LoadError(
                f"{label} is on {', '.join(devices)}, and does not move: {str(error).strip().splitlines()[0]}",
                todo='Pass it as model.cpu(), its inputs too; provider="cuda" proves on the GPU all the same.',
            ) from error
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


def _uncompiled(model: nn.Module, label: str, findings: list[Finding]) -> nn.Module:
    """Undoes torch.compile(module) and module.compile() in all parts: only eager is exported."""
    compiled = []
    for name, part in reversed(list(model.named_modules())):  # inner ones first
        original = getattr(part, "_orig_mod", part) if type(part).__name__ == "OptimizedModule" else part  # dynamo need not be imported
        if original is part and getattr(part, "_compiled_call_impl", None) is None:
            continue
        compiled.append(name.replace("_orig_mod", "").strip(".") or label)
        original._compiled_call_impl = None  # noqa: SLF001 - where torch keeps it
        if name:
            model.set_submodule(name, original)
        else:
            model = original
    if compiled:
        findings.append(Finding("note", "compiled", f"{', '.join(compiled[:3])} is compiled by torch; it is exported as it was before"))
    return model


def _load_weights(model: nn.Module, file: Path) -> None:
    must_exist(file)
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
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)  # imports torch's compiler: 1.4 s
    os.chdir(cwd)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - stands in for a stream that the file closed


def _digest_file(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
