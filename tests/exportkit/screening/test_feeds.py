"""Inputs from a signature alone."""

import numpy as np
import pytest

from exportkit.errors import RejectedError
from exportkit.screening.draws import COUNTING, Draw, draw
from exportkit.spec import TensorSpec


def test_a_symbol_has_one_size_everywhere_and_two_symbols_differ():
    specs = [TensorSpec("a", "float32", ("n", "m")), TensorSpec("b", "float32", ("m", "n + 1"))]
    values = draw(specs, Draw(0, 0, 1))
    (n, m), (also_m, more) = values["a"].shape, values["b"].shape
    assert n != m == also_m
    assert more == n + 1


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int8", "bool", "float16", "bfloat16", "float64"])
def test_every_type_comes_as_itself(dtype):
    assert draw([TensorSpec("x", dtype, (3,))], Draw(0, 0, 1))["x"].dtype.name == dtype


def test_counting_gives_axes_that_differ():
    assert draw([TensorSpec("axes", "int64", (3,))], Draw(0, 0, COUNTING))["axes"].tolist() == [0, 1, 2]


def test_what_no_machine_holds_is_refused():
    with pytest.raises(RejectedError, match="1,000,000,000,000 elements"):
        draw([TensorSpec("x", "float32", (10**6, 10**6))], Draw(0, 0, 1))


def test_the_same_signature_gives_the_same_values():
    specs = [TensorSpec("x", "float32", ("n", 4))]
    assert np.array_equal(draw(specs, Draw(0, 0, 1))["x"], draw(specs, Draw(0, 0, 1))["x"])
