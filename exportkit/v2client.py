"""A server of the Open Inference Protocol (KServe V2, REST), asked as a backend is: arrays in and arrays out by name.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md, and Triton's binary tensor
data extension, https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit import exchange
from exportkit.elements import BINARY_ONLY, NUMPY, V2
from exportkit.errors import RunError
from exportkit.exchange import Answer, Place
from exportkit.spec import Network, TensorSpec

Array = NDArray[Any]

BINARY = "binary_tensor_data"  # the extension's name
_HEAD = "inference-header-content-length"
_FEW = 1 << 20  # bytes that metadata may take


@dataclass(slots=True)
class Remote:
    """One model of one server.

    Attributes:
        path: of the model, "/v2/models/net" or "/v2/models/net/versions/2".
        seconds: wall time that one answer may take.
        most: bytes that one answer may have.
        binary: tensors travel as bytes; otherwise as JSON numbers.
        silent: why it is asked no more: it let one request wait, and would let all of them.
    """

    place: Place
    path: str
    network: Network
    seconds: float
    most: int
    binary: bool = False
    silent: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Asks what the server is and what its model takes; sets how tensors travel.

        Returns:
            The model's metadata.

        Raises:
            RunError: it cannot be reached, does not answer, or has no such model.
        """
        root = self.path.partition("/v2/")[0]
        server = self._ask("GET", f"{root}/v2", most=_FEW)
        try:
            told = _object(server)
        except RunError:  # only the model's own metadata is needed
            told = {}
        extensions = told.get("extensions")
        narrow = any(spec.dtype in BINARY_ONLY for spec in (*self.network.inputs, *self.network.outputs))
        self.binary = narrow or (isinstance(extensions, list) and BINARY in extensions)
        self.facts = {"server": f"{told.get('name', '')} {told.get('version', '')}".strip(), "wire": "binary" if self.binary else "json"}
        try:
            return _object(self._ask("GET", self.path, most=_FEW))
        except RunError as error:
            raise RunError(f"has no model at {self.path}: {error.what}") from error

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Asks for one case.

        Returns:
            One array for each of `network.outputs`, of the element type and shape that the server gave.

        Raises:
            RunError: there is no answer, or it is none of this protocol.
        """
        if self.silent:
            raise RunError(self.silent)
        body, headers = _request([(spec, inputs[spec.name]) for spec in self.network.inputs], self.network.outputs, binary=self.binary)
        try:
            answer = self._ask("POST", f"{self.path}/infer", body, headers, most=self.most)
        except _SilentError as error:
            self.silent = error.what
            raise
        found = dict(_outputs(answer))
        wanted = [spec.name for spec in self.network.outputs]
        if found.keys() != set(wanted):
            raise RunError(f"answers with the outputs {_listed(found)}, not {_listed(wanted)}")
        return [found[name] for name in wanted]

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, most: int) -> Answer:
        try:
            return exchange.ask(self.place, method, path, body, headers, seconds=self.seconds, most=most)
        except TimeoutError as error:
            raise _SilentError(f"gives no whole answer within {self.seconds:g} s") from error
        except ConnectionError as error:
            raise _SilentError(str(error)) from error


class _SilentError(RunError):
    """The server lets a request wait, or is not there."""


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return exchange.words(", ".join(names)) or "none"


def _request(inputs: Sequence[tuple[TensorSpec, Array]], outputs: Sequence[TensorSpec], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    told, raw = [], []
    for spec, array in inputs:
        one: dict[str, Any] = {"name": spec.name, "shape": list(array.shape), "datatype": V2[str(array.dtype)]}
        if binary:
            raw.append(np.ascontiguousarray(array).tobytes())
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = array.ravel().tolist()
        told.append(one)
    wanted = [{"name": spec.name, **({"parameters": {"binary_data": True}} if binary else {})} for spec in outputs]
    head = json.dumps({"inputs": told, "outputs": wanted}).encode()
    if not binary:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *raw]), {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def _object(answer: Answer, head: bytes | None = None) -> dict[str, Any]:
    """Reads an answer's JSON object.

    Raises:
        RunError: the status is an error, or there is none.
    """
    try:
        data = json.loads(answer.body if head is None else head)
    except (ValueError, RecursionError) as error:
        data = error
    if answer.status != 200:  # noqa: PLR2004 - the only status of this protocol that is no error
        why = data.get("error", "") if isinstance(data, dict) else ""
        raise RunError(f"answers {answer.status}" + (f": {exchange.words(str(why))}" if why else ""))
    if not isinstance(data, dict):
        raise RunError("answers with no JSON object")
    return data


def _outputs(answer: Answer) -> Iterator[tuple[str, Array]]:
    """Yields the name and values of each output."""
    head, raw = answer.body, b""
    if answer.status == 200 and _HEAD in answer.headers:  # noqa: PLR2004
        length = answer.headers[_HEAD]
        if not (length.isascii() and length.isdigit() and int(length) <= len(answer.body)):
            raise RunError(f"says that its JSON has {exchange.words(length)} bytes, the answer has {len(answer.body):,}")
        head, raw = answer.body[: int(length)], answer.body[int(length) :]
    told = _object(answer, head).get("outputs")
    if not isinstance(told, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in told):
        raise RunError("answers with no list of named outputs")
    names = [one["name"] for one in told]
    if len(set(names)) != len(names):
        raise RunError(f"names an output twice: {_listed(names)}")
    at = 0
    for one in told:
        dtype, shape = _form(one)
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            yield one["name"], _numbers(one, dtype, shape)
            continue
        needed = math.prod(shape) * dtype.itemsize
        if size != needed or at + needed > len(raw):
            raise RunError(f"sends {len(raw) - at:,} bytes for {one['name']}, says {size!r}, its shape {list(shape)} needs {needed:,}")
        yield one["name"], _bytes(one, dtype, shape, raw[at : at + needed])
        at += needed
    if at != len(raw):
        raise RunError(f"sends {len(raw) - at:,} bytes more than its outputs take")


def _form(told: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name, shape = told.get("datatype"), told.get("shape")
    if not isinstance(name, str) or name not in NUMPY:
        raise RunError(f"gives {told['name']} the datatype {name!r}")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**40 for size in shape) or len(shape) > 64:  # noqa: PLR2004
        raise RunError(f"gives {told['name']} the shape {exchange.words(repr(shape))}")
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
        raise RunError(f"gives {told['name']} the shape {exchange.words(repr(list(shape)))}") from error


def _numbers(told: Mapping[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Reads an output that is JSON numbers, flat or nested."""
    flat = list(_flat(told.get("data")))
    if len(flat) != math.prod(shape):
        raise RunError(f"gives {told['name']} {len(flat):,} values, its shape {list(shape)} has {math.prod(shape):,}")
    allowed = {"b": (bool,), "i": (int,), "u": (int,)}.get(dtype.kind, (int, float))
    if strange := [one for one in flat if type(one) not in allowed][:1]:
        raise RunError(f"gives {told['name']}, of {told['datatype']}, the value {exchange.words(repr(strange[0]))}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise RunError(f"gives {told['name']}, of {told['datatype']}, a value out of range") from error


def _flat(data: Any) -> Iterator[Any]:
    """Yields the values of nested lists; JSON's own depth is bounded by its reader."""
    if not isinstance(data, list):
        raise RunError("gives an output without data")
    stack = [iter(data)]
    while stack:
        for one in stack[-1]:
            if isinstance(one, list):
                stack.append(iter(one))
                break
            yield one
        else:
            stack.pop()
