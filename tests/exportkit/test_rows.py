"""Which networks a server may give the rows of several clients at once."""

from dataclasses import replace

import numpy as np
import pytest

from exportkit import evidence, golden, judge, rows
from exportkit.evidence import Sample
from exportkit.messages import Trial
from exportkit.spec import Artifact, Case, Network, Runtime, Source, Symbol, TensorSpec

SIZES = {"example": 3, "like-0": 3, "like-1": 3, "sizes-0": 1, "sizes-1": 7}
X, Y = (TensorSpec(name, "float32", ("batch", 4)) for name in "xy")
ARTIFACT = Artifact("onnx", ("net.onnx",), "exported", (X,), (Y,))
NETWORK = Network("net", (X,), {}, Source("net.py", "model", "", ""), (Symbol("batch", (("x", 0, 0),), 3),), (Y,))


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Judges a function that is its own artifact: what it gives for a case alone is what eager gave."""

    def run(function, artifact=ARTIFACT, network=NETWORK, sizes=SIZES):
        cases = tuple(Case(name, {"batch": size}, "like", "inside", place) for place, (name, size) in enumerate(sizes.items()))
        samples = []
        for case in cases:
            x = np.random.default_rng(case.seed).standard_normal((case.sizes["batch"], 4)).astype(np.float32)
            eager, oracle = function(x), function(x.astype(np.float64))
            arrays = {"input/x": x, "eager/y": eager, "oracle/y": oracle}
            golden.write(tmp_path / f"{case.name}.safetensors", {f"{case.name}/{key}": value for key, value in arrays.items()})
            samples.append(Sample(case.name, eager, oracle, ()))
        monkeypatch.setattr(judge, "load", lambda *_: lambda inputs: [function(inputs["x"])])
        trial = Trial(tmp_path, cases, {"y": evidence.weigh(samples, "float32")})
        return rows.shown(tmp_path, artifact, network, Runtime(), trial)

    return run


@pytest.mark.parametrize("function", [np.tanh, lambda x: x - x.mean(1, keepdims=True), lambda x: np.where(x > 0, x, -x)])
def test_a_network_whose_rows_are_apart_may_be_batched(shown, function):
    assert shown(function) == "batch"


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x - x.mean(), id="centred over all rows"),
        pytest.param(lambda x: x - x.mean(0), id="centred over the batch"),
        pytest.param(lambda x: np.cumsum(x, 0), id="a sum that runs down the batch"),
        pytest.param(lambda x: np.sort(x, 0), id="sorted over the batch"),
        pytest.param(lambda x: x * np.arange(1, len(x) + 1, dtype=x.dtype)[:, None], id="weighed by place"),
        pytest.param(lambda x: x / x.dtype.type(len(x)), id="over the size of the batch"),
        pytest.param(lambda x: x + x.sum() * 0, id="where one row's NaN spreads"),
        pytest.param(lambda x: np.tanh(x)[np.abs(x).max(1) > 0.9], id="as many rows as pass a test"),
        pytest.param(lambda x: x[::-1].copy(), id="in another order"),
    ],
)
def test_a_network_whose_rows_touch_is_never_batched(shown, function):
    assert shown(function) == ""


def test_rows_are_those_of_every_input_and_output_or_none(shown):
    pooled = replace(Y, shape=(4, "batch"))
    assert shown(np.tanh, artifact=replace(ARTIFACT, outputs=(pooled,))) == ""
    assert shown(np.tanh, artifact=replace(ARTIFACT, inputs=(replace(X, shape=(3, 4)),))) == ""
    assert shown(np.tanh, network=replace(NETWORK, symbols=(replace(NETWORK.symbols[0], high=8),))) == ""
    assert shown(np.tanh, network=replace(NETWORK, inputs=(X, replace(X, name="table")))) == ""


def test_one_case_alone_shows_nothing(shown):
    assert shown(np.tanh, sizes={"example": 3}) == ""
