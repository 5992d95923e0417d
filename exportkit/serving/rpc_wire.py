"""Messages of gRPC <-> requests for inference.

The messages are those that NVIDIA's client carries: KServe's package lacks streams and configurations, and two packages that both register
`inference.*` cannot live in one process.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as messages

from exportkit.serving import tensors
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.contract import Contract
from exportkit.serving.models import VERSION
from exportkit.serving.requests import Stated, refuse_parameters
from exportkit.serving.tensors import Array

_SMALL = 64 << 10  # bytes of a message that need no look before they are parsed
_MOST_PARSED = 4 << 20  # bytes besides raw contents: parsed, empty entries take fifty times their bytes
_MOST_FIELDS = 4096
_RAW = 7  # the number of raw_input_contents in ModelInferRequest
# Datatype -> the field of InferTensorContents that holds its values. FP16 and BF16 have none: they go raw.
_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def read(data: bytes) -> Any:
    """Parses a ModelInferRequest; a large one is looked through first.

    Raises:
        RequestError: it is none, or would take far more memory than its bytes.
    """
    if len(data) > _SMALL:
        _look_through(data)
    return read_message(messages.ModelInferRequest, data)


def read_message(kind: Any, data: bytes) -> Any:
    """Parses a message of a kind.

    Raises:
        RequestError: it is none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise RequestError(400, f"the message is no {kind.DESCRIPTOR.name}") from error


def parse(request: Any) -> tuple[Stated, ...]:
    """Reads the inputs of a ModelInferRequest.

    Raises:
        RequestError: they are none.
    """
    if request.parameters:
        refuse_parameters(tuple(request.parameters))
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise RequestError(400, f"there are {len(raws)} raw contents for {len(request.inputs)} inputs")
    stated = []
    for index, one in enumerate(request.inputs):
        if one.parameters:
            refuse_parameters(tuple(one.parameters))
        shape = tuple(one.shape)
        if raws:
            if one.HasField("contents"):
                raise RequestError(400, f"input {shown(one.name)} has both contents and raw contents")
            stated.append(Stated(one.name, one.datatype, shape, raws[index]))
        elif one.datatype == "BYTES":
            stated.append(Stated(one.name, one.datatype, shape, values=_texts(one.name, _values(one))))
        else:
            stated.append(Stated(one.name, one.datatype, shape, values=_values(one)))
    return tuple(stated)


def compose(name: str, request_id: str, names: Sequence[str], contract: Contract, arrays: Sequence[Array]) -> Any:
    """Writes a ModelInferResponse; its tensors are raw."""
    answer = messages.ModelInferResponse(model_name=name, model_version=VERSION, id=request_id)
    for output, array in zip(names, arrays, strict=True):
        answer.outputs.add(name=output, datatype=contract.outputs[output].datatype, shape=array.shape)
        answer.raw_output_contents.append(tensors.to_raw(array))
    return answer


def _look_through(data: bytes) -> None:
    """Refuses many fields, and many bytes outside of raw contents; what is no message at all is left to the parser."""
    place = fields = parsed = 0
    while place < len(data):
        key, place = _varint(data, place)
        fields += 1
        if key & 7 == 2:  # noqa: PLR2004 - protobuf's wire type of bytes
            length, place = _varint(data, place)
            parsed += length if key >> 3 != _RAW else 0
            place += length
        elif key & 7 == 0:
            _, place = _varint(data, place)
        else:
            place += 8 if key & 7 == 1 else 4
        if fields > _MOST_FIELDS:
            raise RequestError(413, f"the message has more than {_MOST_FIELDS} fields")
        if parsed > _MOST_PARSED:
            raise RequestError(413, f"the message has more than {_MOST_PARSED} bytes besides raw contents: send tensors of this size there")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:  # noqa: PLR2004 - bits
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if not data[place - 1] & 128:
            break
    return value, place


def _values(one: Any) -> list[Any]:
    field = _FIELDS.get(one.datatype)
    filled = [other.name for other, _ in one.contents.ListFields()]
    if strange := [other for other in filled if other != field]:
        raise RequestError(
            400, f"input {shown(one.name)} is {shown(one.datatype)} and has {strange[0]}, expected {field or 'raw contents'}"
        )
    if field is None:
        raise RequestError(400, f"input {shown(one.name)} is {shown(one.datatype)}, whose data goes in raw contents")
    return list(getattr(one.contents, field))


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise RequestError(400, f"input {shown(name)} has data that is no UTF-8, and ONNX's strings are") from error
