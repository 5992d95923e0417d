"""Reads a protobuf message byte by byte, before protobuf itself does.

protobuf is lenient: of a field given twice it keeps the last or joins both (two files in a row parse as one), of two members of a
oneof it keeps the last, and what it does not know it skips. Two parsers may then see two networks in one file; here each of these is
a fault. The schema is that of the generated classes: nothing of it is repeated here.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from exportkit.errors import RejectedError

_MOST_DEPTH = 100  # protobuf's own limit
_MOST_FIELDS = 20_000_000
_LONGEST_VARINT = 10  # bytes of 64 bits
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_SHOWN = 80
# Doc strings and metadata (source lines of the exporter) are for people; all else are names.
_PROSE = ("doc_string", "value")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_WIDTH = {_FIXED64: 8, _FIXED32: 4}


class _Field(NamedTuple):
    """How one field must be written."""

    name: str
    wire: int
    repeated: bool
    message: Any
    text: bool
    oneof: str


def walk(data: bytes, descriptor: Any) -> int:
    """Walks a whole message; returns how many fields it holds, those of its parts included.

    Args:
        descriptor: of the generated class, `onnx.ModelProto.DESCRIPTOR`.

    Raises:
        RejectedError: the bytes are no message of this kind, or one that parsers may read in two ways.
    """
    return _walk(data, 0, len(data), descriptor, 0, 0)


def _walk(data: bytes, place: int, end: int, descriptor: Any, depth: int, count: int) -> int:
    if depth > _MOST_DEPTH:
        raise RejectedError(f"nests messages more than {_MOST_DEPTH} deep")
    fields, kind = _fields(descriptor), descriptor.name
    seen: set[str] = set()
    while place < end:
        key, place = _varint(data, place, end, kind)
        field = fields.get(key >> 3)
        count += 1
        if count > _MOST_FIELDS:
            raise RejectedError(f"holds more than {_MOST_FIELDS:,} fields")
        if field is None:
            raise RejectedError(f"is no ONNX file, or a damaged one: {kind} holds a field {key >> 3} (byte {place})")
        if not field.repeated:
            _refuse_second(seen, field, kind)
        start, place = _content(data, place, end, key & 7, kind)
        if key & 7 != field.wire and not (field.repeated and key & 7 == _BYTES and field.wire != _BYTES):
            raise RejectedError(f"{kind} holds a {field.name} of another type than ONNX says (byte {start})")
        if field.message is not None:
            count = _walk(data, start, place, field.message, depth + 1, count)
        elif field.text:
            _refuse_bad_text(data[start:place], field, kind)
    return count


@cache
def _fields(descriptor: Any) -> Mapping[int, _Field]:
    return {one.number: _field(one) for one in descriptor.fields}


def _field(one: Any) -> _Field:
    wire = {
        one.TYPE_STRING: _BYTES, one.TYPE_BYTES: _BYTES, one.TYPE_MESSAGE: _BYTES,
        one.TYPE_FLOAT: _FIXED32, one.TYPE_FIXED32: _FIXED32, one.TYPE_SFIXED32: _FIXED32,
        one.TYPE_DOUBLE: _FIXED64, one.TYPE_FIXED64: _FIXED64, one.TYPE_SFIXED64: _FIXED64,
    }.get(one.type, _VARINT)  # fmt: skip
    oneof = one.containing_oneof.name if one.containing_oneof else ""
    return _Field(one.name, wire, one.is_repeated, one.message_type, one.type == one.TYPE_STRING, oneof)


def _refuse_second(seen: set[str], field: _Field, kind: str) -> None:
    if field.name in seen:
        raise RejectedError(f"{kind} holds {field.name} twice: files joined together, or two readings in one file")
    if field.oneof and field.oneof in seen:
        raise RejectedError(f"{kind} holds {field.name} besides another {field.oneof}: two readings in one file")
    seen.update(filter(None, (field.name, field.oneof)))


def _content(data: bytes, place: int, end: int, wire: int, kind: str) -> tuple[int, int]:
    """Returns where a field's content starts and ends."""
    if wire == _VARINT:
        return place, _varint(data, place, end, kind)[1]
    if wire == _BYTES:
        size, place = _varint(data, place, end, kind)
    elif wire in _WIDTH:
        size = _WIDTH[wire]
    else:
        raise RejectedError(f"is no ONNX file: {kind} holds a field of an unknown kind (byte {place})")
    if size > end - place:
        raise RejectedError(f"ends too early: {kind} lacks {size - (end - place)} bytes (byte {place})")
    return place, place + size


def _varint(data: bytes, place: int, end: int, kind: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * min(_LONGEST_VARINT, end - place), 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            return value, place
    what = "ends too early" if place == end else "holds a number of more than 64 bits"
    raise RejectedError(f"{what}: in {kind} (byte {place})")


def _refuse_bad_text(content: bytes, field: _Field, kind: str) -> None:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(f"{kind} holds a {field.name} that is no UTF-8 text") from error
    if field.name not in _PROSE and _CONTROL.search(text):
        raise RejectedError(f"{kind} holds a {field.name} with control characters: {shown(text)}")


def shown(text: str) -> str:
    """Quotes a name from a file for one line of a terminal: escaped and short."""
    escaped = ascii(text)
    return escaped if len(escaped) <= _LONGEST_SHOWN else f"{escaped[:_LONGEST_SHOWN]}...'"
