"""exportkit from Python: a module object, which no other process could import."""

import pytest
import torch
from torch import nn

import exportkit


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.double = lambda x: x * 2  # nothing that pickles

    def forward(self, x):
        return self.double(self.linear(x))


def test_a_module_object_is_exported_and_left_as_it_was(tmp_path):
    model = Doubled()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    verdict = exportkit.export(model, torch.randn(2, 4), to=tmp_path, formats=("onnx",))
    assert verdict.outcome == "passed", verdict.made
    assert sorted(path.name for path in verdict.folder.iterdir()) == ["Doubled.onnx", "golden.safetensors", "manifest.json", "run.json"]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert exportkit.check(verdict.folder).exit_code == 0


def test_the_line_of_a_fault_in_an_object_is_named(tmp_path):
    with pytest.raises(exportkit.ExportKitError, match=r"test_api\.py:\d+.*cannot be multiplied"):
        exportkit.export(Doubled(), torch.randn(2, 5), to=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_object_without_example_inputs_and_a_file_with_them_are_refused():
    with pytest.raises(exportkit.LoadError, match="without example inputs"):
        exportkit.export(Doubled())
    with pytest.raises(exportkit.LoadError, match="own example_inputs"):
        exportkit.export("net.py", torch.randn(2, 4))


def test_the_public_names_are_few_and_all_there():
    assert len(exportkit.__all__) <= 15
    assert all(hasattr(exportkit, name) for name in exportkit.__all__)
