"""What a failed write, a full disk, a kill and eight processes at once leave behind: the whole old set or the whole new one."""

import errno
import itertools
import multiprocessing
import os
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from exportkit import files, store
from exportkit.errors import StoreError


def publish(parent, content="one"):
    with store.stage(parent, "net") as staging:
        (staging.folder / "net.onnx").write_text(content)
        (staging.folder / "net.pt").write_text(content * 2)
        return staging.publish({"note": content}, {"seconds": 1.0})


def fail_at(monkeypatch, moment, code):
    """Makes the call number `moment` of those that write fail; returns how many were made."""
    calls = itertools.count()

    def failing(original):
        def call(*args, **kwargs):
            if next(calls) == moment:
                raise OSError(code, os.strerror(code))
            return original(*args, **kwargs)

        return call

    for place, name in (
        (os, "fsync"),
        (os, "replace"),
        (Path, "rename"),
        (Path, "open"),
        (Path, "chmod"),
        (Path, "replace"),
        (store.Staging, "_swap"),
    ):
        monkeypatch.setattr(place, name, failing(getattr(place, name)))
    return calls


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_any_write_that_fails_leaves_a_whole_set_and_the_next_export_works(tmp_path, code):
    publish(tmp_path, "old")
    outcomes = []
    for moment in range(100):
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, moment, code)
            try:
                publish(tmp_path, "new")
                outcomes.append("new")
            except StoreError:
                outcomes.append("refused")
            made = next(calls)
        assert store.verify(tmp_path / "net")["note"] in ("old", "new")
        assert [path.name for path in tmp_path.iterdir()] == ["net"]
        if made <= moment:
            break
    assert outcomes.count("refused") >= 6
    assert outcomes[-1] == "new"
    publish(tmp_path, "last")
    assert store.verify(tmp_path / "net")["note"] == "last"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_any_write_of_a_report_or_baseline_that_fails_leaves_the_old_one(tmp_path, code):
    file = tmp_path / "report.html"
    file.write_text("old")
    for moment in range(20):
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, moment, code)
            try:
                files.write_whole(file, "new")
            except OSError:
                assert file.read_text() == "old"
            made = next(calls)
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
        if made <= moment:
            break
    assert moment >= 3
    assert file.read_text() == "new"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB, where it can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if not done or done.returncode:
        pytest.skip("no tmpfs can be mounted here; an injected ENOSPC is tested above")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full_leaves_the_old_set(small_disk):
    publish(small_disk, "old")
    with pytest.raises((StoreError, OSError)):
        publish(small_disk, "n" * 600_000)
    assert store.verify(small_disk / "net")["note"] == "old"
    assert [path.name for path in small_disk.iterdir()] == ["net"]
    publish(small_disk, "new")
    assert store.verify(small_disk / "net")["note"] == "new"


def act(job):
    """One of many processes: exports, or checks what is there."""
    parent, number = job
    if number % 2:
        return publish(parent, f"set {number:03} ").name
    note, text = store.steady(parent / "net", lambda: read(parent / "net"))
    assert text == note
    return note


def read(folder):
    """Reads a folder as a check does: the manifest, the digests, then the files."""
    note = store.verify(folder)["note"]
    try:
        return note, (folder / "net.onnx").read_text()
    except FileNotFoundError as error:
        raise StoreError("swapped meanwhile") from error


def test_two_hundred_exports_and_checks_of_one_folder_tear_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the pool's processes import this file by its name
    publish(tmp_path, "first ")
    with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("forkserver")) as pool:
        found = list(pool.map(act, [(tmp_path, number) for number in range(200)], chunksize=1))
    assert len(found) == 200
    assert store.verify(tmp_path / "net")["note"].startswith("set ")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_folder_that_is_swapped_while_it_is_read_is_read_again(tmp_path):
    folder = publish(tmp_path, "old")
    seen = []

    def look():
        seen.append(store.read_manifest(folder)["note"])
        if len(seen) == 1:
            publish(tmp_path, "new")
        if len(seen) == 2:
            publish(tmp_path, "newer")
            raise StoreError("torn")
        return store.verify(folder)["note"]

    assert store.steady(folder, look) == "newer"
    assert seen == ["old", "new", "newer"]


def test_what_is_wrong_with_a_folder_that_stays_is_said_at_once(tmp_path):
    folder = publish(tmp_path)
    (folder / "net.pt").write_text("damaged")
    looks = []
    with pytest.raises(StoreError, match=r"net\.pt"):
        store.steady(folder, lambda: looks.append(1) or store.verify(folder))
    assert len(looks) == 1
