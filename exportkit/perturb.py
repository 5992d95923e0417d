"""Moves inputs and weights by an ulp, and back: how an honest rounding difference looks at the outputs."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn

_INTEGER_OF = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}
_REAL_OF = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
_BLOCK = 1 << 20
# Above this the weights stay as they are: flipping the bits of gigabytes costs more than it tells, the inputs move all the same.
_MOST_WEIGHT_BYTES = 1 << 30


@contextlib.contextmanager
def weights(module: nn.Module, seed: int, bit: int) -> Iterator[None]:
    """Flips bit `bit` of a random half of the module's weights, and flips them back on leaving.

    Bit 0 moves a value by one ulp, on average half an ulp; bit 1 by two. A tensor of whole numbers (a table of positions, a
    mask, a count) stays: its values are meant exactly.
    """
    tensors = list(_distinct([*module.parameters(), *module.buffers()]))
    if sum(t.numel() * t.element_size() for t in tensors) > _MOST_WEIGHT_BYTES:
        tensors = []
    for place, tensor in enumerate(tensors):
        _flip(tensor, seed + place, bit)
    try:
        yield
    finally:
        for place, tensor in enumerate(tensors):
            _flip(tensor, seed + place, bit)


def inputs(values: Mapping[str, torch.Tensor], seed: int, bit: int) -> dict[str, torch.Tensor]:
    """Returns copies of inputs, the floats among them moved like `weights`."""
    moved = {name: value.clone() for name, value in values.items()}
    for place, tensor in enumerate(_distinct(moved.values())):
        _flip(tensor, seed + place, bit)
    return moved


def _distinct(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yields the tensors whose values can move, each once."""
    seen: set[tuple[int, int]] = set()
    for tensor in tensors:
        real = torch.view_as_real(tensor.detach()) if tensor.dtype in _REAL_OF and tensor.layout == torch.strided else tensor.detach()
        if real.dtype not in _INTEGER_OF or real.layout != torch.strided or not real.is_contiguous() or not real.numel():
            continue
        place = (real.data_ptr(), real.numel())  # a GPU's recurrent layers keep all their weights in one storage
        if place not in seen and not _whole(real):
            seen.add(place)
            yield real


def _whole(tensor: torch.Tensor) -> bool:
    sampled = tensor.flatten()[:_BLOCK]
    finite = sampled[torch.isfinite(sampled)]
    return bool((finite == finite.round()).all())


def _flip(tensor: torch.Tensor, seed: int, bit: int) -> None:
    bits = tensor.view(-1).view(_INTEGER_OF[tensor.dtype])
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 2, (min(_BLOCK, bits.numel()),), generator=generator, dtype=bits.dtype) << bit
    for start in range(0, bits.numel(), _BLOCK):
        block = bits[start : start + _BLOCK]
        values = tensor.view(-1)[start : start + _BLOCK]
        movable = torch.isfinite(values) & (values.abs() > torch.finfo(values.dtype).tiny * 8)
        block.bitwise_xor_(mask[: block.numel()].to(block.device) * movable)
