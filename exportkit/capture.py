"""A live network -> what exporters start from: scripted, traced, exported. Each is made once, on demand, and shared by the formats."""

import contextlib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from exportkit import baking, diagnosis, patches, reach, state
from exportkit.control_flow import arithmetic
from exportkit.control_flow.outline import outlined
from exportkit.control_flow.select import has_control_flow
from exportkit.decisions import Decisions, watched
from exportkit.errors import ExportError
from exportkit.find import with_forward
from exportkit.load import Live
from exportkit.results import flatten, is_plain, plain, tensors
from exportkit.spec import Artifact, Runtime, Symbol, TensorSpec

_PATH = re.compile(r'File "([^"]+)"')


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asks of a format.

    Attributes:
        opset: the ONNX opset; None for the exporter's own.
        translations: torch operator -> a function that writes it in ONNX.
        target: "onnxruntime==1.20", the oldest runtime that must load the file.
        runtime: where the artifact will run.
    """

    opset: int | None = None
    translations: Mapping[Any, Any] = field(default_factory=dict)
    target: str | None = None
    runtime: Runtime = Runtime()


class Captures:
    """The captures of one network.

    Args:
        inputs: tensors to capture with, by input name: sizes distinct and neither 0 nor 1, values never the user's own.
        symbols: the dimensions that shall vary.
    """

    def __init__(self, live: Live, inputs: Mapping[str, torch.Tensor], symbols: tuple[Symbol, ...], outputs: tuple[str, ...]) -> None:
        self.live, self.inputs, self.symbols, self.outputs = live, inputs, symbols, outputs
        self._exported: ExportedProgram | ExportError | None = None
        self._lifted: ExportedProgram | ExportError | None = None
        self.decisions = Decisions()  # what the last trace holds fixed

    @property
    def name(self) -> str:
        return self.live.network.name

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.live.arguments({name: value.clone() for name, value in self.inputs.items()})

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Copies the inputs, outside of the lists and dicts that forward takes them in."""
        return tuple(value.clone() for value in self.inputs.values())

    def scripted(self) -> Any:
        """Compiles the network's own source; loops and branches stay.

        Raises:
            ExportError: TorchScript does not take a construct of it.
        """
        from exportkit.control_flow import scripted

        return self._guarded(lambda: scripted(self.live.module), "torch.jit.script")

    def traced(self, *, flat: bool = False) -> Any:
        """Records one run; what depends on values or sizes in Python is baked: `decisions` names the values, parity tells of sizes.

        Args:
            flat: take and give tensors alone, as ONNX does, whatever lists and dicts forward has them in.
        """
        if isinstance(self.live.module, torch.jit.ScriptModule):
            raise ExportError("a ScriptModule is not traced: it is scripted already")
        if not flat:
            with contextlib.suppress(ExportError):  # the tracer takes no dict of tensors and tuples, and no None
                return self._trace(self.plain_module())
            return self._trace(self._with_results(self.live.module, _tensors_of))
        forward = type(self.live.module).forward

        def of_tensors(module: nn.Module, *tensors: torch.Tensor) -> tuple[Any, ...]:
            args, kwargs = self.live.arguments(dict(zip(self.inputs, tensors, strict=True)))
            return _tensors_of(forward(module, *args, **kwargs))

        return self._trace(with_forward(self.live.module, of_tensors), self.tensors())

    def traced_export(self) -> Any:
        """Traces the simplified program: autograd functions, custom operators and Python's own loops are plain operators there."""
        module = unguarded(self.simplified())
        for node in list(module.graph.nodes):
            if _takes_size_for_number(node):
                # torch's function takes the tensor that a size is to a tracer
                node.target = getattr(torch, node.target.overloadpacket.__name__, node.target)
            if node.op == "call_function" and node.target is torch.ops.aten.sym_size.int:
                with module.graph.inserting_before(node):
                    size = module.graph.call_method("size", node.args)  # the tracer follows this one, and takes the other for a number
                node.replace_all_uses_with(size)
                module.graph.erase_node(node)
        module.recompile()
        return self._trace(module)

    def _trace(self, module: nn.Module, tensors: tuple[torch.Tensor, ...] | None = None) -> Any:
        args, kwargs = self.arguments() if tensors is None else (tensors, {})
        given: dict[str, Any] = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
        self.decisions = Decisions()  # a trace that failed holds nothing
        with watched(self.decisions):
            return self._guarded(lambda: torch.jit.trace(module, **given, strict=False, check_trace=False), "torch.jit.trace")

    def with_decisions(self, artifact: Artifact) -> Artifact:
        """Notes in a traced artifact which lines read values, for the judge to see whether both sides were compared."""
        seen = self.decisions
        # Where torch.export takes the network, its guards have told of the branches on sizes (`refuse_other_beyond`).
        sizes = seen.sizes - seen.packages if isinstance(self._exported, ExportError) else set()
        lines = {"decides": sorted(seen.answers), "reads": sorted(seen.numbers), "sizes": sorted(sizes)}
        return replace(artifact, facts={**artifact.facts, **{name: some for name, some in lines.items() if some}})

    def exported(self) -> ExportedProgram:
        """Calls torch.export, first without dynamo, then with it.

        Raises:
            ExportError: torch.export does not take the network.
        """
        if self._exported is None:
            self._exported = self._export()
        if isinstance(self._exported, ExportError):
            raise self._exported
        return self._exported

    def lifted(self) -> ExportedProgram:
        """Calls torch.export on the network with its loops and branches as torch's operators for them.

        Raises:
            ExportError: there is none, or one that cannot be lifted; names the user's line.
        """
        program = self._lifting()
        if isinstance(program, ExportError):
            raise program
        return program

    def _lifting(self) -> ExportedProgram | ExportError:
        if self._lifted is None:
            self._lifted = self._lift()
        return self._lifted

    def simplified(self) -> ExportedProgram:
        """Spells the exported program out in plainer operators.

        Raises:
            ExportError: torch.export does not take the network, or not once more.
        """
        from exportkit.simplify import simplified

        program = self.exported()
        args, kwargs = self.arguments()
        # An axis that the program fixes stays fixed: its steps are written out.
        free = {
            (name, axis)
            for name, value in zip(self.inputs, reach.tensors_of(program), strict=True)
            for axis, size in enumerate(value.shape)
            if not isinstance(size, int) and size.node.maybe_as_int() is None
        }
        shapes = self._shapes(self.live.module, free)
        return self._guarded(lambda: simplified(program, args, kwargs, shapes), "torch.export")  # type: ignore[no-any-return]

    def sides(self) -> tuple[dict[str, int], ...]:
        """Lists sizes on the other side of branches of which torch.export took one, if it was asked: see `reach.sides`."""
        program = self._exported
        return () if program is None or isinstance(program, ExportError) else reach.sides(self.live, self.symbols, program)

    def plain_module(self) -> nn.Module:
        """Returns the network, its results turned into plain tuples and dicts, which any process can load."""
        return self.live.module if self._is_plain() else self._with_results(self.live.module, plain)

    def _is_plain(self, *never: type) -> bool:
        """Says whether the network's results are plain, and none of them of the types named."""
        with torch.no_grad(), state.preserved(self.live.module):
            result = self.live.call(self.inputs)
        return is_plain(result) and not any(isinstance(leaf, never) for leaf in pytree.tree_leaves(result))

    @staticmethod
    def _with_results(module: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
        """Returns a network with its results in another form."""
        forward = type(module).forward

        @functools.wraps(forward)
        def changed(*args: Any, **kwargs: Any) -> Any:
            return change(forward(*args, **kwargs))

        return with_forward(module, changed)

    def _export(self) -> ExportedProgram | ExportError:
        if isinstance(self.live.module, torch.jit.ScriptModule):
            return ExportError("torch.export does not take a ScriptModule", todo="Give the nn.Module that it was scripted from.")
        with outlined(self.live.module, loops=False):
            module = self.plain_module()
            if not has_control_flow(self.live.module):
                return self._call_export(module)
            with baking.stopped() as baked:
                program = self._call_export(module, strict=False)
            if baked.found and isinstance(program, ExportError) and not isinstance(self._lifting(), ExportError):
                return program
            # A program for which a size became a number is one that forward gave in another way, after our stop had failed it.
            return self._call_export(module) if baked.found or isinstance(program, ExportError) else program

    def _lift(self) -> ExportedProgram | ExportError:
        from exportkit.control_flow import guardless, lifted

        module, refusal = self.live.module, None
        try:
            module = self._guarded(lambda: lifted(self.live.module), "lifting")
        except ExportError as error:
            refusal = error
        with guardless(), outlined(module) as functions:
            if refusal and not functions:
                return refusal
            return self._call_export(module if self._is_plain(bool, int, float) else self._with_results(module, tensors), strict=False)

    def _call_export(self, module: nn.Module, *, strict: bool = True) -> ExportedProgram | ExportError:
        """Exports a module without dynamo; where that fails, with it if `strict`."""
        first = None
        args, kwargs = self.arguments()
        shapes = self._shapes(module)
        for with_dynamo in (False, True) if strict else (False,):
            try:
                program: ExportedProgram = self._guarded(
                    functools.partial(torch.export.export, module, args, kwargs, dynamic_shapes=shapes, strict=with_dynamo),
                    "torch.export",
                )
            except ExportError as error:
                first = first or error
                continue
            _strip(program)
            return arithmetic.plain(program)
        assert first is not None
        return first

    def _shapes(self, module: nn.Module, free: Container[tuple[str, int]] | None = None) -> Any:
        """Builds torch.export's dynamic_shapes: AUTO, and which axes stayed symbolic is read back from the result.

        Args:
            free: the axes that may vary, as (input, axis); None for all of the symbols.
        """
        axes: dict[str, Any] = {name: {} for name in self.inputs}
        for symbol in self.symbols:
            for name, axis, _ in symbol.places:
                if free is None or (name, axis) in free:
                    axes[name][axis] = Dim.AUTO
        args, kwargs = self.live.arguments(axes)  # the same tree, filled with axes in place of tensors
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments  # torch's own way: *args are one entry
        return {name: _pruned(shape) for name, shape in bound.items()} or None

    def _guarded(self, make: Callable[[], Any], tool: str) -> Any:
        """Runs an exporter; afterwards the module holds nothing of its tracing, and its errors are in words."""
        scripts = tool in ("torch.jit.script", "lifting")  # TorchScript reads the source of what it finds, and knows torch's own functions
        as_eager = contextlib.nullcontext() if scripts else patches.as_eager_computes()
        with warnings.catch_warnings(), state.preserved(self.live.module), as_eager:
            warnings.simplefilter("ignore")
            try:
                return make()
            except ExportError:
                raise
            except Exception as error:
                where, inside = diagnosis.places(error)
                raise ExportError(f"{tool}: {diagnosis.meaning(error)}{f' (at {inside})' if inside else ''}", where=where) from error


def _tensors_of(result: Any) -> tuple[Any, ...]:
    return tuple(flatten(result, frozenset())[1].values())


def unguarded(program: ExportedProgram) -> Any:
    """Returns a program as a module that checks no sizes."""
    module: Any = program.module(check_guards=False)
    module._forward_pre_hooks.clear()  # noqa: SLF001 - they check the sizes' ranges
    return module


def _takes_size_for_number(node: torch.fx.Node) -> bool:
    """Says whether an operator has a size, or a number computed from sizes, where it takes a number of any kind (`arange` has)."""
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - torch's own class of operators
        return False
    kinds = {argument.name: argument.type.kind() for argument in node.target._schema.arguments}  # noqa: SLF001
    given = dict(zip(kinds, node.args, strict=False)) | node.kwargs
    return any(kinds[name] == "NumberType" and isinstance(value, torch.fx.Node) for name, value in given.items())


def refuse_other_beyond(captures: Captures, module: Callable[..., Any], *, flat: bool = False) -> None:
    """Refuses what holds one side of a branch on a size; where torch.export does not take the network, only parity at other sizes can tell.

    Args:
        flat: the module takes tensors alone, as `Captures.traced` has it.

    Raises:
        ExportError: see `reach.refuse_other_beyond`.
    """
    try:
        program = captures.exported()
    except ExportError:
        return
    reach.refuse_other_beyond(captures.live, captures.symbols, program, lambda inputs: _call(captures, module, inputs, flat=flat))


def refuse_other_side(captures: Captures, program: ExportedProgram) -> None:
    """Refuses a program that holds one side of a branch on a size, and tells nobody: it bounds sizes, and asks no other condition.

    Raises:
        ExportError: see `reach.refuse_other_side`.
    """
    module = functools.cache(lambda: unguarded(program))  # a copy, which most programs do not need
    reach.refuse_other_side(captures.live, captures.symbols, program, lambda inputs: _call(captures, module(), inputs))


def _call(captures: Captures, module: Callable[..., Any], inputs: Mapping[str, torch.Tensor], *, flat: bool = False) -> Any:
    args, kwargs = ([inputs[name] for name in captures.inputs], {}) if flat else captures.live.arguments(inputs)
    return module(*args, **kwargs)


def signature_of(program: ExportedProgram, captures: Captures) -> tuple[TensorSpec, ...]:
    """Reads an exported program's inputs back: symbolic axes by our symbols' names, the others by number."""
    specs = []
    symbols = symbol_at(captures.symbols)
    for spec, value in zip(captures.live.network.inputs, reach.tensors_of(program), strict=True):
        shape = tuple(
            size if isinstance(size, int) else symbols.get((spec.name, axis), f"{spec.name}_{axis}")
            for axis, size in enumerate(value.shape)
        )
        specs.append(TensorSpec(spec.name, spec.dtype, shape))
    return tuple(specs)


def symbol_at(symbols: tuple[Symbol, ...]) -> dict[tuple[str, int], str]:
    """Maps (input, axis) to its symbol's name."""
    return {(name, axis): symbol.name for symbol in symbols for name, axis, _ in symbol.places}


def without_paths(text: str) -> str:
    """Shortens the author's paths in a traceback: packages from their name on, other files to theirs."""

    def shorten(match: re.Match[str]) -> str:
        path = match.group(1)
        return f'File "{path.rpartition("site-packages/")[2] if "site-packages/" in path else Path(path).name}"'

    return _PATH.sub(shorten, text)


def _strip(program: ExportedProgram) -> None:
    """Takes the author's paths and the example's values out of a program."""
    for graph in _graphs(program.graph_module):
        for node in graph.nodes:
            if node.meta.get("stack_trace"):
                node.meta["stack_trace"] = without_paths(node.meta["stack_trace"])
    program._example_inputs = None  # noqa: SLF001 - torch 2.13 has no public way; a .pt2 would carry the values


def _graphs(module: Any) -> Iterator[Any]:
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield part.graph


def _pruned(shape: Any) -> Any:
    """Leaves axes where they stand in nested arguments; what has no axis at all becomes None, as torch.export wants it."""
    if isinstance(shape, dict):
        return {key: value if isinstance(key, int) else _pruned(value) for key, value in shape.items()}
    if isinstance(shape, list | tuple):
        return type(shape)(_pruned(child) for child in shape)
    return None
