"""Reads a file from elsewhere with limits of our own, in a child: nothing of it is run, and no other parser saw it before."""

import re
from pathlib import Path
from typing import Any

from exportkit.errors import RejectedError
from exportkit.messages import Screened
from exportkit.screening.kernels import check_kernels
from exportkit.screening.model import check_model, locations, walk_nodes
from exportkit.screening.wire import walk
from exportkit.spec import TensorSpec

_DIFFERS = re.compile(
    r"Inferred \w+(?: and existing \w+)? (?:type )?differs? .*|[^:]*type mismatch.*|\[TypeInferenceError\].*", re.IGNORECASE
)
_LARGE = 4096  # bytes: no size, axis or scale that shapes follow from is larger
_UNKNOWN_RANK = ("...",)


def screen_onnx(file: Path) -> Screened:
    """Reads an .onnx: byte by byte, then rule by rule, then as onnx's own checker does.

    Raises:
        RejectedError: it is malformed.
    """
    import onnx

    data = file.read_bytes()
    if not data:
        raise RejectedError("is empty")
    walk(data, onnx.ModelProto.DESCRIPTOR)
    model = onnx.ModelProto.FromString(data)
    del data
    check_model(model, file.parent, onnx.IR_VERSION, onnx.defs.onnx_opset_version())
    check_kernels(model)
    stored = {one.name for one in model.graph.initializer}
    inputs = tuple(_spec(onnx, one) for one in model.graph.input if one.name not in stored)
    outputs = tuple(_spec(onnx, one) for one in model.graph.output)
    imports = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    facts = {
        "ir_version": model.ir_version,
        "opsets": imports,
        "nodes": sum(1 for _ in walk_nodes([model.graph])),
        "external": sorted(locations(model)),
    }
    _check_as_onnx_does(onnx, model)
    return Screened(inputs, outputs, facts)


def _check_as_onnx_does(onnx: Any, model: Any) -> None:
    """Changes the model.

    onnx's own inference fails on some good files (MeanVarianceNormalization at opset 13, onnx 1.23). What it cannot infer is left to the
    runtime; what it infers otherwise than the file declares is a lie.
    """
    _lighten(onnx, model)
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        found = _DIFFERS.search(" ".join(str(error).split()))
        if found:
            raise RejectedError(f"declares what its operators do not give: {found[0]}") from error
    for info in (*model.graph.input, *model.graph.output):
        kind = info.type.tensor_type if info.type.HasField("tensor_type") else None
        if kind is not None and not kind.HasField("shape"):
            kind.shape.SetInParent()  # an unknown rank is fine in a file, the checker refuses it
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise RejectedError(f"onnx's checker: {' '.join(str(error).partition('==> ')[0].split())}") from error


def _lighten(onnx: Any, model: Any) -> None:
    """Makes inputs of large weights and of those that lie elsewhere: they were checked, and the checker would copy or open them."""
    graph = model.graph
    inputs = {one.name for one in graph.input}
    moved = [one for one in graph.initializer if one.data_location or one.ByteSize() > _LARGE]
    for one in moved:
        if one.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
    kept = [one for one in graph.initializer if not (one.data_location or one.ByteSize() > _LARGE)]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _spec(onnx: Any, info: Any) -> TensorSpec:
    kind, prefix = info.type, ""
    while (which := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
        prefix += which.removesuffix("type")
        kind = getattr(kind, which).elem_type
    if which not in ("tensor_type", "sparse_tensor_type"):
        return TensorSpec(info.name, f"{prefix}{which}", _UNKNOWN_RANK)
    tensor = getattr(kind, which)
    prefix += "sparse_" if which == "sparse_tensor_type" else ""
    return TensorSpec(info.name, prefix + _dtype(onnx, tensor.elem_type), _shape(tensor))


def _dtype(onnx: Any, number: int) -> str:
    name = str(onnx.helper.tensor_dtype_to_np_dtype(number).name)
    return "str" if number == onnx.TensorProto.STRING else name


def _shape(tensor: Any) -> tuple[int | str, ...]:
    """Lists the dimensions: a number, a symbol's name, or "?" for one that nobody names."""
    if not tensor.HasField("shape"):
        return _UNKNOWN_RANK
    return tuple(one.dim_value if one.HasField("dim_value") else one.dim_param or "?" for one in tensor.shape.dim)
