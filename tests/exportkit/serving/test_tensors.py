"""Tensors of the wire, there and back, and lengths that lie."""

import struct

import numpy as np
import pytest

from exportkit.serving import tensors
from exportkit.serving.answers import RequestError, shown


@pytest.mark.parametrize("name", [name for name in tensors.DATATYPES if name != "object"])
def test_raw_tensors_come_back_bit_for_bit(name):
    kind = tensors.element_type(tensors.DATATYPES[name])
    value = np.arange(6).reshape(2, 3).astype(kind)
    np.testing.assert_array_equal(tensors.from_raw("x", tensors.DATATYPES[name], (2, 3), tensors.to_raw(value)), value)


def test_strings_come_back_with_any_character():
    value = np.array([["", "a\0b", "日本"]], object)
    back = tensors.from_raw("x", "BYTES", (1, 3), tensors.to_raw(value))
    assert back.tolist() == value.tolist()


def test_a_tensor_behind_a_header_of_odd_length_is_aligned():
    data = memoryview(b"\0" + np.float64([1, 2, 3]).tobytes())[1:]
    array = tensors.from_raw("x", "FP64", (3,), data)
    assert array.flags.aligned
    assert array.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (2,), b"\0" * 7),
        ("FP32", (2,), b"\0" * 9),
        ("FP32", (2**40, 2**40), b""),
        ("BOOL", (1,), b"\2"),
        ("BYTES", (2**60,), b"\0" * 8),
        ("BYTES", (1,), struct.pack("<I", 2**31) + b"x"),
        ("BYTES", (1,), struct.pack("<I", 1) + b"\xff"),
        ("BYTES", (1,), struct.pack("<I", 0) + b"x"),
        ("BYTES", (2,), struct.pack("<I", 3) + b"abcde"),
    ],
)
def test_raw_data_that_does_not_fit_is_refused_before_memory_is_taken(datatype, shape, data):
    with pytest.raises(RequestError) as told:
        tensors.from_raw("input x", datatype, shape, data)
    assert told.value.status == 400
    assert told.value.reason.startswith("input x ")


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("INT8", [1, 128]), ("UINT8", [0, -1]), ("INT32", [1.0, 2.0]), ("FP16", [1e5, 0]), ("FP64", [None, 1]), ("FP32", [True, 1.0]),
     ("BOOL", [0, 1]), ("BYTES", ["a", 1]), ("BYTES", ["\ud800", "a"]), ("FP32", [10**400, 1]), ("INT64", [2**63, 0]), ("FP32", ["1", 2])],
)  # fmt: skip
def test_values_of_another_type_or_beyond_its_range_are_refused(datatype, values):
    with pytest.raises(RequestError):
        tensors.from_values("input x", datatype, (2,), values)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_values_may_be_flat_or_nested(data):
    assert tensors.from_values("x", "INT16", (2, 2), data).tolist() == [[1, 2], [3, 4]]


def test_infinity_is_a_value_and_no_overflow():
    values = [float("inf"), float("-inf"), float("nan")]
    np.testing.assert_array_equal(tensors.from_values("x", "BF16", (3,), values).astype(float), values)


def test_what_a_client_sent_is_shown_on_one_line_and_not_at_length():
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10**6)) < 100
