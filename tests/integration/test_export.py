"""What a user sees of `exportkit export` and `exportkit check`, end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

ROOT = Path(__file__).parents[2]
NETS = ROOT / "tests" / "samples" / "nets"
REFERENCE = ROOT / "layers" / "networks" / "centered_net.py"


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_reference_network_is_proven_in_three_formats_and_checked_again(exportkit_alone, tmp_path):
    done = exportkit_alone("export", REFERENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "centered_net"
    assert left_in(folder) == [
        "centered_net.onnx",
        "centered_net.pt",
        "centered_net.pt2",
        "golden.safetensors",
        "manifest.json",
        "run.json",
    ]
    assert left_in(tmp_path / "artifacts") == ["centered_net"]
    x = torch.randn(7, 8)
    want = torch.jit.load(folder / "centered_net.pt")(x).detach().numpy()
    got = onnxruntime.InferenceSession(folder / "centered_net.onnx").run(None, {"input": x.numpy()})[0]
    assert np.allclose(got, want, atol=1e-5)
    assert abs(got.mean()) < 1e-6
    checked = exportkit_alone("check", folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (folder / "centered_net.onnx").write_bytes((folder / "centered_net.onnx").read_bytes()[:-1])
    broken = exportkit_alone("check", folder)
    assert broken.returncode == 2
    assert "centered_net.onnx" in broken.stderr


def test_two_exports_give_the_same_manifest(exportkit, tmp_path):
    for parent in ("a", "b"):
        assert exportkit("export", REFERENCE, "--to", parent).returncode == 0
    one, two = ((tmp_path / parent / "centered_net" / "manifest.json").read_text() for parent in "ab")
    assert one == two
    assert str(ROOT) not in one


def test_no_artifact_holds_a_path_of_the_author(exportkit, tmp_path):
    shutil.copy(REFERENCE, tmp_path / "net.py")
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text())
    assert exportkit("export", tmp_path / "net.py").returncode == 0
    for file in (tmp_path / "artifacts" / "net").iterdir():
        if file.name != "run.json":
            assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_names_of_inputs_and_outputs_are_those_of_forward(exportkit, tmp_path):
    done = exportkit("export", NETS / "dict_out.py", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    session = onnxruntime.InferenceSession(tmp_path / "artifacts" / "dict_out" / "dict_out.onnx")
    assert [one.name for one in session.get_inputs()] == ["x", "unused"]
    assert [one.name for one in session.get_outputs()] == ["logits", "pair_0", "pair_1"]
    told = json.loads(done.stdout)
    assert [one["name"] for one in told["network"]["outputs"]] == ["logits", "pair_0", "pair_1"]


def test_a_loop_over_a_dynamic_length_is_right_at_every_length(exportkit, tmp_path):
    done = exportkit("export", NETS / "baked_loop.py", "--format", "onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    session = onnxruntime.InferenceSession(tmp_path / "artifacts" / "baked_loop" / "baked_loop.onnx")
    for sizes in (1, 2, 9):
        x = torch.randn(2, sizes, 3)
        state = torch.zeros(2, 3)
        for t in range(sizes):
            state = torch.tanh(state + x[:, t])
        assert np.allclose(session.run(None, {"x": x.numpy()})[0], state.numpy(), atol=1e-5)


def test_a_branch_on_the_batch_size_is_not_baked_in_silence(exportkit, tmp_path):
    done = exportkit("export", NETS / "batch_branch.py")
    assert done.returncode in (0, 1), done.stderr
    folder = tmp_path / "artifacts" / "batch_branch"
    if not folder.exists():
        return
    session = onnxruntime.InferenceSession(folder / "batch_branch.onnx")
    if isinstance(session.get_inputs()[0].shape[0], str):
        x = torch.randn(9, 4)
        want = torch.jit.load(folder / "batch_branch.pt")(x).detach().numpy()
        assert np.allclose(session.run(None, {"x": x.numpy()})[0], want, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("all_nan.py", "NaN"),
        ("segfault.py", "SIGSEGV"),
        ("hang.py", "hang.py:1"),
        ("monkeypatch.py", "nothing was published"),
        ("clock.py", "clock"),
        ("global_state.py", "state"),
    ],
)
def test_what_cannot_be_proven_is_refused_and_leaves_nothing(exportkit, tmp_path, net, words):
    done = exportkit("export", NETS / net, "--timeout", "15")
    assert done.returncode in (1, 2)
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "artifacts").exists() or left_in(tmp_path / "artifacts") == []


def test_a_failed_export_leaves_the_published_folder_as_it_was(exportkit, tmp_path):
    net = tmp_path / "net.py"
    shutil.copy(REFERENCE, net)
    assert exportkit("export", net, "--format", "onnx").returncode == 0
    before = (tmp_path / "artifacts" / "net" / "manifest.json").read_text()
    shutil.copy(NETS / "all_nan.py", net)
    assert exportkit("export", net, "--format", "onnx").returncode == 1
    assert (tmp_path / "artifacts" / "net" / "manifest.json").read_text() == before
    assert left_in(tmp_path / "artifacts") == ["net"]


def test_many_networks_give_one_table_and_the_worst_exit_code(exportkit_alone, tmp_path):
    done = exportkit_alone("export", REFERENCE, NETS / "all_nan.py", tmp_path / "missing.py", "--jobs", "2", "--format", "onnx")
    assert done.returncode == 2
    for name in ("centered_net", "all_nan", "missing.py"):
        assert name in done.stdout + done.stderr
    assert (tmp_path / "artifacts" / "centered_net" / "centered_net.onnx").exists()


def test_what_is_proven_of_a_failed_export_can_be_kept_and_the_next_command_is_told(exportkit, tmp_path):
    done = exportkit("export", NETS / "shared_write.py", "--format", "torchscript,pt2", "--keep-partial")
    assert done.returncode == 1, done.stdout + done.stderr
    assert left_in(tmp_path / "artifacts") == ["shared_write.partial"]
    assert "shared_write.pt" in left_in(tmp_path / "artifacts" / "shared_write.partial")
    assert done.stdout.rstrip().endswith("shared_write.py --keep-partial --format torchscript")
    assert "shared_write.py:14" in done.stdout  # the line that stands in the way


def test_strict_refuses_warnings(exportkit, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(
        "import exportkit, torch\nfrom torch import nn\nmodel = nn.Linear(2, 3)\nexample_inputs = torch.randn(4, 2)\n"
        "accept = {'output': exportkit.Accept(50, 'not needed at all')}\n"
    )
    done = exportkit("export", net, "--format", "onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not needed at all" in " ".join(done.stdout.split())
    assert exportkit("export", net, "--format", "onnx", "--strict").returncode == 1


def test_a_torchscript_file_and_an_installed_module_can_be_exported(exportkit, tmp_path):
    assert exportkit("export", REFERENCE, "--format", "torchscript").returncode == 0
    script = tmp_path / "artifacts" / "centered_net" / "centered_net.pt"
    done = exportkit("export", script, "--input", "x: float32[batch, 8]", "--name", "again", "--format", "torchscript,onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    done = exportkit("export", "layers.networks.my_linear_net:model", "--format", "torchscript")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left_in(tmp_path / "artifacts") == ["again", "centered_net", "model"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--opset", "99"], "99"),
        (["--opset", "22", "--target", "onnxruntime==1.20"], "onnxruntime 1.21"),
        (["--target", "whatever"], "whatever"),
        (["--provider", "tpu"], "tpu"),
        (["--format", "tflite"], "tflite"),
        (["--name", "../escape"], "escape"),
        (["--input", "x float32"], "x float32"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(exportkit, tmp_path, options, words):
    done = exportkit("export", REFERENCE, *(["--format", "onnx"] if "--format" not in options else []), *options)
    assert done.returncode in (1, 2)
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "artifacts").exists()


def test_an_opset_that_can_be_honoured_is(exportkit, tmp_path):
    import onnx

    done = exportkit("export", REFERENCE, "--format", "onnx", "--opset", "21", "--target", "onnxruntime==1.20")
    assert done.returncode == 0, done.stdout + done.stderr
    model = onnx.load(tmp_path / "artifacts" / "centered_net" / "centered_net.onnx")
    assert model.opset_import[0].version == 21
    assert model.ir_version <= 10


def test_a_tied_layer_stays_one_tensor_in_every_artifact(exportkit, tmp_path):
    net = tmp_path / "tied.py"
    net.write_text(
        "import torch\nfrom torch import nn\nfrom layers.basic import MyLinear\nshared = MyLinear(64, 64)\n"
        "model = nn.Sequential(shared, nn.Tanh(), shared)\nexample_inputs = torch.randn(4, 64)\n"
    )
    done = exportkit("export", net)
    assert done.returncode == 0, done.stdout + done.stderr
    for suffix in ("pt", "pt2", "onnx"):
        size = (tmp_path / "artifacts" / "tied" / f"tied.{suffix}").stat().st_size
        assert 64 * 64 * 4 < size < 2 * 64 * 64 * 4, suffix


@pytest.mark.parametrize("net", ["custom_op", "autograd_function"])
def test_operators_written_in_python_are_traced_through(exportkit, tmp_path, net):
    done = exportkit("export", NETS / f"{net}.py")
    assert done.returncode == 0, done.stdout + done.stderr
    # No file needs the user's code: they load where nobody registered the operator.
    x = torch.randn(5, 6)
    file = tmp_path / "artifacts" / net / net
    want = torch.jit.load(f"{file}.pt")(x).detach().numpy()
    assert np.allclose(onnxruntime.InferenceSession(f"{file}.onnx").run(None, {"x": x.numpy()})[0], want, atol=1e-5)


def test_an_operator_of_a_library_runs_where_the_library_is_named(exportkit, tmp_path):
    extensions = pytest.importorskip("onnxruntime_extensions")
    library = shutil.copy(extensions.get_library_path(), tmp_path / "own_ops.so").name
    net = NETS / "library_op.py"
    refused = exportkit("export", net, "--format", "onnx")
    assert refused.returncode == 1
    assert "ai.onnx.contrib::Inverse" in refused.stdout
    assert "--ort-library" in refused.stdout
    done = exportkit("export", net, "--format", "onnx", "--ort-library", library)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "library_op"
    without = exportkit("check", folder)
    assert without.returncode == 1
    assert "own_ops.so" in without.stdout
    assert exportkit("check", folder, "--ort-library", library).returncode == 0
    assert exportkit("check", folder, "--ort-library", "gone.so").returncode == 2


def test_doctor_names_versions_devices_and_providers(exportkit_alone):
    done = exportkit_alone("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("torch", "onnxruntime", "cpu", "CPUExecutionProvider"):
        assert word in done.stdout
    told = json.loads(exportkit_alone("doctor", "--json").stdout)
    assert told["providers"]["CPUExecutionProvider"] == ""


def test_a_complex_output_is_proven_where_the_runtime_has_them_and_named_where_not(exportkit, tmp_path):
    net = tmp_path / "spectrum.py"
    net.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return torch.fft.fft(x)\n\n\n"
        "model, example_inputs = Net(), torch.randn(2, 4)\n"
    )
    done = exportkit("export", net)
    assert done.returncode == 1
    assert "output output is complex64, onnxruntime has no complex tensors" in " ".join(done.stdout.split())
    assert done.stdout.rstrip().endswith("--format torchscript,pt2")


def changed(folder, name, *changes):
    """Writes a network of the samples with some of its text replaced; returns the file."""
    source = (NETS / f"{name}.py").read_text()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    file = folder / f"{name}.py"
    file.write_text(source)
    return file


UNSCRIPTABLE = ("forward(self, x)", "forward(self, x, **unused)")  # TorchScript compiles no such forward


def test_a_branch_on_a_size_far_beyond_the_example_is_not_lost(exportkit, tmp_path):
    done = exportkit("export", NETS / "bounded_context.py", "--format", "pt2,onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "bounded_context"
    x = torch.randn(2, 200, 8)
    session = onnxruntime.InferenceSession(folder / "bounded_context.onnx")
    program = torch.export.load(folder / "bounded_context.pt2").module()
    for run in (lambda one: session.run(None, {"x": one.numpy()})[0], lambda one: program(one).detach().numpy()):
        assert np.allclose(run(x), run(x[:, -64:]), atol=1e-5)


def test_a_program_that_ends_where_a_branch_that_cannot_be_lifted_begins_says_so(exportkit, tmp_path):
    done = exportkit("export", changed(tmp_path, "bounded_context", UNSCRIPTABLE), "--format", "pt2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this artifact takes up to 64" in " ".join(done.stdout.split())  # it says so when it is called, too


def test_a_branch_on_one_exact_size_is_taken_and_compared(exportkit, tmp_path):
    done = exportkit("export", NETS / "exact_size.py")
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, told + done.stderr
    assert "exact_size.py:14: forward branches on a size: an export is right where x_1 != 700" in told
    folder = tmp_path / "artifacts" / "exact_size"
    assert any(case["sizes"].get("x_1") == 700 for case in json.loads((folder / "manifest.json").read_text())["evidence"]["cases"])
    x = torch.ones(1, 700, 4)
    session = onnxruntime.InferenceSession(folder / "exact_size.onnx")
    program, script = torch.export.load(folder / "exact_size.pt2").module(), torch.jit.load(folder / "exact_size.pt")
    answers = [session.run(None, {"x": x.numpy()})[0], program(x).detach().numpy(), script(x).detach().numpy()]
    short = script(torch.ones(1, 6, 4)).detach().numpy()  # its half is 3 long, as that of 700 is
    assert all(np.allclose(one, short, atol=1e-6) for one in answers)


def test_a_branch_on_a_size_that_cannot_be_lifted_costs_that_dimension_and_not_the_rows(exportkit, tmp_path):
    done = exportkit("export", changed(tmp_path, "exact_size", UNSCRIPTABLE), "--format", "pt2,onnx")
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, told + done.stderr
    assert "dimension x_1 (x axis 1) varies in eager, this artifact takes 8 only [pt2, onnx]" in told
    assert "dimension batch" not in told


def test_a_trace_of_a_branch_is_refused_until_a_case_takes_the_other_side(exportkit, tmp_path):
    done = exportkit("export", NETS / "rare_branch.py", "--format", "torchscript")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "decides by a tensor's value at rare_branch.py:14" in " ".join(done.stdout.split())
    net = tmp_path / "told.py"
    net.write_text((NETS / "rare_branch.py").read_text() + "check_inputs = [torch.full((4, 8), 100.0)]\n")
    told = exportkit("export", net, "--format", "torchscript")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "on check-0" in " ".join(told.stdout.split())


def test_a_trace_of_a_branch_on_a_size_that_torch_export_cannot_tell_of_is_told(exportkit, tmp_path):
    unexportable = ("return self", "width = width if x[0, 0].tolist()[0] < 1e30 else 0\n        return self")
    done = exportkit("export", changed(tmp_path, "exact_size", UNSCRIPTABLE, unexportable), "--format", "torchscript")
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, told + done.stderr
    assert "warning: forward branches on a size at exact_size.py:14, and a trace holds one side" in told


def test_a_lifted_branch_of_which_no_case_took_the_other_side_is_told(exportkit, tmp_path):
    done = exportkit("export", changed(tmp_path, "rare_branch", (", **unused", "")), "--format", "pt2")
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, told + done.stderr
    assert "warning: forward decides by a tensor's value at rare_branch.py:14, and every case went the same way" in told


def test_a_case_on_which_an_operator_crashes_is_left_out_and_told(exportkit):
    done = exportkit("export", NETS / "crash_far.py", "--format", "onnx")
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, told + done.stderr
    assert "warning: case far-0 is left out, as forward crashes on it: the process was killed by SIGSEGV (segmentation fault)" in told
