"""What a model takes, as its manifest states it."""

import pytest

from exportkit.errors import StoreError
from exportkit.serving import contract
from exportkit.serving.answers import RequestError
from exportkit.spec import Artifact, Network, Source, Symbol, TensorSpec

X = TensorSpec("x", "float32", ("batch", "time", 4))
Y = TensorSpec("y", "int64", ("batch", "late"))
OUT = TensorSpec("z", "float32", ("batch", "anything"))
SYMBOLS = (
    Symbol("batch", (("x", 0, 0), ("y", 0, 0)), 2, high=8),
    Symbol("time", (("x", 1, 0), ("y", 1, 1)), 4, step=2),
)


def made(facts=None):
    network = Network("net", (X, Y), {}, Source("", "", "", ""), SYMBOLS, (OUT,))
    return contract.read(Artifact("onnx", ("net.onnx",), "exported", (X, Y), (OUT,), facts or {}), network)


def admitted(taken, *stated):
    sizes = {}
    for one in stated:
        taken.admit(*one, sizes)
    return {name: size for name, (size, _) in sizes.items()}


def test_sizes_that_fit_are_taken_and_those_with_an_offset_too():
    assert admitted(made(), ("x", "FP32", (2, 4, 4)), ("y", "INT64", (2, 5))) == {"batch": 2, "time": 4}


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ([("x", "FP32", (0, 4, 4))], "batch is 0, expected at least 1"),
        ([("x", "FP32", (9, 4, 4))], "batch is 9, expected at most 8"),
        ([("x", "FP32", (2, 3, 4))], "time is 3, expected a multiple of 2"),
        ([("x", "FP32", (2, 4, 5))], "size 5 at axis 2, expected 4"),
        ([("x", "FP32", (2, -4, 4))], "size -4 at axis 1"),
        ([("x", "FP32", (2, 4))], "2 axes, expected 3"),
        ([("x", "FP64", (2, 4, 4))], "'FP64', expected FP32"),
        ([("w", "FP32", (2, 4, 4))], "there is no input 'w'; the model takes x, y"),
        ([("x", "FP32", (2, 4, 4)), ("y", "INT64", (2, 4))], "time is 3, expected a multiple of 2"),
        ([("x", "FP32", (2, 4, 4)), ("y", "INT64", (2, 7))], "time is 4 in input x and 6 in input y"),
        ([("x", "FP32", (2, 4, 4)), ("y", "INT64", (3, 5))], "batch is 2 in input x and 3 in input y"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_expected(stated, reason):
    with pytest.raises(RequestError, match=reason):
        admitted(made(), *stated)


def test_the_reach_of_an_artifact_is_its_largest_size():
    with pytest.raises(RequestError, match="time is 8, expected at most 6"):
        admitted(made({"reach": {"time": 6}}), ("x", "FP32", (2, 8, 4)))


def test_outputs_are_those_that_are_asked_for():
    assert made().chosen(["z"]) == made().chosen([]) == ("z",)
    with pytest.raises(RequestError, match="there is no output 'q'; the model gives z"):
        made().chosen(["q"])


def test_an_element_type_without_a_name_in_the_protocol_is_not_served():
    one = TensorSpec("x", "float8_e4m3fn", (2,))
    with pytest.raises(StoreError, match="has no name"):
        contract.read(Artifact("onnx", ("net.onnx",), "exported", (one,), ()), Network("net", (one,), {}, Source("", "", "", "")))
