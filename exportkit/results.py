"""What forward returns, taken apart: a tree, and its tensors by name."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from exportkit.errors import ExportError
from exportkit.spec import Tree


def flatten(result: Any, taken: frozenset[str]) -> tuple[Tree, dict[str, torch.Tensor]]:
    """Takes a result apart in torch's own order of leaves.

    A key or a field names its leaf (`out["logits"]` is "logits"), a place in a tuple is "output_0", a lone tensor "output"; deeper ones
    join the parts ("new_0_1"). Numbers become 0-d tensors (int64, float64, bool), as ONNX would give them; None stays a constant.

    Args:
        result: what forward returned.
        taken: names that an output must not have: those of the inputs.

    Raises:
        ExportError: a leaf is neither a tensor, a number nor None, or there is no tensor at all.
    """
    leaves: dict[str, torch.Tensor] = {}
    tree = _take_apart(result, (), leaves, taken)
    if not leaves:
        raise ExportError("forward returns no tensor", todo="Return a tensor, or a tuple or dict of tensors.")
    return tree, leaves


def plain(result: Any) -> Any:
    """Turns named tuples, dataclasses and third-party containers into tuples, lists and dicts that any process can load."""
    if isinstance(result, torch.Tensor) or result is None:
        return result
    children = _children(result)
    if children is None:
        return result
    kind, items = children
    values = [plain(value) for _, value in items]
    return dict(zip((key for key, _ in items), values, strict=True)) if kind == "dict" else (values if kind == "list" else tuple(values))


def tensors(result: Any) -> Any:
    """Turns a result into a plain one without numbers, which ONNX cannot give: each becomes a 0-d tensor."""

    def as_tensor(leaf: Any) -> Any:
        kinds = {bool: torch.bool, int: torch.int64, float: torch.float64, torch.SymInt: torch.int64, torch.SymFloat: torch.float64}
        return torch.scalar_tensor(leaf, dtype=kinds[type(leaf)]) if type(leaf) in kinds else leaf

    return pytree.tree_map(as_tensor, plain(result))


def is_plain(result: Any) -> bool:
    """Says whether a result holds nothing but tensors, numbers, None, tuples, lists and dicts."""
    if type(result) in (tuple, list):
        return all(is_plain(child) for child in result)
    if type(result) is dict:
        return all(is_plain(child) for child in result.values())
    return result is None or isinstance(result, torch.Tensor | bool | int | float)


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Copies a tensor to numpy; bfloat16 becomes ml_dtypes' bfloat16."""
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.uint16).numpy().copy().view(ml_dtypes.bfloat16)
    return tensor.numpy().copy()


def dtype_name(tensor: torch.Tensor) -> str:
    """Returns numpy's name of a tensor's element type."""
    return str(tensor.dtype).removeprefix("torch.")


def _children(value: Any) -> tuple[str, list[tuple[str, Any]]] | None:
    """Lists a container's (key, child) pairs and the plain container that stands for it; None for a leaf."""
    if isinstance(value, Mapping):
        return "dict", [(str(key), child) for key, child in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "dict", list(zip(value._fields, value, strict=True))
    if isinstance(value, tuple | list):
        return ("list" if isinstance(value, list) else "tuple"), [(str(place), child) for place, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "dict", [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if type(value) in pytree.SUPPORTED_NODES:
        return "list", [(str(place), child) for place, child in enumerate(pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)[0])]
    return None


def _take_apart(value: Any, path: tuple[str, ...], leaves: dict[str, torch.Tensor], taken: frozenset[str]) -> Tree:
    if value is None:
        return {"constant": None}
    if isinstance(value, bool | int | float | np.generic):
        value = torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    if isinstance(value, torch.Tensor):
        name = _name(path, leaves.keys() | taken)
        leaves[name] = value
        return {"leaf": name}
    children = _children(value)
    if children is None:
        place = "".join(f"[{part!r}]" for part in path)
        raise ExportError(
            f"forward returns a {type(value).__name__} in output{place}, which no artifact can hold",
            todo="Return tensors; keep strings and objects outside of the network.",
        )
    kind, items = children
    trees = [(key, _take_apart(child, (*path, key), leaves, taken)) for key, child in items]
    return {"dict": dict(trees)} if kind == "dict" else {kind: [tree for _, tree in trees]}


def _name(path: tuple[str, ...], taken: Iterator[str] | set[str]) -> str:
    joined = re.sub(r"\W", "_", "_".join(path))
    name = f"output_{joined}" if path and joined[:1].isdigit() else joined or "output"
    taken = set(taken)
    while name in taken:
        name += "_out"
    return name
