"""Names and shapes of a network's inputs: from forward's parameters, and from the text of `--input`."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from exportkit.errors import LoadError
from exportkit.spec import Tree

_INPUT = re.compile(r"^\s*(\w+)\s*:\s*(\w+)\s*\[([^\]]*)\]\s*(?:in\s+(-?[\d.]+)\s*\.\.\s*(-?[\d.]+))?\s*$")
_PLAIN_ONLY = "Artifacts take tuples, lists, and dicts with string keys: wrap the network in a module that builds the rest in forward."
_SIZES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


@dataclass(frozen=True, slots=True)
class Given:
    """One `--input`: an example, and the names of its varying axes."""

    name: str
    tensor: torch.Tensor
    symbols: Mapping[int, str]


def parse_inputs(texts: tuple[str, ...]) -> list[Given]:
    """Parses "x: float32[batch, 64]" and "ids: int64[batch, seq] in 0..99"; every symbol gets a small prime size of its own.

    Raises:
        LoadError: a text has another form, or names an unknown dtype.
    """
    sizes: dict[str, int] = {}
    given = []
    for text in texts:
        match = _INPUT.match(text)
        if not match:
            raise LoadError(f"--input {text!r} is not understood", todo='Write "name: dtype[dim, dim]", as in "x: float32[batch, 64]".')
        name, kind, dims, low, high = match.groups()
        dtype = getattr(torch, kind, None)
        if not isinstance(dtype, torch.dtype):
            raise LoadError(f"--input {text!r} names an unknown dtype {kind!r}", todo="Use torch's names: float32, int64, bool, ...")
        parts = [part.strip() for part in dims.split(",") if part.strip()]
        symbols = {axis: part for axis, part in enumerate(parts) if not part.isdigit()}
        for symbol in symbols.values():
            if not symbol.isidentifier():
                raise LoadError(f"--input {text!r} has a dimension {symbol!r} that is neither a number nor a name")
            sizes.setdefault(symbol, _SIZES[len(sizes) % len(_SIZES)])
        shape = [int(part) if part.isdigit() else sizes[part] for part in parts]
        given.append(Given(name, _draw(dtype, shape, low, high), symbols))
    return given


def bind(forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Names each argument after forward's parameter: (name, value, whether it is passed by keyword).

    Raises:
        LoadError: forward does not take these arguments.
    """
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):  # a ScriptModule's forward has none in Python
        known = parameters_of_script(forward)
        names = [*known[: len(args)], *(f"input_{place}" for place in range(len(known), len(args)))]
        return [(name, value, False) for name, value in zip(names, args, strict=True)] + [(k, v, True) for k, v in kwargs.items()]
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        expected = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise LoadError(
            f"forward({expected}) does not take the {len(args) + len(kwargs)} example input(s): {error}",
            todo="Make example_inputs a tuple in the order of forward's parameters, or a dict by their names.",
        ) from error
    names = list(_positional(signature, len(args)))
    return [(name, value, False) for name, value in zip(names, args, strict=True)] + [(k, v, True) for k, v in kwargs.items()]


def parameters_of_script(forward: Any) -> list[str]:
    """Lists the parameters of a ScriptModule's forward."""
    schema = getattr(forward, "schema", None)
    return [argument.name for argument in schema.arguments[1:]] if schema is not None else []


def take_apart(value: Any, name: str, leaves: dict[str, torch.Tensor], baked: dict[str, Any]) -> Tree:
    """Takes one argument apart into a tree, its tensors into `leaves` and its other values into `baked`.

    Raises:
        LoadError: the argument holds something that is neither a tensor nor a plain value.
    """
    if isinstance(value, torch.Tensor):
        unique = _unique(re.sub(r"\W", "_", name), leaves)
        leaves[unique] = value
        return {"leaf": unique}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        raise LoadError(f"example input {name} is the named tuple {type(value).__name__}", todo=_PLAIN_ONLY)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [take_apart(child, f"{name}_{place}", leaves, baked) for place, child in enumerate(value)]}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise LoadError(f"example input {name} has the key {odd[0]!r}, which is no string", todo=_PLAIN_ONLY)
        return {"dict": {str(key): take_apart(child, f"{name}_{key}", leaves, baked) for key, child in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        if value is not None:
            baked[name] = value
        return {"constant": value}
    raise LoadError(
        f"example input {name} holds a {type(value).__name__}",
        todo="Give tensors, numbers, strings, None, or tuples, lists and dicts of them.",
    )


def _positional(signature: inspect.Signature, count: int) -> Iterator[str]:
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{place}" for place in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    yield from names[:count]


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    name = name if not name[:1].isdigit() else f"input_{name}"
    while name in taken:
        name += "_"
    return name


def _draw(dtype: torch.dtype, shape: list[int], low: str | None, high: str | None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if dtype.is_floating_point or dtype.is_complex:
        if low is not None and high is not None:
            return (float(low) + (float(high) - float(low)) * torch.rand(shape, generator=generator)).to(dtype)
        return torch.randn(shape, generator=generator, dtype=torch.complex64 if dtype.is_complex else torch.float32).to(dtype)
    return torch.randint(int(low or 0), int(high or 1) + 1, shape, generator=generator, dtype=torch.int64).to(dtype)
