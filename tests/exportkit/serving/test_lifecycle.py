"""From a folder to a server and its end: the check, the canary, reloading, draining; no request is lost on the way."""

import http.client
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("gevent", reason="the clients are installed by make test-serve")  # without it tritonclient.http raises another error
import serving_models
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.serve
ROOT = Path(__file__).parents[3]
HAS_CUDA = any(device.ep_name == "CUDAExecutionProvider" for device in onnxruntime.get_ep_devices())
NETS = ("my_linear_net", "centered_net")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Two artifact folders: one whose rows are apart, one whose rows touch."""
    folder = tmp_path_factory.mktemp("exported")
    nets = [ROOT / "layers" / "networks" / f"{name}.py" for name in NETS]
    command = [sys.executable, "-c", "from exportkit.cli import main; main()", "export", *nets, "--format", "onnx", "--to", folder]
    subprocess.run(list(map(str, command)), check=True, timeout=250, capture_output=True)
    return folder


@pytest.fixture
def serve_command():
    """`exportkit serve ...` as a command."""
    return lambda *words: [
        "-c",
        "from exportkit.cli import main; main()",
        "serve",
        *map(str, words),
        "--http-port",
        "0",
        "--grpc-port",
        "0",
    ]


def look(served, path):
    connection = http.client.HTTPConnection(served.http, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def given(module, value):
    one = module.InferInput("x", list(value.shape), "FP32")
    one.set_data_from_numpy(value)
    return one


def test_folders_are_checked_served_and_come_back_right_from_the_running_server(exported, serve_command, start):
    with start(*serve_command(*(exported / name for name in NETS), "--canary", "--drain-seconds", "0")) as served:
        assert [one["reason"] for one in served.wait_for("canary", 2)] == ["passed", "passed"]
        assert look(served, "/v2/health/ready")[0] == 200
        config = [json.loads(look(served, f"/v2/models/{name}/config")[1]) for name in NETS]
        assert [one["max_batch_size"] for one in config] == [32, 0]
        assert "open to others" not in [one["event"] for one in served.told]
        assert served.stop() == 0


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_CUDA, reason="onnxruntime finds no CUDA device here")
def test_a_gpu_serves_what_was_proven(exported, serve_command, start):
    with start(*serve_command(*(exported / name for name in NETS), "--canary", "--provider", "cuda")) as served:
        assert [one["reason"] for one in served.wait_for("canary", 2)] == ["passed", "passed"]
        assert json.loads(look(served, f"/v2/models/{NETS[0]}/config")[1])["instance_group"][0]["kind"] == "KIND_GPU"
        assert served.stop() == 0


def test_a_folder_that_does_not_pass_is_not_served(exported, serve_command, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(exported / "my_linear_net", folder)
    file = folder / "my_linear_net.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    done = subprocess.run([sys.executable, *serve_command(folder)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "SHA-256" in done.stderr
    done = subprocess.run([sys.executable, *serve_command(tmp_path)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "is no artifact folder" in done.stderr


def test_a_canary_that_comes_back_wrong_leaves_the_server_unready(exported, serve_bare, tmp_path):
    folder = tmp_path / "models" / "my_linear_net"
    shutil.copytree(exported / "my_linear_net", folder)
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "my_linear_net.onnx")
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
    onnx.save(model, folder / "my_linear_net.onnx")
    with serve_bare(tmp_path / "models", canary=True) as served:
        assert "largest error" in served.wait_for("canary")[0]["reason"]
        assert look(served, "/v2/health/ready")[0] == 503
        with triton_http.InferenceServerClient(served.http) as client:
            assert not client.is_server_ready()
            assert not client.is_model_ready("my_linear_net")
            with pytest.raises(InferenceServerException, match="not ready: its golden cases do not come back right"):
                one = triton_http.InferInput("input", [1, 64], "FP32")
                one.set_data_from_numpy(np.zeros((1, 64), np.float32))
                client.infer("my_linear_net", [one])
        assert served.stop() == 0


class Asking(threading.Thread):
    """Asks again and again, on one connection, until it is told to end or the server is gone."""

    def __init__(self, served, kind, allowed=()):
        super().__init__()
        self.served, self.kind, self.allowed = served, kind, allowed
        self.answers, self.faults = 0, []
        self.going, self.enough = threading.Event(), threading.Event()

    def run(self):
        module = {"http": triton_http, "grpc": triton_grpc}[self.kind]
        client = module.InferenceServerClient(getattr(self.served, self.kind))
        value = np.arange(8, dtype=np.float32).reshape(2, 4)
        while not self.enough.is_set():
            try:
                np.testing.assert_array_equal(client.infer("double", [given(module, value)]).as_numpy("y"), value + value)
                self.answers += 1
                if self.answers == 20:
                    self.going.set()
            except Exception as error:  # noqa: BLE001 - its kinds are the client's
                self.faults.append(f"{type(error).__name__}: {error}")
                if not any(one in self.faults[-1] for one in self.allowed):
                    break
                if "efused" in self.faults[-1] or "UNAVAILABLE" in self.faults[-1]:
                    break
        client.close()


def test_no_request_is_lost_while_models_reload(serve_bare, tmp_path):
    with serve_bare(tmp_path, allow_reload=True) as served:
        asking = [Asking(served, kind) for kind in ("http", "grpc") * 4]
        for one in asking:
            one.start()
        with triton_http.InferenceServerClient(served.http) as http_client, triton_grpc.InferenceServerClient(served.grpc) as grpc_client:
            for _ in range(4):
                http_client.load_model("double")
                grpc_client.load_model("double")
        for one in asking:
            one.enough.set()
            one.join(60)
        assert [one.faults for one in asking] == [[]] * 8
        assert min(one.answers for one in asking) > 5
        assert served.stop() == 0


def test_no_request_is_lost_while_the_server_drains(serve_bare, tmp_path):
    with serve_bare(tmp_path, drain=0.5) as served:
        # What was never taken may be asked elsewhere: a refused connection, and gRPC's word for one.
        asking = [Asking(served, kind, ("efused", "UNAVAILABLE")) for kind in ("http", "grpc") * 4]
        for one in asking:
            one.start()
        assert all(one.going.wait(60) for one in asking)
        assert served.stop() == 0
        for one in asking:
            one.join(60)
        assert all(len(one.faults) == 1 for one in asking), [one.faults for one in asking]
        events = [one["event"] for one in served.told]
        assert "ended" in events
        assert "fault of the server" not in events


def test_models_are_unloaded_and_loaded(serve_bare, tmp_path):
    with serve_bare(tmp_path, allow_reload=True) as served:
        for module, address in ((triton_http, served.http), (triton_grpc, served.grpc)):
            with module.InferenceServerClient(address) as client:
                client.unload_model("double")
                assert not client.is_model_ready("double")
                assert client.is_model_ready("several")
                assert client.is_server_ready()  # it was meant so
                with pytest.raises(InferenceServerException, match="not ready: it was unloaded"):
                    client.infer("double", [given(module, np.zeros((1, 4), np.float32))])
                client.load_model("double")
                assert client.is_model_ready("double")
                with pytest.raises(InferenceServerException, match="there is no(thing| model)"):
                    client.load_model("../../etc")
                with pytest.raises(InferenceServerException, match="without parameters"):
                    client.load_model("double", config="{}")
        shutil.rmtree(tmp_path / "double")
        with triton_http.InferenceServerClient(served.http) as client:
            with pytest.raises(InferenceServerException, match="not loaded") as told:
                client.load_model("double")
            assert str(tmp_path) not in str(told.value)
            assert client.is_model_ready("double")  # the one that was there serves on
        assert served.stop() == 0


def test_what_is_open_to_others_is_said_and_a_port_that_is_taken_too(serve_bare, tmp_path):
    serving_models.double(tmp_path)
    with serve_bare(tmp_path, host="0.0.0.0", allow_reload=True) as served:
        (warning,) = served.wait_for("open to others")
        assert "may run the models, load and unload them" in warning["reason"]
        port = served.http.rpartition(":")[2]
        script = serving_models.__file__
        command = [sys.executable, script, str(tmp_path), json.dumps({"http_port": int(port)})]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr
        assert served.stop() == 0


def test_metrics_and_pages_are_there_and_load_nothing_from_elsewhere(served):
    status, text = look(served, "/metrics")
    assert status == 200
    for name in ("exportkit_requests_total", "exportkit_request_seconds_bucket", "exportkit_run_rows_count", "exportkit_model_ready"):
        assert name in text.decode()
    status, text = look(served, "/")
    assert status == 200
    for word in (b"<script", b"http://", b"https://", b"src=", b"@import"):
        assert word not in text
    assert json.loads(look(served, "/openapi.json")[1])["openapi"].startswith("3.1")
