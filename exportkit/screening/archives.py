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
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_IN_ZIP64 = (2**16 - 1, 2**32 - 1)  # the number is told in the 64-bit record
_SIZES64, _UNICODE_PATH = 1, 0x7075  # extra fields (4.5.3, 4.6.9)
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
        _check_end(file, size, len(infos), self._zip.start_dir)
        _check_places(file, infos, self._zip.start_dir)
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
        if self.size(name) > most:
            raise RejectedError(f"record {shown(name)} has {self.size(name):,} bytes, at most {most:,} are read")
        return self._zip.read(self.records[name])

    def size(self, name: str) -> int:
        """Returns how many bytes a record holds.

        Raises:
            RejectedError: there is none.
        """
        if name not in self.records:
            raise RejectedError(f"lacks the record {shown(name)}")
        return self.records[name].file_size

    def _check_content(self, info: zipfile.ZipInfo) -> None:
        try:
            with self._zip.open(info) as stream:
                count = sum(len(part) for part in iter(lambda: stream.read(_CHUNK), b""))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, struct.error) as error:
            raise RejectedError(f"record {shown(info.filename)} is damaged: {type(error).__name__}: {error}") from error
        if count != info.file_size:
            raise RejectedError(f"record {shown(info.filename)} has {count} bytes, its header says {info.file_size}")


def _check_end(file: IO[bytes], size: int, count: int, start: int) -> None:
    """The directory must end where the file's last records say, and these must agree: readers look for it in different ways."""
    wrong = RejectedError("does not end where its directory ends, or holds another number of records than it says")
    mark, _, _, here, total, length, place, comment = _END.unpack(_at(file, size - _END.size, _END.size))
    if mark != b"PK\5\6" or comment or {here, total} - {count, *_IN_ZIP64}:
        raise wrong
    end = size - _END.size
    if _at(file, end - _LOCATOR.size, 4) == b"PK\6\7":
        _, _, at, _ = _LOCATOR.unpack(_at(file, end - _LOCATOR.size, _LOCATOR.size))
        end -= _LOCATOR.size + _END64.size
        mark, *_, here, total, length64, place64 = _END64.unpack(_at(file, end, _END64.size))
        if mark != b"PK\6\6" or at != end or {here, total} != {count} or {length, place} - {length64, place64, *_IN_ZIP64}:
            raise wrong
        length, place = length64, place64
    if place != start or place + length != end:
        raise wrong


def _at(file: IO[bytes], place: int, count: int) -> bytes:
    file.seek(max(0, place))
    return file.read(count)


def _check_places(file: IO[bytes], infos: list[zipfile.ZipInfo], directory: int) -> None:
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise RejectedError(f"record {shown(info.filename)} lies over another one: a zip bomb")
        raw = _at(file, info.header_offset, _LOCAL.size)
        names = sum(_LOCAL.unpack(raw)[-2:]) if len(raw) == _LOCAL.size else 0
        end = info.header_offset + _LOCAL.size + names + info.compress_size
        if end > directory:
            raise RejectedError(f"record {shown(info.filename)} reaches beyond the end of the records")
    if min(one.header_offset for one in infos):
        raise RejectedError("holds something before its first record")


def _check_record(info: zipfile.ZipInfo) -> None:
    check_name(info.filename, "record")
    if info.filename != info.orig_filename or not info.filename.isprintable():
        raise RejectedError(f"record {shown(info.orig_filename)} has control characters in its name, or two names")
    if sum(one == _SIZES64 for one in _extras(info)) > 1 or _UNICODE_PATH in _extras(info):
        raise RejectedError(f"record {shown(info.filename)} gives its sizes or its name twice")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.filename.endswith("/"):
        raise RejectedError(f"record {shown(info.filename)} is no plain file")
    if info.flag_bits & _ENCRYPTED:
        raise RejectedError(f"record {shown(info.filename)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RejectedError(f"record {shown(info.filename)} is compressed in a way that torch does not know")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise RejectedError(f"record {shown(info.filename)} is stored as {info.compress_size} bytes and claims {info.file_size}")


def _extras(info: zipfile.ZipInfo) -> list[int]:
    """Lists the kinds of a directory entry's extra fields."""
    kinds, place = [], 0
    while place + 4 <= len(info.extra):
        kind, length = struct.unpack_from("<2H", info.extra, place)
        kinds.append(kind)
        place += 4 + length
    return kinds


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
    if len({name.lower() for name in records}) != len(infos):  # torch's reader takes "A" for "a"
        raise RejectedError("holds a record twice: two readings in one file")
    return records
