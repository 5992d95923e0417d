"""Stand-ins for what torch and einx offer while a network is captured, where exporters record something else than eager computes."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.jit._builtins import _register_builtin
from torch.nn.modules import transformer

from exportkit.patches import einx, packed, recurrent, spectra


@contextlib.contextmanager
def as_eager_computes() -> Iterator[None]:
    """Makes the captures of a block hold what eager computes. TorchScript's compiler needs none of it: it reads the source."""
    encoder, detect = nn.TransformerEncoder.forward, transformer._detect_is_causal_mask  # noqa: SLF001 - torch 2.11 to 2.13 have it there

    def forward(self: nn.TransformerEncoder, src: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return _encode(encoder, self, src, *args, **kwargs)

    with contextlib.ExitStack() as stack:
        for stand_in in _STAND_INS:
            stack.enter_context(stand_in())
        nn.TransformerEncoder.forward = forward  # type: ignore[method-assign]
        transformer._detect_is_causal_mask = _trust_the_caller  # noqa: SLF001
        try:
            yield
        finally:
            nn.TransformerEncoder.forward = encoder  # type: ignore[method-assign]
            transformer._detect_is_causal_mask = detect  # noqa: SLF001


@contextlib.contextmanager
def _fused_attention_off() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextlib.contextmanager
def _distributions_unchecked() -> Iterator[None]:
    """Leaves out the checks of torch.distributions on its arguments: branches on values that raise, or do nothing."""
    kind = torch.distributions.Distribution
    checks = kind._validate_args  # noqa: SLF001 - set_default_validate_args() writes it, and nothing public reads it
    kind.set_default_validate_args(False)
    try:
        yield
    finally:
        kind.set_default_validate_args(checks)


@contextlib.contextmanager
def _distances_of_any_size() -> Iterator[None]:
    """Computes `torch.cdist` of symbolic sizes from differences: torch takes a product of matrices from 26 rows on, a branch that bakes."""
    own, usual = torch.cdist, "use_mm_for_euclid_dist_if_necessary"

    def cdist(x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: str = usual) -> torch.Tensor:
        if compute_mode == usual and any(isinstance(one.shape[-2], torch.SymInt) for one in (x1, x2)):
            compute_mode = "donot_use_mm_for_euclid_dist"
        return own(x1, x2, p, compute_mode)

    with mock.patch.object(torch, "cdist", cdist):
        yield


@contextlib.contextmanager
def _triangles_of_any_size() -> Iterator[None]:
    """Finds the places of a triangle of symbolic size in a mask: torch's own functions take numbers alone, which bakes."""

    def stand_in(own: Any, part: Any, row: Any, col: Any, offset: Any = 0, *, dtype: Any = torch.long, **options: Any) -> torch.Tensor:
        if not any(isinstance(one, torch.SymInt) for one in (row, col, offset)):
            return own(row, col, offset, dtype=dtype, **options)  # type: ignore[no-any-return]
        mask = torch.ones(row, col, dtype=torch.bool, device=options.get("device"))
        return part(mask, offset).nonzero().T.contiguous().to(dtype)  # type: ignore[no-any-return]

    lower = functools.partial(stand_in, torch.tril_indices, torch.tril)
    upper = functools.partial(stand_in, torch.triu_indices, torch.triu)
    with mock.patch.object(torch, "tril_indices", lower), mock.patch.object(torch, "triu_indices", upper):
        yield


@contextlib.contextmanager
def _steps_of_any_number() -> Iterator[None]:
    """Computes `linspace` of a symbolic number of steps from `arange`, as torch does; so the grids of affine_grid, too."""
    own = torch.linspace

    def linspace(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
        if not isinstance(steps, torch.SymInt) or isinstance(start, torch.Tensor) or isinstance(end, torch.Tensor):
            return own(start, end, steps, dtype=dtype, **options)
        dtype = dtype or torch.get_default_dtype()
        places = torch.arange(steps, device=options.get("device")).to(dtype)  # type: ignore[call-overload]
        step = (end - start) / torch.sym_max(steps - 1, 1)
        return torch.where(places < torch.sym_max(steps // 2, 1), start + step * places, end - step * (steps - 1 - places))

    with mock.patch.object(torch, "linspace", linspace):
        yield


@contextlib.contextmanager
def _byte_conditions() -> Iterator[None]:
    """Lets `where` choose by uint8, as eager does, and torch.export does not (masks of before torch.bool, as in pytorch-crf)."""

    def method(self: torch.Tensor, condition: torch.Tensor, other: Any) -> torch.Tensor:
        return _where(condition, self, other)  # type: ignore[no-any-return]

    with mock.patch.object(torch, "where", _where), mock.patch.object(torch.Tensor, "where", method):
        yield


def _where(condition: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return _WHERE(condition != 0 if condition.dtype == torch.uint8 else condition, *args, **kwargs)


_WHERE = torch.where
_register_builtin(_where, "aten::where")  # a loop that is compiled by itself during a capture calls it, too


@contextlib.contextmanager
def _data_recorded() -> Iterator[None]:
    """Makes reading `tensor.data` an operator: tracers lose the tensor there, and hold its values."""
    own = torch.Tensor.data
    torch.Tensor.data = property(torch.Tensor.detach, own.__set__)  # type: ignore[assignment,attr-defined]
    try:
        yield
    finally:
        del torch.Tensor.data  # inherited, it is torch's again


def _encode(
    plain: Any,
    encoder: nn.TransformerEncoder,
    src: torch.Tensor,
    mask: torch.Tensor | None = None,
    src_key_padding_mask: torch.Tensor | None = None,
    is_causal: bool | None = None,
) -> torch.Tensor:
    """Runs the plain layers, then zeroes the padded places, as eager's path over nested tensors does, before the last norm.

    Eager takes that path in eval mode for a padding mask whose padding is on the right in every row; the condition on the values
    becomes a part of the graph.
    """
    if src_key_padding_mask is None or mask is not None or src.dim() != 3 or not _takes_nested(encoder):  # noqa: PLR2004 - batched
        return plain(encoder, src, mask, src_key_padding_mask, is_causal)  # type: ignore[no-any-return]
    norm, encoder.norm = encoder.norm, None
    try:
        output = plain(encoder, src, mask, src_key_padding_mask, is_causal)
    finally:
        encoder.norm = norm
    keep = src_key_padding_mask.logical_not()  # of a float mask, too: 0 is kept, -inf is not
    padded = ~keep
    if getattr(encoder, "mask_check", True):
        places = torch.arange(keep.shape[1], device=keep.device)
        padded = padded & (keep == (places < keep.sum(1, keepdim=True))).all()
    output = output.masked_fill(padded.unsqueeze(-1), 0.0)
    return output if norm is None else norm(output)  # type: ignore[no-any-return]


def _takes_nested(encoder: nn.TransformerEncoder) -> bool:
    first: Any = encoder.layers[0]
    return bool(getattr(encoder, "use_nested_tensor", False)) and first.self_attn.batch_first and not first.training


def _trust_the_caller(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: ARG001
    """Leaves a mask a mask: torch compares its values with a causal one, which a capture would bake; the result is the same."""
    return bool(is_causal)


_STAND_INS: tuple[Callable[[], contextlib.AbstractContextManager[None]], ...] = (
    _fused_attention_off,
    _data_recorded,
    _distributions_unchecked,
    _distances_of_any_size,
    _triangles_of_any_size,
    _steps_of_any_number,
    _byte_conditions,
    recurrent.whole,
    packed.padded,
    einx.symbolic,
    spectra.any_length,
)
