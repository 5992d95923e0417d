"""What a module holds besides its code: seen before and after a forward, and put back."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from exportkit.diagnosis import is_user_file

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def digest(tensor: torch.Tensor) -> str:
    """Returns the SHA-256 of a tensor's dtype, shape and bytes, in hexadecimal."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        tensor = tensor.dequantize() if tensor.is_quantized else tensor.to_dense() if tensor.layout != torch.strided else tensor
        tensor = tensor.cpu()
    seen = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.numel():
        flat = tensor.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)
        seen.update(flat.numpy().data)
    return seen.hexdigest()


def snapshot(module: nn.Module) -> dict[str, str]:
    """Describes a module's state by dotted name: digests of tensors, the text of plain values, the train flags.

    The attributes of its classes and the globals of their files count as well, but for those of packages.
    """
    state: dict[str, str] = {}
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for key, value in _members(part):
            state.update(_describe(f"{prefix}{key}", value))
    for name, value in _surroundings(module):
        state.update(_describe(name, value))
    return state


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names what differs between two snapshots, in a stable order."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@contextlib.contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Puts every submodule's attributes back on leaving: forward may cache tensors there that only a tracer or an oracle understands."""
    parts = [] if isinstance(module, torch.jit.ScriptModule) else list(module.modules())
    kept = [
        (part, dict(part.__dict__), {k: _shallow(v) for k, v in part.__dict__.items() if type(v) in (dict, list, set)}) for part in parts
    ]
    try:
        yield
    finally:
        for part, members, containers in kept:
            part.__dict__.clear()
            part.__dict__.update(members)
            for key, content in containers.items():
                _refill(members[key], content)


def _members(part: nn.Module) -> Iterator[tuple[str, Any]]:
    if isinstance(part, torch.jit.ScriptModule):
        yield from part.named_parameters(recurse=False)
        yield from part.named_buffers(recurse=False)
        yield "training", part.training
        return
    for name, value in part.__dict__.items():
        if name in ("_parameters", "_buffers"):
            yield from value.items()
        elif name == "training" or not name.startswith(("_forward", "_backward", "_modules", "_state_dict", "_load_state")):
            yield name, value


def _surroundings(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields what the user's own classes and files hold that a network is made of."""
    for kind in dict.fromkeys(kind for part in module.modules() for kind in type(part).__mro__):
        file = sys.modules.get(kind.__module__)
        if kind.__module__ != "__main__" and is_user_file(getattr(file, "__file__", None) or ""):
            yield from ((f"{kind.__name__}.{name}", value) for name, value in [*vars(kind).items()] if not name.startswith("__"))
            yield from ((name, value) for name, value in [*vars(file).items()] if not name.startswith("__"))


def _describe(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, torch.Tensor):
        with contextlib.suppress(RuntimeError, NotImplementedError, TypeError):  # a tensor without storage (nested, fake) has no bytes
            yield name, digest(value)
    elif isinstance(value, _PLAIN):
        yield name, repr(value)
    elif depth < 3 and isinstance(value, dict):  # noqa: PLR2004 - deep enough for caches of tuples of tensors
        for key, child in value.items():
            yield from _describe(f"{name}[{key!r}]", child, depth + 1)
    elif depth < 3 and isinstance(value, list | tuple):  # noqa: PLR2004
        yield f"len({name})", str(len(value))
        for place, child in enumerate(value):
            yield from _describe(f"{name}[{place}]", child, depth + 1)


def _shallow(container: Any) -> Any:
    return type(container)(container)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)
