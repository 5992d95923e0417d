"""Is a stored tensor what its dimensions and type say? Inside the file, or in a file beside it."""

import math
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from exportkit.errors import RejectedError
from exportkit.screening.wire import shown

_MOST_ELEMENTS = 2**48
_NUMBER = re.compile(r"[0-9]{1,18}")
_KEYS = ("location", "offset", "length", "checksum")
_PREPACKED = "prepacked"  # onnxruntime's own keys begin so
_SPARSE = 20  # a file with less than 1 in 20 of its bytes on the disk is a bomb, no weights
_SMALL = 64 << 20
_BLOCK = 512  # bytes that st_blocks counts in


class Kind(NamedTuple):
    """How an element type is stored.

    Attributes:
        bits: of one element in raw_data; 0 for strings.
        field: where the values lie that are not raw.
        packed: how many elements one value of the field holds; a half where a complex number takes two.
    """

    bits: int
    field: str
    packed: float = 1


# By ONNX's numbers (onnx.proto, TensorProto.DataType, and the comments of its fields).
KINDS: Mapping[int, Kind] = {
    1: Kind(32, "float_data"), 2: Kind(8, "int32_data"), 3: Kind(8, "int32_data"), 4: Kind(16, "int32_data"), 5: Kind(16, "int32_data"),
    6: Kind(32, "int32_data"), 7: Kind(64, "int64_data"), 8: Kind(0, "string_data"), 9: Kind(8, "int32_data"), 10: Kind(16, "int32_data"),
    11: Kind(64, "double_data"), 12: Kind(32, "uint64_data"), 13: Kind(64, "uint64_data"), 14: Kind(64, "float_data", 0.5),
    15: Kind(128, "double_data", 0.5), 16: Kind(16, "int32_data"), 17: Kind(8, "int32_data"), 18: Kind(8, "int32_data"),
    19: Kind(8, "int32_data"), 20: Kind(8, "int32_data"), 21: Kind(4, "int32_data", 2), 22: Kind(4, "int32_data", 2),
    23: Kind(4, "int32_data", 2), 24: Kind(8, "int32_data"), 25: Kind(2, "int32_data", 4), 26: Kind(2, "int32_data", 4),
}  # fmt: skip
_BOOL = 9
_TYPED = sorted({kind.field for kind in KINDS.values()})


def check_tensor(tensor: Any, folder: Path) -> None:
    """Checks a TensorProto.

    Args:
        folder: where the model lies: external data must lie in it.

    Raises:
        RejectedError: its data is not what its dimensions and type say, or lies where it must not.
    """
    name = f"tensor {shown(tensor.name)}"
    kind = KINDS.get(tensor.data_type)
    if kind is None:
        raise RejectedError(f"{name} has an unknown element type ({tensor.data_type})")
    if any(size < 0 for size in tensor.dims):
        raise RejectedError(f"{name} has a negative dimension")
    count = math.prod(tensor.dims)
    if count > _MOST_ELEMENTS:
        raise RejectedError(f"{name} claims {count:,} elements")
    if tensor.HasField("segment"):
        raise RejectedError(f"{name} comes in segments, which nothing reads")
    given = [field for field in _TYPED if getattr(tensor, field)]
    given += ["raw_data"] if tensor.HasField("raw_data") and (tensor.raw_data or not given) else []
    given += ["external_data"] if tensor.external_data or tensor.data_location else []
    if len(given) > 1:
        raise RejectedError(f"{name} holds its data twice: {' and '.join(given)}")
    if given == ["external_data"]:
        _check_external(tensor, kind, count, folder, name)
    elif given == ["raw_data"]:
        _check_raw(tensor, kind, count, name)
    elif given and given != [kind.field]:
        raise RejectedError(f"{name} holds {given[0]}, its element type needs {kind.field}")
    else:
        _check_typed(tensor, kind, count, name)


def size_of(kind: Kind, count: int) -> int:
    """Returns the bytes of `count` elements."""
    return -(-count * kind.bits // 8)


def check_name(name: str, what: str) -> None:
    """Refuses a path that may lead out of the folder, on this system or another.

    Raises:
        RejectedError: it is absolute, steps up, or holds what only another system's paths hold.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts or "\0" in name or "" in parts[:-1]:
        raise RejectedError(f"{what} {shown(name)} leads out of the folder, or is no plain path")


def _check_raw(tensor: Any, kind: Kind, count: int, name: str) -> None:
    if not kind.bits:
        raise RejectedError(f"{name} holds strings as raw_data")
    if len(tensor.raw_data) != size_of(kind, count):
        raise RejectedError(f"{name} holds {len(tensor.raw_data)} bytes, its dimensions need {size_of(kind, count)}")
    if tensor.data_type == _BOOL and tensor.raw_data.strip(b"\0\1"):
        raise RejectedError(f"{name} holds booleans that are neither 0 nor 1")


def _check_typed(tensor: Any, kind: Kind, count: int, name: str) -> None:
    values = getattr(tensor, kind.field)
    needed = math.ceil(count / kind.packed)
    if len(values) != needed:
        raise RejectedError(f"{name} holds {len(values)} values, its dimensions need {needed}")
    width = min(32, round(kind.bits * kind.packed))
    top = 2 if tensor.data_type == _BOOL else 2**width
    if kind.field == "int32_data" and count and width < 32 and not -(2 ** (width - 1)) <= min(values) <= max(values) < top:  # noqa: PLR2004
        raise RejectedError(f"{name} holds values that its element type cannot")


def _check_external(tensor: Any, kind: Kind, count: int, folder: Path, name: str) -> None:
    told = _entries(tensor, name)
    if not tensor.data_location:
        raise RejectedError(f"{name} names external data without saying that it is external")
    if not kind.bits:
        raise RejectedError(f"{name} holds strings as external data")
    check_name(told["location"], f"{name}: external data")
    held = _plain_file(folder, told["location"], name)
    offset, length = (_count(told.get(key), key, name) for key in ("offset", "length"))
    needed = size_of(kind, count)
    if length is not None and length != needed:
        raise RejectedError(f"{name} says {length} bytes of external data, its dimensions need {needed}")
    if (offset or 0) + needed > held:
        raise RejectedError(f"{name} needs bytes {offset or 0} to {(offset or 0) + needed} of {shown(told['location'])}, which has {held}")


def _entries(tensor: Any, name: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in told:
            raise RejectedError(f"{name} gives the {shown(entry.key)} of its external data twice")
        if entry.key not in _KEYS and not entry.key.startswith(_PREPACKED):
            raise RejectedError(f"{name} gives an unknown {shown(entry.key)} of its external data")
        told[entry.key] = entry.value
    if "location" not in told:
        raise RejectedError(f"{name} does not say where its external data lies")
    return told


def _plain_file(folder: Path, location: str, name: str) -> int:
    """Returns the size of a regular file that no link leads to."""
    path = folder
    for part in location.split("/"):
        path = path / part
        if path.is_symlink():
            raise RejectedError(f"{name}: external data {shown(location)} is reached through a symbolic link")
    try:
        found = path.lstat()
    except (OSError, ValueError) as error:
        raise RejectedError(f"{name}: external data {shown(location)} is missing") from error
    if not stat.S_ISREG(found.st_mode):
        raise RejectedError(f"{name}: external data {shown(location)} is no regular file")
    if found.st_nlink > 1:
        raise RejectedError(f"{name}: external data {shown(location)} has another name elsewhere (a hard link)")
    if found.st_size > _SMALL and found.st_blocks * _BLOCK * _SPARSE < found.st_size:
        raise RejectedError(f"{name}: external data {shown(location)} is nearly all holes")
    return found.st_size


def _count(text: str | None, key: str, name: str) -> int | None:
    if text is not None and not _NUMBER.fullmatch(text):
        raise RejectedError(f"{name}: the {key} of its external data is no count: {shown(text)}")
    return None if text is None else int(text)
