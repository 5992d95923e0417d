"""What a baseline says of changes, and that it stays as it is where nothing changed."""

import copy
import json
import math

import pytest

from exportkit import baseline
from exportkit.errors import LoadError, StoreError
from exportkit.manifest import Made
from exportkit.pipeline import Verdict
from exportkit.spec import Artifact, Measurement, Network, Report, Source

OLD = {
    "schema": 1,
    "network": "net",
    "weights": "ab" * 32,
    "inputs": ["x: float32[batch, 8]"],
    "outputs": ["y: float32[batch, 2]"],
    "varies": ["batch: 1 or more"],
    "formats": {
        "onnx": {
            "strategy": "exported",
            "signature": ["x: float32[batch, 8]", "y: float32[batch, 2]"],
            "operators": {"Gemm": 2, "Relu": 1},
            "size": 10200,
            "error": {"y": {"rms": 0.6, "max": 1.3}},
            "opset": 20,
            "ir_version": 10,
            "speed": 0.5,
        }
    },
}
ARTIFACT = Artifact("onnx", ("net.onnx",), "exported")
REPORT = Report("net", ARTIFACT, "onnxruntime", "cpu", (Measurement("all", "y", "rms", 0.0, 1.0),))
VERDICT = Verdict(Network("net", (), {}, Source("", "", "", "")), (Made("onnx", ARTIFACT, (REPORT,)),), (), None, 0)


def changed(change, slower=baseline.SLOWER):
    """Compares with the baseline after a change of it: (outcome, texts)."""
    new = copy.deepcopy(OLD)
    change(new, new["formats"].get("onnx", {}))
    verdict = baseline.compare(VERDICT, OLD, new, slower)
    findings = [one for made in verdict.made for report in made.reports for one in report.findings]
    assert (verdict.exit_code == 0) == verdict.outcome.startswith("passed")
    return verdict.outcome, [one.text.removeprefix("since the baseline: ") for one in findings]


def test_nothing_is_told_where_nothing_changed():
    assert changed(lambda new, onnx: None) == ("passed", [])


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        (lambda new, onnx: new.update(weights="cd" * 32), "passed with warnings", "the weights are others"),
        (lambda new, onnx: onnx["operators"].update(Gemm=1, Cast=2), "passed with warnings", "the graph has changed: +2 Cast, -1 Gemm"),
        (lambda new, onnx: new["inputs"].append("z: bool[]"), "failed", "and are x: float32[batch, 8], z: bool[]"),
        (lambda new, onnx: new.update(varies=[]), "failed", "varies were batch: 1 or more, and are none"),
        (lambda new, onnx: onnx["signature"].pop(), "failed", "the file's signature was"),
        (lambda new, onnx: onnx.update(opset=23), "failed", "opset was 20, and is 23"),
        (lambda new, onnx: onnx.update(opset=18), "passed", "opset was 20, and is 18"),
        (lambda new, onnx: onnx.update(strategy="lifted"), "passed", "made by exported then, by lifted now"),
        (lambda new, onnx: onnx.update(size=12000), "failed", "larger: 12000 bytes, 10200 then"),
        (lambda new, onnx: onnx.update(size=8000), "passed", "smaller: 8000 bytes, 10200 then"),
        (lambda new, onnx: onnx.update(speed=1.01), "failed", "slower: 1.01x the unit, 0.5 then"),
        (lambda new, onnx: onnx.update(speed=0.2), "passed", "faster"),
        (lambda new, onnx: onnx["error"]["y"].update(rms=2.1), "failed", "output y is further off: rms error 2.1x eager's own, 0.6x then"),
        (lambda new, onnx: onnx["error"]["y"].update(max=math.nan), "failed", "max error nan"),
        (lambda new, onnx: new["formats"].update(pt2=onnx), "passed", ""),
        (lambda new, onnx: new["formats"].clear(), "failed", "onnx was there, and is not any more"),
    ],
)  # fmt: skip
def test_each_change_is_told_and_what_got_worse_fails(change, outcome, words):
    found, texts = changed(change)
    assert found == outcome
    assert words in (texts[0] if texts else "")


def test_the_factor_for_speed_is_the_users():
    assert changed(lambda new, onnx: onnx.update(speed=1.4), slower=3.0)[0] == "passed"
    assert changed(lambda new, onnx: onnx.update(speed=0.8), slower=1.5)[0] == "failed"


def test_an_error_within_eagers_own_is_no_regression():
    assert changed(lambda new, onnx: onnx["error"]["y"].update(rms=1.9)) == ("passed", [])


def test_a_second_run_on_another_day_writes_the_same_file():
    new = copy.deepcopy(OLD)
    onnx = new["formats"]["onnx"]
    onnx |= {"speed": 0.62, "size": 10250, "error": {"y": {"rms": 0.95, "max": 1.2}}}
    assert baseline.as_text(baseline.settle(OLD, new)) == baseline.as_text(OLD)


def test_what_really_changed_is_written():
    new = copy.deepcopy(OLD)
    new["formats"]["onnx"] |= {"speed": 0.9, "size": 11000, "error": {"y": {"rms": 2.5, "max": 1.3}}, "operators": {"Gemm": 3}}
    settled = baseline.settle(OLD, new)
    assert settled == new
    assert list(json.loads(baseline.as_text(settled))) == sorted(OLD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1}',
        json.dumps(OLD | {"network": "other"}),
        json.dumps(OLD | {"schema": 2}),
        json.dumps(OLD | {"formats": 3}),
    ],
)
def test_what_is_no_baseline_is_refused_in_words(tmp_path, text):
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(StoreError, match="is no baseline of net"):
        baseline.read(tmp_path, "net")


def test_values_of_another_kind_are_refused_in_words():
    wrong = copy.deepcopy(OLD)
    wrong["formats"]["onnx"]["size"] = "large"
    with pytest.raises(StoreError, match="baseline"):
        baseline.compare(VERDICT, wrong, OLD, 2.0)


def test_a_missing_baseline_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(LoadError) as caught:
        baseline.read(tmp_path, "net")
    assert "exportkit baseline" in caught.value.todo
