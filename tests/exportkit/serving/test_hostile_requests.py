"""Malformed requests over raw HTTP and gRPC: each is refused with a reason, none is an error of the server, and it goes on."""

import http.client
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")
from tritonclient.grpc import service_pb2 as messages

pytestmark = pytest.mark.serve
X = np.arange(8, dtype=np.float32).reshape(2, 4)
HEADER = "Inference-Header-Content-Length"


def ask(served, body, headers=None, path="/v2/models/double/infer", method="POST"):
    """Sends one request; returns the status and the answer."""
    connection = http.client.HTTPConnection(served.http, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    length = answer.getheader(HEADER)
    return answer.status, json.loads(data[: int(length)] if length else data)


def refused(served, *arguments, status=400, **named):
    """Asserts that a request is refused; returns the reason."""
    found, told = ask(served, *arguments, **named)
    assert found == status, told
    return reason_of(told)


def reason_of(told):
    """Returns the reason of a refusal, which tells nothing of the server's files."""
    assert list(told) == ["error"]
    assert len(told["error"]) < 400
    for word in ("/tmp", "/home", "site-packages", ".py", "Traceback", "onnxruntime::"):
        assert word not in told["error"]
    return told["error"]


def body(data=None, **changed):
    """Writes a request for `double`, with one input changed."""
    one = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.ravel().tolist() if data is None else data} | changed
    return json.dumps({"inputs": [{key: value for key, value in one.items() if value is not ...}]})


def raw(parts, size=None, told=None, shape=(2, 4), datatype="FP32"):
    """Writes a request for `double` whose tensor is raw; returns it with its headers."""
    one = {
        "name": "x",
        "datatype": datatype,
        "shape": list(shape),
        "parameters": {"binary_data_size": len(parts) if size is None else size},
    }
    head = json.dumps({"inputs": [one]}).encode()
    return head + parts, {HEADER: str(len(head) if told is None else told)}


def alive(served):
    """Asserts that the server is alive and right."""
    status, told = ask(served, body())
    assert status == 200
    assert told["outputs"][0]["data"] == (X + X).ravel().tolist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "inputs is no list"),
        ('{"inputs": {}}', "inputs is no list"),
        ('{"inputs": [1]}', "an input is no JSON object"),
        ('{"inputs": []}', "input x is missing"),
        ("\xff\xfe", "no JSON"),
        ('{"id": 7, "inputs": []}', "id is missing or no string"),
        ('{"inputs": [], "inputs": []}', "a key twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"inputs":' + "[" * 50_000 + "]" * 50_000 + "}", "nested too deep"),
        ('{"inputs": [], "id": ' + "9" * 5000 + "}", "no JSON"),
        (body(name=...), "an input's name is missing"),
        (body(name=7), "an input's name is missing"),
        (body(datatype=...), "datatype is missing"),
        (body(datatype="FP31"), "input x is 'FP31', expected FP32"),
        (body(shape=...), "shape of input 'x' is no list"),
        (body(shape=[2, -4]), "whole numbers from 0"),
        (body(shape=[2, 4.0]), "whole numbers from 0"),
        (body(shape=[True, 4]), "whole numbers from 0"),
        (body(shape=[2**31, 2**31]), "size 2147483648 at axis 1"),
        (body(shape=[2**62, 4]), "8 elements of data"),
        (body(shape=[2**64, 4]), "whole numbers from 0"),
        (body(shape=[8]), "1 axes, expected 2"),
        (body(shape=[1] * 70), "70 axes, expected 2"),
        (body(data=...), "no list of data"),
        (body([None] * 8), "its data holds null"),
        (body(["1"] * 8), "its data holds str"),
        (body([True] * 8), "its data holds bool"),
        (body([1.0] * 7), "7 elements of data"),
        (body([1.0] * 9), "9 elements of data"),
        (body([[1.0] * 4]), "not nested as shape"),
        (body([[1.0] * 4, [1.0] * 3]), "not nested as shape"),
        (body([[1.0] * 4, 1.0]), "not nested as shape"),
        (body([1e300] * 8), "a number beyond FP32"),
        (body([10**400] * 8), "a number beyond FP32"),
        (body({"0": 1.0}), "no list of data"),
        (body(parameters=[]), "parameters is no JSON object"),
        (body(parameters={"binary_data_size": 0}), "both data and binary_data_size"),
        (body(parameters={"shared_memory_region": "r"}), "does not know the parameter shared_memory_region"),
        (body(data=..., parameters={"binary_data_size": -1}), "binary_data_size '-1'"),
        (body(data=..., parameters={"binary_data_size": 32}), "binary_data_size '32', and 0 bytes are left"),
        (body(data=..., parameters={"binary_data_size": "32"}), "binary_data_size"),
        (body(data=..., parameters={"binary_data_size": 1e9}), "binary_data_size"),
        (body()[:-1] + ', "outputs": {}}', "outputs is no list"),
        (body()[:-1] + ', "outputs": [{"name": "z"}]}', "there is no output 'z'"),
        (body()[:-1] + ', "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}', "binary_data is neither true nor false"),
        (body()[:-1] + ', "parameters": {"binary_data_output": "yes"}}', "binary_data_output is neither true nor false"),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused_with_the_reason(served, text, reason):
    assert reason in refused(served, text.encode("latin-1"))
    alive(served)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (raw(X.tobytes()[:-1]), "31 bytes of data, FP32 of shape [2, 4] has 32"),
        (raw(X.tobytes() + b"\0"), "33 bytes of data"),
        (raw(X.tobytes() + b"\0", size=32), "1 bytes follow the last input"),
        (raw(X.tobytes(), size=36), "binary_data_size '36', and 32 bytes are left"),
        (raw(X.tobytes(), told=10**6), "Inference-Header-Content-Length is '1000000'"),
        (raw(X.tobytes(), told=-1), "Inference-Header-Content-Length is '-1'"),
        (raw(X.tobytes(), told="9" * 5000), "Inference-Header-Content-Length is"),
        (raw(X.tobytes(), told="ten"), "Inference-Header-Content-Length is 'ten'"),
        (raw(X.tobytes(), told=5), "no JSON"),
        (raw(X.tobytes(), shape=(2**40, 4)), "FP32 of shape"),
        (raw(X.tobytes(), datatype="BYTES"), "expected FP32"),
    ],
)
def test_raw_data_that_does_not_fit_is_refused(served, request_, reason):
    assert reason in refused(served, *request_)
    alive(served)


@pytest.mark.parametrize(
    "data",
    [b"", struct.pack("<I", 5) + b"abc", struct.pack("<I", 2**32 - 1), b"\0\0\0", struct.pack("<I", 0) * 7, struct.pack("<I", 0) * 9,
     (struct.pack("<I", 1) + b"\xff") * 8],
)  # fmt: skip
def test_strings_with_lying_lengths_are_refused(served, data):
    refused(served, *raw(data, datatype="BYTES"), path="/v2/models/same_object/infer")


def test_booleans_other_than_0_and_1_are_refused(served):
    assert "other than 0 and 1" in refused(served, *raw(bytes(range(8)), datatype="BOOL"), path="/v2/models/same_bool/infer")


def test_nan_and_infinity_pass_in_json_and_null_does_not_become_nan(served):
    values = [float("nan"), float("inf"), float("-inf"), 0.5] * 2
    status, told = ask(served, body(values))
    assert status == 200
    np.testing.assert_array_equal(told["outputs"][0]["data"], np.float32(values) * 2)
    assert "null" in refused(served, body([None, *values[1:]]))


def test_wrong_types_methods_paths_and_sizes(served):
    assert "expected application/json" in refused(served, body(), {"Content-Type": "text/plain"}, status=415)
    assert "compressed" in refused(served, body(), {"Content-Encoding": "gzip"}, status=415)
    assert ask(served, body(), {"Content-Type": "application/json; charset=utf-8"})[0] == 200
    refused(served, None, method="GET", status=405)
    refused(served, body(), method="PUT", status=405)
    refused(served, body(), path="/v2/models/double", status=405)
    for path in ("/v2/models/none/infer", "/v2/models/double/versions/2/infer", "/v1/models", "/v2/../../etc/passwd", "/%2e%2e/%00"):
        refused(served, body(), path=path, status=404)
    assert "at most" in refused(served, b"x", {"Content-Length": str(2**40)}, status=413)
    many = json.dumps({"inputs": [], "id": "x" * (9 << 20)})
    assert "as binary data" in refused(served, many, status=413)
    lists = '{"inputs":[' + "[]," * 300_000 + "[]]}"
    assert "lists" in refused(served, lists, status=413)
    alive(served)


def call(served, method, data, kind=None):
    """Sends bytes as a gRPC message; returns the code and the details."""
    with grpc.insecure_channel(served.grpc) as channel:
        try:
            return grpc.StatusCode.OK, channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(data, timeout=30)
        except grpc.RpcError as error:
            return error.code(), error.details()


def message(**changed):
    request = messages.ModelInferRequest(model_name="double")
    request.inputs.add(name="x", datatype="FP32", shape=changed.pop("shape", (2, 4)))
    for key, value in changed.items():
        getattr(request.inputs[0].contents, key).extend(value)
    return request


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (message(), "0 elements of data"),
        (message(fp32_contents=[1.0] * 7), "7 elements"),
        (message(fp64_contents=[1.0] * 8), "has fp64_contents, expected fp32_contents"),
        (message(shape=(-2, 4), fp32_contents=[1.0] * 8), "size -2 at axis 0"),
        (message(shape=(2**31, 2**31)), "expected 4"),
        (message(shape=(2**62, 4)), "0 elements of data"),
        (message(shape=[1] * 100), "100 axes, expected 2"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(served, request_, reason):
    code, told = call(served, "ModelInfer", request_.SerializeToString())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert reason in told


def test_messages_that_are_none_and_contents_that_do_not_fit(served):
    for method in ("ModelInfer", "ModelMetadata", "ModelConfig", "RepositoryIndex", "ServerLive"):
        code, told = call(served, method, b"\xff\xff\xff\xff")
        assert (code, "the message is no" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    both = message(fp32_contents=[1.0] * 8)
    both.raw_input_contents.append(X.tobytes())
    assert "both contents and raw contents" in call(served, "ModelInfer", both.SerializeToString())[1]
    many = message()
    many.raw_input_contents.extend([X.tobytes()] * 2)
    assert "2 raw contents for 1 inputs" in call(served, "ModelInfer", many.SerializeToString())[1]
    code, back = call(served, "ModelInfer", message(fp32_contents=X.ravel()).SerializeToString())
    assert code == grpc.StatusCode.OK
    np.testing.assert_array_equal(
        np.frombuffer(messages.ModelInferResponse.FromString(back).raw_output_contents[0], np.float32), 2 * X.ravel()
    )
    assert call(served, "ModelInfer", b"\0" * (65 << 20))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(served, "Nothing", b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_the_openapi_document_is_kept_whatever_is_asked(served):
    """schemathesis draws requests from the document, right and wrong ones, and compares each answer with it."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://{served.http}/openapi.json", "-c", checks]
    options = ["--max-examples", "10", "--generation-deterministic", "--continue-on-failure", "--phases", "coverage,fuzzing"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout
    alive(served)


def test_small_messages_and_bodies_that_would_fill_the_memory_are_refused(served):
    before = served.memory()
    for data in (b"\x2a\x00" * (16 << 20), b"\x2a" + varint(32 << 20) + b"\x1a\x00" * (16 << 20), message(fp32_contents=[1.0] * (2 << 20))):
        text = data if isinstance(data, bytes) else data.SerializeToString()
        code, told = call(served, "ModelInfer", text)
        assert (code, "the message has more than" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    refused(served, *raw(b"\0" * (16 << 20), datatype="BYTES", shape=(1 << 20, 4)), path="/v2/models/same_object/infer", status=413)
    many = np.ones((1 << 19, 4), np.float32)
    assert "ask for binary data" in refused(served, *raw(many.tobytes(), shape=many.shape), status=413)
    assert served.memory() < before + (300 << 20)
    alive(served)


def varint(value):
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def mutants(number):
    """Yields damaged requests, the same ones each time."""
    draw = random.Random(0)
    plain, (mixed, headers) = body().encode(), raw(X.tobytes())
    odd = [
        b"",
        b"\0",
        b"null",
        b"NaN",
        b"-1",
        b"1e999",
        b"[]",
        b"{}",
        b'""',
        b"\xff",
        b"9" * 40,
        b"[[",
        b'"x"',
        b"FP64",
        b"true",
        b"\\ud800",
    ]
    for _ in range(number):
        text, told = (bytearray(plain), {}) if draw.random() < 0.6 else (bytearray(mixed), dict(headers))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(text) + 1)
            match draw.randrange(4):
                case 0:
                    text[place : place + draw.randint(1, 8)] = draw.choice(odd)
                case 1:
                    del text[place : place + draw.randint(1, 30)]
                case 2:
                    text[place:place] = text[: draw.randint(0, 60)]
                case _:
                    text[place : place + 1] = bytes([draw.randrange(256)])
        if told and draw.random() < 0.3:
            told[HEADER] = draw.choice(["0", "1", str(len(text)), str(len(text) + 1), "-5", "1e3", "", "0x10"])
        yield bytes(text), told


def test_a_thousand_damaged_bodies_are_refused_or_answered_and_none_is_a_fault_of_the_server(served):
    statuses = {}
    for text, headers in mutants(1000):
        status, told = ask(served, text, headers)
        assert status in (200, 400, 413), (text, headers, told)
        assert status == 200 or reason_of(told)
        statuses[status] = statuses.get(status, 0) + 1
    assert statuses[400] > 700
    alive(served)


def test_five_hundred_damaged_messages_of_grpc(served):
    draw, plain = random.Random(0), message(fp32_contents=X.ravel()).SerializeToString()
    with grpc.insecure_channel(served.grpc) as channel:
        ask_once = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(500):
            text = bytearray(plain)
            for _ in range(draw.randint(1, 4)):
                place = draw.randrange(len(text))
                text[place : place + draw.randint(0, 3)] = bytes(draw.randrange(256) for _ in range(draw.randint(0, 3)))
            code = ask_once.future(bytes(text), timeout=30).code()
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), bytes(text)
    alive(served)
