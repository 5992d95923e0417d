"""Bodies of requests for inference over REST: JSON, with raw tensors behind it where the header says how long the JSON is.

Open Inference Protocol, "Inference", and its binary tensor data extension.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exportkit.serving import tensors
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.contract import Contract
from exportkit.serving.models import VERSION
from exportkit.serving.requests import Stated, refuse_parameters
from exportkit.serving.tensors import Array

_MOST_JSON = 8 << 20  # bytes: Python parses no more without keeping all others waiting; larger tensors go raw
_MOST_LISTS = 1 << 18  # a list of nothing takes 20 times the memory of its text
_END = 2**63


@dataclass(frozen=True, slots=True)
class Request:
    """A request over REST.

    Attributes:
        outputs: (name, whether it goes back raw) of each output that was asked for; empty for all.
        raw: whether outputs that were not asked for one by one go back raw.
    """

    id: str
    inputs: tuple[Stated, ...]
    outputs: tuple[tuple[str, bool], ...]
    raw: bool


def parse(body: bytes, header: bytes | None) -> Request:
    """Reads a body.

    Args:
        header: Inference-Header-Content-Length, None where the body is JSON alone.

    Raises:
        RequestError: it is none.
    """
    length = _header_length(body, header)
    told = _object("the request", _json(body[:length]))
    rest, place = memoryview(body), length
    inputs = []
    for entry in _list("inputs", told.get("inputs")):
        one = _object("an input", entry)
        name, datatype = _text("an input's name", one.get("name")), _text("an input's datatype", one.get("datatype"))
        parameters = _parameters(one)
        size = parameters.get("binary_data_size")
        if size is None:
            inputs.append(Stated(name, datatype, _shape(name, one.get("shape")), values=one.get("data")))
            continue
        if "data" in one:
            raise RequestError(400, f"input {shown(name)} has both data and binary_data_size")
        if type(size) is not int or not 0 <= size <= len(body) - place:
            raise RequestError(400, f"input {shown(name)} has binary_data_size {shown(str(size))}, and {len(body) - place} bytes are left")
        inputs.append(Stated(name, datatype, _shape(name, one.get("shape")), rest[place : place + size]))
        place += size
    if place != len(body):
        raise RequestError(400, f"{len(body) - place} bytes follow the last input's")
    raw = _flag("binary_data_output", _parameters(told).get("binary_data_output", False))
    outputs = [_object("an output", one) for one in _list("outputs", told.get("outputs", []))]
    asked = tuple(
        (_text("an output's name", one.get("name")), _flag("binary_data", _parameters(one).get("binary_data", raw))) for one in outputs
    )
    return Request(_text("id", told.get("id", "")), tuple(inputs), asked, raw)


def compose(name: str, request: Request, names: Sequence[str], contract: Contract, arrays: Sequence[Array]) -> tuple[bytes, int | None]:
    """Writes an answer.

    Returns:
        The body, and how much of it is JSON where raw tensors follow.
    """
    raws = dict(request.outputs)
    told, parts = [], []
    for output, array in zip(names, arrays, strict=True):
        entry: dict[str, Any] = {"name": output, "datatype": contract.outputs[output].datatype, "shape": list(array.shape)}
        if raws.get(output, request.raw):
            parts.append(tensors.to_raw(array))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensors.to_values(array)
        told.append(entry)
    answer: dict[str, Any] = {"model_name": name, "model_version": VERSION, "outputs": told}
    if request.id:
        answer["id"] = request.id
    head = _ENCODER.encode(answer).encode()
    return (b"".join((head, *parts)), len(head)) if parts else (head, None)


def _header_length(body: bytes, header: bytes | None) -> int:
    if header is None:
        return len(body)
    if not header.isdigit() or len(header) > 20 or int(header) > len(body):  # noqa: PLR2004 - no body's length has more digits
        raise RequestError(400, f"Inference-Header-Content-Length is {shown(header.decode('latin-1'))}, the body has {len(body)} bytes")
    return int(header)


def _json(text: bytes) -> Any:
    if len(text) > _MOST_JSON:
        raise RequestError(413, f"{len(text)} bytes of JSON are more than {_MOST_JSON}: send tensors of this size as binary data")
    if text.count(b"[") + text.count(b"{") > _MOST_LISTS:
        raise RequestError(413, f"there are more than {_MOST_LISTS} lists in the JSON: send the data flat, or as binary data")
    try:
        return _DECODER.decode(text.decode())
    except RecursionError as error:
        raise RequestError(400, "the JSON is nested too deep") from error
    except ValueError as error:  # a UnicodeDecodeError and too many digits among them
        raise RequestError(400, f"the body is no JSON: {str(error)[:120]}") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestError(400, "the JSON has an object with a key twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)  # json.loads makes one for each call
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _object(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(400, f"{what} is no JSON object")
    return value


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(400, f"{what} is no list")
    return value


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(400, f"{what} is missing or no string")
    return value


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(400, f"{what} is neither true nor false")
    return value


def _shape(name: str, value: Any) -> list[int]:
    shape = _list(f"the shape of input {shown(name)}", value)
    if any(type(size) is not int or not 0 <= size < _END for size in shape):
        raise RequestError(400, f"the shape of input {shown(name)} has something else than whole numbers from 0 to 2^63 - 1")
    return shape


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    parameters = _object("parameters", value.get("parameters", {}))
    if parameters:
        refuse_parameters(tuple(parameters))
    return parameters
