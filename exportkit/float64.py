"""The float64 oracle: runs a network with every float operator in float64, while tensors report the dtypes that eager has.

A facade tensor reports float32 (or 16 bits) and carries a float64 value, so that code which asks for a dtype takes eager's branches, and a
plain parameter is widened as it is used: there is never a second copy of all weights. `.double()` is no oracle: networks that cast or build
tables compute those in float32 all the same, and `finfo(x.dtype)` changes with the dtype.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

_WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_REAL = {torch.complex64: torch.float32, torch.complex32: torch.float16, torch.complex128: torch.float64}
_COMPLEX = {
    torch.float32: torch.complex64,
    torch.float16: torch.complex32,
    torch.bfloat16: torch.complex64,
    torch.float64: torch.complex128,
}
_DISCRETE = (torch.bool, torch.int64, torch.int32, torch.uint8, torch.int8)
# Exact on plain tensors that nobody writes: they stay plain, and their consumer widens them.
_MOVES = frozenset({"embedding", "index_select", "gather", "index", "clone", "contiguous", "cat", "stack"})
_IN_PLACE_DTYPE = frozenset({"copy_", "_to_copy", "index_put_", "masked_fill", "masked_fill_"})
_BLOCK_BYTES = 64 << 20  # a larger weight is multiplied in blocks of columns


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the oracle computed.

    Attributes:
        value: forward's result with plain float64, complex128, integer and boolean tensors.
        changed: operator -> how often its discrete outcome differed from eager's, which was taken.
        fallbacks: operator -> why it ran in eager's dtype: it has no float64 kernel.
        lost: why eager's choices could not be followed to the end; "" where they were.
    """

    value: Any
    changed: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""


@dataclass(slots=True)
class Choices:
    """The integers and booleans that eager derived from floats, in order: (operator, outcomes)."""

    log: list[tuple[str, list[torch.Tensor | None]]] = field(default_factory=list)


def record_choices(call: Callable[[], Any]) -> tuple[Any, Choices]:
    """Runs `call` in eager and records its discrete choices: comparisons, argmax, the order of topk and sort."""
    choices = Choices()
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), _plain_attention(), _Record(choices):
        return call(), choices


def compute(call: Callable[[], Any], choices: Choices | None = None) -> Outcome:
    """Runs `call` in float64; with `choices`, eager's own discrete outcomes are taken instead of the oracle's."""
    facade = _Facade(list(choices.log) if choices else None)
    # oneDNN's recurrent kernels know no float64, and none of CUDA's attentions but the one that is written out.
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), _plain_attention(), facade:
        result = call()
    value = pytree.tree_map(lambda leaf: facade.wide(leaf) if isinstance(leaf, torch.Tensor) else leaf, result)
    return Outcome(value, facade.changed, facade.fallbacks, facade.lost)


def _plain_attention() -> contextlib.AbstractContextManager[object]:
    if not torch.cuda.is_initialized():
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


class _Wide(torch.Tensor):
    """Reports eager's dtype, carries float64."""

    __slots__ = ("value",)
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001 - the documented way
    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor, dtype: torch.dtype) -> Self:  # noqa: ANN001
        made: Self = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001 - torch has no public way
            cls, value.shape, strides=value.stride(), storage_offset=value.storage_offset(), dtype=dtype, device=value.device
        )
        made.value = value
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if _Facade.active is None:
            raise RuntimeError(f"an oracle's tensor outlived it: {func}")
        return _Facade.active.run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self._plain().tolist()

    def numpy(self, *, force: bool = False) -> Any:  # noqa: ARG002 - torch's signature
        return self._plain().numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        array = self._plain().numpy()
        return array if dtype is None else array.astype(dtype)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"float64 {self.value} as {self.dtype}"

    def __deepcopy__(self, memo: Any) -> "_Wide":
        return _Wide(self.value.clone(), self.dtype)

    def _plain(self) -> torch.Tensor:
        with torch._C._DisableTorchDispatch():  # noqa: SLF001 - torch has no public way to step below the dispatcher
            return self.value.to(self.dtype)


class _Record(TorchDispatchMode):
    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._choices = choices

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves(result)
        from_floats = any(isinstance(leaf, torch.Tensor) and leaf.dtype in _WIDE for leaf in pytree.tree_leaves((args, kwargs)))
        if from_floats and isinstance(func, torch._ops.OpOverload) and not func._schema.is_mutable and any(map(_is_discrete, leaves)):  # noqa: SLF001
            self._choices.log.append((str(func), [leaf.clone() if _is_discrete(leaf) else None for leaf in leaves]))
        return result


class _Facade(TorchDispatchMode):
    """Dispatches every operator to float64."""

    active: "_Facade | None" = None
    supports_higher_order_operators = True

    def __init__(self, replay: list[tuple[str, list[torch.Tensor | None]]] | None) -> None:
        super().__init__()
        self.changed: dict[str, int] = {}
        self.fallbacks: dict[str, str] = {}
        self.lost = ""
        self._replay = replay
        # storage -> its float64 shadow: what the network writes into a plain tensor goes there, the tensor itself stays as it is.
        self._shadows: dict[int, tuple[Any, torch.Tensor]] = {}
        self._unwrapped: Any = WeakIdKeyDictionary()  # nested and sparse results, which no facade can wrap -> the dtype they stand for

    def __enter__(self) -> Any:
        _Facade.active = self
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        _Facade.active = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def wide(self, tensor: torch.Tensor, *, written: bool = False) -> torch.Tensor:
        """Returns an operand's float64 value; one that is written gets a shadow of its whole storage."""
        if isinstance(tensor, _Wide):
            return tensor.value
        if tensor.dtype not in _WIDE:
            return tensor
        if tensor.layout != torch.strided:
            return tensor.to(_WIDE[tensor.dtype])
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only identity that all views of a storage share
        if written and key not in self._shadows:
            size = storage.nbytes() // tensor.element_size()
            flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage, 0, (size,), (1,)).detach()
            self._shadows[key] = (storage, flat.to(_WIDE[tensor.dtype]))
        if key in self._shadows:
            return self._shadows[key][1].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        return tensor.detach().to(_WIDE[tensor.dtype])

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:  # noqa: C901, PLR0911 - one line for each kind of operator
        """Runs one operator."""
        if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001 - torch's own class of operators
            return self._higher_order(func, args, kwargs)
        flat, spec = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]
        schema, name = func._schema, func._schema.name.partition("::")[2]  # noqa: SLF001
        if not any(isinstance(one, _Wide) or one in self._unwrapped for one in tensors):
            plain = self._run_plain(func, args, kwargs, flat, tensors, name)
            if plain is not NotImplemented:
                return plain
        random = torch.Tag.nondeterministic_seeded in func.tags and name not in ("dropout", "native_dropout")
        if (random and not name.startswith(("_scaled", "_fused"))) or str(func) == "aten.view.dtype":
            return self._native(func, flat, spec)
        if torch.Tag.inplace_view in func.tags and isinstance(args[0], _Wide):
            func(*pytree.tree_map(self._operand, args), **kwargs)
            with torch._C._DisableTorchDispatch():  # noqa: SLF001 - as in `_plain`
                func(*args, **kwargs)
            return args[0]
        dtype = self._dtype(args, flat, tensors, name)
        if schema.name in ("aten::mm", "aten::addmm") and not kwargs and (blocks := self._by_blocks(schema.name, args, dtype)) is not None:
            return blocks
        written = self._written(schema, args, kwargs)
        wide = [
            self.wide(leaf, written=id(leaf) in written)
            if isinstance(leaf, torch.Tensor)
            else _WIDE.get(leaf, leaf)
            if isinstance(leaf, torch.dtype)
            else leaf
            for leaf in flat
        ]
        wide_args, wide_kwargs = pytree.tree_unflatten(wide, spec)
        try:
            result = self._in_float64(func, wide_args, wide_kwargs)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            if schema.is_mutable:
                raise
            self.fallbacks.setdefault(str(func), str(error).splitlines()[0][:120])
            return self._native(func, flat, spec)
        if schema.is_mutable:
            originals = {id(one): leaf for one, leaf in zip(wide, flat, strict=True) if isinstance(leaf, torch.Tensor)}
            return pytree.tree_map(
                lambda leaf: originals.get(id(leaf), self._wrap(leaf, dtype)) if isinstance(leaf, torch.Tensor) else leaf, result
            )
        if self._replay is not None and any(self._unwrapped.get(one, one.dtype) in _WIDE for one in tensors):
            result = self._replayed(func, wide_args, wide_kwargs, result)
        return pytree.tree_map(lambda leaf: self._wrap(leaf, dtype) if isinstance(leaf, torch.Tensor) else leaf, result)

    def _run_plain(self, func: Any, args: Any, kwargs: Any, flat: Any, tensors: Any, name: str) -> Any:
        """Runs what needs no float64 yet: views and moves of plain weights, and integers; NotImplemented for all else."""
        low = [one for one in tensors if one.dtype in _WIDE]
        moves = func.is_view or (name in _MOVES and func._schema.name.startswith("aten::"))  # noqa: SLF001
        if tensors and moves and not any(map(self._shadowed, low)):
            return func(*args, **kwargs)
        if low or not tensors or any(isinstance(leaf, torch.dtype) and leaf in _WIDE for leaf in flat):
            return NotImplemented
        result = func(*args, **kwargs)
        narrow = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.dtype in _WIDE]
        if not narrow or func._schema.is_mutable:  # noqa: SLF001
            return result
        # Integers gave a float (a mean, a quotient): again, in float64.
        wide, spec = pytree.tree_flatten(self._in_float64(func, args, kwargs))
        eager = pytree.tree_leaves(result)
        return pytree.tree_unflatten(
            [self._wrap(w, e.dtype) if isinstance(w, torch.Tensor) else w for w, e in zip(wide, eager, strict=True)], spec
        )

    def _operand(self, leaf: Any) -> Any:
        return self.wide(leaf) if isinstance(leaf, torch.Tensor) else leaf

    def _shadowed(self, tensor: torch.Tensor) -> bool:
        return bool(self._shadows) and tensor.layout == torch.strided and tensor.untyped_storage()._cdata in self._shadows  # noqa: SLF001

    def _written(self, schema: Any, args: Any, kwargs: Any) -> set[int]:
        written: set[int] = set()
        if schema.is_mutable:
            for place, argument in enumerate(schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    operand = args[place] if place < len(args) and not argument.kwarg_only else kwargs.get(argument.name)
                    written |= {id(leaf) for leaf in pytree.tree_leaves(operand)}
        return written

    def _by_blocks(self, name: str, args: Any, dtype: torch.dtype | None) -> torch.Tensor | None:
        """Multiplies by one huge plain weight in blocks of columns, so that it is never widened whole."""
        place = 1 if name == "aten::mm" else 2
        weight = args[place]
        if isinstance(weight, _Wide) or weight.dtype not in _WIDE or weight.layout != torch.strided or self._shadows:
            return None
        if weight.numel() * 8 <= _BLOCK_BYTES:
            return None
        width = max(1, _BLOCK_BYTES // 8 // weight.shape[0])
        left, bias = self.wide(args[place - 1]), self.wide(args[0]) if place > 1 else None
        parts = []
        for start in range(0, weight.shape[1], width):
            product = torch.mm(left, weight[:, start : start + width].detach().double())
            if bias is not None:
                product += bias[..., start : start + width] if bias.dim() and bias.shape[-1] > 1 else bias
            parts.append(product)
        return self._wrap(torch.cat(parts, 1), dtype)

    def _replayed(self, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """Takes eager's own discrete outcome of this operator, and the values that belong to it."""
        leaves, spec = pytree.tree_flatten(result)
        if not any(map(_is_discrete, leaves)) or self._replay is None:
            return result
        if not self._replay or self._replay[0][0] != str(func):
            self.lost = f"{func} where eager ran {self._replay[0][0] if self._replay else 'no more'}"
            self._replay = None
            return result
        recorded = self._replay.pop(0)[1]
        if all(not _is_discrete(leaf) or (e is not None and torch.equal(leaf, e)) for leaf, e in zip(leaves, recorded, strict=True)):
            return result
        self.changed[str(func)] = self.changed.get(str(func), 0) + 1
        leaves = [e if e is not None and _is_discrete(leaf) else leaf for leaf, e in zip(leaves, recorded, strict=True)]
        if len(leaves) == 2 and leaves[0].is_floating_point() and not leaves[1].is_floating_point() and args[0].dim():  # noqa: PLR2004 - values, indices
            names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001
            place = names.index("dim") if "dim" in names else len(args)
            dim = args[place] if place < len(args) else kwargs.get("dim", -1)
            reduced = leaves[1].dim() < args[0].dim()
            values = args[0].gather(dim, leaves[1].unsqueeze(dim) if reduced else leaves[1])
            leaves[0] = values.squeeze(dim) if reduced else values
        return pytree.tree_unflatten(leaves, spec)

    def _in_float64(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs a kernel with float64 as the default, so that integers and numbers become float64, too."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return func(*args, **kwargs)
        finally:
            torch.set_default_dtype(default)

    def _wrap(self, value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        if dtype is None or value.dtype not in (torch.float64, torch.complex128):
            return value
        dtype = _REAL.get(dtype, dtype) if value.dtype == torch.float64 else _COMPLEX.get(dtype, dtype)
        if dtype in (torch.float64, torch.complex128):
            return value
        if value.layout != torch.strided or value.is_nested:
            self._unwrapped[value] = dtype
            return value
        return _Wide(value.resolve_conj().resolve_neg(), dtype)

    def _dtype(self, args: Any, flat: Any, tensors: Any, name: str) -> torch.dtype | None:
        """Returns the dtype that eager's result has."""
        for leaf in flat:
            if isinstance(leaf, torch.dtype):
                return leaf
        floats = [one for one in tensors if one.dtype.is_floating_point or one.dtype.is_complex]
        if not floats:
            return torch.get_default_dtype()
        if name in _IN_PLACE_DTYPE:
            return self._unwrapped.get(args[0], args[0].dtype)  # type: ignore[no-any-return]
        sized = [one for one in floats if one.is_nested or one.dim() > 0] or floats
        dtype = self._unwrapped.get(sized[0], sized[0].dtype)
        for one in sized[1:]:
            dtype = torch.promote_types(dtype, self._unwrapped.get(one, one.dtype))
        return dtype  # type: ignore[no-any-return]

    def _native(self, func: Any, flat: Any, spec: Any) -> Any:
        """Runs an operator in eager's own dtypes: random numbers of eager's stream, bit tricks, kernels without float64."""

        def narrow(leaf: Any) -> Any:
            if isinstance(leaf, _Wide):
                return leaf.value.to(leaf.dtype)
            if isinstance(leaf, torch.Tensor) and leaf.dtype in _WIDE and self._shadowed(leaf):
                return self.wide(leaf).to(leaf.dtype)
            return leaf

        narrowed = [narrow(leaf) for leaf in flat]
        args, kwargs = pytree.tree_unflatten(narrowed, spec)
        result = func(*args, **kwargs)
        if func._schema.is_mutable:  # noqa: SLF001
            originals = {}
            for leaf, low in zip(flat, narrowed, strict=True):
                if isinstance(leaf, torch.Tensor):
                    originals[id(low)] = leaf
                    if isinstance(leaf, _Wide):
                        leaf.value.copy_(low)
            return pytree.tree_map(lambda leaf: originals.get(id(leaf), leaf) if isinstance(leaf, torch.Tensor) else leaf, result)
        return pytree.tree_map(
            lambda leaf: (
                _Wide(leaf.to(_WIDE[leaf.dtype]), leaf.dtype)
                if isinstance(leaf, torch.Tensor) and leaf.dtype in _WIDE and leaf.layout == torch.strided
                else leaf
            ),
            result,
        )

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG002 - one signature for all
        """Runs cond, while_loop and scan as plain Python."""
        name = str(getattr(func, "_name", func))
        with self:
            if name == "cond":
                predicate, yes, no, operands = args[:4]
                return (yes if bool(predicate) else no)(*operands)
            if name == "while_loop":
                condition, body, carry = args[:3]
                more = args[3] if len(args) > 3 else ()  # noqa: PLR2004 - torch's signature
                while bool(condition(*carry, *more)):
                    carry = body(*carry, *more)
                return carry
            if name == "scan":
                return _scan(*args)
            if name in ("wrap", "invoke_subgraph", "wrap_with_set_grad_enabled"):
                return args[0](*args[1:])
        raise NotImplementedError(f"the float64 oracle has no rule for {name}")


def _scan(body: Any, init: Any, rows: Any, more: Any = ()) -> Any:
    carry, stacked = list(init), []
    for place in range(rows[0].shape[0]):
        step = list(body(*carry, *[one[place] for one in rows], *more))
        carry = step[: len(init)]
        stacked.append(step[len(init) :])
    return [*carry, *[torch.stack(column) for column in zip(*stacked, strict=True)]]


def _is_discrete(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dtype in _DISCRETE
