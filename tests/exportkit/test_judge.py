"""What an artifact must show before it passes."""

from dataclasses import replace

import numpy as np
import pytest

from exportkit import evidence, golden, judge
from exportkit.evidence import Sample
from exportkit.messages import Trial
from exportkit.spec import Artifact, Case, Network, Source, Symbol, TensorSpec

SIZES = {"example": 5, "like-0": 5, "like-1": 5, "like-2": 5, "sizes-0": 1, "sizes-1": 7, "sizes-2": 11}
ARTIFACT = Artifact("onnx", ("net.onnx",), "exported")


def network(*, declared):
    symbol = Symbol("rows", (("x", 0, 0),), 5, declared=declared)
    x, y = (TensorSpec(name, "float32", ("rows",)) for name in "xy")
    tree = {"dict": {"args": {"tuple": [{"leaf": "x"}]}, "kwargs": {"dict": {}}}}
    return Network("net", (x,), tree, Source("net.py", "model", "", ""), (symbol,), (y,), {"leaf": "y"})


@pytest.fixture
def trial(tmp_path):
    """y = 2x at several sizes."""
    cases = tuple(Case(name, {"rows": size}, "like", "inside", place) for place, (name, size) in enumerate(SIZES.items()))
    samples = []
    for case in cases:
        x = np.random.default_rng(case.seed).standard_normal(case.sizes["rows"]).astype(np.float32)
        arrays = {"input/x": x, "eager/y": 2 * x, "oracle/y": 2 * x.astype(np.float64)}
        golden.write(tmp_path / f"{case.name}.safetensors", {f"{case.name}/{key}": value for key, value in arrays.items()})
        samples.append(Sample(case.name, arrays["eager/y"], arrays["oracle/y"], ()))
    return Trial(tmp_path, cases, {"y": evidence.weigh(samples, "float32")})


class Session:
    """A loaded artifact that is a function of Python's."""

    def __init__(self, function, facts=None):
        self.function, self.facts = function, facts or {}

    def __call__(self, inputs):
        return self.function(inputs)


def verdict(trial, takes, *, declared=False):
    def session(inputs):
        if not takes(len(inputs["x"])):
            raise ValueError("no such size")
        return [2 * inputs["x"]]

    return judge.judge(Session(session), ARTIFACT, network(declared=declared), "fake", "cpu", trial)


@pytest.mark.parametrize(
    ("takes", "declared", "outcome", "code"),
    [
        (lambda _: True, False, "passed", None),
        (lambda size: size >= 3, False, "passed", "dimension-narrowed"),
        (lambda size: size >= 3, True, "passed with warnings", "dimension-narrowed"),
        (lambda size: size == 5, False, "passed", "dimension-fixed"),
        (lambda size: size == 5, True, "failed", "dimension-lost"),
        (lambda size: size != 7, False, "failed", "does-not-run"),
        (lambda size: size <= 5, False, "failed", "does-not-run"),
        (lambda _: False, False, "failed", "does-not-run"),
    ],
)
def test_sizes_that_an_artifact_refuses_are_told_and_what_they_do_not_explain_fails(trial, takes, declared, outcome, code):
    report = verdict(trial, takes, declared=declared)
    assert report.outcome == outcome
    assert [finding.code for finding in report.findings] == ([code] if code else [])


def test_a_wrong_value_at_one_unseen_size_fails(trial):
    def session(inputs):
        return [2 * inputs["x"] + (len(inputs["x"]) == 11)]

    assert judge.judge(Session(session), ARTIFACT, network(declared=False), "fake", "cpu", trial).outcome == "failed"


def test_another_shape_or_element_type_is_told_in_words(trial):
    def session(inputs):
        return [np.stack([inputs["x"]] * 2, 1).astype(np.float64)]

    report = judge.judge(Session(session), ARTIFACT, network(declared=False), "fake", "cpu", trial)
    assert report.outcome == "failed"
    assert [finding.text for finding in report.findings] == ["y is float64[5, 2] on example, eager gives float32[5]"]


@pytest.mark.parametrize(
    ("high", "declared", "outcome"), [(None, False, "passed"), (None, True, "passed with warnings"), (11, True, "failed")]
)
def test_an_export_that_ends_before_eager_does_is_told_and_fails_where_more_was_asked_for(trial, high, declared, outcome):
    artifact = replace(ARTIFACT, facts={"reach": {"rows": 8}})
    net = network(declared=declared)
    net = replace(net, symbols=(replace(net.symbols[0], high=high),))
    report = judge.judge(Session(lambda inputs: [2 * inputs["x"]]), artifact, net, "fake", "cpu", trial)
    assert report.outcome == outcome
    assert [finding.code for finding in report.findings] == ["dimension-narrowed"]


EQUAL = np.float32([1, 1, 0, 1])


def places(x):
    return np.argsort(-x, kind="stable")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda x: places(x)[::-1].copy(), "passed"),  # as eager does
        (places, "passed with warnings"),
        (lambda x: np.r_[places(x)[:2], places(x)[::-1][2:]], "failed"),  # some of one, some of the other
        (lambda x: np.zeros(len(x), int), "failed"),
    ],
)
def test_equal_values_may_come_in_their_order_where_torch_leaves_it_open(tmp_path, answer, outcome):
    x, y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "int64", (4,))
    tree = {"dict": {"args": {"tuple": [{"leaf": "x"}]}, "kwargs": {"dict": {}}}}
    cases = tuple(Case(name, {}, "like", "inside", place) for place, name in enumerate(("example", "like-0", "like-1")))
    samples = []
    for case in cases:
        value = np.roll(EQUAL, case.seed)
        arrays = {"input/x": value, "eager/y": places(value)[::-1], "tied/eager/y": places(value)}
        golden.write(tmp_path / f"{case.name}.safetensors", {f"{case.name}/{key}": value for key, value in arrays.items()})
        samples.append(Sample(case.name, arrays["eager/y"], arrays["eager/y"], ()))
    trial = Trial(tmp_path, cases, {"y": evidence.weigh(samples, "int64")})
    known = Network("net", (x,), tree, Source("net.py", "model", "", ""), (), (y,), {"leaf": "y"})
    report = judge.judge(Session(lambda inputs: [answer(inputs["x"])]), ARTIFACT, known, "fake", "cpu", trial)
    assert report.outcome == outcome
    assert ("ties" in {one.code for one in report.findings}) == (outcome == "passed with warnings")
