"""What a client that nobody here wrote gets: NVIDIA's tritonclient, over HTTP and gRPC."""

import asyncio
import queue

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("gevent", reason="the clients are installed by make test-serve")  # without it tritonclient.http raises another error
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from serving_models import KINDS
from tritonclient.utils import InferenceServerException

from exportkit.serving.tensors import DATATYPES

pytestmark = pytest.mark.serve
X = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
BOTH = pytest.mark.parametrize("kind", ["http", "grpc"])


@pytest.fixture
def connect(served):
    """Opens a client of a kind, and returns it with its module."""
    opened = []

    def connect(kind):
        module = {"http": triton_http, "grpc": triton_grpc}[kind]
        client = module.InferenceServerClient(getattr(served, kind))
        opened.append(client)
        return client, module

    yield connect
    for client in opened:
        client.close()


def tensor(module, value, name="x", datatype="FP32", **options):
    one = module.InferInput(name, list(value.shape), datatype)
    one.set_data_from_numpy(value, **options)
    return one


def values_of(kind):
    """Two rows of an element type, its ends, NaN and infinity among them."""
    if kind == "object":
        return np.array([["", "a\0b", "é", "日本"], ["x" * 300, "\n", '"', "0"]], object)
    if kind == "bool":
        return np.array([[True, False, True, True], [False, False, True, False]])
    if "int" in kind:
        ends = np.iinfo(kind)
        return np.array([[0, 1, ends.max, ends.min], [2, 3, 4, 5]], kind)
    told = [[0.0, -0.0, np.inf, -np.inf], [np.nan, 1.5, -2.25, 0.5]]
    return np.array(told, ml_dtypes.bfloat16 if kind == "bfloat16" else kind)


WAYS = ("http binary", "http JSON", "grpc")
BINARY_ONLY = ("float16", "bfloat16")  # the protocol defines no JSON form of them, and the client sends none


@pytest.mark.parametrize(
    ("element", "way"), [(element, way) for element in KINDS for way in WAYS if way != "http JSON" or element not in BINARY_ONLY]
)
def test_every_element_type_comes_back_as_it_went(connect, element, way):
    client, module = connect(way.split()[0])
    options = {"binary_data": way.endswith("binary")} if module is triton_http else {}
    value = values_of(element)
    given = tensor(module, value, datatype=DATATYPES[element], **options)
    back = client.infer(f"same_{element}", [given], outputs=[module.InferRequestedOutput("y", **options)]).as_numpy("y")
    if element == "object":
        back = np.array([text.decode() if isinstance(text, bytes) else text for text in back.ravel()], object).reshape(back.shape)
    assert back.dtype == value.dtype
    if "float" in element:
        back, value = back.astype(np.float64), value.astype(np.float64)
        np.testing.assert_array_equal(np.signbit(back), np.signbit(value))
    np.testing.assert_array_equal(back, value)


@BOTH
def test_several_inputs_in_any_order_and_the_outputs_that_are_asked_for(connect, kind):
    client, module = connect(kind)
    inputs = [tensor(module, np.int64([7, 8]), "b", "INT64"), tensor(module, X, "a")]
    answer = client.infer("several", inputs, outputs=[module.InferRequestedOutput("next")], request_id="seven")
    np.testing.assert_array_equal(answer.as_numpy("next"), [8, 9])
    assert answer.as_numpy("sum") is None
    told = answer.get_response() if kind == "http" else answer.get_response(as_json=True)
    assert told["id"] == "seven"
    every = client.infer("several", inputs)
    np.testing.assert_array_equal(every.as_numpy("sum"), X + X)
    np.testing.assert_array_equal(every.as_numpy("same"), X)


def test_one_output_in_binary_and_one_in_json(connect):
    client, module = connect("http")
    inputs = [tensor(module, X, "a", binary_data=False), tensor(module, np.int64([7, 8]), "b", "INT64", binary_data=True)]
    asked = [module.InferRequestedOutput("sum", binary_data=True), module.InferRequestedOutput("next", binary_data=False)]
    answer = client.infer("several", inputs, outputs=asked)
    np.testing.assert_array_equal(answer.as_numpy("sum"), X + X)
    np.testing.assert_array_equal(answer.as_numpy("next"), [8, 9])


@BOTH
def test_the_version_1_and_no_other(connect, kind):
    client, module = connect(kind)
    np.testing.assert_array_equal(client.infer("double", [tensor(module, X)], model_version="1").as_numpy("y"), X + X)
    assert client.is_model_ready("double", "1")
    with pytest.raises(InferenceServerException, match="has no version '2'; it has 1"):
        client.infer("double", [tensor(module, X)], model_version="2")


@BOTH
def test_health_metadata_configuration_and_index(connect, kind):
    client, _ = connect(kind)
    options = {"as_json": True} if kind == "grpc" else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("several")
    assert client.get_server_metadata(**options)["name"] == "exportkit"
    told = client.get_model_metadata("several", **options)
    assert [(one["name"], one["datatype"], list(map(int, one["shape"]))) for one in told["inputs"]] == [
        ("a", "FP32", [-1, 4]),
        ("b", "INT64", [-1]),
    ]
    assert told["versions"] == ["1"]
    found = client.get_model_config("double", **options)
    found = found.get("config", found)
    assert found["max_batch_size"] == 32
    assert found["input"][0]["data_type"] == "TYPE_FP32"
    assert list(map(int, found["input"][0]["dims"])) == [4]
    assert client.get_model_config("centred", **options).get("max_batch_size", 0) == 0
    index = client.get_model_repository_index(**options)
    assert {one["name"] for one in (index["models"] if kind == "grpc" else index)} >= {"double", "centred", "same_bool"}


def test_asynchronous_calls(served, connect):
    client, module = connect("http")
    calls = [client.async_infer("double", [tensor(module, X + number)]) for number in range(20)]
    for number, call in enumerate(calls):
        np.testing.assert_array_equal(call.get_result().as_numpy("y"), 2 * (X + number))
    client, module = connect("grpc")
    back = queue.Queue()
    for number in range(20):
        client.async_infer("double", [tensor(module, X + number)], lambda result, error: back.put((result, error)), request_id=str(number))
    for _ in range(20):
        result, error = back.get(timeout=30)
        assert error is None
        number = int(result.get_response(as_json=True)["id"])
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * (X + number))

    async def both():
        async with triton_http_aio.InferenceServerClient(served.http) as http, triton_grpc_aio.InferenceServerClient(served.grpc) as rpc:
            for client, module in ((http, triton_http), (rpc, triton_grpc)):
                answers = await asyncio.gather(*(client.infer("double", [tensor(module, X + number)]) for number in range(20)))
                for number, answer in enumerate(answers):
                    np.testing.assert_array_equal(answer.as_numpy("y"), 2 * (X + number))

    asyncio.run(both())


def test_a_stream_answers_in_turn_and_goes_on_after_a_refusal(connect):
    client, module = connect("grpc")
    back = queue.Queue()
    client.start_stream(lambda result, error: back.put((result, error)))
    for number in range(10):
        client.async_stream_infer("double" if number != 3 else "nothing", [tensor(module, X + number)], request_id=str(number))
    for number in range(10):
        result, error = back.get(timeout=30)
        if number == 3:
            assert "there is no model 'nothing'" in str(error)
        else:
            np.testing.assert_array_equal(result.as_numpy("y"), 2 * (X + number))
    client.stop_stream()


@BOTH
@pytest.mark.parametrize(
    ("model", "name", "value", "datatype", "reason"),
    [
        ("nothing", "x", X, "FP32", "there is no model 'nothing'"),
        ("double", "z", X, "FP32", "there is no input 'z'; the model takes x"),
        ("double", "x", X.astype(np.float64), "FP64", "input x is 'FP64', expected FP32"),
        ("double", "x", X[0], "FP32", "input x has 1 axes, expected 2"),
        ("double", "x", X[:, :3], "FP32", "size 3 at axis 1, expected 4"),
        ("double", "x", X[:0], "FP32", "batch is 0, expected at least 1"),
        ("limited", "x", np.zeros((4, 4), np.float32), "FP32", "batch is 4, expected at most 3"),
        ("lookup", "x", np.int64([1, 9]), "INT64", "the network does not run on these inputs"),
        ("several", "a", X, "FP32", "input b is missing"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(connect, kind, model, name, value, datatype, reason):
    client, module = connect(kind)
    with pytest.raises(InferenceServerException, match=reason) as told:
        client.infer(model, [tensor(module, value, name, datatype)])
    assert told.value.status() in ("400", "404", "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")
    assert "/" not in str(told.value).replace("[400] ", "")


@BOTH
def test_an_input_twice_or_of_unequal_rows_or_an_output_twice(connect, kind):
    client, module = connect(kind)
    with pytest.raises(InferenceServerException, match="input 'x' is given twice"):
        client.infer("double", [tensor(module, X), tensor(module, X)])
    with pytest.raises(InferenceServerException, match="batch is 2 in input a and 3 in input b"):
        client.infer("several", [tensor(module, X, "a"), tensor(module, np.int64([1, 2, 3]), "b", "INT64")])
    with pytest.raises(InferenceServerException, match="an output is named twice"):
        client.infer("double", [tensor(module, X)], outputs=[module.InferRequestedOutput("y"), module.InferRequestedOutput("y")])
    with pytest.raises(InferenceServerException, match="there is no output 'z'"):
        client.infer("double", [tensor(module, X)], outputs=[module.InferRequestedOutput("z")])


@BOTH
def test_what_this_server_does_not_do_is_refused_and_not_ignored(connect, kind):
    client, module = connect(kind)
    with pytest.raises(InferenceServerException, match="does not know the parameter sequence_"):
        client.infer("double", [tensor(module, X)], sequence_id=7, sequence_start=True)
    with pytest.raises(InferenceServerException, match="does not know the parameter classification"):
        client.infer("double", [tensor(module, X)], outputs=[module.InferRequestedOutput("y", class_count=2)])
    with pytest.raises(InferenceServerException, match="lets no client load or unload"):
        client.unload_model("double")
