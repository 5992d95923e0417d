"""Blame finds the node that was changed, and says where it comes from."""

import importlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from fakes import live
from onnx import numpy_helper, parser
from torch import nn

from exportkit import blame, evidence, gaps, golden, graphs, intermediates, judge, make, reference
from exportkit.evidence import Sample
from exportkit.messages import Scene, Suspect, Trial
from exportkit.spec import Case, Measurement, Report, Runtime, TensorSpec
from exportkit.worker import Limits


class Here:
    """Runs in this process what exportkit runs in children."""

    def __init__(self, *held):
        self.held = held

    def run(self, function, *args, **_):
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(*self.held, *args)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Exported:
    """A network's good ONNX, and a way to spoil it."""

    def __init__(self, module, example, work):
        holder = live(module, example)
        (work / "cases").mkdir(parents=True)
        network, trial = self.cases(holder, work / "cases")
        self.artifact = make.make(holder, [("onnx", 0, work / "good")], network, None, None, Runtime())["onnx"].made
        self.scene = Scene(work / "good", self.artifact, network, trial, Runtime(), work / "scratch")
        self.program = intermediates.hold(holder, network, "exported", None, None, Runtime())[1]
        self.work = work

    def cases(self, holder, folder):
        survey = reference.survey(holder)
        network = replace(holder.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
        proof = reference.build(holder, survey.symbols, survey.cases[:6], folder)
        trial = replace(proof.trial, budgets=judge.weigh(folder, proof.weighed, proof.outputs, narrow=proof.narrow))
        return replace(network, outputs=proof.outputs), trial

    def spoiled(self, change):
        """Returns the scene and reports of a copy whose model was changed, and the nodes before the change by operator."""
        model = onnx.load(self.scene.folder / self.artifact.files[0])
        change(model)
        folder = self.work / "bad"
        folder.mkdir(exist_ok=True)
        onnx.save(model, folder / self.artifact.files[0])
        scene = replace(self.scene, folder=folder)
        return scene, judge.judge_all(folder, self.artifact, scene.network, Runtime(), scene.trial, probing=False)

    def search(self, change):
        scene, reports = self.spoiled(change)
        scene.scratch.mkdir(exist_ok=True)
        return tracer(self.program).search(scene, blame.failing_case(scene, reports))

    def explain(self, change, repro=None, hold=True):
        scene, reports = self.spoiled(change)
        return blame.explain(scene, reports, repro, tracer(None), (lambda: Here(self.program)) if hold else None)


def tracer(program):
    return blame.Tracer(Here(), Limits(), lambda _: None, program and Here(program))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.norm(F.gelu(self.first(x)))
        x = x.unsqueeze(1)
        return self.last(F.scaled_dot_product_attention(x, x * 2, x))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    return Exported(Layers(), (torch.randn(2, 5, 8),), tmp_path_factory.mktemp("exported"))


def node(model, operator, place=0):
    return [one for one in model.graph.node if one.op_type == operator][place]


def scale(model, name, factor):
    tensor = next(one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), name))


def set_epsilon(model):
    next(one for one in node(model, "LayerNormalization").attribute if one.name == "epsilon").f = 0.1


def set_attention(model):
    node(model, "Softmax").op_type = "Hardmax"


def test_a_changed_layer_is_named_with_its_module_operator_and_line(exported):
    (told,) = exported.explain(set_epsilon)
    assert "LayerNormalization" in told.text
    assert "aten.layer_norm.default in norm (LayerNorm)" in told.text
    assert "self.norm(F.gelu(" in told.text
    assert told.where.startswith("test_blame.py:")
    assert len(told.text.splitlines()) <= 10
    assert told.severity == "error"


def test_the_local_error_is_told_apart_from_the_one_that_was_handed_on(exported):
    suspect = exported.search(set_epsilon)
    assert suspect.value == "layer_norm"
    assert suspect.local.times > 100
    assert suspect.local.relative == pytest.approx(suspect.reached.relative, rel=0.1)
    assert suspect.handed.relative < 1e-5
    assert suspect.others == 0  # what reads it is off in the artifact, and right by itself
    assert suspect.standard.times == pytest.approx(suspect.local.times, rel=0.1)  # onnx's own implementation reads the same epsilon


def test_a_weight_slightly_off_is_found(exported):
    suspect = exported.search(lambda model: scale(model, "norm.weight", 1.001))
    assert suspect.nodes[0].op == "LayerNormalization"


def test_the_node_inside_an_operator_of_many_nodes_is_found(exported):
    suspect = exported.search(set_attention)
    assert suspect.value == "scaled_dot_product_attention"
    assert suspect.nodes[0].op == "Hardmax"


def test_values_that_do_not_fit_at_once_are_searched_in_rounds(exported, monkeypatch):
    monkeypatch.setattr(intermediates, "ROOM", 3000)
    rounds = []
    original = intermediates.record
    monkeypatch.setattr(intermediates, "record", lambda *args: rounds.append(args) or original(*args))
    assert exported.search(set_epsilon).nodes[0].op == "LayerNormalization"
    assert len(rounds) > 1


def test_where_every_node_is_right_nobody_is_blamed(exported):
    scene = exported.scene
    scene.scratch.mkdir(exist_ok=True)
    strict = {
        name: replace(one, bands=tuple(replace(band, rms=1e-30, max=1e-30) for band in one.bands))
        for name, one in scene.trial.budgets.items()
    }
    scene = replace(scene, trial=replace(scene.trial, budgets=strict))
    assert tracer(exported.program).search(scene, scene.trial.cases[0].name).value == ""


def test_without_the_network_only_a_runtime_can_be_blamed(exported):
    (told,) = exported.explain(set_epsilon, hold=False)
    assert "exportkit export net.py" in told.text
    assert told.where == ""


def test_the_optimiser_is_blamed_where_its_graph_is_wrong_and_the_artifact_right(exported, monkeypatch, tmp_path):
    original = onnxruntime.InferenceSession

    def spoiling(model, options, **rest):
        """Stands for an optimiser that negates what it fuses."""
        if not isinstance(model, str) or options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL:
            return original(model, options, **rest)
        wrong = onnx.load(model)
        scale(wrong, "norm.weight", -3)
        if options.optimized_model_filepath:
            onnx.save(wrong, options.optimized_model_filepath)
        options.optimized_model_filepath = ""
        return original(wrong.SerializeToString(), options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spoiling)
    scale_nothing = lambda _: None  # noqa: E731
    for hold in (True, False):
        (told,) = exported.explain(scale_nothing, hold=hold)
        assert "the optimiser is at fault" in told.text
        assert "LayerNormalization" in told.text


def test_the_failing_node_runs_alone(exported, tmp_path):
    (told,) = exported.explain(set_epsilon, repro=str(tmp_path / "repro"))
    assert str(tmp_path / "repro") in told.text
    code = "import runpy, sys; runpy.run_path('run.py'); assert not {'torch', 'exportkit'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "repro", capture_output=True, text=True, check=True)
    assert "160 of 160 elements differ" in done.stdout
    model = onnx.load(tmp_path / "repro" / "model.onnx")
    assert [one.op_type for one in model.graph.node] == ["LayerNormalization"]
    assert sorted(one.name for one in model.graph.initializer) == ["norm.bias", "norm.weight"]
    assert "self.norm" not in str(model)  # nothing of the user's own source


class Scanning(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        def step(carry, row):
            new = torch.tanh(self.mix(row) + carry)
            return new, new * 2

        last, rows = torch._higher_order_ops.scan(step, torch.zeros(x.shape[0], 4), x.transpose(0, 1).clone())
        return self.last(last) + rows.sum(0)


class Looped(Exported):
    """Cases of plain eager runs: torch 2.13 compiles a scan anew under a dispatch mode, and then not again."""

    def cases(self, holder, folder):
        eager = holder.call(holder.example).numpy()
        outputs = (TensorSpec("output", "float32", eager.shape),)
        arrays = {"input/x": holder.example["x"].numpy(), "eager/output": eager, "oracle/output": eager.astype(np.float64)}
        golden.write(folder / "example.safetensors", {f"example/{name}": value for name, value in arrays.items()})
        trial = Trial(folder, (Case("example", {}, "example", "inside", 0),), judge.weigh(folder, ["example"], outputs, narrow=False))
        return replace(holder.network, outputs=outputs), trial


def test_a_node_in_the_body_of_a_loop_is_found(tmp_path):
    torch.manual_seed(0)
    exported = Looped(Scanning().requires_grad_(requires_grad=False), (torch.randn(2, 5, 4),), tmp_path)

    def change(model):
        body = next(one for one in node(model, "Scan").attribute if one.name == "body").g
        next(one for one in body.node if one.op_type == "Tanh").op_type = "Sin"

    suspect = exported.search(change)
    assert suspect.nodes[0].op == "Sin"
    assert "step 1" in blame.finding(suspect).text


def test_the_worst_case_is_searched(exported):
    names = [case.name for case in exported.scene.trial.cases]
    metric = "largest error / eager's"
    measured = [Measurement(names[0], "output", metric, 7.0, 5.0), Measurement(names[1], "output", metric, float("nan"), 5.0)]
    report = Report("net", exported.artifact, "onnxruntime", "cpu", tuple(measured))
    assert blame.failing_case(exported.scene, [report]) == names[1]
    mean = Measurement("all cases", "output", "rms error / eager's", 4.0, 3.0)
    only_mean = replace(report, measurements=(mean, replace(measured[0], value=2.0), replace(measured[1], value=3.0)))
    assert blame.failing_case(exported.scene, [only_mean]) == names[1]
    assert blame.failing_case(exported.scene, [replace(report, measurements=())]) == ""


def test_a_gap_knows_integers_shapes_and_odd_values():
    whole = Sample("", np.array([1, 2]), np.array([1, 2]), ())
    assert gaps.gap(whole, np.array([1, 2])).times == 0
    assert gaps.gap(whole, np.array([1, 3])).times == np.inf
    assert "1 of 2" in gaps.gap(whole, np.array([1, 3])).text
    tie = replace(whole, oracle=np.array([1, 3]))  # eager and the oracle disagree: either is right
    assert gaps.gap(tie, np.array([1, 3])).times == 0
    real = Sample("", np.float32([1, 2, 3]), np.float64([1, 2, 3]), ())
    assert gaps.gap(real, np.float32([1, np.nan, 3])).times == np.inf
    assert gaps.gap(real, np.float32([[1, 2, 3]])).times == np.inf
    assert gaps.gap(real, np.float64([1, 2, 3])).times == np.inf
    assert gaps.gap(real, np.float32([1, 2, np.nextafter(np.float32(3), np.float32(4))])).times < evidence.MAX_FACTOR
    assert gaps.gap(real, np.float32([1, 2, 3.01])).times > 1000


MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
main (float[N] x, bool c) => (float[N] z)
<float[1] w = {2.0}>
{
  a = Mul(x, w)
  b = Relu(a)
  y = If (c) <then_branch = t () => (float[N] p) { q = Add(b, w)  p = Neg(q) }, else_branch = e () => (float[N] r) { r = Abs(a) }>
  z = Add(y, b)
}
"""


@pytest.fixture
def model():
    return ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(MODEL)))


def test_a_segment_ends_at_known_values_also_those_that_a_branch_reads(model):
    value = graphs.written(model.graph)["y"]
    nodes, frontier = graphs.segment(value, {"a": None})
    assert [one.op_type for one in nodes] == ["Relu", "If"]
    assert [one.name for one in frontier] == ["c", "a"]


def test_a_cut_model_takes_given_values_wherever_they_are_read_and_holds_nothing_else(model):
    cut = graphs.cut(model, {"b": ir.DataType.FLOAT}, ["y", "b"])
    session = onnxruntime.InferenceSession(ir.to_proto(cut).SerializeToString(), providers=["CPUExecutionProvider"])
    assert sorted(one.name for one in session.get_inputs()) == ["c", "given/b", "x"]
    feeds = {"c": np.array(True), "given/b": np.float32([10]), "x": np.float32([1])}
    y, b = session.run(None, feeds)
    assert (y, b) == (np.float32(-12), np.float32(2))
    assert [one.op_type for one in graphs.cut(model, {"a": ir.DataType.FLOAT}, ["b"]).graph] == ["Relu"]


def test_a_branch_unfolds_into_the_main_graph(model):
    unfolded, inputs, _ = graphs.unfold(model, "y", "then_branch")
    assert inputs == []
    cut = graphs.cut(unfolded, {"b": ir.DataType.FLOAT}, ["p"])
    assert [one.op_type for one in cut.graph] == ["Add", "Neg"]


def test_a_search_that_found_nothing_says_why():
    nothing = Suspect(None, optimiser=False, case="example")
    assert "No ONNX node is at fault" in blame.finding(replace(nothing, program=True)).text
    assert "exportkit export" in blame.finding(replace(nothing, alone=True)).text
    assert "what is traced keeps no names" in blame.finding(replace(nothing, alone=True), "traced").text
    assert "no single node" in blame.finding(nothing).text
