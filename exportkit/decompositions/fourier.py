"""Fourier transforms as products with a matrix of waves: of any length, where onnxruntime's DFT (1.31) lacks or loses it.

DFT takes no inverse real transform of a dynamic length, and its angles of lengths that are no power of two lose digits. A product takes
time and memory of the length's square: what torch's exporter writes itself is taken before, where it is proven.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten
# Written with the three operators of the table.
_COMPOSED = (
    "fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2", "fft_fftn",
    "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fftshift", "fft_ifftshift", "stft",
)  # fmt: skip
_LONGEST = 4096  # a matrix of so many rows and columns takes 64 MiB


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its form as products."""
    rules = {aten._fft_r2c.default: _of_real, aten._fft_c2c.default: _of_complex, aten._fft_c2r.default: _to_real}  # noqa: SLF001 - its name
    usual = torch.export.default_decompositions()
    opened = {operator: usual[operator] for operator in (getattr(aten, name).default for name in _COMPOSED)}
    return opened | {operator: functools.partial(_unless_long, rule) for operator, rule in rules.items()}


def _unless_long(rule: Callable[..., Any], x: Any, dims: Sequence[int], *args: Any) -> Any:
    sizes = [x.shape[dim] for dim in dims]
    return NotImplemented if any(isinstance(size, int) and size > _LONGEST for size in sizes) else rule(x, dims, *args)


def _of_real(x: Any, dims: Sequence[int], normalization: int, onesided: bool) -> Any:
    *others, last = dims
    size = x.shape[last]
    rows = x.movedim(last, -1)
    cosines, sines = _waves(size, size // 2 + 1 if onesided else size, rows)
    z = torch.complex(rows @ cosines, -(rows @ sines)).movedim(-1, last)
    return _scaled(_along(z, others, 1.0), normalization, [x.shape[dim] for dim in dims])


def _of_complex(z: Any, dims: Sequence[int], normalization: int, forward: bool) -> Any:
    return _scaled(_along(z, dims, 1.0 if forward else -1.0), normalization, [z.shape[dim] for dim in dims])


def _to_real(z: Any, dims: Sequence[int], normalization: int, size: Any) -> Any:
    """Adds up the waves of half of the frequencies; all but the first, and the middle one of an even size, stand for their conjugates."""
    *others, last = dims
    rows = _along(z, others, -1.0).movedim(last, -1)
    count = rows.shape[-1]
    cosines, sines = _waves(size, count, rows.real)
    places = torch.arange(count, device=z.device)
    once = (places == 0) | (places * 2 == _number(size, z.device))
    weights = torch.where(once, 1.0, 2.0).to(cosines.dtype)
    x = ((rows.real * weights) @ cosines.mT - (rows.imag * weights) @ sines.mT).movedim(-1, last)
    return _scaled(x, normalization, [*(z.shape[dim] for dim in others), size])


def _along(z: Any, dims: Sequence[int], sign: float) -> Any:
    """Transforms each axis in turn: forward with sign 1, backward with -1."""
    for dim in dims:
        rows = z.movedim(dim, -1)
        cosines, sines = _waves(rows.shape[-1], rows.shape[-1], rows.real)
        real, imaginary = rows.real @ cosines + rows.imag @ sines * sign, rows.imag @ cosines - rows.real @ sines * sign
        z = torch.complex(real, imaginary).movedim(-1, dim)
    return z


def _waves(size: Any, count: Any, like: Any) -> tuple[Any, Any]:
    """Returns cos and sin of 2 pi t k / size, (size, count), angles from -pi to pi: of more turns a float loses digits."""
    number = _number(size, like.device)
    turns = torch.arange(size, device=like.device).unsqueeze(1) * torch.arange(count, device=like.device)
    turns = torch.remainder(turns, number)
    turns = torch.where(turns * 2 > number, turns - number, turns)
    angles = turns.to(like.dtype) / number.to(like.dtype) * (2 * math.pi)
    return angles.cos(), angles.sin()


def _number(size: Any, device: Any) -> Any:
    return torch.scalar_tensor(size, dtype=torch.int64, device=device)


def _scaled(x: Any, normalization: int, sizes: Sequence[Any]) -> Any:
    """Divides by nothing (0), by the root of the number of elements (1), or by their number (2), as torch counts its norms."""
    if normalization == 0:
        return x
    number = functools.reduce(torch.mul, (_number(size, x.device) for size in sizes)).to(x.real.dtype if x.is_complex() else x.dtype)
    by = number.sqrt() if normalization == 1 else number
    return torch.complex(x.real / by, x.imag / by) if x.is_complex() else x / by
