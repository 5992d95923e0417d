"""Numbers of the user's source while they are traced: a Python number or a symbolic size as long as that lasts, else a 0-d tensor.

An int becomes int64, a float float64 and a bool a bool, as Python counts. A comparison of symbolic sizes becomes a tensor too, unless
it holds for every size: a branch that hangs on a size is never decided by the example.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import sympy
import torch

from exportkit.errors import ExportError

DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64}
_ENDLESS = 2**63 - 1


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | torch.SymInt | torch.SymFloat | torch.SymBool)


def kind_of(value: Any) -> type:
    """Returns the Python type that a number has in the user's source."""
    if is_tensor(value):
        return bool if value.dtype == torch.bool else float if value.dtype.is_floating_point else int
    symbolic: dict[type, type] = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}
    return symbolic.get(type(value), type(value))


def as_tensor(value: Any) -> torch.Tensor:
    """Turns a number into a 0-d tensor of its kind."""
    if is_tensor(value):
        return value  # type: ignore[no-any-return]
    return torch.scalar_tensor(value, dtype=DTYPES[kind_of(value)])


def as_size(value: Any) -> Any:
    """Turns a 0-d tensor into a size that torch.export follows, known to be no less than 0."""
    if not is_tensor(value):
        return value
    size = value.item()
    torch._check(size >= 0)  # noqa: SLF001 - torch's own way to tell the exporter
    return size


def beside(tensor: torch.Tensor, number: Any) -> Any:
    """Gives a number the element type with which it changes a tensor as a Python number would."""
    if not is_tensor(number):
        return number
    sample = {bool: True, int: 1, float: 1.0}[kind_of(number)]
    return number.to(torch.result_type(tensor, sample))


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(a: Any, b: Any) -> Any:
        if not is_tensor(a) and not is_tensor(b):
            return function(a, b)
        return function(as_tensor(a), as_tensor(b))

    return apply


def _divide(a: Any, b: Any) -> Any:
    return a.double() / b.double() if is_tensor(a) else a / b


def _floor_divide(a: Any, b: Any) -> Any:
    return torch.div(a, b, rounding_mode="floor") if is_tensor(a) else a // b


def power(a: Any, b: Any, *, nonnegative: bool = False) -> Any:
    """Applies `**`: of two ints it is an int where the exponent is known to be no less than 0, else a float."""
    if not any(is_tensor(one) or isinstance(one, torch.SymInt) for one in (a, b)):
        return a**b
    a, b = as_tensor(a), as_tensor(b)
    return torch.pow(a, b) if nonnegative and kind_of(a) is kind_of(b) is int else torch.pow(a.double(), b.double())


def shift(a: Any, b: Any) -> Any:
    """Applies `a << b` to ints."""
    return a << b if isinstance(a, int) and isinstance(b, int) else mul(a, power(2, b, nonnegative=True))


add = _arithmetic(operator.add)
sub = _arithmetic(operator.sub)
mul = _arithmetic(operator.mul)
truediv = _arithmetic(_divide)
floordiv = _arithmetic(_floor_divide)
mod = _arithmetic(operator.mod)


def neg(value: Any) -> Any:
    return -value


def function(name: str, value: Any) -> Any:
    """Applies a function of Python's math, or `abs` or `round`, to a number."""
    if name == "abs":
        return abs(value) if not isinstance(value, torch.SymInt) else torch.sym_max(value, -value)
    if isinstance(value, bool | int | float):
        return round(value) if name == "round" else getattr(math, name)(value)
    result = getattr(torch, name)(as_tensor(value).double())
    return result.to(torch.int64) if name in ("floor", "ceil", "round", "trunc") else result


def logarithm(value: Any, base: Any) -> Any:
    """Does what `math.log(value, base)` does; to the base of 2.0, what `math.log2` does, which TorchScript lacks (dialect.py)."""
    twos = isinstance(base, float) and base == 2.0  # noqa: PLR2004
    if not any(is_tensor(one) or isinstance(one, torch.SymInt) for one in (value, base)):
        return math.log2(value) if twos else math.log(value, base)
    value = as_tensor(value).double()
    return _log2(value) if twos else torch.log(value) / torch.log(as_tensor(base).double())


def _log2(value: torch.Tensor) -> torch.Tensor:
    """Computes a logarithm that is exact at powers of two from 1 on, as Python's is: the quotient of two logarithms is not."""
    whole = (value >= torch.pow(2, torch.arange(1, 63))).sum()
    return whole + torch.log(value / torch.pow(2, whole)) / torch.log(as_tensor(2.0))  # a number would be a float32 in ONNX


def _comparison(function: Callable[[Any, Any], Any], relation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compare(a: Any, b: Any) -> Any:
        if not (is_number(a) or is_tensor(a)) or not (is_number(b) or is_tensor(b)):
            return function(a, b)
        if not is_tensor(a) and not is_tensor(b):
            if not isinstance(a, torch.SymInt) and not isinstance(b, torch.SymInt):
                return function(a, b)
            decided = relation(_free(a), _free(b))
            if decided in (sympy.true, sympy.false):
                return bool(decided)
        return function(as_tensor(a), as_tensor(b))

    return compare


lt = _comparison(operator.lt, sympy.Lt)
le = _comparison(operator.le, sympy.Le)
gt = _comparison(operator.gt, sympy.Gt)
ge = _comparison(operator.ge, sympy.Ge)
eq = _comparison(operator.eq, sympy.Eq)
ne = _comparison(operator.ne, sympy.Ne)


def contains(values: Any, value: Any) -> Any:
    """Does what `value in values` does, by a comparison with each."""
    found: Any = False
    for one in values:
        same = eq(one, value)
        if same is True:
            return True
        found = same if found is False else logical("or", found, same)
    return found


def divided(a: Any, b: Any) -> tuple[Any, Any]:
    """Does what `divmod` does, which takes no symbolic sizes."""
    return floordiv(a, b), mod(a, b)


def is_positive(count: Any) -> bool:
    """Says whether a count is above zero at every size."""
    decided = sympy.Gt(_free(count), 0)
    return decided is sympy.true


def _free(value: Any) -> Any:
    """Returns a size's expression over symbols that may be 0, which torch.export rules out while it traces."""
    if not isinstance(value, torch.SymInt):
        return sympy.sympify(value)
    expression = value.node.expr
    swap = {symbol: sympy.Symbol(symbol.name, integer=True, nonnegative=True) for symbol in expression.free_symbols}
    return expression.xreplace(swap)


def same_shape(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Says whether two shapes are known to be equal at every size, without a guard."""
    return same_sizes(a.shape, b.shape)


def same_sizes(one: Sequence[Any], two: Sequence[Any]) -> bool:
    return [_expression(size) for size in one] == [_expression(size) for size in two]


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def logical_not(value: Any) -> Any:
    return torch.logical_not(value) if is_tensor(value) else not value


def logical(name: str, a: Any, b: Any) -> Any:
    """Applies `and`, `or` or `xor` to two bools, or two ints."""
    function = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}[name]
    if is_tensor(a) or is_tensor(b):
        return function(as_tensor(a), as_tensor(b))
    return function(a, b)


def convert(value: Any, kind: str) -> Any:
    """Applies `int()`, `float()` or `bool()` to a number or a one-element tensor."""
    target = {"int": int, "float": float, "bool": bool}[kind]
    if is_tensor(value):
        plain = value.reshape(())
        if target is bool:
            return plain if plain.dtype == torch.bool else plain != 0
        return plain if plain.dtype == DTYPES[target] else plain.to(DTYPES[target])
    if isinstance(value, torch.SymInt | torch.SymFloat):
        return {int: torch.sym_int, float: torch.sym_float, bool: lambda number: ne(number, 0)}[target](value)
    return target(value)


def item(value: torch.Tensor) -> torch.Tensor:
    """Takes the number out of a one-element tensor, and keeps it a tensor."""
    plain = value.reshape(())
    return plain.to(DTYPES[kind_of(plain)])


def to_tensor(value: Any, dtype: Any = None) -> torch.Tensor:
    """Does what `torch.tensor` does: numbers, or lists of them, to a tensor; a float takes the default element type."""
    if isinstance(value, list | tuple):
        if any(is_tensor(one) or isinstance(one, torch.SymInt) for one in value):
            return torch.stack([to_tensor(one, dtype) for one in value])
        return torch.tensor(value, dtype=dtype)
    usual = torch.get_default_dtype() if kind_of(value) is float else DTYPES[kind_of(value)]
    return as_tensor(value).to(dtype or usual)


def smallest(values: Sequence[Any]) -> Any:
    return _extreme(values, torch.minimum, torch.sym_min)


def largest(values: Sequence[Any]) -> Any:
    return _extreme(values, torch.maximum, torch.sym_max)


def largest_of(a: Any, b: Any) -> Any:
    return largest([a, b])


def _extreme(values: Sequence[Any], of_tensors: Callable[..., Any], of_sizes: Callable[..., Any]) -> Any:
    """Takes the least or greatest; TorchScript puts an endless number into `zip`, which is left out."""
    found: Any = None
    for value in values:
        if isinstance(value, int) and value >= _ENDLESS:
            continue
        if found is None:
            found = value
        elif is_tensor(found) or is_tensor(value):
            found = of_tensors(as_tensor(found), as_tensor(value))
        else:
            found = of_sizes(found, value)
    if found is None:
        raise ExportError("takes the least of nothing")
    return found


def range_length(low: Any, high: Any, step: Any) -> Any:
    """Counts the steps of `range(low, high, step)`; of symbolic sizes it may come out below 0 where the range is empty."""
    if is_tensor(step):
        raise ExportError("has a range whose step is computed from tensors", todo="Give range() a constant step.")
    width = sub(high, low) if step > 0 else sub(low, high)
    count = width if abs(step) == 1 else floordiv(add(width, abs(step) - 1), abs(step))
    if is_tensor(count):
        return torch.clamp(count, min=0)
    return max(count, 0) if isinstance(count, int) else count
