"""Reads a zip archive as torch writes them: stored or deflated records under one folder, and nothing that two readers may see in two ways.

torch checks neither the CRC of a record nor whether the sizes in its two headers agree.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO

from exportkit.errors import RejectedError
from exportkit.screening.tensors import check_name
from exportkit.screening.wire import shown

_MOST_RECORDS = 200_000
_MOST_INFLATED = 256 << 20  # bytes of all deflated records: text and debug records
_ENCRYPTED = 1
_LOCAL = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_IN_ZIP64 = 2**16 - 1  # the number is told in the 64-bit record
_CHUNK = 1 << 20


class Archive:
    """An archive whose every record was found whole; names are without the folder that all share.

    Raises:
        RejectedError: it is no zip archive, or one that is damaged or made to deceive.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError, UnicodeDecodeError) as error:
            raise RejectedError("is no whole zip archive, which every .pt and .pt2 of today is") from error
        infos = self._zip.infolist()
        if not infos or len(infos) > _MOST_RECORDS:
            raise RejectedError(f"holds {len(infos):,} records")
        _check_end(file, size, len(infos))
        _check_places(infos, self._zip.start_dir, size)
        inflated = 0
        for info in infos:
            _check_record(info)
            _check_header(file, info)
            inflated += info.file_size if info.compress_type else 0
        if inflated > _MOST_INFLATED:
            raise RejectedError(f"inflates to {inflated:,} bytes: a zip bomb")
        self.records = _without_folder(infos)
        for info in infos:
            self._check_content(info)

    def read(self, name: str, most: int = _MOST_INFLATED) -> bytes:
        """Returns a record's content.

        Raises:
            RejectedError: there is none, or it is larger than such a record may be.
        """
        if name not in self.records:
            raise RejectedError(f"lacks the record {shown(name)}")
        if self.records[name].file_size > most:
            raise RejectedError(f"record {shown(name)} has {self.records[name].file_size:,} bytes, at most {most:,} are read")
        return self._zip.read(self.records[name])

    def _check_content(self, info: zipfile.ZipInfo) -> None:
        try:
            with self._zip.open(info) as stream:
                count = sum(len(part) for part in iter(lambda: stream.read(_CHUNK), b""))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, struct.error) as error:
            raise RejectedError(f"record {shown(info.filename)} is damaged: {type(error).__name__}: {error}") from error
        if count != info.file_size:
            raise RejectedError(f"record {shown(info.filename)} has {count} bytes, its header says {info.file_size}")


def _check_end(file: IO[bytes], size: int, count: int) -> None:
    """The last bytes must be the directory's end: readers look for it in different places where something follows."""
    file.seek(max(0, size - _END.size))
    mark, _, _, here, total, _, _, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment or {here, total} - {count, _IN_ZIP64}:
        raise RejectedError("does not end where its directory ends, or holds another number of records than it says")


def _check_places(infos: list[zipfile.ZipInfo], directory: int, size: int) -> None:
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise RejectedError(f"record {shown(info.filename)} lies over another one: a zip bomb")
        end = info.header_offset + _LOCAL.size + info.compress_size
        if end > min(directory, size):
            raise RejectedError(f"record {shown(info.filename)} reaches beyond the end of the records")
    if min(one.header_offset for one in infos):
        raise RejectedError("holds something before its first record")


def _check_record(info: zipfile.ZipInfo) -> None:
    check_name(info.filename, "record")
    if any(not one.isprintable() for one in info.filename):
        raise RejectedError(f"record {shown(info.filename)} has control characters in its name")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.filename.endswith("/"):
        raise RejectedError(f"record {shown(info.filename)} is no plain file")
    if info.flag_bits & _ENCRYPTED:
        raise RejectedError(f"record {shown(info.filename)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RejectedError(f"record {shown(info.filename)} is compressed in a way that torch does not know")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise RejectedError(f"record {shown(info.filename)} is stored as {info.compress_size} bytes and claims {info.file_size}")


def _check_header(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Compares a record's own header with the directory's entry: readers differ in which one they believe."""
    file.seek(info.header_offset)
    raw = file.read(_LOCAL.size)
    if len(raw) < _LOCAL.size:
        raise RejectedError(f"record {shown(info.filename)} has no header")
    mark, _, _, method, _, _, crc, packed, plain, name_size, _ = _LOCAL.unpack(raw)
    name = file.read(name_size)
    told = {(crc, info.CRC), (packed, info.compress_size), (plain, info.file_size)}
    # Zero: told after the content; 2^32 - 1: told in the 64-bit field.
    lies = [one for one, other in told if one not in (other, 0, 2**32 - 1)]
    if mark != b"PK\3\4" or method != info.compress_type or name != info.orig_filename.encode() or lies:
        raise RejectedError(f"record {shown(info.filename)} has another header than the directory says")


def _without_folder(infos: list[zipfile.ZipInfo]) -> Mapping[str, zipfile.ZipInfo]:
    folders = {info.filename.partition("/")[0] for info in infos}
    records = {info.filename.partition("/")[2]: info for info in infos}
    if len(folders) != 1 or "" in records:
        raise RejectedError("holds records outside of its one folder")
    if len(records) != len(infos):
        raise RejectedError("holds a record twice: two readings in one file")
    return records
