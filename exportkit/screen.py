"""Reads a file from elsewhere with limits of our own, in a child: nothing of it is run, and no other parser saw it before."""

from pathlib import Path
from typing import Any

from exportkit.errors import RejectedError
from exportkit.graphs import check_model, locations, walk_nodes
from exportkit.kernels import check_kernels
from exportkit.messages import Screened
from exportkit.spec import TensorSpec
from exportkit.wire import shown, walk

_UNKNOWN_RANK = ("...",)


def screen_onnx(file: Path) -> Screened:
    """Reads an .onnx: byte by byte, then rule by rule, then as onnx's own checker does.

    Raises:
        RejectedError: it is malformed.
    """
    import onnx

    data = file.read_bytes()
    walk(data, onnx.ModelProto.DESCRIPTOR)
    model = onnx.ModelProto.FromString(data)
    check_model(model, file.parent, onnx.IR_VERSION, onnx.defs.onnx_opset_version())
    check_kernels(model)
    external = sorted(locations(model))
    _check_as_onnx_does(onnx, str(file) if external else model)
    stored = {one.name for one in model.graph.initializer}
    inputs = tuple(_spec(onnx, one) for one in model.graph.input if one.name not in stored)
    imports = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    facts = {
        "ir_version": model.ir_version,
        "opsets": imports,
        "nodes": sum(1 for _ in walk_nodes([model.graph])),
        "external": external,
    }
    return Screened(inputs, tuple(_spec(onnx, one) for one in model.graph.output), facts)


def _check_as_onnx_does(onnx: Any, model: Any) -> None:
    """Takes the model, or its path where data lies beside it."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's, shape inference's, and what protobuf raises  # noqa: BLE001
        text = " ".join(str(error).split())
        raise RejectedError(f"onnx's checker: {shown(text)[1:-1]}" if text else "onnx's checker refuses it") from error


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
