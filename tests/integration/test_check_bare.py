"""`exportkit check` of files from elsewhere, as a user sees it."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from test_export import REFERENCE

sys.path.insert(0, str(Path(__file__).parents[1] / "exportkit"))

import good_onnx
import hostile_onnx


@pytest.fixture(scope="module")
def exported(tmp_path_factory, exportkit_in):
    folder = tmp_path_factory.mktemp("exported")
    done = exportkit_in(folder, "export", REFERENCE, "--format", "onnx,torchscript")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "artifacts" / "centered_net"


@pytest.fixture
def exportkit(tmp_path, exportkit_light_in):
    return lambda *words: exportkit_light_in(tmp_path, *words)


def test_a_good_file_passes_and_claims_no_parity(exportkit, tmp_path):
    done = exportkit("check", good_onnx.write(good_onnx.GOOD["opset_20"], tmp_path))
    assert done.returncode == 0, done.stderr
    assert "float32[batch, 4]" in done.stdout
    assert "nothing is proven about parity" in done.stdout


@pytest.mark.parametrize("name", ["trap_int32_least", "bomb_pad", "operator_domain_unknown"])
def test_a_hostile_file_is_refused_in_at_most_three_lines(exportkit, tmp_path, name):
    file = good_onnx.write(hostile_onnx.RUNTIME[name], tmp_path)
    done = exportkit("check", file)
    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith(f"rejected: {file}: ")


def test_many_files_end_in_one_table(exportkit, tmp_path):
    good_onnx.write(good_onnx.GOOD["ms_gelu"], tmp_path / "good")
    good_onnx.write(hostile_onnx.READING["names_cycle"], tmp_path / "bad")
    done = exportkit("check", "*/m.onnx")
    assert done.returncode == 1
    assert "1 file without a fault" in done.stdout
    assert "1 rejected" in done.stdout


def test_json_tells_what_was_found(exportkit, tmp_path):
    file = good_onnx.write(good_onnx.loop, tmp_path)
    told = json.loads(exportkit("check", file, "--json").stdout)
    assert (told["outcome"], told["exit_code"], told["format"]) == ("runs", 0, "onnx")
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 4]}]


def test_json_tells_why_a_file_is_rejected(exportkit, tmp_path):
    file = good_onnx.write(hostile_onnx.READING["external_up"], tmp_path / "in")
    told = json.loads(exportkit("check", file, "--json").stdout)
    assert (told["outcome"], told["exit_code"], told["error"]["kind"]) == ("rejected", 1, "RejectedError")


def test_a_digest_pins_a_folder_and_a_file(exportkit, exported):
    for target, pinned in ((exported, exported / "manifest.json"), (exported / "centered_net.onnx", exported / "centered_net.onnx")):
        digest = hashlib.sha256(pinned.read_bytes()).hexdigest()
        assert exportkit("check", target, "--expect-digest", digest).returncode == 0
        refused = exportkit("check", target, "--expect-digest", "0" * 64)
        assert refused.returncode == 2
        assert digest in refused.stderr


@pytest.mark.parametrize("suffix", ["onnx", "pt"])
def test_golden_cases_prove_a_bare_file(exportkit, exported, tmp_path, suffix):
    file = shutil.copy(exported / f"centered_net.{suffix}", tmp_path)
    done = exportkit("check", file, "--golden", exported / "golden.safetensors")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_golden_cases_without_a_manifest_are_weighed_alone(exportkit, exported, tmp_path):
    file = Path(shutil.copy(exported / "centered_net.onnx", tmp_path))
    cases = shutil.copy(exported / "golden.safetensors", tmp_path / "cases.safetensors")
    assert exportkit("check", file, "--golden", cases).returncode == 0
    model = hostile_onnx.onnx.load(file)
    weight = next(one for one in model.graph.initializer if len(one.dims) == 2)
    weight.raw_data = bytes(len(weight.raw_data))
    file.write_bytes(model.SerializeToString())
    assert exportkit("check", file, "--golden", cases).returncode == 1
    assert exportkit("check", file).returncode == 0  # it runs: only golden cases can tell


def test_a_scripted_file_is_read_and_not_loaded(exportkit, exported):
    done = exportkit("check", exported / "centered_net.pt")
    assert done.returncode == 0, done.stderr
    assert "not loaded" in done.stdout
