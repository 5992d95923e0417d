"""What a user sees when a plugin is named wrongly, broken, or lacks a package."""

import subprocess
import sys

import pytest

from exportkit import plugins
from exportkit.errors import PluginError


def test_backends_are_listed_without_importing_any_of_them():
    code = "import sys; from exportkit import plugins; print(plugins.names('backends'), 'torch' in sys.modules, 'numpy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "('onnxruntime', 'pt2', 'torchscript') False False"


def test_backends_load_on_a_host_without_torch_and_onnxruntime():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None\n"
        "from exportkit import plugins\n"
        "print([plugins.load('backends', name).formats for name in plugins.names('backends')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[('onnx',), ('pt2',), ('torchscript',)]"


def test_a_misspelt_name_gets_the_near_one_first_and_the_others_after_it():
    with pytest.raises(PluginError) as told:
        plugins.load("backends", "torchscrip")
    assert str(told.value) == (
        "there is no backend torchscrip\n  Did you mean torchscript? The backends are: torchscript, onnxruntime, pt2."
    )


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(PluginError) as told:
        plugins.load("reporters", "zzz")
    assert told.value.todo == "The reporters are: html, json, junit, markdown, text."


@pytest.fixture
def new_backend(tmp_path, monkeypatch):
    """Adds a backend file as a contributor would, in a copy of the package folder."""
    import exportkit.backends

    (tmp_path / "backends").mkdir()
    monkeypatch.setattr(plugins, "__file__", str(tmp_path / "plugins.py"))
    monkeypatch.setattr(exportkit.backends, "__path__", [str(tmp_path / "backends")])
    monkeypatch.delitem(sys.modules, "exportkit.backends.fresh", raising=False)
    yield (tmp_path / "backends" / "fresh.py").write_text
    sys.modules.pop("exportkit.backends.fresh", None)


def test_a_new_backend_is_one_new_file(new_backend):
    new_backend("PLUGIN = 'it runs'\n")
    assert plugins.names("backends") == ("fresh",)
    assert plugins.load("backends", "fresh") == "it runs"


def test_a_missing_package_is_named_with_the_command_that_brings_it(new_backend):
    new_backend("import no_such_runtime.session\nPLUGIN = 1\n")
    with pytest.raises(PluginError) as told:
        plugins.load("backends", "fresh")
    assert str(told.value) == "backend fresh needs the package no_such_runtime\n  pip install no_such_runtime"


def test_a_package_whose_name_differs_from_its_module_is_named_as_the_index_knows_it():
    with pytest.raises(PluginError, match="pip install protobuf"), plugins.needs("backend fresh"):
        raise ModuleNotFoundError(name="google.protobuf")


def test_a_broken_import_of_our_own_is_not_blamed_on_the_environment(new_backend):
    new_backend("import exportkit.no_such_file\nPLUGIN = 1\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_file"):
        plugins.load("backends", "fresh")


def test_a_file_without_plugin_says_what_to_add(new_backend):
    new_backend("x = 1\n")
    with pytest.raises(PluginError) as told:
        plugins.load("backends", "fresh")
    assert str(told.value) == "exportkit/backends/fresh.py: the backend fresh has no PLUGIN\n  End the file in PLUGIN = ..."
