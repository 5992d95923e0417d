"""The benchmark of the layers: it times every layer, with the axes that vary, and keeps what it measured before."""

import sys
from pathlib import Path

import torch

import layers.basic
import layers.dynamic_programming
import layers.image
import layers.sequence
import layers.text

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import layer_sizes
import layer_speed


def test_every_layer_is_timed():
    public = {name for package in (layers.basic, layers.image, layers.text, layers.sequence, layers.dynamic_programming)
              for name in package.__all__}  # fmt: skip
    assert {case.name.partition(".")[0] for case in layer_sizes.CASES} == public


def test_axes_vary_together_where_one_size_is_theirs():
    case = next(one for one in layer_sizes.CASES if one.name == "CTCLoss")
    scores, targets, steps, labels = layer_sizes.varies(case, case.small)
    assert {axis: one.__name__ for axis, one in scores.items()} == {0: "batch", 1: "time"}
    assert {axis: one.__name__ for axis, one in targets.items()} == {0: "batch", 1: "labels"}
    assert steps.keys() == labels.keys() == {0, 1}


def test_each_way_is_timed_by_turns():
    calls = []
    times = layer_speed.by_turns({"one": lambda: calls.append(1), "other": lambda: calls.append(2)}, 6)
    assert [len(taken) for taken in times.values()] == [6, 6]
    assert all(taken >= 0 for both in times.values() for taken in both)
    assert calls[-1] == 2


def test_rows_of_other_methods_stay(tmp_path):
    def row(name, onnx):
        return layer_speed.Row(
            name, "small", {"batch": 1}, 1, onnx, {"eager": 2.0, "torchscript": 1.5, "compile": "> 1 s"}, "", (), "lifted", {}, 1.0
        )

    file = tmp_path / "layers.json"
    layer_speed.write(file, [row("SoftDTW", 1.0), row("RMSNorm", 2.0)], 1.0)
    layer_speed.write(file, [row("SoftDTW", 3.0)], 1.0)
    rows = layer_speed.json.loads(file.read_text())["rows"]
    assert [(one["name"], one["onnx"]) for one in rows] == [("RMSNorm", 2.0), ("SoftDTW", 3.0)]


def test_a_row_is_behind_where_a_competitor_takes_less_time():
    row = layer_speed.Row("SoftDTW", "small", {}, 1, 1.0, {"eager": 0.9, "torchscript": 1.0, "compile": "fails"}, "", (), "lifted", {}, 1.0)
    assert row.behind == ("eager",)
    assert not layer_speed.same([torch.ones(2)], [torch.zeros(2)])
