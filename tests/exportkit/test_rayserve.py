"""Ray Serve on a local cluster of two nodes, in a network namespace that has only a loopback: Ray listens on every interface."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import small_folder

from exportkit import store
from exportkit.errors import LoadError, StoreError

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # Ray's own
pytest.importorskip("ray")

APART = ("unshare", "-rnpf", "--mount-proc", "--kill-child")  # Ray's processes end with the first one
INSIDE = 'ip link set lo up && exec "$@"'


@pytest.mark.timeout(400)
def test_replicas_on_two_machines_answer_what_was_proven(tmp_path):
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    folder = small_folder.write(tmp_path)
    script = Path(__file__).with_name("ray_cluster.py")
    command = [*APART, "sh", "-c", INSIDE, "sh", sys.executable, script, folder, "8123"]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as short:  # sockets' names are short
        settings = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for step in ("check", "after", "one node left"):
        assert found[step][0] == 0, (step, found[step])
    assert found["nodes"] == 2
    status, body = found["good"]
    assert (status, json.loads(body)["outputs"]) == (200, [{"name": "m", "shape": [1, 1], "datatype": "INT64", "data": [12]}])
    assert json.loads(body)["id"] == "7"
    answered = {name: status for name, (status, _) in found["bad"].items()}
    assert answered.pop("batches differ") == 200
    assert set(answered.values()) == {400}, answered
    assert found["paths"] == [404, 405, 405, 404]
    assert found["large"] == 413
    assert not any(str(tmp_path) in body for _, body in found["bad"].values())  # no path of the server


def test_a_folder_that_fails_its_check_is_not_served(tmp_path):
    from exportkit import rayserve

    folder = small_folder.write(tmp_path)
    other = small_folder.graph("net", small_folder.INPUTS, small_folder.OUTPUTS)
    next(one for one in other.graph.initializer if one.name == "shift").raw_data = b"\0\0\0\0"
    (folder / "net.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(StoreError, match="SHA-256"):
        rayserve.Replica(str(folder))
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["net.onnx"] = store.describe(folder / "net.onnx")
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(LoadError, match="its check ends in failed"):
        rayserve.Replica(str(folder))


@pytest.mark.parametrize("settings", [{}, {"folder": "a", "replicas": "0"}, {"folder": "a", "replicas": "x"}, {"folder": "a", "cpu": "1"}])
def test_settings_that_make_no_sense_are_refused(settings):
    from exportkit import rayserve

    with pytest.raises(LoadError):
        rayserve.application(settings)
