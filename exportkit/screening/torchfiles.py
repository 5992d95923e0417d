"""Reads a .pt or .pt2 from elsewhere without loading it: loading either runs code of the file.

`torch.jit.load` runs every `__setstate__` (`scripts.py`), and both believe what pickles say of tensors (`stored.py`). `torch.export.load`
unpickles weights, constants and sample inputs, and evaluates text of the model (`programs.py`).
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exportkit.errors import RejectedError
from exportkit.messages import Screened
from exportkit.screening.archives import Archive
from exportkit.screening.pickles import check_pickle
from exportkit.screening.programs import check_program, parse
from exportkit.screening.scripts import check_code
from exportkit.screening.stored import check_stored
from exportkit.screening.wire import shown

_MOST_CODE = 16 << 20
_LARGEST = 2**40  # bytes of one tensor
_COMMON = r"|version|byteorder|\.data/(?:version|serialization_id)|\.format_version|\.storage_alignment"
_SCRIPT_RECORDS = re.compile(
    r"(?:data|constants|traced_inputs)\.pkl|(?:data|constants|traced_inputs)/\d+|code/[\w/]+\.py(?:\.debug_pkl)?"
    r"|extra/[\w.]+|mobile_debug_handles\.pkl" + _COMMON
)
_PT2_RECORDS = re.compile(
    r"models/[\w.-]+\.json|data/(?:weights/weight|constants/(?:tensor|custom_obj|opaque_obj))_\d+|data/(?:weights|constants)/[\w.-]+\.pt"
    r"|data/weights/[\w.-]+_weights_config\.json|data/constants/[\w.-]+_constants_config\.json|data/sample_inputs/[\w.-]+\.pt"
    r"|archive_(?:format|version)|extra/[\w.-]+" + _COMMON
)
_SAVED_RECORDS = re.compile(r"data\.pkl|data/\d+" + _COMMON)  # torch.load takes one with code for TorchScript, and loads that
_RAW = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")  # all others are pickles, whatever their list says


def screen_torchscript(file: Path) -> Screened:
    """Reads a .pt.

    Raises:
        RejectedError: it is malformed, no TorchScript, or would run code or reach out of itself while loading.
    """
    with file.open("rb") as stream:
        archive = Archive(stream, file.stat().st_size)
        _check_layout(archive, _SCRIPT_RECORDS, ("data.pkl", "constants.pkl"), "TorchScript")
        for name in archive.records:
            where = f"record {shown(name)}"
            if name.endswith("_pkl") or name == "traced_inputs.pkl":  # no loader builds its tensors, whose records are empty
                check_pickle(archive.read(name), where, scripted=name.endswith(".pkl"))
            elif name.endswith(".pkl"):
                check_stored(archive, name, name.removesuffix(".pkl"), where, scripted=True)
            elif name.startswith("code/"):
                check_code(_text(archive.read(name, _MOST_CODE), where), where)
        if not any(name.startswith("code/") for name in archive.records):
            raise RejectedError("holds no code: it is no TorchScript (torch.save writes such files)")
        return Screened((), (), {"records": len(archive.records)})


def screen_pt2(file: Path) -> Screened:
    """Reads a .pt2.

    Raises:
        RejectedError: it is malformed, or would run code while loading.
    """
    with file.open("rb") as stream:
        archive = Archive(stream, file.stat().st_size)
        _check_layout(archive, _PT2_RECORDS, ("archive_format",), "torch.export archive")
        if archive.read("archive_format", 9) != b"pt2":
            raise RejectedError("has an archive_format other than pt2")
        models = [name for name in archive.records if name.startswith("models/")]
        if not models:
            raise RejectedError("holds no model")
        for name in archive.records:
            if name.endswith(".json"):
                check_program(_json(archive, name), f"record {shown(name)}")
        for name in _pickled(archive):
            _check_saved(archive.read(name, _LARGEST), name)
        return Screened((), (), {"records": len(archive.records)})


def _check_layout(archive: Archive, known: re.Pattern[str], needed: tuple[str, ...], kind: str) -> None:
    for name in archive.records:
        if not known.fullmatch(name):
            raise RejectedError(f"holds {shown(name)}, which is no part of a {kind}")
    for name in needed:
        if name not in archive.records:
            raise RejectedError(f"is no {kind}: it lacks {name}")


def _json(archive: Archive, name: str) -> Any:
    where = f"record {shown(name)}"
    return parse(_text(archive.read(name), where), where)


def _pickled(archive: Archive) -> Iterator[str]:
    """Yields the records that torch would unpickle: sample inputs, and all weights and constants that its lists do not call raw."""
    raw, called = set[str](), set[str]()
    for name in archive.records:
        if not name.endswith("_config.json"):
            continue
        config = _json(archive, name)
        entries = config.get("config") if isinstance(config, dict) else None
        for one in entries.values() if isinstance(entries, dict) else ():
            path = f"{name.rpartition('/')[0]}/{one.get('path_name')}" if isinstance(one, dict) else ""
            if path not in archive.records:
                raise RejectedError(f"record {shown(name)} names {shown(path)}, which is not there")
            (raw if one.get("use_pickle") is False else called).add(path)
    for name in archive.records:
        plain = _RAW.fullmatch(name) and name in raw - called
        if name.startswith("data/") and not name.endswith(".json") and not plain and archive.records[name].file_size:
            yield name


def _check_saved(raw: bytes, name: str) -> None:
    """Checks what torch.save wrote: an archive in the archive."""
    where = f"record {shown(name)}"
    try:
        inner = Archive(io.BytesIO(raw), len(raw))
        _check_layout(inner, _SAVED_RECORDS, ("data.pkl",), "file of torch.save")
        check_stored(inner, "data.pkl", "data", "data.pkl")
    except RejectedError as error:
        raise RejectedError(f"{where}: {error.what}") from error


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(f"{where} is no UTF-8 text") from error
