"""A signature tells who made a folder, and that nobody changed it since."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from exportkit import inspection, signing, store
from exportkit.errors import LoadError, StoreError
from exportkit.inspection import Question


def write_keys(parent, name, key=None, password=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = parent / f"{name}.pem", parent / f"{name}.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path, "ours")


@pytest.fixture
def folder(tmp_path):
    with store.stage(tmp_path, "net") as staging:
        (staging.folder / "net.onnx").write_text("one")
        return staging.publish({}, {})


def test_what_was_signed_verifies_and_the_folder_is_as_it_was(folder, keys):
    private, public = keys
    assert signing.sign(folder, private) == (folder / "model.sig")
    store.verify(folder)
    signing.verify(folder, public)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["net", "ours.pem", "ours.pub"]


def change_file_and_digest(folder):
    (folder / "net.onnx").write_text("two")
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["net.onnx"] = store.describe(folder / "net.onnx")
    (folder / "manifest.json").write_text(json.dumps(data))
    store.verify(folder)


@pytest.mark.parametrize(
    "change",
    [
        change_file_and_digest,
        lambda folder: (folder / "more.pt").write_text("x"),
        lambda folder: (folder / ".gitignore").write_text("x"),
        lambda folder: (folder / "run.json").unlink(),
        lambda folder: (folder / "model.sig").write_text("{}"),
        lambda folder: (folder / "model.sig").write_bytes(b"\xff"),
        lambda folder: (folder / "model.sig").unlink(),
    ],
)
def test_every_change_after_the_signature_is_found(folder, keys, change):
    private, public = keys
    signing.sign(folder, private)
    change(folder)
    with pytest.raises(StoreError):
        signing.verify(folder, public)


def test_the_key_of_another_does_not_verify(folder, keys, tmp_path):
    signing.sign(folder, keys[0])
    with pytest.raises(StoreError, match=r"theirs\.pub"):
        signing.verify(folder, write_keys(tmp_path, "theirs")[1])


def test_nothing_of_a_folder_is_read_before_its_signature_holds(folder, keys):
    with pytest.raises(StoreError, match="no signature"):
        inspection.check(folder, None, Question(public_key=keys[1]))


def test_a_damaged_folder_is_not_signed(folder, keys):
    (folder / "net.onnx").write_text("two")
    with pytest.raises(StoreError):
        signing.sign(folder, keys[0])
    assert not (folder / "model.sig").exists()


def test_a_key_that_cannot_sign_is_named(folder, tmp_path):
    (tmp_path / "junk").write_text("junk")
    numbers, _ = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    locked, _ = write_keys(tmp_path, "locked", password=b"secret")
    for file in (tmp_path / "none", tmp_path / "junk", numbers, locked):
        with pytest.raises(LoadError, match="is no private key that can be used") as caught:
            signing.sign(folder, file)
        assert caught.value.where == str(file)
    for file in (tmp_path / "none", tmp_path / "junk"):
        (folder / "model.sig").touch()
        with pytest.raises(LoadError, match="is no public key that can be used"):
            signing.verify(folder, file)
