"""Writes .onnx: torch's dynamo exporter, else its older exporter on the scripted or traced network."""

import contextlib
import copy
import functools
import importlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import onnx_ir
import torch

from exportkit import bodies, rounding, runtimes, translations
from exportkit.capture import Captures, Options, refuse_other_beyond, refuse_other_side, symbol_at, unguarded, without_paths
from exportkit.control_flow import guardless
from exportkit.errors import ExportError
from exportkit.patches import recurrent
from exportkit.reach import refuse_short_reach
from exportkit.simplify import spelled_out
from exportkit.spec import Artifact, TensorSpec

INNER = "exportkit.inner."  # stands before the name of a value that gave way to an output
_INLINE_LIMIT = 1_800_000_000  # bytes of weights; protobuf ends at 2 GiB
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc", "ai.onnx.training", "ai.onnx.preview.training"}


def warm() -> None:
    """Imports the exporter and parses its function library once, for every fork: about 0.5 s of each conversion otherwise."""
    import onnxscript  # noqa: F401 - imported for its side effect
    from torch.onnx import _constants
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry
    if "_exportkit" in vars(registry):
        return
    parsed = functools.cache(registry.from_torchlib)

    def from_torchlib(**which: Any) -> Any:
        fresh = copy.copy(parsed(**which))
        fresh.functions = {key: list(value) for key, value in fresh.functions.items()}
        return fresh

    registry.from_torchlib = staticmethod(from_torchlib)  # type: ignore[method-assign,assignment]
    registry._exportkit = True  # type: ignore[attr-defined]  # noqa: SLF001 - so that it is done once
    with _quiet():
        from_torchlib(opset_version=_constants.ONNX_DEFAULT_OPSET)


def write_exported(captures: Captures, folder: Path, options: Options) -> Artifact:
    """Converts the exported program."""
    return _convert(captures.exported(), captures, folder, options, "exported")


def write_lifted(captures: Captures, folder: Path, options: Options) -> Artifact:
    """Converts the network with its loops and branches kept, after what ONNX lacks is spelled out."""
    program = captures.lifted()
    with guardless(), recurrent.whole():
        return _convert(spelled_out(program), captures, folder, options, "lifted")


def write_simplified(captures: Captures, folder: Path, options: Options) -> Artifact:
    """Converts the exported program after what ONNX lacks is spelled out."""
    program = captures.simplified()
    refuse_other_beyond(captures, unguarded(program))
    return _convert(program, captures, folder, options, "simplified")


def decomposed(captures: Captures, strategy: str, options: Options) -> Any:
    """Returns the program that torch's exporter writes out for a strategy, whose nodes name the ONNX values."""
    program = {"exported": captures.exported, "lifted": captures.lifted, "simplified": captures.simplified}[strategy]()
    if strategy != "lifted":
        return _translate(program, options).exported_program
    with guardless(), recurrent.whole():
        return _translate(spelled_out(program), options).exported_program


def _convert(program: Any, captures: Captures, folder: Path, options: Options, strategy: str) -> Artifact:
    _refuse_complex(captures)
    refuse_short_reach(captures.live, captures.symbols, program)
    refuse_other_side(captures, program)
    return _finish(_translate(program, options).model, captures, folder, options, strategy)


def _translate(program: Any, options: Options) -> Any:
    with _quiet(), _one_version(), recurrent.whole():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=options.opset,
            custom_translation_table={**translations.table(options.runtime.device), **options.translations},
            optimize=True,
            verbose=False,
        )
    assert converted is not None
    return converted


def write_scripted(captures: Captures, folder: Path, options: Options) -> Artifact:
    args, kwargs = captures.arguments()
    return _write_legacy(captures.scripted(), args, kwargs, captures, folder, options, "scripted")


def write_traced(captures: Captures, folder: Path, options: Options) -> Artifact:
    module = captures.traced(flat=True)
    refuse_other_beyond(captures, module, flat=True)
    return captures.with_decisions(_write_legacy(module, captures.tensors(), {}, captures, folder, options, "traced"))


def _write_legacy(
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    captures: Captures,
    folder: Path,
    options: Options,
    strategy: str,
) -> Artifact:
    """Converts TorchScript with the exporter that keeps its loops (torch deprecates it; it ends at opset 20)."""
    _refuse_complex(captures)
    names = list(captures.inputs)
    axes = {name: {axis: symbol for (one, axis), symbol in symbol_at(captures.symbols).items() if one == name} for name in names}
    raw = folder / "raw.onnx"
    with _quiet():
        torch.onnx.export(
            module,
            args,
            raw,
            kwargs=kwargs or None,
            dynamo=False,
            input_names=names,
            output_names=list(captures.outputs),
            dynamic_axes={name: one for name, one in axes.items() if one},
            opset_version=options.opset,
        )
    model = onnx_ir.load(raw)
    artifact = _finish(model, captures, folder, options, strategy)
    for file in folder.iterdir():
        if file.name not in artifact.files:
            file.unlink()
    return artifact


def _refuse_complex(captures: Captures) -> None:
    """Refuses complex inputs and outputs: exporters write pairs of floats in their place, which is another signature."""
    network = captures.live.network
    instead = {"input": "Take real and imaginary parts on a last axis of two", "output": "Return torch.view_as_real() of it"}
    for what, specs in (("input", network.inputs), ("output", network.outputs)):
        for spec in specs:
            if spec.dtype.startswith("complex"):
                raise ExportError(f"{what} {spec.name} is {spec.dtype}, onnxruntime has no complex tensors", todo=f"{instead[what]}.")


def _finish(model: onnx_ir.Model, captures: Captures, folder: Path, options: Options, strategy: str) -> Artifact:
    """Names the inputs, outputs and dimensions, takes the author's paths out, and writes the file."""
    graph = model.graph
    _complete_inputs(graph, captures)
    _name_values(graph, graph.inputs, list(captures.inputs))
    _separate_outputs(graph)
    if len(graph.outputs) != len(captures.outputs):
        raise ExportError(f"the exporter wrote {len(graph.outputs)} outputs, the network has {len(captures.outputs)}")
    _name_values(graph, graph.outputs, list(captures.outputs))
    _name_dimensions(model, captures)
    if strategy in ("lifted", "simplified"):
        rounding.compute_in_float32(graph)
    bodies.make_cheap(graph, shaped=strategy not in ("scripted", "traced"))
    for node in [*model.graph.all_nodes(), *(node for function in model.functions.values() for node in function.all_nodes())]:
        node.doc_string = None
        for key, value in node.metadata_props.items():
            node.metadata_props[key] = without_paths(value)
    opset, version = graph.opset_imports.get("", 0), model.ir_version
    if options.opset is not None and opset != options.opset:
        raise ExportError(
            f"opset {options.opset} was asked for, the exporter wrote {opset}", todo=f"Leave --opset out, or ask for {opset}."
        )
    runtimes.refuse_target(options.target, opset, version)
    operators = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph.all_nodes())
    foreign = _foreign(model)
    if foreign and not options.runtime.ort_library:
        raise ExportError(
            f"onnxruntime has no operator {foreign[0]}",
            todo="Write it in ONNX with onnx_translations in the network file, or load its library with --ort-library FILE.",
        )
    files = _save(model, captures.name, folder)
    facts: dict[str, Any] = {"opset": opset, "ir_version": version, "oldest_onnxruntime": runtimes.oldest(opset, version)}
    facts["operators"] = dict(sorted(operators.items()))
    if foreign:
        facts["ort_library"] = Path(str(options.runtime.ort_library)).name
    inputs, outputs = _signature(folder / files[0])
    return Artifact("onnx", files, strategy, inputs, outputs, facts)


def _complete_inputs(graph: onnx_ir.Graph, captures: Captures) -> None:
    """Puts back the inputs that an exporter dropped because nothing reads them."""
    if len(graph.inputs) == len(captures.inputs):
        return
    present = {str(value.name): value for value in graph.inputs}
    completed = []
    for name, tensor in captures.inputs.items():
        shape = onnx_ir.Shape([symbol_at(captures.symbols).get((name, axis), size) for axis, size in enumerate(tensor.shape)])
        dtype = onnx_ir.DataType.from_numpy(tensor.numpy().dtype)
        completed.append(present.pop(name) if name in present else onnx_ir.Value(name=name, shape=shape, type=onnx_ir.TensorType(dtype)))
    if present:
        raise ExportError(f"the exporter wrote the inputs {', '.join(present)}, which the network does not have")
    graph.inputs[:] = completed


def _name_values(graph: onnx_ir.Graph, values: Iterable[onnx_ir.Value], names: list[str]) -> None:
    """Names inputs or outputs; a value inside that has such a name already (torch's node `where`, an output `where`) gets another."""
    values = list(values)
    for place, value in enumerate(values):
        value.name = f"exportkit.{names[place]}"  # a step between, so that no two values share a name for a moment
    bodies = [graph, *graph.subgraphs()]
    inner = [one for body in bodies for one in (*body.inputs, *body.initializers.values(), *(out for node in body for out in node.outputs))]
    for value in inner:
        if value.name in names:
            value.name = f"{INNER}{value.name}"
    for value, name in zip(values, names, strict=True):
        value.name = name


def _separate_outputs(graph: onnx_ir.Graph) -> None:
    """Gives every output a value of its own: not an input's, a weight's, or another output's."""
    seen: set[int] = set()
    for place, value in enumerate(graph.outputs):
        if value.producer() is None or id(value) in seen:
            node = onnx_ir.Node("", "Identity", [value], num_outputs=1)
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[place] = node.outputs[0]
        seen.add(id(value))


def _name_dimensions(model: onnx_ir.Model, captures: Captures) -> None:
    """Renames symbolic dimensions after our symbols, wherever the exporter's own names stand; one that torch.export fixed is a number."""
    written = [value for node in model.graph.all_nodes() for value in node.outputs]
    values = dict.fromkeys((*model.graph.inputs, *model.graph.outputs, *written))
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_settled(size) for size in value.shape])
    names: dict[str, str] = {}
    symbols = {(name, axis): symbol for symbol in captures.symbols for name, axis, _ in symbol.places}
    offsets = {(name, axis): offset for symbol in captures.symbols for name, axis, offset in symbol.places}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            symbol = symbols.get((str(value.name), axis))
            if symbol and not isinstance(size, int) and size.value is not None and offsets[str(value.name), axis] == 0:
                names.setdefault(str(size.value), symbol.name)
    if not names:
        return
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + r")\b")
    for value in values:
        if value.shape is not None and not value.shape.is_static():
            value.shape = onnx_ir.Shape(
                [
                    size
                    if isinstance(size, int) or size.value is None
                    else pattern.sub(lambda match: names[match.group(1)], str(size.value))
                    for size in value.shape
                ]
            )


def _settled(size: Any) -> Any:
    """Turns a symbol that torch.export settled on a number, and that torch.onnx writes as a name ("5"), into that number."""
    return int(size.value) if not isinstance(size, int) and str(size.value).isdecimal() else size


def _foreign(model: onnx_ir.Model) -> list[str]:
    """Lists the operators that neither onnxruntime nor the model itself defines."""
    own = {(function.domain, function.name) for function in model.functions.values()}
    used = {(node.domain, node.op_type) for node in model.graph.all_nodes()}
    return sorted(f"{domain}::{name}" for domain, name in used - own if domain not in _KNOWN_DOMAINS)


def _save(model: onnx_ir.Model, name: str, folder: Path) -> tuple[str, ...]:
    stored = [value.const_value for graph in (model.graph, *model.graph.subgraphs()) for value in graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in stored if tensor is not None)
    if size <= _INLINE_LIMIT:
        onnx_ir.save(model, folder / f"{name}.onnx")
        return (f"{name}.onnx",)
    onnx_ir.save(model, folder / f"{name}.onnx", external_data=f"{name}.onnx.data")
    return (f"{name}.onnx", f"{name}.onnx.data")


def _signature(file: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Reads the inputs and outputs back from the file."""
    graph = onnx.load(file, load_external_data=False).graph
    return tuple(map(_spec, graph.input)), tuple(map(_spec, graph.output))


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        one.dim_value if one.HasField("dim_value") else one.dim_param or f"{value.name}_{axis}" for axis, one in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)


@contextlib.contextmanager
def _one_version() -> Iterator[None]:
    """Gives calls of loop bodies the version that the bodies have: torch 2.13 writes the opset's, and fails where one lies in another."""
    hop = importlib.import_module("torch.onnx._internal.exporter._torchlib.ops.hop")
    call = hop.call_op

    def call_op(name: str, *args: Any, **kwargs: Any) -> Any:
        outputs = call(name, *args, **kwargs)
        if kwargs.get("_domain") and outputs:
            outputs[0].producer().version = 1
        return outputs

    with mock.patch.object(hop, "call_op", call_op):
        yield


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps the exporters' own words off the log: what they mean stands in the verdict."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@dataclass(frozen=True, slots=True)
class Onnx:
    suffix: str = ".onnx"
    strategies: tuple[tuple[str, Any], ...] = (
        ("exported", write_exported),
        ("lifted", write_lifted),
        ("simplified", write_simplified),
        ("scripted", write_scripted),
        ("traced", write_traced),
    )


PLUGIN = Onnx()
