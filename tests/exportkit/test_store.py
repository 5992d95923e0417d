"""The old set or the new set stands at the final name, complete; nothing else is left."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from exportkit import store
from exportkit.errors import StoreError


def publish(parent, content="one", name="net"):
    with store.stage(parent, name) as staging:
        (staging.folder / "net.onnx").write_text(content)
        (staging.folder / "net.pt").write_text(content * 2)
        return staging.publish({"note": content, "odd": float("nan")}, {"seconds": 1.0})


def test_a_published_folder_verifies_and_nothing_else_is_left(tmp_path):
    folder = publish(tmp_path / "artifacts")
    assert store.verify(folder)["note"] == "one"
    assert [path.name for path in folder.parent.iterdir()] == ["net"]
    publish(tmp_path / "artifacts", "two")
    assert store.verify(folder)["note"] == "two"
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_the_same_content_gives_the_same_manifest(tmp_path):
    one, two = publish(tmp_path / "a"), publish(tmp_path / "b")
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    assert json.loads((one / "manifest.json").read_text())["odd"] == "nan"


def test_an_exception_leaves_nothing_not_even_the_parent(tmp_path):
    with pytest.raises(ZeroDivisionError), store.stage(tmp_path / "new" / "parent", "net") as staging:
        (staging.folder / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


KILL = """
import os, signal, sys
from pathlib import Path
from exportkit import store
countdown = int(sys.argv[2])
def tick(original):
    def wrapped(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    return wrapped
with store.stage(Path(sys.argv[1]), "net") as staging:
    (staging.folder / "net.onnx").write_text("new")
    for name in ("fsync", "rename", "open", "close"):
        setattr(os, name, tick(getattr(os, name)))
    Path.rename = tick(Path.rename)
    store.Staging._swap = tick(store.Staging._swap)
    store.shutil.rmtree = tick(store.shutil.rmtree)
    staging.publish({"note": "new"}, {})
print("survived")
"""


def test_at_any_kill_the_old_or_the_new_set_is_whole(tmp_path):
    parent = tmp_path / "artifacts"
    publish(parent, "old")
    seen = set()
    for moment in range(40):
        done = subprocess.run([sys.executable, "-c", KILL, parent, str(moment)], capture_output=True, text=True, timeout=60, check=False)
        seen.add(store.verify(parent / "net")["note"])
        if "survived" in done.stdout:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert seen == {"old", "new"}
    assert "survived" in done.stdout
    publish(parent, "last")  # the next export clears what the dead ones left
    assert [path.name for path in parent.iterdir()] == ["net"]


def test_a_living_export_keeps_its_staging(tmp_path):
    with store.stage(tmp_path, "net") as living:
        publish(tmp_path, "other")
        assert living.folder.exists()
        (living.folder / "net.onnx").write_text("mine")
        living.publish({"note": "mine"}, {})
    assert store.verify(tmp_path / "net")["note"] == "mine"


def test_what_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name, words in (("file", "is a file"), ("folder", "did not write"), ("link", "is a link"), ("..", "no name"), ("a/b", "no name")):
        with pytest.raises(StoreError, match=words), store.stage(tmp_path, name):
            raise AssertionError
    with pytest.raises(StoreError, match="a part of the path is a file|a file stands"), store.stage(tmp_path / "file", "net"):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")])
def test_a_full_or_read_only_disk_is_said_in_words(tmp_path, monkeypatch, code, words):
    publish(tmp_path, "old")

    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=words):
        publish(tmp_path, "new")
    monkeypatch.undo()
    assert store.verify(tmp_path / "net")["note"] == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def damage_byte(folder):
    (folder / "net.pt").write_text("oneonX")


def damage_size(folder):
    (folder / "net.pt").write_text("one")


def damage_missing(folder):
    (folder / "net.pt").unlink()


def damage_extra(folder):
    (folder / "surprise.onnx").write_text("x")


def damage_link(folder):
    (folder / "net.pt").unlink()
    (folder / "net.pt").symlink_to("/etc/passwd")


def damage_name(folder):
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["../../etc/passwd"] = data["files"]["net.pt"]
    (folder / "manifest.json").write_text(json.dumps(data))


def damage_json(folder):
    (folder / "manifest.json").write_text("{" * 100000)


def damage_schema(folder):
    (folder / "manifest.json").write_text('{"schema": 99}')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_byte, "SHA-256"),
        (damage_size, "bytes"),
        (damage_missing, "missing"),
        (damage_extra, "surprise.onnx"),
        (damage_link, "no regular file"),
        (damage_name, "outside of the folder"),
        (damage_json, "not JSON"),
        (damage_schema, "schema 99"),
    ],
)
def test_every_change_of_a_folder_is_found(tmp_path, damage, words):
    folder = publish(tmp_path)
    damage(folder)
    with pytest.raises(StoreError, match=words):
        store.verify(folder)
