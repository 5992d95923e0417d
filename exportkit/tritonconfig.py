"""Triton's config.pbtxt: made from the manifest, read back by Triton's own schema, and compared with the ONNX graph field by field.

Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, as `tritonclient` carries it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportkit.bundle import MODEL, Bundle
from exportkit.elements import V2
from exportkit.errors import LoadError, StoreError
from exportkit.plugins import needs
from exportkit.spec import Case, TensorSpec

WARMUP = "warmup"  # the folder in which Triton looks for warm-up data
_MOST_WARMUPS = 3
# ONNX's numbers of element types -> Triton's names (onnx.TensorProto, float16 10, bfloat16 16).
_TYPES = {
    1: "TYPE_FP32", 2: "TYPE_UINT8", 3: "TYPE_INT8", 4: "TYPE_UINT16", 5: "TYPE_INT16", 6: "TYPE_INT32", 7: "TYPE_INT64",
    9: "TYPE_BOOL", 10: "TYPE_FP16", 11: "TYPE_FP64", 12: "TYPE_UINT32", 13: "TYPE_UINT64", 16: "TYPE_BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of the graph: Triton's name of its type, and its dimensions, a symbol's name where one varies."""

    name: str
    kind: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The signature that the ONNX file itself states."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def first_axis(self) -> str:
        """The symbol that is the first axis of every input and output; "" where there is none."""
        firsts = {one.shape[0] if one.shape else "" for one in (*self.inputs, *self.outputs)}
        only = next(iter(firsts)) if len(firsts) == 1 else ""
        return only if isinstance(only, str) else ""


def read_graph(file: Path) -> Graph:
    """Reads a graph's signature, and no weights.

    Raises:
        LoadError: Triton has no name for an element type, or takes no tensor of this rank.
    """
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    stored = {one.name for one in graph.initializer}
    return Graph(tuple(_tensor(one) for one in graph.input if one.name not in stored), tuple(map(_tensor, graph.output)))


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    if kind.elem_type not in _TYPES:
        raise LoadError(f"Triton has no name for the element type of {value.name} (ONNX's {kind.elem_type})")
    if not kind.shape.dim:
        raise LoadError(f"Triton takes no tensor of rank 0, as {value.name} is", todo="Give it a dimension of 1 in the network.")
    sizes = [one.dim_value if one.HasField("dim_value") else one.dim_param or "?" for one in kind.shape.dim]
    return Tensor(value.name, _TYPES[kind.elem_type], tuple(sizes))


def batches(bundle: Bundle) -> bool:
    """Tells whether Triton may put rows of several requests together.

    Rows must be proven independent; and where a tensor has no axis but the batch, Triton would want another shape of its clients.
    """
    specs = (*bundle.artifact.inputs, *bundle.artifact.outputs)
    return bool(bundle.artifact.rows) and all(len(spec.shape) > 1 for spec in specs)


def most_rows(bundle: Bundle) -> int:
    """Counts the rows of the largest golden case."""
    rows = bundle.artifact.rows
    size = next(symbol.size for symbol in bundle.network.symbols if symbol.name == rows)
    return max((case.sizes.get(rows, size) for case in _cases(bundle)), default=size)


def build(bundle: Bundle, instances: int, kind: str, max_batch: int) -> tuple[str, dict[str, bytes]]:
    """Writes the configuration of a model.

    Args:
        instances: how many requests it computes at once.
        kind: "cpu" or "gpu".
        max_batch: rows that one run may take; 0 for those of the largest golden case.

    Returns:
        The text of config.pbtxt, and the files of warm-up data by name.
    """
    pb = schema()
    config = pb.ModelConfig(name=bundle.name, backend="onnxruntime", default_model_filename=MODEL)
    config.version_policy.latest.num_versions = 1
    batched = batches(bundle)
    if batched:
        config.max_batch_size = max_batch or most_rows(bundle)
        config.dynamic_batching.SetInParent()
    for specs, field in ((bundle.artifact.inputs, config.input), (bundle.artifact.outputs, config.output)):
        for spec in specs:
            field.add(name=spec.name, data_type=_number(pb, spec), dims=_dims(spec, batched=batched))
    config.instance_group.add(count=instances, kind=pb.ModelInstanceGroup.Kind.Value(f"KIND_{kind.upper()}"))
    config.response_cache.enable = False
    files = _warm_up(pb, config, bundle, batched=batched)
    from google.protobuf import text_format

    return text_format.MessageToString(config), files


def parse(text: str, where: Path) -> Any:
    """Reads a config.pbtxt by Triton's schema.

    Raises:
        StoreError: it is none.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        raise StoreError(f"is no configuration of Triton: {error}", where=str(where), todo="Mend it, or give another --name.") from error


def schema() -> Any:
    """Imports Triton's schema.

    Raises:
        PluginError: tritonclient is not installed.
    """
    with needs("a Triton configuration"):
        from tritonclient.grpc import model_config_pb2
    return model_config_pb2


def compare(config: Any, graph: Graph, *, rows: str) -> Iterator[str]:
    """Tells where a configuration is not that of a graph.

    Args:
        rows: the symbol along which rows are proven independent; "" where nothing is proven.
    """
    if config.backend != "onnxruntime":
        yield f"the backend is {config.backend!r}, not 'onnxruntime'"
    if config.default_model_filename != MODEL:
        yield f"the file is {config.default_model_filename!r}, not {MODEL!r}"
    batched = config.max_batch_size > 0
    if (batched or config.HasField("dynamic_batching")) and not (rows and graph.first_axis == rows):
        yield "requests are batched, but rows are not proven independent"
    if config.response_cache.enable:
        yield "the response cache is on: a check would judge old answers"
    yield from _compare_tensors("input", config.input, graph.inputs, batched=batched)
    yield from _compare_tensors("output", config.output, graph.outputs, batched=batched)
    for sample in config.model_warmup:
        if sample.inputs.keys() != {one.name for one in graph.inputs}:
            yield f"the warm-up {sample.name} feeds {sorted(sample.inputs)}"


def _compare_tensors(what: str, fields: Any, tensors: Sequence[Tensor], *, batched: bool) -> Iterator[str]:
    if [one.name for one in fields] != [one.name for one in tensors]:
        yield f"the {what}s are {[one.name for one in fields]}, the graph's {[one.name for one in tensors]}"
        return
    for field, tensor in zip(fields, tensors, strict=True):
        dims = [one if isinstance(one, int) else -1 for one in tensor.shape[batched:]]
        if list(field.dims) != dims or field.HasField("reshape"):
            yield f"{what} {field.name} has dims {list(field.dims)}, the graph's are {dims}"
        kind = schema().DataType.Name(field.data_type)
        if kind != tensor.kind:
            yield f"{what} {field.name} is {kind}, the graph's is {tensor.kind}"


def _warm_up(pb: Any, config: Any, bundle: Bundle, *, batched: bool) -> dict[str, bytes]:
    """Adds requests that Triton computes before the model is ready: golden cases of several sizes; one row where it batches."""
    from exportkit.golden import Reader

    reader = Reader(bundle.folder / bundle.data["evidence"]["file"])
    keys = set(reader.names())
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    for case in _cases(bundle):
        sizes = repr(sorted((name, size) for name, size in case.sizes.items() if not (batched and name == bundle.artifact.rows)))
        stored = {spec.name: f"{case.name}/input/{spec.name}" for spec in bundle.network.inputs}
        if sizes in seen or not keys.issuperset(stored.values()) or len(seen) == _MOST_WARMUPS:
            continue
        seen.add(sizes)
        sample = config.model_warmup.add(name=case.name, batch_size=1)
        for place, spec in enumerate(bundle.artifact.inputs):
            array = reader.read(stored[spec.name])
            array = array[0] if batched else array
            file = f"{len(seen) - 1}-{place}"
            files[file] = array.tobytes()
            one = sample.inputs[spec.name]
            one.data_type, one.input_data_file = _number(pb, spec), file
            one.dims.extend(array.shape)
    return files


def _cases(bundle: Bundle) -> Sequence[Case]:
    evidence: Mapping[str, Any] = bundle.data["evidence"]
    return [Case(**one) for one in evidence["cases"] if one["name"] not in evidence["left_out"] and one["domain"] == "inside"]


def _dims(spec: TensorSpec, *, batched: bool) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape[batched:]]


def _number(pb: Any, spec: TensorSpec) -> int:
    if spec.dtype not in V2:
        raise LoadError(f"Triton has no name for {spec.dtype}, the element type of {spec.name}")
    number: int = pb.DataType.Value(f"TYPE_{V2[spec.dtype]}")
    return number
