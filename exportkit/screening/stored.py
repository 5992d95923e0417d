"""Replays a pickle with stand-ins that do nothing: do its tensors lie within what is stored?

torch's loaders believe a pickle: of what length a storage is, where in it a tensor begins, and how far its elements lie apart
(torch/csrc/jit/serialization/unpickler.cpp, `BINPERSID` and `rebuildTensor`). Where these lie, they read memory beyond the file.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

from exportkit.errors import RejectedError
from exportkit.screening.archives import Archive
from exportkit.screening.pickles import check_pickle
from exportkit.screening.wire import shown

_MOST_ELEMENTS = 2**48
_MOST_DEEP = 1_000
_LARGEST = 2**40  # bytes of a tensor
_LONGEST_TYPE = 10_000  # characters
_WIDTHS = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "QInt8": 1,
    "QUInt8": 1, "QInt32": 4, "Untyped": 1, "ComplexDouble": 16, "ComplexFloat": 8, "ComplexHalf": 4, "UInt16": 2, "UInt32": 4, "UInt64": 8,
}  # fmt: skip
_COO = (1, "torch.sparse_coo")  # as C++ and as Python write the layout


class _Name(NamedTuple):
    """A type, scheme or layout, which is named and never called."""

    name: str

    @property
    def width(self) -> int:
        """Bytes of one element."""
        if "8_" in self.name:  # Float8_e4m3fn
            return 1
        bits = re.search(r"(?:float|int|complex|bits)(\d+)", self.name)
        return _WIDTHS.get(self.name.removesuffix("Storage"), max(1, int(bits[1]) // 8) if bits else 0)


class _Storage(NamedTuple):
    key: str
    size: int  # bytes
    width: int  # of one element


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # elements, as the strides
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Object:
    """Of a class that the archive defines, or of one that nobody looks into."""

    def __init__(self, *args: Any) -> None:
        self.state: Any = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


def check_stored(archive: Archive, name: str, folder: str, where: str, *, scripted: bool = False) -> None:
    """Checks a pickle, and the tensors that it builds.

    Args:
        name: the pickle's record.
        folder: where in the archive its storages lie.
        scripted: it belongs to TorchScript.

    Raises:
        RejectedError: as `check_pickle` does, or a storage or tensor is not what the records hold.
    """
    data = archive.read(name)
    check_pickle(data, where, scripted=scripted)
    try:
        _check_depth(_Replay(data, archive, folder).load())
    except RejectedError as error:
        raise RejectedError(f"{where}: {error.what}") from error
    except Exception as error:  # whatever a damaged one makes the standard library stumble over
        raise RejectedError(f"{where} is a damaged pickle: {shown(str(error))[1:-1]}") from error


class _Replay(pickle._Unpickler):  # noqa: SLF001 - the one in Python, of which an operation can be replaced
    """Finds a stand-in for each name; `check_pickle` saw all names before."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    def __init__(self, data: bytes, archive: Archive, folder: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder = archive, folder
        self._stands: dict[str, Any] = {
            "collections OrderedDict": OrderedDict, "builtins complex": complex, "torch Size": tuple, "torch device": _Object,
            "torch._utils _rebuild_tensor": _tensor, "torch._utils _rebuild_tensor_v2": _tensor,
            "torch._utils _rebuild_tensor_v3": _tensor_of_type, "torch._utils _rebuild_qtensor": _quantized,
            "torch._utils _rebuild_parameter": _first, "torch._utils _rebuild_sparse_tensor": self._sparse,
            "torch._utils _rebuild_meta_tensor_no_storage": _Object, "torch.serialization _get_layout": _first,
            "torch.jit._pickle restore_type_tag": _tagged,
        }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Object
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return _first
        return self._stands.get(f"{module} {name}", _Name(name))

    def persistent_load(self, pid: Any) -> _Storage:
        kind, element, key, _, count = pid
        if kind != "storage" or not isinstance(element, _Name) or not isinstance(key, str) or not isinstance(count, int):
            raise RejectedError("names a storage as torch does not")
        if not element.width:
            raise RejectedError(f"has a storage of {shown(element.name)}, an unknown element type")
        held = self._archive.size(f"{self._folder}/{key}") if count else 0
        if count * element.width != held:
            raise RejectedError(f"says {count * element.width} bytes of storage {shown(key)}, which has {held}")
        return _Storage(key, held, element.width)

    def _reduce(self) -> None:
        """TorchScript calls an enumeration with a bare value, which Python does not."""
        value = self.stack.pop()
        self.stack[-1] = self.stack[-1](*value if isinstance(value, tuple) or self.stack[-1] is not _Object else (value,))

    dispatch[pickle.REDUCE[0]] = _reduce

    def _sparse(self, layout: Any, *parts: Any) -> _Object:
        """Checks a sparse tensor: indices beyond its size are written to, unseen, when it is made dense."""
        import numpy as np

        indices, values, size = parts[0][:3] if len(parts) == 1 else (parts[2], parts[3], parts[0])
        if layout not in _COO:
            raise RejectedError("has a compressed sparse tensor, which is not read")
        rank, count = indices.size
        if rank > len(size) or values.size != (count, *size[rank:]) or indices.storage.width != np.dtype(np.int64).itemsize:
            raise RejectedError(f"has a sparse tensor {size} of indices {indices.size} and values {values.size}")
        record = self._archive.read(f"{self._folder}/{indices.storage.key}", _LARGEST) if count else b""
        stored = np.frombuffer(record, np.int64)
        places = np.lib.stride_tricks.as_strided(stored[indices.offset :], indices.size, [8 * step for step in indices.stride])
        if count and rank and ((places < 0) | (places >= np.array(size[:rank])[:, None])).any():
            raise RejectedError(f"has a sparse tensor {size} with an index beyond it")
        return _Object()


def _first(value: Any, *_: Any) -> Any:
    return value


def _tagged(value: Any, text: str) -> Any:
    if len(text) > _LONGEST_TYPE or text.count("[") > _MOST_DEEP:
        raise RejectedError("has a type that nests too deep")
    return value


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise RejectedError(f"has a tensor of size {shown(str(size))} and strides {shown(str(stride))}")
    if math.prod(size) > _MOST_ELEMENTS:
        raise RejectedError(f"has a tensor of size {shown(str(size))}")
    last = offset + sum((one - 1) * step for one, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.size // storage.width:
        raise RejectedError(f"has a tensor that reaches to element {last} of storage {shown(storage.key)}, which has {storage.size} bytes")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _tensor_of_type(storage: _Storage, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, kind: _Name, *_: Any) -> _Tensor:
    if not kind.width:
        raise RejectedError(f"has a tensor of {shown(kind.name)}, an unknown element type")
    return _tensor(storage._replace(width=kind.width), offset, size, stride)


def _quantized(storage: _Storage, offset: int, size: Any, stride: Any, scheme: tuple[Any, ...], *_: Any) -> _Tensor:
    made = _tensor(storage, offset, size, stride)
    if "channel" in scheme[0].name:
        scales, zeros, axis = scheme[1:4]
        if not 0 <= axis < len(made.size) or {math.prod(scales.size), math.prod(zeros.size)} != {made.size[axis]}:
            raise RejectedError(f"has a quantised tensor {made.size} with {math.prod(scales.size)} scales along axis {axis}")
    return made


def _check_depth(whole: Any) -> None:
    """Loaders free what they built by recursion."""
    level, seen = [whole], set[int]()
    for _ in range(_MOST_DEEP):
        level = [part for one in level for part in _parts(one) if id(part) not in seen]
        seen.update(map(id, level))
        if not level:
            return
    raise RejectedError(f"nests values more than {_MOST_DEEP} deep")


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, dict):
        return [*whole, *whole.values()]
    if isinstance(whole, _Object):
        return [whole.state]
    return whole if isinstance(whole, list | tuple) and not isinstance(whole, _Tensor) else ()
