"""`exportkit check` of folders that somebody damaged: with the digests mended, so that only the comparison can tell."""

import hashlib
import json
import pickle
import shutil
import zipfile

import numpy as np
import onnx
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import numpy_helper
from test_export import REFERENCE


@pytest.fixture(scope="module")
def exported(tmp_path_factory, exportkit_in):
    folder = tmp_path_factory.mktemp("exported")
    done = exportkit_in(folder, "export", REFERENCE, "--format", "onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "artifacts" / "centered_net"


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "centered_net")


def mend(folder, change=lambda _: None):
    """Writes the files' true digests into the manifest, as who wants to deceive would."""
    data = json.loads((folder / "manifest.json").read_text())
    for name in data["files"]:
        content = (folder / name).read_bytes()
        data["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))


def change_weights(folder, factor):
    model = onnx.load(folder / "centered_net.onnx")
    weight = next(one for one in model.graph.initializer if len(one.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weight) * factor).astype(np.float32), weight.name))
    onnx.save(model, folder / "centered_net.onnx")


@pytest.mark.parametrize("factor", [1.0001, -1.0, 0.0])
def test_changed_weights_fail_although_the_digests_fit(exportkit, folder, factor):
    change_weights(folder, factor)
    mend(folder)
    done = exportkit("check", folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed" in done.stdout
    assert "`exportkit export net.py` names it" in " ".join(done.stdout.split())  # no runtime is at fault, the file is


def test_a_manifest_that_calls_mixed_rows_independent_fails(exportkit, folder):
    mend(folder, lambda data: data["formats"]["onnx"]["artifact"].update(rows="batch"))
    done = exportkit("check", folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "do not touch each other, and they do" in " ".join(done.stdout.split())


def test_an_untouched_folder_passes_on_its_own_digests(exportkit, folder):
    mend(folder)
    assert exportkit("check", folder).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("network"),
        lambda data: data["formats"]["onnx"].pop("artifact"),
        lambda data: data["formats"]["onnx"]["artifact"].update(files=[]),
        lambda data: data["formats"]["onnx"]["artifact"].update(facts=None),
        lambda data: data["formats"]["onnx"]["artifact"].update(format=[]),
        lambda data: data["network"]["inputs"][0].update(strange=1),
        lambda data: data["formats"]["onnx"]["artifact"].update(files=["../../elsewhere.onnx"]),
        lambda data: data.update(schema=99),
        lambda data: data.update(files=[]),
        lambda data: data.update(formats={}),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_in_words(exportkit, folder, change):
    mend(folder, change)
    done = exportkit("check", folder)
    assert done.returncode == 2
    assert "manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_baseline_stays_where_nothing_changed_and_tells_what_did(exportkit, folder, tmp_path):
    assert exportkit("baseline", folder).returncode == 0
    file = tmp_path / "baselines" / "centered_net.json"
    before = file.read_text()
    assert "nothing changed" in exportkit("baseline", folder).stdout
    assert file.read_text() == before
    assert exportkit("check", folder, "--baseline", "baselines").returncode == 0
    data = json.loads(before)
    data["formats"]["onnx"]["operators"]["Gemm"] += 1
    data["formats"]["onnx"]["size"] /= 2
    file.write_text(json.dumps(data))
    done = exportkit("check", folder, "--baseline", file)
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "the graph has changed: -1 Gemm" in told
    assert "onnx is worse than the baseline" in told
    assert exportkit("check", folder, "--baseline", "nowhere").returncode == 2


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


def test_a_file_of_the_folder_that_runs_code_when_it_is_loaded_is_not_loaded(exportkit, folder, tmp_path):
    module = torch.jit.script(torch.nn.Linear(8, 4))
    torch.jit.save(module, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(folder / "net.pt", "w") as bad:
        for name in good.namelist():
            content = pickle.dumps(Evil(tmp_path / "canary")) if name.endswith("/data.pkl") else good.read(name)
            bad.writestr(name, content)

    def change(data):
        data["formats"] = {
            "torchscript": {"artifact": data["formats"]["onnx"]["artifact"] | {"format": "torchscript", "files": ["net.pt"]}}
        }
        content = (folder / "net.pt").read_bytes()
        data["files"]["net.pt"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}

    mend(folder, change)
    done = exportkit("check", folder, "--against", REFERENCE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "net.pt was not loaded, as loading runs code of it" in " ".join(done.stdout.split())
    assert not (tmp_path / "canary").exists()


def test_garbage_in_place_of_the_artifact_fails(exportkit, folder):
    (folder / "centered_net.onnx").write_bytes(b"garbage")
    mend(folder)
    done = exportkit("check", folder)
    assert done.returncode == 1
    assert "onnxruntime" in done.stdout


def test_every_report_holds_what_a_check_found(exportkit, folder, tmp_path):
    done = exportkit("check", folder, "--junit", "r.xml", "--markdown", "r.md", "--html", "r.html")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "r.html").read_text()
    assert "Operators of onnx" in page
    assert page.count("<circle") >= 3  # a point for each case
    assert "onnx in onnxruntime" in (tmp_path / "r.xml").read_text()
    assert "| onnx | exported | onnxruntime | ✅ passed |" in (tmp_path / "r.md").read_text()


def test_a_signed_folder_is_checked_with_the_key_of_who_signed(exportkit, folder, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    done = exportkit("sign", folder, "--private-key", "key.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model.sig is written" in done.stdout
    assert exportkit("check", folder, "--public-key", "key.pub").returncode == 0
    mend(folder, lambda data: data["network"].update(name="another"))
    done = exportkit("check", folder, "--public-key", "key.pub")
    assert done.returncode == 2
    assert "model.sig: is not of key.pub and of these files" in done.stderr
    assert "it is not what the owner of the key signed" in done.stderr


def test_an_unchanged_network_agrees_with_its_artifacts(exportkit, folder):
    done = exportkit("check", folder, "--against", REFERENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "against centered_net.py" in " ".join(done.stdout.split())
    assert "SHA-256 differs" not in done.stdout


def test_code_that_drifted_from_its_artifacts_fails(exportkit, folder, tmp_path):
    changed = REFERENCE.read_text() + "\nmodel.register_forward_hook(lambda module, inputs, output: output * 1.001)\n"
    (tmp_path / "changed.py").write_text(changed)
    done = exportkit("check", folder, "--against", tmp_path / "changed.py")
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "the artifacts do not compute what changed.py computes now" in told
    assert "changed.py is not the file that was exported" in told
    assert "passed" in told  # on the cases of its own export it is still right


def test_a_bare_file_cannot_be_compared_with_a_network(exportkit, folder):
    done = exportkit("check", folder / "centered_net.onnx", "--against", REFERENCE)
    assert done.returncode == 2
    assert "is no artifact folder: --against compares folders" in done.stderr
