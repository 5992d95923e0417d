"""What torch needs before it loads a file: the packages whose operators the file uses, and no others."""

import sys
import zipfile

import pytest

from exportkit import calling
from exportkit.errors import RunError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package, as pip would; none stays imported."""
    monkeypatch.syspath_prepend(tmp_path)
    installed = []

    def to(name, text):
        installed.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "top_level.txt").write_text(f"{name}\n")

    yield to
    for name in installed:
        sys.modules.pop(name, None)


def write(file, name, text):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("net/code/__torch__/net.py", "  return ops.shop_of_test.double(ops.aten.add(x, x))"),
        ("net/models/model.json", '{"target": "torch.ops.shop_of_test.double.default"}'),
    ],
)
def test_the_package_of_an_operator_is_imported(install, tmp_path, record, text):
    install("shop_of_test", "")
    file = write(tmp_path / "net.pt", record, text)
    assert calling.prepare("cpu", file)["packages"] == ["shop_of_test"]
    assert "shop_of_test" in sys.modules


def test_nothing_else_is_imported(install, tmp_path):
    install("bystander_of_test", "")
    (tmp_path / "loose_of_test.py").touch()  # no installed package
    text = "  # bystander_of_test\n  x = ops.aten.relu(x)\n  return ops.loose_of_test.f(ops.antigravity.fly(x))"
    assert "packages" not in calling.prepare("cpu", write(tmp_path / "net.pt", "net/code/net.py", text))
    assert not {"bystander_of_test", "loose_of_test", "antigravity"} & sys.modules.keys()


def test_a_package_that_cannot_be_imported_is_named(install, tmp_path):
    install("broken_of_test", "raise OSError('no libcuda')")
    with pytest.raises(RunError, match="uses operators of broken_of_test, which cannot be imported: no libcuda"):
        calling.prepare("cpu", write(tmp_path / "net.pt", "net/code/net.py", "  return ops.broken_of_test.f(x)"))


def test_an_operator_that_no_package_brings_is_told_in_words():
    error = RuntimeError("\nUnknown builtin op: shop_of_test::double.\nHere are some suggestions:\n")
    assert (
        "uses the operator shop_of_test::double, which torch has not: install the package that brings it" in calling.translate(error).what
    )
