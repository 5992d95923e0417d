"""Reads which names a pickle would import, without unpickling anything.

A pickle is a program. Only names that rebuild tensors and plain containers are allowed, and only the opcodes that torch's own writer
uses to name them: a name put together on the stack could be any.
"""

import pickletools
import re
from collections.abc import Iterator
from typing import Any

from exportkit.errors import RejectedError
from exportkit.screening.wire import shown

_MOST_BYTES = 256 << 20
_MOST_STEPS = 5_000_000
_NAMING = "GLOBAL"
_FORBIDDEN = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER")
_PLAIN = re.compile(
    r"collections OrderedDict|builtins complex"
    r"|torch (?:\w+Storage|Size|device|dtype|per_\w+_(?:affine|symmetric)\w*|strided|preserve_format|contiguous_format)"
    r"|torch (?:float|double|half|bfloat|complex|u?int|long|short|bool|q(?:u?int)|float8)\w*"
    r"|torch\.storage (?:Untyped|Typed)Storage"
    r"|torch\._utils _rebuild_(?:tensor|tensor_v2|tensor_v3|parameter|qtensor|sparse_tensor|meta_tensor_no_storage)"
    r"|torch\.serialization _get_layout"
    r"|torch\.jit\._pickle (?:restore_type_tag|build_\w+list)"
)
_SCRIPTED = re.compile(r"__torch__[\w.]* \w+")
# C++ objects that read their state from the file: of those, the packed weights of torch's own quantised layers alone.
_PACKED = re.compile(r"__torch__\.torch\.classes\.(?:quantized|xnnpack|sparse|rnn) \w+")


def check_pickle(data: bytes, where: str, *, scripted: bool = False) -> None:
    """Checks one pickle.

    Args:
        scripted: it belongs to TorchScript: it may name classes that the archive itself defines.

    Raises:
        RejectedError: it is damaged, too large, or would import or call what it must not.
    """
    if len(data) > _MOST_BYTES:
        raise RejectedError(f"{where} is a pickle of {len(data):,} bytes")
    end = 0
    for step, (operation, argument, place) in enumerate(_read(data, where)):
        end = place or 0
        if step > _MOST_STEPS:
            raise RejectedError(f"{where} is a pickle of more than {_MOST_STEPS:,} steps")
        if operation.name in _FORBIDDEN:
            raise RejectedError(f"{where} holds {operation.name}, with which a pickle imports what it likes")
        if "PUT" in operation.name and int(argument or 0) > _MOST_STEPS:
            raise RejectedError(f"{where} keeps {argument:,} values: a memory bomb")
        if operation.name == _NAMING and not _allowed(str(argument), scripted=scripted):
            raise RejectedError(f"{where} would import {shown(str(argument))}")
    if end != len(data) - 1:
        raise RejectedError(f"{where} holds more than its pickle")


def _read(data: bytes, where: str) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(data)
    except Exception as error:  # whatever the standard library's reader stumbles over
        raise RejectedError(f"{where} is a damaged pickle: {shown(str(error))[1:-1]}") from error


def _allowed(name: str, *, scripted: bool) -> bool:
    if name.startswith("__torch__.torch.classes"):
        return scripted and bool(_PACKED.fullmatch(name))
    return bool(_PLAIN.fullmatch(name) or (scripted and _SCRIPTED.fullmatch(name)))
