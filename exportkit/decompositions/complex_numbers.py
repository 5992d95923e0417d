"""Operators on complex tensors as operators on their real and imaginary parts, where torch's ONNX exporter (2.13) lacks the complex form.

Each rule takes its operator's own arguments, and returns NotImplemented for real ones.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

aten = torch.ops.aten

# Linear operators that move, add up or choose elements: they do to a complex tensor what they do to its parts.
_PARTWISE = (
    "unsqueeze.default", "squeeze.default", "squeeze.dims", "expand.default", "expand_as.default", "select.int", "narrow.default",
    "repeat.default", "repeat_interleave.self_int", "tile.default", "flatten.using_ints", "unflatten.int", "reshape.default",
    "view_as.default", "movedim.int", "swapaxes.default", "numpy_T.default", "split.Tensor", "split_with_sizes.default", "chunk.default",
    "unbind.int", "diagonal.default", "tril.default", "triu.default", "unfold.default", "gather.default", "index_select.default",
    "index.Tensor", "index_put.default", "index_add.default", "scatter_add.default", "scatter.src", "select_scatter.default",
    "slice_scatter.default", "fill.Tensor", "fill.Scalar", "where.self", "masked_fill.Scalar", "masked_fill.Tensor", "cumsum.default",
    "constant_pad_nd.default", "pad.default", "alias.default", "detach.default", "contiguous.default", "copy.default",
)  # fmt: skip
_PRODUCTS = ("mm.default", "bmm.default", "mv.default", "dot.default", "outer.default", "einsum.default")


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its form on parts."""
    functions: dict[str, Callable[..., Any]] = {
        "exp.default": lambda z: torch.polar(z.real.exp(), z.imag),
        "log.default": lambda z: torch.complex(_modulus(z).log(), z.angle()),
        "sqrt.default": lambda z: torch.polar(_modulus(z).sqrt(), z.angle() / 2),
        "tanh.default": _tanh,
        "pow.Tensor_Scalar": _power,
        "cumprod.default": _cumprod,
        "reciprocal.default": lambda z: _quotient(1.0, z),
    }
    rules = {name: functools.partial(_of_complex, rule) for name, rule in functions.items()}
    rules["mul.Scalar"] = functools.partial(_product, torch.mul)  # the operator itself would be spelled out once more
    rules |= {name: functools.partial(_by_part, _operator(name)) for name in _PARTWISE}
    rules |= {name: functools.partial(_if_mixed, functools.partial(_by_part, _operator(name))) for name in ("add.Tensor", "sub.Tensor")}
    rules["mul.Tensor"] = functools.partial(_if_mixed, functools.partial(_product, _operator("mul.Tensor")))
    rules["div.Tensor"] = functools.partial(_if_mixed, _quotient)
    rules |= {name: functools.partial(_product, _operator(name)) for name in _PRODUCTS}
    return {_operator(name): rule for name, rule in rules.items()}


def _operator(name: str) -> Any:
    packet, overload = name.split(".")
    return getattr(getattr(aten, packet), overload)


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or (isinstance(value, torch.Tensor) and value.is_complex())


def _of_complex(rule: Callable[..., Any], z: Any, *args: Any, **options: Any) -> Any:
    return rule(z, *args, **options) if z.is_complex() else NotImplemented


def _if_mixed(rule: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Applies a rule to what is not wholly of complex tensors, for which the exporter has rules: to `1j * x`, or `real + complex`."""
    kinds = {one.is_complex() for one in args if isinstance(one, torch.Tensor)}
    return rule(*args, **options) if len(kinds) > 1 or any(isinstance(one, complex) for one in args) else NotImplemented


def _is_index(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_complex() and not value.is_floating_point()


def _parts(value: Any) -> tuple[Any, Any]:
    """Splits numbers, and tensors of them: what is real has an imaginary part of zero. All else stands in both parts."""
    if isinstance(value, complex):
        return value.real, value.imag
    if isinstance(value, float):
        return value, 0.0
    if not isinstance(value, torch.Tensor) or value.dtype == torch.bool:
        return value, value
    return tuple(torch.view_as_real(value).unbind(-1)) if value.is_complex() else (value, torch.zeros_like(value))  # type: ignore[return-value]


def _by_part(operator: Any, *args: Any, **options: Any) -> Any:
    kinds = [argument.type.kind() for argument in operator._schema.arguments]  # noqa: SLF001 - a fill value may be written as an integer
    args = tuple(float(one) if kind == "NumberType" and isinstance(one, int) else one for kind, one in zip(kinds, args, strict=False))
    leaves, form = pytree.tree_flatten((args, options))
    if not any(map(_is_complex, leaves)):
        return NotImplemented
    chosen = operator.overloadpacket.__name__.startswith(("gather", "index", "scatter"))
    pairs = [(leaf, leaf) if chosen and _is_index(leaf) else _parts(leaf) for leaf in leaves]
    results = []
    for part in (0, 1):
        part_args, part_options = pytree.tree_unflatten([pair[part] for pair in pairs], form)
        results.append(operator(*part_args, **part_options))
    if isinstance(results[0], torch.Tensor):
        return torch.complex(*results)
    return type(results[0])(torch.complex(real, imaginary) for real, imaginary in zip(*results, strict=True))


def _product(operator: Any, *args: Any) -> Any:
    """Multiplies out (a + bi)(c + di); `einsum` takes its formula first and its factors in a list."""
    first, factors = (args[:1], args[1]) if operator is aten.einsum.default else ((), args)
    if not any(map(_is_complex, factors)) or len(factors) > 2:  # noqa: PLR2004 - two factors
        return NotImplemented

    def multiplied(*some: Any) -> Any:
        return operator(*first, list(some)) if first else operator(*some)

    if len(factors) == 1:
        return torch.complex(*(multiplied(part) for part in _parts(factors[0])))
    (a, b), (c, d) = map(_parts, factors)
    return torch.complex(multiplied(a, c) - multiplied(b, d), multiplied(a, d) + multiplied(b, c))


def _quotient(z: Any, divisor: Any) -> Any:
    """Divides by c + di: (a + bi)(c - di) / (c^2 + d^2), each over the larger of |c| and |d|, so that no square overflows."""
    if isinstance(divisor, complex):
        return torch.mul(z, 1 / divisor)
    (a, b), (c, d) = _parts(z), _parts(divisor)
    if not divisor.is_complex():
        return torch.complex(a / c, b / c)
    scale = torch.maximum(c.abs(), d.abs())
    c, d = c / scale, d / scale
    below = (c * c + d * d) * scale
    return torch.complex((a * c + b * d) / below, (b * c - a * d) / below)


def _modulus(z: Any) -> Any:
    """Computes |z| without squaring its larger part, which would overflow."""
    parts = torch.view_as_real(z).abs()
    large, small = parts.amax(-1), parts.amin(-1)
    return torch.where(large == 0, large, large * torch.sqrt(1 + (small / large).square()))


def _power(z: Any, exponent: Any) -> Any:
    if exponent in (1, 2, 3):
        return functools.reduce(lambda product, _: product * z, range(int(exponent) - 1), z)
    if isinstance(exponent, complex):
        return NotImplemented
    return torch.polar(_modulus(z).pow(exponent), z.angle() * exponent)


def _tanh(z: Any) -> Any:
    """Uses tanh(x + iy) = (sinh 2x + i sin 2y) / (cosh 2x + cos 2y), scaled by exp(-2|x|) (Abramowitz and Stegun, 4.5.51)."""
    x, y = _parts(z)
    decay = torch.exp(-2 * x.abs())
    below = 1 + decay.square() + 2 * decay * torch.cos(2 * y)
    return torch.complex(x.sign() * (1 - decay.square()) / below, 2 * decay * torch.sin(2 * y) / below)


def _cumprod(z: Any, dim: int, *, dtype: Any = None) -> Any:
    """Multiplies one element after the other: of a fixed length."""
    length = z.shape[dim]
    if dtype is not None or not isinstance(length, int):
        return NotImplemented
    products = list(z.unbind(dim))
    for place in range(1, length):
        products[place] = products[place - 1] * products[place]
    return torch.stack(products, dim)
