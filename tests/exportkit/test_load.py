"""Network files: what is found in them, and what is said of those that cannot be used."""

import pytest
import torch
from far_device import FAR, far_device
from torch import nn

from exportkit import load
from exportkit.errors import LoadError

HEAD = "import torch\nfrom torch import nn\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def to(text, name="net.py"):
        (tmp_path / name).write_text(HEAD + text)
        return name

    return to


@pytest.mark.parametrize(
    "text",
    [
        "model = nn.Linear(2, 3)\nexample_inputs = torch.randn(4, 2)",
        "model = lambda: nn.Linear(2, 3)\nexample_inputs = lambda: (torch.randn(4, 2),)",
        "the_only_one = nn.Linear(2, 3)\nexample_inputs = {'input': torch.randn(4, 2)}",
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(2, 3)\nexample_inputs = [torch.randn(4, 2)]",
        "def model(): return nn.Linear(2, 3)\ndef example_inputs(): return torch.randn(4, 2)",
    ],
)
def test_forms_of_a_network_file(write, text):
    loaded, live = load.hold(write(text))
    assert [(spec.name, spec.dtype, spec.shape) for spec in loaded.network.inputs] == [("input", "float32", (4, 2))]
    assert not live.module.training
    assert loaded.network.name == "net"


def test_a_name_and_a_method_are_taken_and_name_the_artifact(write):
    text = """
class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
    def forward(self, x): raise RuntimeError
    def encode(self, codes): return self.linear(codes)
tagger = Coder()
example_inputs = torch.randn(4, 2)
"""
    loaded, live = load.hold(write(text) + ":tagger.encode")
    assert (loaded.network.name, loaded.network.inputs[0].name) == ("encode", "codes")
    assert live.call(live.example).shape == (4, 3)
    assert "linear.weight" in dict(live.module.named_parameters())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = nn.Linear(2, 3)", "has no example_inputs"),
        ("x = 1", "no network and no `model`"),
        ("a, b = nn.Linear(2, 3), nn.Linear(2, 3)", "several networks.*candidates: a, b"),
        ("model = nn.Linear\nexample_inputs = torch.randn(1)", "needs arguments"),
        ("model = 7\nexample_inputs = torch.randn(1)", "model is a int"),
        ("model = lambda: 7\nexample_inputs = torch.randn(1)", "returns a int"),
        ("import nothing_of_this_name", r"net.py:3.*cannot import nothing_of_this_name"),
        ("def f(:\n  pass", r"net.py:3.*SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("model = nn.Linear(2, 3)\nexample_inputs = (1, 2, 3)", "does not take the 3"),
        ("model = nn.Linear(2, 3)\nexample_inputs = object()", "holds a object"),
        ("model = nn.Linear(2, 3, device='meta')\nexample_inputs = torch.randn(1, 2)", "meta device"),
        ("model = nn.LazyLinear(3)\nexample_inputs = torch.randn(1, 2)", "lazy"),
        ("model = nn.Linear(2, 3)\nexample_inputs = torch.randn(1, 2)\ncheck_inputs = [torch.randn(2)]", "check_inputs"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault(write, text, words):
    with pytest.raises(LoadError, match=f"(?s){words}"):
        load.hold(write(text))


def test_a_missing_file_names_one_of_a_similar_name(write):
    write("", "network.py")
    with pytest.raises(LoadError, match=r"networks.py.*no such file(?s:.*)Did you mean network.py"):
        load.hold("networks.py")


def test_inputs_on_the_command_line_replace_the_example_and_name_its_dimensions(write):
    name = write("model = nn.Linear(2, 3)")
    loaded, live = load.hold(name, ("input: float32[rows, 2]",))
    assert loaded.network.inputs[0].shape[1] == 2
    assert live.dynamic_shapes == {"input": {0: "rows"}}
    for wrong in ("input float32", "input: float33[2]", "input: float32[a b]"):
        with pytest.raises(LoadError):
            load.hold(name, (wrong,))


def test_weights_are_loaded_strictly(write, tmp_path):
    name = write("model = nn.Linear(2, 3)\nexample_inputs = torch.randn(1, 2)")
    torch.save({"weight": torch.full((3, 2), 7.0), "bias": torch.zeros(3)}, tmp_path / "w.pt")
    assert load.hold(name, weights=str(tmp_path / "w.pt"))[1].module.weight[0, 0] == 7
    torch.save({"weight": torch.zeros(3, 5), "other": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(LoadError, match=r"missing: bias; unexpected: other; of another shape: weight"):
        load.hold(name, weights=str(tmp_path / "w.pt"))


def test_the_files_changes_to_the_process_are_undone(write, tmp_path):
    text = "import os, sys\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\n"
    loaded, _ = load.hold(write(text + "model = nn.Linear(2, 3).float()\nexample_inputs = torch.randn(4, 2).float()"))
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert any(finding.code == "default-dtype" for finding in loaded.findings)


def test_two_loads_of_one_file_draw_the_same_weights(write):
    name = write("model = nn.Linear(2, 3)\nexample_inputs = torch.randn(4, 2)")
    digests = {load.hold(name)[0].network.source.weights_digest for _ in range(2)}
    assert len(digests) == 1
    assert load.weights_digest_of(name) not in digests  # another seed: the file initialises at random


def test_a_file_of_a_package_may_import_relatively(write, tmp_path):
    (tmp_path / "shop_of_test" / "nets").mkdir(parents=True)
    (tmp_path / "shop_of_test" / "__init__.py").touch()
    write("WIDTH = 3\n", "shop_of_test/sizes.py")
    write("from ..sizes import WIDTH\ndef head(): return nn.Linear(2, WIDTH)\n", "shop_of_test/nets/parts.py")
    name = write("from .parts import head\nmodel = head()\nexample_inputs = torch.randn(4, 2)\n", "shop_of_test/nets/net.py")
    loaded, live = load.hold(name)
    assert loaded.network.name == "net"
    assert live.call(live.example).shape == (4, 3)


def test_what_torch_compiled_is_taken_as_it_was_before(write):
    text = """
net = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4))
net[0] = torch.compile(net[0])
net[1].compile()
model = torch.compile(net)
example_inputs = torch.ones(2, 4)
"""
    loaded, live = load.hold(write(text))
    assert [type(part).__name__ for part in live.module.modules()] == ["Sequential", "Sequential", "Linear", "Linear"]
    assert live.module[1]._compiled_call_impl is None
    assert "compiled by torch" in loaded.findings[0].text


class Stuck(nn.Linear):
    def cpu(self):
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. Use spawn.")


def test_an_object_on_a_gpu_that_a_fork_cannot_read_is_told_to_move():
    with far_device():
        model = Stuck(2, 2).to(FAR)
        with pytest.raises(LoadError, match="is on far, and does not move: Cannot re-initialize CUDA") as told:
            load.hold_object(load.Given(model, torch.ones(1, 2)), None)
    assert "model.cpu()" in told.value.todo
