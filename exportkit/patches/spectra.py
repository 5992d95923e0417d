"""The inverse short-time Fourier transform at any length in a capture: torch.export bakes the length of `torch.istft`'s result."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

_OPTIONS = ("hop_length", "win_length", "window", "center", "normalized", "onesided", "length", "return_complex")


@contextlib.contextmanager
def any_length() -> Iterator[None]:
    """Makes captures of a block hold `istft` as a transform of frames and their overlapping sum."""
    own = torch.istft
    stand_in = functools.partial(_istft, own)
    functools.update_wrapper(stand_in, own)  # torch names what it calls
    method = functools.partialmethod(stand_in)
    with mock.patch.object(torch, "istft", stand_in), mock.patch.object(torch.Tensor, "istft", method):
        yield


def _istft(own: Callable[..., Any], spectrum: torch.Tensor, n_fft: int, *args: Any, **options: Any) -> torch.Tensor:
    """Adds up the windowed frames, and divides by what the squared windows add up to (Griffin and Lim 1984, equation 6)."""
    given = dict(zip(_OPTIONS, args, strict=False)) | options
    if given.get("return_complex") or given.get("onesided") is False or spectrum.ndim != 3:  # noqa: PLR2004 - batch, frequency, frame
        return own(spectrum, n_fft, **given)  # type: ignore[no-any-return]
    hop, width, window = given.get("hop_length") or n_fft // 4, given.get("win_length") or n_fft, given.get("window")
    window = spectrum.real.new_ones(width) if window is None else window
    window = functional.pad(window, ((n_fft - width) // 2, n_fft - width - (n_fft - width) // 2))
    frames = torch.fft.irfft(spectrum, n=n_fft, dim=1, norm="ortho" if given.get("normalized") else "backward") * window.unsqueeze(-1)
    shift = torch.eye(n_fft, dtype=frames.dtype, device=frames.device).unsqueeze(1)
    total = functional.conv_transpose1d(frames, shift, stride=hop).squeeze(1)
    weight = functional.conv_transpose1d(window.square().unsqueeze(-1).expand_as(frames[:1]), shift, stride=hop).squeeze(1)
    start = n_fft // 2 if given.get("center", True) else 0
    if (length := given.get("length")) is None:
        end = -start or None
        return total[:, start:end] / weight[:, start:end]
    total, weight = functional.pad(total, (0, length)), functional.pad(weight, (0, length), value=1.0)  # beyond the frames lies silence
    return total.narrow(-1, start, length) / weight.narrow(-1, start, length)
