"""TorchScript and .pt2 run as eager does: same arguments, same leaves, same element types."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from exportkit import plugins
from exportkit.calling import to_tensor
from exportkit.errors import RunError
from exportkit.spec import Artifact, Network, Source, TensorSpec

SOURCE = Source("net.py", "model", "", "")


def network_of(inputs, outputs, kwargs=(), constants=()):
    """A network whose inputs are leaves, positional unless named in kwargs; constants are positional and come last."""
    args = [{"leaf": name} for name in inputs if name not in kwargs] + [{"constant": value} for value in constants]
    tree = {"dict": {"args": {"tuple": args}, "kwargs": {"dict": {name: {"leaf": name} for name in kwargs}}}}
    specs = [TensorSpec(name, "float32", ()) for name in inputs]
    return Network("net", tuple(specs), tree, SOURCE, outputs=tuple(TensorSpec(name, "float32", ()) for name in outputs))


def load(module, example, network, folder, kind, **options):
    if kind == "torchscript":
        torch.jit.script(module).save(folder / "net.pt")
        files = ("net.pt",)
    else:
        torch.export.save(torch.export.export(module, example, **options), folder / "net.pt2")
        files = ("net.pt2",)
    return plugins.load("backends", kind).load(folder, Artifact(kind, files, "plain"), network, "cpu")


class Keyword(nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_positional_and_keyword_inputs_reach_their_places(tmp_path, kind):
    network = network_of(["x", "scale"], ["output"], kwargs=["scale"])
    example = {"kwargs": {"scale": torch.ones(3)}} if kind == "pt2" else {}
    session = load(Keyword(), (torch.ones(3),), network, tmp_path, kind, **example)
    [output] = session({"scale": np.full(3, 4, np.float32), "x": np.arange(3, dtype=np.float32)})
    assert output.tolist() == [0, 4, 8]
    assert session.facts["versions"] == {"torch": torch.__version__}


class Nested(nn.Module):
    def forward(self, x: torch.Tensor):
        return {"b": x + 1, "a": (x.long(), x > 0)}, None, x.to(torch.bfloat16)


def test_leaves_come_in_the_order_eager_returned_them_and_none_is_left_out(tmp_path):
    session = load(Nested(), (torch.ones(2),), network_of(["x"], ["b", "a_0", "a_1", "c"]), tmp_path, "pt2")
    outputs = session({"x": np.array([0, 2], np.float32)})
    assert [one.tolist() for one in outputs] == [[1, 3], [0, 2], [False, True], [0, 2]]
    assert [str(one.dtype) for one in outputs] == ["float32", "int64", "bool", "bfloat16"]


class Numbers(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int, float, bool, torch.Tensor | None]:
        return x, x.shape[0], 0.1, True, None


def test_python_numbers_are_arrays_of_no_axes(tmp_path):
    session = load(Numbers(), (), network_of(["x"], ["x_out", "n", "f", "b"]), tmp_path, "torchscript")
    _, n, f, b = session({"x": np.ones(5, np.float32)})
    assert [(one.shape, str(one.dtype), one.item()) for one in (n, f, b)] == [
        ((), "int64", 5),
        ((), "float64", 0.1),
        ((), "bool", True),
    ]


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_a_net_that_writes_into_its_input_leaves_the_case_as_it_was(tmp_path, kind):
    session = load(InPlace(), (torch.ones(2),), network_of(["x"], ["output"]), tmp_path, kind)
    x = np.zeros(2, np.float32)
    assert session({"x": x})[0].tolist() == [1, 1]
    assert session({"x": x})[0].tolist() == [1, 1]
    assert x.tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_another_number_of_outputs_is_refused_with_both_numbers(tmp_path, kind):
    session = load(InPlace(), (torch.ones(2),), network_of(["x"], ["logits", "state"]), tmp_path, kind)
    with pytest.raises(RunError, match=r"returns 1 output\(s\), eager returns 2: logits, state"):
        session({"x": np.zeros(2, np.float32)})


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 3:
            raise ValueError("too many rows")
        return self.fc(x)


@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(2, 3))])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_an_error_inside_torchscript_is_one_line_with_the_place_in_the_network(tmp_path, make):
    make(Linear()).save(tmp_path / "net.pt")
    artifact = Artifact("torchscript", ("net.pt",), "plain")
    session = plugins.load("backends", "torchscript").load(tmp_path, artifact, network_of(["x"], ["output"]), "cpu")
    with pytest.raises(RunError, match="mat1 and mat2 shapes cannot be multiplied") as told:
        session({"x": np.ones((2, 4), np.float32)})
    line = Linear.forward.__code__.co_firstlineno + 3
    assert told.value.where == f"test_torch_backends.py:{line}"
    assert "\n" not in str(told.value)


def test_an_exception_raised_by_the_network_keeps_its_words(tmp_path):
    session = load(Linear(), (), network_of(["x"], ["output"]), tmp_path, "torchscript")
    with pytest.raises(RunError, match="too many rows"):
        session({"x": np.ones((5, 3), np.float32)})


def test_a_size_that_the_export_fixed_is_refused_in_one_line(tmp_path):
    session = load(Keyword(), (torch.ones(3), torch.ones(3)), network_of(["x", "scale"], ["output"]), tmp_path, "pt2")
    with pytest.raises(RunError) as told:
        session({"x": np.ones(4, np.float32), "scale": np.ones(4, np.float32)})
    assert "\n" not in str(told.value)
    assert "3" in str(told.value)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_a_broken_file_is_a_fault_of_the_artifact(tmp_path, kind):
    (tmp_path / "net").write_bytes(b"not an archive")
    with pytest.raises(RunError):
        plugins.load("backends", kind).load(tmp_path, Artifact(kind, ("net",), "plain"), network_of(["x"], ["y"]), "cpu")


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU")
def test_cuda_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path, kind):
    with pytest.raises(RunError, match="cuda was asked for"):
        plugins.load("backends", kind).load(tmp_path, Artifact(kind, ("none",), "plain"), network_of(["x"], ["y"]), "cuda")


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", "float16", "complex64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_of_every_type_and_shape_become_tensors_of_the_same(dtype, shape):
    kind = getattr(ml_dtypes, dtype, None) or getattr(np, dtype, None) or np.dtype(dtype)
    array = np.ones(shape).astype(kind)
    tensor = to_tensor(array)
    assert str(tensor.dtype) == f"torch.{dtype}"
    assert tuple(tensor.shape) == shape
    assert tensor.to(torch.complex128).numpy().tolist() == np.ones(shape, np.complex128).tolist()


def test_a_transposed_array_keeps_its_elements_in_place():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert to_tensor(array).numpy().tolist() == array.tolist()
