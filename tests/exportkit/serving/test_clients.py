"""Clients that stall, vanish or flood: others keep their service, and memory stays bounded."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("gevent", reason="the clients are installed by make test-serve")  # without it tritonclient.http raises another error
import serving_models
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.serve
X = np.arange(8, dtype=np.float32).reshape(2, 4)
LARGE = np.ones((32, 256), np.float32)


def ask(served, model="double", value=X):
    """Sends one raw tensor; returns the status and the answer."""
    connection = http.client.HTTPConnection(served.http, timeout=60)
    try:
        one = {"name": "x", "datatype": "FP32", "shape": list(value.shape), "parameters": {"binary_data_size": value.nbytes}}
        head = json.dumps({"inputs": [one]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", f"/v2/models/{model}/infer", head + value.tobytes(), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def alive(served):
    status, told = ask(served)
    assert status == 200
    np.testing.assert_array_equal(told["outputs"][0]["data"], (X + X).ravel())


def opened(address):
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_clients_that_stall_in_any_part_of_a_request_keep_nobody_waiting_and_are_sent_away(serve_bare, tmp_path):
    with serve_bare(tmp_path, timeout=1.0) as served:
        head = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\n"
        parts = [b"", head, head + b"content-length: 500\r\n\r\n", head + b"content-length: 500\r\n\r\n{", b"\0" * 100]
        stalled = [opened(served.http) for _ in range(20) for _ in parts]
        stalled_rpc = [opened(served.grpc) for _ in range(20)]
        for one, part in zip(stalled, parts * 20, strict=True):
            one.sendall(part)
        for one in stalled_rpc:
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        for _ in range(20):
            alive(served)
        client = triton_grpc.InferenceServerClient(served.grpc)
        given = triton_grpc.InferInput("x", [2, 4], "FP32")
        given.set_data_from_numpy(X)
        np.testing.assert_array_equal(client.infer("double", [given]).as_numpy("y"), X + X)
        client.close()
        statuses = set()
        for one in stalled:
            one.settimeout(30)
            statuses.add(one.recv(4096)[9:12])
            one.close()
        assert statuses == {b"408", b"400"}
        for one in stalled_rpc:
            one.close()
        assert served.stop() == 0


def test_headers_without_end_are_refused(served):
    with opened(served.http) as one:
        one.sendall(b"GET /v2 HTTP/1.1\r\n")
        with pytest.raises(OSError):  # refused, while more of them are on their way
            for _ in range(1000):
                one.sendall(b"x: " + b"y" * 1000 + b"\r\n")
                time.sleep(0)
    alive(served)


def test_clients_that_vanish_leave_nothing_behind(served):
    value = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [32, 256], "data": LARGE.ravel().tolist()}]}).encode()
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(value)}\r\n\r\n".encode()
    for cut in (10, len(head), len(head) + 1000, len(head) + len(value)):
        for _ in range(25):
            with opened(served.http) as one:
                one.sendall((head + value)[:cut])
    alive(served)
    status, told = ask(served, "slow", LARGE)
    assert status == 200
    assert len(told["outputs"][0]["data"]) == LARGE.size


def test_a_client_that_does_not_read_its_answers_holds_no_other_up(served):
    size = 1 << 20
    value = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [size // 4, 4], "data": [0.5] * size}]}).encode()
    deaf = opened(served.http)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(f"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(value)}\r\n\r\n".encode() + value)
    for _ in range(20):
        alive(served)
    deaf.close()


def test_a_flood_is_refused_beyond_the_queue_and_others_keep_their_service(serve_bare, tmp_path):
    serving_models.double(tmp_path)
    serving_models.slow(tmp_path, steps=400)
    with serve_bare(tmp_path, max_queue=4, max_batch=1) as served, ThreadPoolExecutor(32) as pool:
        before = served.memory()
        answers = list(pool.map(lambda _: ask(served, "slow", LARGE), range(200)))
        statuses = [status for status, _ in answers]
        assert set(statuses) == {200, 429}
        refusal = next(told for status, told in answers if status == 429)
        assert refusal == {"error": "4 requests wait for this model already"}
        flood = [pool.submit(ask, served, "slow", LARGE) for _ in range(60)]
        for _ in range(10):
            alive(served)  # another model
        assert {one.result()[0] for one in flood} <= {200, 429}
        assert served.memory() < before + (200 << 20)
        assert served.stop() == 0


def test_bodies_that_are_begun_and_never_ended_hold_bounded_memory(serve_bare, tmp_path):
    with serve_bare(tmp_path, max_request=4 << 20, timeout=20.0) as served:
        before, part = served.memory(), b" " * (3 << 20)
        head = f"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {4 << 20}\r\n\r\n".encode()
        held = [opened(served.http) for _ in range(60)]

        def begin(one):
            try:
                one.sendall(head + part)
                one.settimeout(3)
                return one.recv(4096)
            except TimeoutError:
                return b""

        with ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(begin, held))
        assert any(answer.startswith(b"HTTP/1.1 503") for answer in answers)
        assert served.memory() < before + (110 << 20)  # of 180 MiB that were sent
        alive(served)
        for one in held:
            one.close()
        assert served.stop() == 0


def test_a_run_and_a_wait_that_take_too_long_are_ended_with_the_reason(serve_bare, tmp_path):
    serving_models.double(tmp_path)
    serving_models.slow(tmp_path, steps=400, size=512)
    with serve_bare(tmp_path, timeout=0.3, max_batch=1) as served, ThreadPoolExecutor(8) as pool:
        value = np.ones((2000, 512), np.float32)
        with triton_http.InferenceServerClient(served.http, concurrency=8, network_timeout=60) as client:
            given = triton_http.InferInput("x", [2000, 512], "FP32")
            given.set_data_from_numpy(value)

            def once(_):
                try:
                    client.infer("slow", [given])
                except Exception as error:  # noqa: BLE001 - its kinds are the client's
                    return str(error)
                return ""

            told = set(pool.map(once, range(8)))
        assert any("the run took longer than a request may take" in one for one in told)
        alive(served)
        assert served.stop() == 0


def test_a_value_that_makes_a_run_long_keeps_nobody_waiting(serve_bare, tmp_path):
    serving_models.double(tmp_path)
    serving_models.counting(tmp_path)
    with serve_bare(tmp_path, timeout=2.0) as served, ThreadPoolExecutor(1) as pool:
        for count in (3, 4, 5):  # quick, lately
            assert count_to(served, count) == (200, count)
        late = pool.submit(count_to, served, 10**12)
        for _ in range(20):
            alive(served)
        assert not late.done()
        assert late.result() == (504, "the run took longer than a request may take")
        assert served.stop() == 0


def count_to(served, count):
    connection = http.client.HTTPConnection(served.http, timeout=60)
    try:
        body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [], "data": [count]}]}
        connection.request("POST", "/v2/models/counting/infer", json.dumps(body))
        answer = connection.getresponse()
        told = json.loads(answer.read())
        return answer.status, told.get("error") or told["outputs"][0]["data"][0]
    finally:
        connection.close()


def test_one_clients_bad_values_harm_no_other_in_its_batch(served):
    def one(number):
        with triton_http.InferenceServerClient(served.http) as client:
            given = triton_http.InferInput("x", [1], "INT64")
            given.set_data_from_numpy(np.int64([number]))
            for _ in range(20):
                if number == 9:
                    with pytest.raises(InferenceServerException, match="does not run on these inputs"):
                        client.infer("lookup", [given])
                else:
                    np.testing.assert_array_equal(client.infer("lookup", [given]).as_numpy("y"), [[2 * number, 2 * number + 1]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [0, 1, 2, 3, 9, 9, 1, 2]))
    assert not [told["text"] for told in served.told if told["event"] == "text"], "something else writes between the lines of the log"


def batched(served, model):
    """Asks from many threads; returns the rows of the answers, and how many runs there were."""
    begun = threading.Barrier(8)

    def one(number):
        begun.wait()
        return [ask(served, model, np.full((1, 4), number, np.float32))[1]["outputs"][0]["data"] for _ in range(30)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    connection = http.client.HTTPConnection(served.http)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    runs = next(line for line in text.splitlines() if line.startswith(f'exportkit_run_rows_count{{model="{model}"}}'))
    return answers, float(runs.split()[-1])


def test_requests_share_runs_where_rows_are_apart_and_never_where_they_touch(serve_bare, tmp_path):
    with serve_bare(tmp_path, max_delay_ms=20.0) as served:
        answers, runs = batched(served, "double")
        assert answers == [[[2.0 * number] * 4] * 30 for number in range(8)]
        assert runs < 240
        answers, runs = batched(served, "centred")
        assert answers == [[[0.0] * 4] * 30] * 8  # each row alone is its own mean
        assert runs == 240
        assert served.stop() == 0
