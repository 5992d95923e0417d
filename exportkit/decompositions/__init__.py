"""Operators that torch's ONNX exporter (2.13) lacks or gets wrong, in plainer ones: what `simplified` spells out."""

from collections.abc import Callable
from typing import Any

from exportkit.decompositions import complex_numbers, fourier, linear_algebra, operators, recurrent, special_functions

__all__ = ["fourier", "table"]


def table(*, complex_values: bool) -> dict[Any, Callable[..., Any]]:
    """Maps each operator to a function of its own arguments, in plainer operators; NotImplemented where it needs no help.

    Args:
        complex_values: the program holds complex tensors, whose operators are spelled out on real and imaginary parts.
    """
    rules = operators.table() | linear_algebra.table() | special_functions.table() | recurrent.table()
    return rules | complex_numbers.table() if complex_values else rules
