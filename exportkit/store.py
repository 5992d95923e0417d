"""The artifact directory: made in a staging folder beside it, digested, and swapped in whole.

At any kill the old set or the new set stands at the final name, complete. The manifest is written last.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from exportkit.errors import ExportKitError, StoreError

T = TypeVar("T")

SCHEMA_VERSION = 1
MANIFEST, RUN, SIGNATURE = "manifest.json", "run.json", "model.sig"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_MOST_MANIFEST = 64 << 20
_SUFFIX = ".staging"
_ROOM = 1 << 18  # bytes
_LOOKS = 20
_ADVICE = {
    errno.ENOSPC: ("the disk is full", "Free some space, or name another parent with --to DIR."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or name another parent with --to DIR."),
    errno.EROFS: ("the folder is read-only", "Name another parent with --to DIR."),
    errno.EACCES: ("writing is not permitted", "Name another parent with --to DIR."),
    errno.EPERM: ("writing is not permitted", "Name another parent with --to DIR."),
    errno.ENOTDIR: ("a part of the path is a file", "Name another parent with --to DIR."),
    errno.EEXIST: ("a file stands where the folder should be", "Name another parent with --to DIR."),
}


@dataclass(frozen=True, slots=True)
class Staging:
    """A folder beside the target, that nobody sees under the target's name before it is complete."""

    folder: Path
    target: Path

    def publish(self, manifest: Mapping[str, Any], run: Mapping[str, Any]) -> Path:
        """Digests and fsyncs every file, writes `run.json` and the manifest, and swaps the folder in.

        Raises:
            StoreError: the disk is full or does not take the files; the target stays as it was.
        """
        with in_words(self.target):
            files = {name: describe(self.folder / name) for name in _listed(self.folder)}
            _write(self.folder / RUN, run)
            _write(self.folder / MANIFEST, {"schema": SCHEMA_VERSION, "files": files, **manifest})
            _sync(self.folder)
            with locked(self.target.parent):
                _refuse_foreign(self.target)
                self._swap()
                _sync(self.target.parent)
        return self.target

    def _swap(self) -> None:
        """Puts the new folder under the target's name in one step; the old one is then the staging folder, which is removed."""
        self.folder.chmod(0o755)
        if not self.target.exists():
            self.folder.rename(self.target)
            return
        code = ctypes.CDLL(None, use_errno=True).renameat2(
            _AT_FDCWD, os.fsencode(self.folder), _AT_FDCWD, os.fsencode(self.target), _RENAME_EXCHANGE
        )
        if code:
            raise OSError(ctypes.get_errno(), "renameat2(RENAME_EXCHANGE)", str(self.target))


@contextlib.contextmanager
def stage(parent: Path, name: str) -> Iterator[Staging]:
    """Makes a staging folder for PARENT/NAME; whatever happens, it is gone afterwards.

    Raises:
        StoreError: the parent or the target cannot be used; said before any work is done.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise StoreError(f"{name!r} is no name for an artifact folder", todo="Give another with --name.")
    parent = parent.absolute()
    target = parent / name
    with in_words(target):
        made = _make_parents(parent)
        _refuse_foreign(target)
        with locked(parent):  # nobody looks for dead stagings between the folder's making and its lock
            _remove_stale(parent, name)
            folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=parent))
            owned = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(owned, fcntl.LOCK_EX)  # while it is held, no other export takes the folder for a dead one's
    try:
        with in_words(target):
            yield Staging(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owned)
        for path in made:
            with contextlib.suppress(OSError):  # not empty: something was published
                path.rmdir()


def refuse_full_disk(folder: Path) -> None:
    """Raises a StoreError where a file that was not written whole explains itself: torch aborts the process on a full disk."""
    if shutil.disk_usage(folder).free < _ROOM:
        raise StoreError("cannot be written: the disk is full", where=str(folder.parent.parent), todo=_ADVICE[errno.ENOSPC][1])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads a folder's manifest.

    Raises:
        StoreError: it is missing, no JSON object, too large or of another schema.
    """
    file = folder / MANIFEST
    if file.is_symlink() or not file.is_file():
        raise StoreError(
            "is no artifact folder: it has no manifest.json", where=str(folder), todo="Name a folder that `exportkit export` wrote."
        )
    if file.stat().st_size > _MOST_MANIFEST:
        raise StoreError(f"is {file.stat().st_size} bytes, more than any manifest", where=str(file))
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"is not JSON: {error}", where=str(file), todo="Export the network again.") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA_VERSION:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise StoreError(f"has schema {found!r}, expected {SCHEMA_VERSION}", where=str(file), todo="Export the network again.")
    return data


def verify(folder: Path) -> dict[str, Any]:
    """Compares every file of a folder with its manifest, before any parser sees one; returns the manifest.

    Raises:
        StoreError: a file is missing, extra, no regular file, or of another size or digest.
    """
    data = read_manifest(folder)
    files = data.get("files")
    if not isinstance(files, dict):
        raise StoreError("lists no files", where=str(folder / MANIFEST))
    for name, expected in files.items():
        verify_file(folder, name, expected)
    if extra := sorted(set(_listed(folder)) - files.keys() - {RUN, MANIFEST, SIGNATURE}):
        raise StoreError(f"holds {extra[0]}, which its manifest does not list", where=str(folder), todo="Remove it, or export again.")
    return data


def steady(folder: Path, look: Callable[[], T]) -> T:
    """Looks at a folder until it was one and the same before and after: an export may swap another one in meanwhile.

    Raises:
        StoreError: it is swapped whenever it is looked at; and what `look` raises of a folder that stayed.
    """
    for _ in range(_LOOKS):
        before = _identity(folder)
        try:
            found = look()
        except ExportKitError:
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return found
    raise StoreError("is replaced again and again while it is read", where=str(folder), todo="Check it once the exports have ended.")


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Tells one folder of a name from the next: the manifest is a new file in each."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def describe(file: Path) -> dict[str, Any]:
    """Returns a file's size in bytes and SHA-256."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())
    return {"sha256": digest, "size": file.stat().st_size}


def verify_file(folder: Path, name: str, expected: Any) -> None:
    """Compares one file with its entry in the manifest.

    Raises:
        StoreError: it is missing, no regular file, or of another size or digest.
    """
    file = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise StoreError(f"lists {name!r}, which lies outside of the folder", where=str(folder / MANIFEST))
    if not isinstance(expected, dict) or not {"sha256", "size"} <= expected.keys():
        raise StoreError(f"gives no digest for {name!r}", where=str(folder / MANIFEST))
    if any(part.is_symlink() for part in (file, *file.parents[: len(Path(name).parts) - 1])) or not file.is_file():
        raise StoreError("is missing or no regular file, the manifest lists it", where=str(file), todo="Export the network again.")
    size = file.stat().st_size
    if size != expected["size"]:
        raise StoreError(f"has {size} bytes, the manifest says {expected['size']}", where=str(file), todo="Export the network again.")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected["sha256"]:
        raise StoreError(
            f"has SHA-256 {digest[:16]}..., the manifest says {str(expected['sha256'])[:16]}...",
            where=str(file),
            todo="The file was changed after the export: export the network again.",
        )


def _listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _make_parents(parent: Path) -> list[Path]:
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _refuse_foreign(target: Path) -> None:
    """Refuses a target that is not ours to replace."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        kind = "a link" if target.is_symlink() else "a file"
        raise StoreError(f"is {kind}, not a folder", where=str(target), todo="Remove it, or give another name with --name.")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise StoreError(
            "is a folder that exportkit did not write",
            where=str(target),
            todo="Give another name with --name, or another parent with --to.",
        )


def _remove_stale(parent: Path, name: str) -> None:
    """Removes stagings whose owners are dead: their lock can be had."""
    for folder in parent.glob(f".{name}.*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def locked(parent: Path) -> Iterator[None]:
    """Holds a lock on the folder itself, which leaves no file."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_words(target: Path) -> Iterator[None]:
    """Says what an OSError of this block means for a target.

    Raises:
        StoreError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        what, todo = _ADVICE.get(error.errno or 0, (error.strerror or str(error), ""))
        raise StoreError(f"cannot be written: {what}", where=str(target), todo=todo) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with file.open("w") as stream:
        json.dump(_finite(content), stream, indent=1, sort_keys=True, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def _finite(value: Any) -> Any:
    """Writes NaN and infinity as text: JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(child) for key, child in value.items()}
    return [_finite(child) for child in value] if isinstance(value, list | tuple) else value
