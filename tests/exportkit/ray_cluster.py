"""Runs in a network namespace that has nothing but a loopback: two Ray nodes, the application on both, and what a client sees.

Prints one JSON object. Usage: ray_cluster.py FOLDER PORT
"""

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray import serve
from ray.cluster_utils import Cluster

from exportkit import rayserve

FOLDER, PORT = sys.argv[1], int(sys.argv[2])
URL = f"http://127.0.0.1:{PORT}"
MODEL = "/v2/models/net"
X = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
N = {"name": "n", "datatype": "INT64", "shape": [1, 1], "data": [4]}
GOOD = {"inputs": [X, N]}


def changed(place, **changes):
    inputs = [dict(one) for one in GOOD["inputs"]]
    inputs[place] |= changes
    return json.dumps({"inputs": inputs}).encode()


BAD = {
    "no JSON": b"\xff",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "nothing": b"{}",
    "no data": changed(0, data=None),
    "name": changed(0, name="z"),
    "twice": changed(1, name="x"),
    "datatype": changed(0, datatype="FP64"),
    "text": changed(0, datatype="BYTES"),
    "rank": changed(0, shape=[3]),
    "fixed size": changed(0, shape=[3, 1]),
    "too few": changed(0, data=[1]),
    "null": changed(0, data=[None] * 3),
    "huge": changed(0, shape=[2**31, 2**31]),
    "negative": changed(0, shape=[-1, 3]),
    "batches differ": changed(1, shape=[2, 1], data=[1, 2]),  # no fault here: nothing of this network joins x and n
    "output": json.dumps({**GOOD, "outputs": [{"name": "z"}]}).encode(),
}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def check():
    command = [str(Path(sys.executable).with_name("exportkit")), "check", "--url", URL, FOLDER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout[-300:] + done.stderr[-300:]


def nodes():
    """Names the nodes on which replicas run."""
    from ray.util.state import list_actors

    return sorted({one.node_id for one in list_actors(filters=[("state", "=", "ALIVE")]) if "exportkit" in (one.name or "")})


def main():
    found = {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True, "object_store_memory": 200 << 20})
    second = cluster.add_node(num_cpus=2, object_store_memory=200 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(rayserve.application({"folder": FOLDER, "replicas": "2"}), name="net", route_prefix="/")
    found["check"] = check()
    found["nodes"] = len(nodes())
    found["good"] = ask("POST", f"{MODEL}/versions/1/infer", json.dumps({**GOOD, "id": "7", "outputs": [{"name": "m"}]}).encode())
    found["bad"] = {name: ask("POST", f"{MODEL}/infer", body) for name, body in BAD.items()}
    found["paths"] = [ask(*one)[0] for one in (("GET", "/v2/models/other"), ("GET", f"{MODEL}/infer"), ("DELETE", MODEL), ("GET", "/"))]
    found["large"] = ask("POST", f"{MODEL}/infer", b" " * (65 << 20))[0]
    found["after"] = check()
    cluster.remove_node(second)
    for _ in range(120):
        if serve.status().applications["net"].status == "RUNNING" and len(nodes()) == 1:
            break
        time.sleep(0.5)
    found["one node left"] = check()
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(found))


main()
