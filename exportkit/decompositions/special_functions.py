"""Functions of one or two numbers that torch's ONNX exporter (2.13) lacks, as series and polynomials of plain arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten

_GILES_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04,
    -1.25372503e-03, -4.17768164e-03, 0.246640727, 1.50140941,
)  # fmt: skip
_GILES_TAIL = (
    -2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03,
    -7.6224613e-03, 9.43887047e-03, 1.00167406, 2.83297682,
)  # fmt: skip
_LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its plainer form."""
    return {
        aten.erfinv.default: _erfinv,
        aten.hypot.default: _hypot,
        aten.copysign.Tensor: lambda x, y: torch.where(_negative(y), -x.abs(), x.abs()),
        aten.signbit.default: _negative,
        aten.lgamma.default: lambda x: _in_double(_lgamma, x),
        aten.digamma.default: lambda x: _in_double(_digamma, x),
        aten.log1p.default: _log1p,
        aten.expm1.default: _expm1,
        aten.log_sigmoid.default: lambda x: x.clamp(max=0) - torch.log1p(torch.exp(-x.abs())),
        aten.logaddexp.default: lambda x, y: _logaddexp(x, y, 1.0),
        aten.logaddexp2.default: lambda x, y: _logaddexp(x, y, math.log(2)),
        aten.special_xlog1py.default: lambda x, y: torch.where((x == 0) & ~y.isnan(), torch.zeros_like(x * y), x * torch.log1p(y)),
    }


def _log1p(x: Any) -> Any:
    """Mends what 1 + x lost (Kahan; Higham, "Accuracy and Stability of Numerical Algorithms", 1.14.1); the exporter writes log(1 + x)."""
    if not x.is_floating_point():
        return NotImplemented
    near = 1 + x
    return torch.where((near == 1) | (near == torch.inf), x, torch.log(near) * (x / (near - 1)))


def _expm1(x: Any) -> Any:
    """Mends what exp(x) - 1 lost near 0 (Kahan; Higham, 1.14.1); the exporter writes the difference."""
    if not x.is_floating_point():
        return NotImplemented
    near = torch.exp(x)
    return torch.where(x.abs() > 0.5, near - 1, torch.where(near == 1, x, (near - 1) * (x / torch.log(near))))  # noqa: PLR2004 - no loss there


def _logaddexp(x: Any, y: Any, base: float) -> Any:
    """Takes the larger one out, whose power overflows in what the exporter writes; `base` is the logarithm of what is raised to a power."""
    larger, gap = torch.maximum(x, y), (x - y).abs()
    both = larger + torch.log1p(torch.exp(-gap * base)) / base
    return torch.where(x == y, larger + math.log(2) / base, both)  # infinity minus infinity is no number


def _erfinv(x: Any) -> Any:
    """Evaluates the single-precision polynomials of Giles, "Approximating the erfinv function" (2010), and mends the middle.

    One step of Newton's method gains the last digits up to 0.9; beyond, erf itself has lost them.
    """
    w = -torch.log((1 - x) * (1 + x))
    y = x * torch.where(w < 5, _polynomial(_GILES_MIDDLE, w - 2.5), _polynomial(_GILES_TAIL, torch.sqrt(w.clamp(min=0)) - 3))  # noqa: PLR2004
    better = y - (torch.erf(y) - x) * (math.sqrt(math.pi) / 2) * torch.exp(y * y)
    y = torch.where(x.abs() < 0.9, better, y)  # noqa: PLR2004 - as above
    return torch.where(x.abs() == 1, x * torch.inf, y)


def _polynomial(coefficients: Any, x: Any) -> Any:
    """Evaluates a polynomial by Horner's rule, the highest power's coefficient first."""
    value = torch.full_like(x, coefficients[0])
    for one in coefficients[1:]:
        value = value * x + one
    return value


def _hypot(x: Any, y: Any) -> Any:
    """Squares the smaller side's share of the larger one, as the sides' own squares may overflow."""
    large, small = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.where(large == 0, large, large * torch.sqrt(1 + (small / large).square()))


def _negative(x: Any) -> Any:
    """Reads the sign bit: of -0.0 the reciprocal is below zero."""
    return (x < 0) | ((x == 0) & (1 / x < 0)) if x.is_floating_point() else x < 0


def _in_double(function: Callable[[Any], Any], x: Any) -> Any:
    return function(x.double()).to(x.dtype if x.is_floating_point() else torch.get_default_dtype())


def _lgamma(x: Any) -> Any:
    """Uses Lanczos' series (g = 7, 9 terms; Press et al., "Numerical Recipes", 6.1), reflected below one half."""
    low = x < 0.5  # noqa: PLR2004 - the middle of the reflection
    z = torch.where(low, 1 - x, x) - 1
    series = torch.full_like(z, _LANCZOS[0])
    for place, one in enumerate(_LANCZOS[1:], 1):
        series = series + one / (z + place)
    t = z + 7.5
    value = 0.5 * math.log(2 * math.pi) + (z + 0.5) * t.log() - t + series.log()
    sine = torch.sin(math.pi * (x - x.floor())).abs()
    return torch.where(low, math.log(math.pi) - sine.log() - value, value)


def _digamma(x: Any) -> Any:
    """Steps up to 8 and more, where the asymptotic series holds (Abramowitz and Stegun, 6.3.5 and 6.3.18); reflected below one half."""
    low = x < 0.5  # noqa: PLR2004 - the middle of the reflection
    z = torch.where(low, 1 - x, x)
    steps = sum(1 / (z + step) for step in range(8))
    z = z + 8
    w = 1 / z.square()
    series = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132 - w * (691 / 32760 - w / 12))))))
    value = z.log() - 0.5 / z - series - steps
    turn = math.pi * (x - x.floor())
    return torch.where(low, value - math.pi * turn.cos() / turn.sin(), value)
