"""Tensors of the Open Inference Protocol (KServe V2, REST) as bytes and as JSON, read as if the other side meant harm.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md, and Triton's binary tensor
data extension, https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit.elements import NUMPY, V2
from exportkit.errors import RunError
from exportkit.exchange import words

Array = NDArray[Any]

BINARY = "binary_tensor_data"  # the extension's name
HEAD = "Inference-Header-Content-Length"


def pack(content: Mapping[str, Any], kind: str, tensors: Sequence[tuple[str, Array]], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Writes a body and its headers.

    Args:
        content: what the JSON holds besides the tensors.
        kind: "inputs" or "outputs".
    """
    told, raw = [], []
    for name, array in tensors:
        one: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": V2[str(array.dtype)]}
        if binary:
            raw.append(np.ascontiguousarray(array).tobytes())
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = array.ravel().tolist()
        told.append(one)
    head = json.dumps({**content, kind: told}).encode()
    if not binary:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *raw]), {"Content-Type": "application/octet-stream", HEAD: str(len(head))}


def split(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """Takes a body apart: the JSON object, and the bytes behind it.

    Args:
        length: the header that says how long the JSON is; None where there is none.

    Raises:
        RunError: there is no JSON object of this length.
    """
    raw = b""
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):  # noqa: PLR2004 - of 64 bits
            raise RunError(f"says that its JSON has {words(length)} bytes, the body has {len(body):,}")
        body, raw = body[: int(length)], body[int(length) :]
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise RunError("has no JSON object")
    return data, raw


def unpack(told: Any, kind: str, raw: bytes) -> dict[str, Array]:
    """Reads tensors by name, of the element type and shape that each one states.

    Args:
        told: the JSON's list.
        kind: "input" or "output".

    Raises:
        RunError: they are none of this protocol.
    """
    if not isinstance(told, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in told):
        raise RunError(f"has no list of named {kind}s")
    names = [one["name"] for one in told]
    if len(set(names)) != len(names):
        raise RunError(f"names an {kind} twice: {words(', '.join(names))}")
    found: dict[str, Array] = {}
    at = 0
    for one in told:
        dtype, shape = _form(one)
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            found[one["name"]] = _numbers(one, dtype, shape)
            continue
        needed = math.prod(shape) * dtype.itemsize
        if size != needed or at + needed > len(raw):
            raise RunError(f"sends {len(raw) - at:,} bytes for {one['name']}, says {size!r}, its shape {list(shape)} needs {needed:,}")
        found[one["name"]] = _bytes(one, dtype, shape, raw[at : at + needed])
        at += needed
    if at != len(raw):
        raise RunError(f"sends {len(raw) - at:,} bytes more than its {kind}s take")
    return found


def _form(told: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name, shape = told.get("datatype"), told.get("shape")
    if not isinstance(name, str) or name not in NUMPY:
        raise RunError(f"gives {told['name']} the datatype {name!r}")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**40 for size in shape) or len(shape) > 64:  # noqa: PLR2004
        raise RunError(f"gives {told['name']} the shape {words(repr(shape))}")
    if NUMPY[name] == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16), tuple(shape)
    return np.dtype(NUMPY[name]).newbyteorder("<"), tuple(shape)


def _bytes(told: Mapping[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...], raw: bytes) -> Array:
    """Reads an output that is little-endian bytes, as many as its shape needs."""
    if dtype.kind == "b" and raw.strip(b"\0\1"):
        raise RunError(f"gives {told['name']}, of BOOL, a byte that is neither 0 nor 1")
    try:
        return np.frombuffer(bytearray(raw), dtype).reshape(shape)
    except ValueError as error:  # no element, and sizes beyond what an array may have
        raise RunError(f"gives {told['name']} the shape {words(repr(list(shape)))}") from error


def _numbers(told: Mapping[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Reads an output that is JSON numbers, flat or nested."""
    flat = list(_flat(told.get("data")))
    if len(flat) != math.prod(shape):
        raise RunError(f"gives {told['name']} {len(flat):,} values, its shape {list(shape)} has {math.prod(shape):,}")
    allowed = {"b": (bool,), "i": (int,), "u": (int,)}.get(dtype.kind, (int, float))
    if strange := [one for one in flat if type(one) not in allowed][:1]:
        raise RunError(f"gives {told['name']}, of {told['datatype']}, the value {words(repr(strange[0]))}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise RunError(f"gives {told['name']}, of {told['datatype']}, a value out of range") from error


def _flat(data: Any) -> Iterator[Any]:
    """Yields the values of nested lists; JSON's own depth is bounded by its reader."""
    if not isinstance(data, list):
        raise RunError("gives a tensor without data")
    stack = [iter(data)]
    while stack:
        for one in stack[-1]:
            if isinstance(one, list):
                stack.append(iter(one))
                break
            yield one
        else:
            stack.pop()
