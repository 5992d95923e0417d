"""Tensors as the protocol writes them, raw or in JSON, <-> numpy. A length that does not fit is a fault, short or long.

Open Inference Protocol, "Tensor Data" and "Tensor Data Types"; raw tensors as in its binary extension: little-endian, row-major; BYTES
are elements of four bytes of length and the text.
"""

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit.elements import V2
from exportkit.serving.answers import RequestError

Array = NDArray[Any]

MOST_VALUES = 1 << 20  # elements that Python looks at one by one, while all others wait; more go raw
_LENGTH = struct.Struct("<I")
DATATYPES = {**V2, "object": "BYTES"}  # ONNX's strings; FP8 and complex numbers have no name in the protocol
_NAMES = {datatype: name for name, datatype in DATATYPES.items()}


def element_type(datatype: str) -> "np.dtype[Any]":
    """Returns numpy's type of the elements of a protocol's datatype."""
    if datatype == "BF16":
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return narrow
    return np.dtype(_NAMES[datatype])


def from_raw(label: str, datatype: str, shape: Sequence[int], data: "bytes | memoryview") -> Array:
    """Reads a raw tensor.

    Args:
        label: what to call it in a reason.
        shape: whole numbers that are not negative.

    Raises:
        RequestError: the bytes are not those of such a tensor.
    """
    if datatype == "BYTES":
        return _texts(label, shape, bytes(data))
    kind = element_type(datatype)
    expected = math.prod(shape) * kind.itemsize
    if len(data) != expected:
        raise RequestError(400, f"{label} has {len(data)} bytes of data, {datatype} of shape {list(shape)} has {expected}")
    array: Array = np.frombuffer(data, kind).reshape(shape)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise RequestError(400, f"{label} has bytes other than 0 and 1, which no BOOL has")
    # Kernels read whole vectors: a tensor behind a header of odd length moves to where its elements are aligned.
    return array if array.flags.aligned else array.copy()


def to_raw(array: Array) -> bytes:
    """Writes a tensor's bytes."""
    if array.dtype.kind != "O":
        return array.tobytes()
    texts = [str(text).encode() for text in array.ravel()]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def from_values(label: str, datatype: str, shape: Sequence[int], data: Any) -> Array:
    """Reads a tensor's values, flat or nested as its shape says, as a JSON parser returns them.

    Raises:
        RequestError: they are too many, too few, of another type, or beyond the type's range.
    """
    flat = _flatten(label, shape, data)
    taken: tuple[type, ...] = {"BOOL": (bool,), "BYTES": (str,)}.get(datatype, (int,) if "INT" in datatype else (int, float))
    if strange := set(map(type, flat)) - set(taken):
        found = "null" if strange == {type(None)} else ", ".join(sorted(one.__name__ for one in strange))
        raise RequestError(400, f"{label} is {datatype} and its data holds {found}")
    if datatype == "BYTES":
        _encode(label, flat)
        texts = np.empty(len(flat), object)
        texts[:] = flat
        return texts.reshape(shape)
    try:
        wide: Array = np.array(flat, float if float in taken else element_type(datatype))
    except OverflowError as error:
        raise RequestError(400, f"{label} holds a number beyond {datatype}") from error
    with np.errstate(over="ignore"):
        array = wide.astype(element_type(datatype), copy=False)
    if float in taken and (np.isinf(array.astype(float, copy=False)) & ~np.isinf(wide)).any():
        raise RequestError(400, f"{label} holds a number beyond {datatype}")
    return array.reshape(shape)


def to_values(array: Array) -> list[Any]:
    """Lists a tensor's values, flat. NaN and infinity stay floats: JSON's writer says NaN and Infinity, as this protocol's clients read.

    Raises:
        RequestError: they are too many.
    """
    if array.size > MOST_VALUES:
        raise RequestError(413, f"an output of {array.size} elements is no JSON of a sensible size: ask for binary data")
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    values: list[Any] = array.ravel().tolist()
    return values


def _texts(label: str, shape: Sequence[int], data: bytes) -> Array:
    count = math.prod(shape)
    if count * _LENGTH.size > len(data):  # before an array of that size is made
        raise RequestError(400, f"{label} has {len(data)} bytes of data, too few for {count} elements of BYTES")
    if count > MOST_VALUES:
        raise RequestError(413, f"{label} has {count} strings, at most {MOST_VALUES} are taken")
    texts = np.empty(count, object)
    place = 0
    for index in range(count):
        if place + _LENGTH.size > len(data):
            raise RequestError(400, f"{label} ends within element {index} of {count}")
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if length > len(data) - place:
            raise RequestError(400, f"{label} says that element {index} has {length} bytes, and {len(data) - place} are left")
        try:
            texts[index] = data[place : place + length].decode()
        except UnicodeDecodeError as error:
            raise RequestError(400, f"{label} is no UTF-8 in element {index}, and ONNX's strings are") from error
        place += length
    if place != len(data):
        raise RequestError(400, f"{label} has {len(data) - place} bytes after its last element")
    return texts.reshape(shape)


def _flatten(label: str, shape: Sequence[int], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise RequestError(400, f"{label} has no list of data")
    if data and isinstance(data[0], list):
        data = [data]
        for axis, size in enumerate(shape):
            if not all(isinstance(one, list) and len(one) == size for one in data):
                raise RequestError(400, f"{label} has data that is not nested as shape {list(shape)} says, at axis {axis}")
            data = list(itertools.chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise RequestError(400, f"{label} has {len(data)} elements of data, shape {list(shape)} has {math.prod(shape)}")
    flat: list[Any] = data
    return flat


def _encode(label: str, texts: Sequence[str]) -> None:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(400, f"{label} holds half of a surrogate pair, which no UTF-8 has") from error
