"""Bare files end to end: read, loaded and run in children with hard limits."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import good_onnx
import hostile_onnx

from exportkit import inspection
from exportkit.errors import LoadError, RejectedError, StoreError
from exportkit.inspection import Question
from exportkit.worker import Host

# The loader of a loop that never ends is stopped by the clock alone.
ENDLESS = {name: maker for name, maker in hostile_onnx.RUNTIME.items() if name.startswith("bomb_loop")}


@pytest.fixture(scope="module")
def server():
    with Host.start(inspection.RUNNING + inspection.READING) as host:
        yield host


def rejection(server, file, **options):
    with pytest.raises(RejectedError) as caught:
        inspection.check(file, server, Question(**options))
    assert caught.value.where == str(file)
    assert caught.value.what.isprintable()
    return caught.value.what


@pytest.mark.parametrize("name", [name for name in hostile_onnx.RUNTIME if name not in ENDLESS])
def test_what_does_not_load_or_run_is_rejected(server, tmp_path, name):
    assert rejection(server, good_onnx.write(hostile_onnx.RUNTIME[name], tmp_path / name))


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_stopped(server, tmp_path, name):
    why = rejection(server, good_onnx.write(ENDLESS[name], tmp_path / name), timeout=2.0)
    assert "within 2 s" in why or "memory" in why


@pytest.mark.parametrize("name", good_onnx.GOOD)
def test_a_good_file_loads_and_runs(server, tmp_path, name):
    found = inspection.check(good_onnx.write(good_onnx.GOOD[name], tmp_path / name), server, Question())
    assert found.outcome == "runs"


def test_a_trap_in_native_code_is_told_and_does_not_reach_the_caller(server, tmp_path):
    why = rejection(server, good_onnx.write(hostile_onnx.RUNTIME["trap_int32_least"], tmp_path))
    assert "SIGFPE" in why


def test_a_shape_that_only_a_run_shows_is_compared_with_what_the_file_declares(server, tmp_path):
    """Operators of onnxruntime have no shape inference in onnx."""
    proto = good_onnx.GOOD["ms_gelu"](tmp_path)
    proto.graph.output[0].CopyFrom(hostile_onnx.value("y", shape=(2, 5)))
    why = rejection(server, good_onnx.write(lambda folder: proto, tmp_path))
    assert "y" in why


def test_a_pipe_is_refused_before_anybody_opens_it(server, tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    assert "regular" in rejection(server, tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["nothing.onnx", "notes.txt"])
def test_what_is_no_artifact_cannot_be_checked(server, tmp_path, name):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(LoadError):
        inspection.check(tmp_path / name, server, Question())


def test_a_digest_is_compared_before_anything_is_read(server, tmp_path):
    file = good_onnx.write(good_onnx.loop, tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert inspection.check(file, server, Question(expect_digest=f"sha256:{digest}")).digest == digest
    file.write_bytes(b"not even a network")
    with pytest.raises(StoreError, match="expected"):
        inspection.check(file, server, Question(expect_digest=digest))


def test_a_digest_pins_the_manifest_of_a_folder(server, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="expected"):
        inspection.check(tmp_path, server, Question(expect_digest="0" * 64))


def test_a_digest_pins_one_target_only(tmp_path):
    with pytest.raises(LoadError, match="one"):
        inspection.expand(["a", "b"], Question(expect_digest="0" * 64))


def test_a_pattern_takes_artifacts_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net/manifest.json", "other/notes.txt", "a.onnx", "b.pt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert inspection.expand(["*", "plain.onnx"], Question()) == [Path("a.onnx"), Path("b.pt"), Path("net"), Path("plain.onnx")]
    with pytest.raises(LoadError, match="matches no"):
        inspection.expand(["*.pt2"], Question())
