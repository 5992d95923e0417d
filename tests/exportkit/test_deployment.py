"""`exportkit deploy`: what is checked before anything is written, and what the command says."""

import json

import pytest
import small_folder
from typer.testing import CliRunner

from exportkit import bundle, cli, deployment, inspection, plugins, store
from exportkit.errors import LoadError, PluginError, StoreError
from exportkit.inspection import Question


def run(*words):
    return CliRunner().invoke(cli.app, ["deploy", *map(str, words)], catch_exceptions=False)


def test_a_folder_that_passes_is_deployed_and_a_second_version_stands_beside_the_first(tmp_path, warm):
    folder, repository = small_folder.write(tmp_path / "artifacts"), tmp_path / "models"
    done = run("triton", folder, "--to", repository)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [f"{repository}/net/1 is written", "  requests are batched along batch, at most 11 rows"]
    before = {file: file.read_bytes() for file in repository.rglob("*") if file.is_file()}
    done = run("triton", folder, "--to", repository)
    assert done.stdout.splitlines()[:2] == [f"{repository}/net/2 is written", "  config.pbtxt stays as it is; it fits"]
    assert {file: file.read_bytes() for file in before} == before


DEPLOYED = [
    ("triton", {}, ["net/1"]),
    ("kserve", {"storage": "pvc://models"}, ["net", "net/model_repository/net/1"]),
    ("docker", {"install": "https://example.org/exportkit-0.1.0-py3-none-any.whl"}, ["net", "net/artifacts/net"]),
]


@pytest.mark.parametrize(("target", "settings", "places"), DEPLOYED)
def test_what_is_deployed_is_an_artifact_folder_that_passes_on_the_host_that_serves(tmp_path, host, target, settings, places):
    plugin = deployment.configure(target, [f"{name}={value}" for name, value in settings.items()])
    plugin.deploy(bundle.read(small_folder.write(tmp_path / "a", external=True), None), tmp_path / "to")
    for place in places:
        assert inspection.check(tmp_path / "to" / place, host, Question()).outcome == "passed"


@pytest.mark.parametrize(("target", "settings", "_"), DEPLOYED)
def test_no_artifact_folder_is_replaced(tmp_path, target, settings, _):
    folder = small_folder.write(tmp_path)
    before = {file: file.read_bytes() for file in folder.rglob("*")}
    plugin = deployment.configure(target, [f"{name}={value}" for name, value in settings.items()])
    with pytest.raises(StoreError):
        plugin.deploy(bundle.read(folder, None), tmp_path)
    assert {file: file.read_bytes() for file in folder.rglob("*")} == before
    for _ in range(2):  # what was deployed is
        plugin.deploy(bundle.read(folder, None), tmp_path / "to")


def test_a_folder_that_fails_its_check_is_not_deployed(tmp_path, warm):
    folder = small_folder.write(tmp_path / "artifacts")
    other = small_folder.graph("net", small_folder.INPUTS, small_folder.OUTPUTS)
    next(one for one in other.graph.initializer if one.name == "shift").raw_data = b"\0\0\0\0"
    (folder / "net.onnx").write_bytes(other.SerializeToString())
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["net.onnx"] = store.describe(folder / "net.onnx")
    (folder / "manifest.json").write_text(json.dumps(data))
    done = run("triton", folder, "--to", tmp_path / "models")
    assert done.exit_code == 1
    assert "failed" in done.stdout
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_replaced_after_its_check_is_not_deployed(tmp_path):
    folder = small_folder.write(tmp_path)
    with pytest.raises(StoreError, match="was replaced after it was checked"):
        bundle.deploy(plugins.load("targets", "triton"), folder, "0" * 64, None, tmp_path / "models")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["helm", "net"], "The targets are: "),
        (["triton", "nowhere"], "is no artifact folder"),
        (["triton", "net", "--set", "instance=2"], "Its settings, as they are: instances=1, kind=cpu, max-batch=0."),
        (["triton", "net", "--set", "instances=many"], "instances is a whole number"),
        (["triton", "net", "--name", "a/b"], "is no name that every server takes"),
    ],
)
def test_what_cannot_be_deployed_is_said_in_words(tmp_path, monkeypatch, warm, words, told):
    monkeypatch.chdir(tmp_path)
    small_folder.write(tmp_path)
    done = run(*words, "--to", "models")
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not (tmp_path / "models").exists()


def without_onnx(data):
    data["formats"]["torchscript"] = {"artifact": {**data["formats"].pop("onnx")["artifact"], "format": "torchscript"}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_onnx, "has no ONNX artifact, only torchscript"),
        (lambda data: data["formats"]["onnx"]["artifact"]["facts"].update(ort_library="lib.so"), "native code is not deployed"),
        (lambda data: data["network"].update(name="a b"), "which not every server takes"),
    ],
)
def test_a_folder_that_no_server_can_run_is_refused(tmp_path, change, told):
    folder = small_folder.write(tmp_path)
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(LoadError) as caught:
        bundle.read(folder, None)
    assert told in str(caught.value)


def test_each_target_has_settings_and_a_missing_package_is_named(tmp_path, monkeypatch):
    for name in plugins.names("targets"):
        assert deployment.configure(name, [])
    monkeypatch.setitem(__import__("sys").modules, "tritonclient", None)
    monkeypatch.delitem(__import__("sys").modules, "tritonclient.grpc", raising=False)
    found = bundle.read(small_folder.write(tmp_path), None)
    with pytest.raises(PluginError) as caught:
        plugins.load("targets", "triton").deploy(found, tmp_path / "models")
    assert caught.value.todo == "pip install tritonclient[grpc]"
    assert not (tmp_path / "models" / "net").exists()
