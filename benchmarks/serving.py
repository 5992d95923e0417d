"""How fast `exportkit serve` is, beside an in-process loop of onnxruntime on the same cores, stock KServe and MLServer.

    python benchmarks/serving.py [--seconds 2] [--rounds 3] [--kserve PYTHON] [--mlserver PYTHON] [--json FILE]

PYTHON is an interpreter with kserve and onnxruntime, or with mlserver and onnxruntime, as both want packages of their own; without it that
server is left out, and the table says so. Sixteen clients (tritonclient, two processes) ask for one row each, over HTTP (binary; MLServer
takes JSON alone) and gRPC, of a network of a few us and of one of about 3 ms. The others run the first on their event loop and the second
on threads, as exportkit does. Servers are asked by turns; a figure is the median of the rounds:
- share: requests a second, of what threads on all cores reach that do nothing but run the network on one row;
- p50, p99: milliseconds, as the clients see it;  batch: requests a run;
- CPU: microseconds of the server for one request, less the network's own in the loop;  client: of the client;
- busy: how much of the cores server and clients used. What other processes used is missing there: run it on a quiet machine;
- gain: batching's throughput over no batching's, as a share of what the loop gains at that batch size.
"uvicorn and grpcio alone" gives one and the same answer to whatever it is asked: what these libraries cost before anything is served.
The goal: CPU on the quick network, where it is not lost in the network's own, below every other server's; gain on the slow one at least
0.75. Exits with 1 where it is missed.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CLIENTS, PROCESSES = 16, 2
CORES = len(os.sched_getaffinity(0))
GAIN = 0.75
LAYERS = {"quick": (64, 2), "slow": (512, 48)}  # width, matrices
NET = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*(layer for _ in range({layers}) for layer in (nn.Linear({width}, {width}), nn.ReLU())))
example_inputs = torch.randn(2, {width})
"""
# Both bind every interface, or may: here they are told otherwise.
KSERVE = """
import asyncio, sys
http, rpc, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
quick = file.endswith("quick.onnx")
sys.argv[1:] = []  # kserve parses it
import grpc, onnxruntime, uvicorn
plain = uvicorn.Config.__init__
uvicorn.Config.__init__ = lambda self, app, **named: plain(self, app, **{**named, "host": "127.0.0.1"})
bind = grpc.aio._server.Server.add_insecure_port
grpc.aio._server.Server.add_insecure_port = lambda self, address: bind(self, "127.0.0.1:" + address.rpartition(":")[2])
from kserve import InferOutput, InferResponse, Model, ModelServer

class Net(Model):
    def __init__(self):
        super().__init__("net")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        given = payload.inputs[0].as_numpy()
        feeds = {self.session.get_inputs()[0].name: given}
        if quick:
            (value,) = self.session.run(None, feeds)
        else:
            (value,) = await asyncio.get_running_loop().run_in_executor(None, self.session.run, None, feeds)
        one = InferOutput("output", list(value.shape), "FP32")
        one.set_data_from_numpy(value, binary_data=True)
        return InferResponse(payload.id or "", "net", [one])

ModelServer(http_port=http, grpc_port=rpc, enable_docs_url=False).start([Net()])
"""
MLSERVER = """
import asyncio, onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Net(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload):
        given = NumpyCodec.decode_input(payload.inputs[0])
        feeds = {self.session.get_inputs()[0].name: given}
        if self.settings.parameters.uri.endswith("quick.onnx"):
            (value,) = self.session.run(None, feeds)
        else:
            (value,) = await asyncio.get_running_loop().run_in_executor(None, self.session.run, None, feeds)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", value)])
"""


BARE = """
import asyncio, json, sys
import grpc, uvicorn, uvloop
from tritonclient.grpc import service_pb2 as messages

http, rpc, width = map(int, sys.argv[1:])
one = {"name": "output", "datatype": "FP32", "shape": [1, width], "parameters": {"binary_data_size": 4 * width}}
text = json.dumps({"model_name": "net", "outputs": [one]}).encode()
headers = [(b"inference-header-content-length", b"%d" % len(text)), (b"content-length", b"%d" % (len(text) + 4 * width))]
answer = messages.ModelInferResponse(model_name="net", raw_output_contents=[bytes(4 * width)])
answer.outputs.add(name="output", datatype="FP32", shape=[1, width])
data = answer.SerializeToString()

async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text + bytes(4 * width)})

async def infer(request, context):
    return data

class Handler(grpc.GenericRpcHandler):
    handler = grpc.unary_unary_rpc_method_handler(infer)
    service = lambda self, details: self.handler

async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{rpc}")
    await server.start()
    named = {"host": "127.0.0.1", "port": http, "loop": "none", "http": "httptools", "ws": "none", "lifespan": "off", "log_config": None}
    await uvicorn.Server(uvicorn.Config(app, **named, access_log=False, server_header=False, date_header=False)).serve()

uvloop.run(main())
"""


@dataclass
class Server:
    """A server that runs, and what was measured of it, by protocol."""

    name: str
    process: "subprocess.Popen[bytes]"
    http: int
    grpc: int
    model: str
    binary: bool = True
    seen: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def cpu(self) -> float:
        """Seconds that the process and its children have used."""
        ticks = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def runs(self) -> tuple[float, float]:
        """Requests and runs so far; equal where the server does not tell."""
        if not self.name.startswith("exportkit"):
            return 0.0, 0.0
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics") as answer:
            told = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
        return tuple(float(told[f'exportkit_{name}{{model="{self.model}"}}']) for name in ("requests_run_total", "run_rows_count"))  # type: ignore[return-value]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kserve", type=Path)
    parser.add_argument("--mlserver", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for network, (width, layers) in LAYERS.items():
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            folder = export(Path(scratch), network, width, layers)
            servers = [
                *ours(stack, folder, network),
                *bare(stack, width, network),
                *others(stack, asked, Path(scratch), folder / f"{network}.onnx"),
            ]
            rows += compare(network, servers, folder / f"{network}.onnx", width, asked)
    for other in ("kserve", "mlserver"):
        if getattr(asked, other) is None:
            print(f"{other} is left out: no interpreter was named that has it")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return judge(rows)


def export(scratch: Path, network: str, width: int, layers: int) -> Path:
    (scratch / f"{network}.py").write_text(NET.format(width=width, layers=layers))
    command = [sys.executable, "-c", "from exportkit.cli import main; main()", "export", f"{network}.py", "--format", "onnx"]
    subprocess.run(command, cwd=scratch, check=True, capture_output=True)
    return scratch / "artifacts" / network


def ours(stack: contextlib.ExitStack, folder: Path, network: str) -> Iterator[Server]:
    for name, options in (("exportkit", ()), ("exportkit, no batching", ("--max-batch", "1"))):
        http, rpc = ports()
        words = ["serve", str(folder), "--http-port", str(http), "--grpc-port", str(rpc), "--drain-seconds", "0", *options]
        command = [sys.executable, "-c", "from exportkit.cli import main; main()", *words]
        yield Server(name, start(stack, command, http, network), http, rpc, network)


def bare(stack: contextlib.ExitStack, width: int, network: str) -> Iterator[Server]:
    if network == "quick":
        http, rpc = ports()
        yield Server(
            "uvicorn and grpcio alone", start(stack, [sys.executable, "-c", BARE, http, rpc, width], http, "net"), http, rpc, "net"
        )


def others(stack: contextlib.ExitStack, asked: argparse.Namespace, scratch: Path, file: Path) -> Iterator[Server]:
    if asked.kserve:
        http, rpc = ports()
        (scratch / "kserve_net.py").write_text(KSERVE)
        command = [asked.kserve, scratch / "kserve_net.py", http, rpc, file]
        yield Server("kserve", start(stack, command, http, "net"), http, rpc, "net")
    if asked.mlserver:
        http, rpc = ports()
        place = scratch / "mlserver"
        place.mkdir()
        (place / "mlserver_net.py").write_text(MLSERVER)
        model = {"name": "net", "implementation": "mlserver_net.Net", "parameters": {"uri": str(file)}}
        (place / "model-settings.json").write_text(json.dumps(model))
        settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": rpc, "metrics_port": ports()[0], "parallel_workers": 0}
        (place / "settings.json").write_text(json.dumps(settings))
        command = [asked.mlserver, "-c", "import sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', '.']; main()"]
        yield Server("mlserver", start(stack, command, http, "net", place), http, rpc, "net", binary=False)


def start(
    stack: contextlib.ExitStack, command: Sequence[Any], http: int, model: str, place: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a server in a session of its own, waits until its model is ready, and ends it with the stack."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
    process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=place, start_new_session=True)
    stack.callback(end, process)
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/models/{model}/ready"):
            return process
        if process.poll() is not None:
            break
        time.sleep(0.1)
    log.seek(0)
    raise SystemExit(f"{command[:3]} did not start:\n{log.read().decode()[-2000:]}")


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session
        process.wait()


def compare(network: str, servers: Sequence[Server], file: Path, width: int, asked: argparse.Namespace) -> list["Row"]:
    alone: list[dict[str, float]] = []
    together: dict[str, list[dict[str, float]]] = {"http": [], "grpc": []}
    for server in servers:  # warm
        for kind in together:
            measure(server, kind, width, 0.5)
    for _ in range(asked.rounds):
        alone.append(loop(file, width, 1, asked.seconds))
        for kind, loops in together.items():
            for server in servers:
                server.seen.setdefault(kind, []).append(measure(server, kind, width, asked.seconds))
            batch = max(1, round(servers[0].seen[kind][-1]["batch"]))
            loops.append({**loop(file, width, batch, asked.seconds), "batch": batch})
    rows = [Row.of(network, kind, server, alone, together[kind], servers) for kind in together for server in servers]
    median = statistics.median(one["rate"] for one in alone)
    print(
        f"\n{network}: {statistics.median(one['cpu'] for one in alone):.0f} us a run; the loop makes {median:.0f} a second on {CORES} cores"
    )
    print(f"{'':31} {'share':>6} {'p50':>7} {'p99':>7} {'batch':>6} {'CPU':>6} {'client':>6} {'busy':>5} {'gain':>5}")
    for row in rows:
        print(row)
    return rows


def measure(server: Server, kind: str, width: int, seconds: float) -> dict[str, float]:
    """Lets all clients ask for some seconds."""
    address = f"127.0.0.1:{getattr(server, kind)}"
    words = [kind, address, server.model, str(width), str(seconds), str(server.binary)]
    command, pipe = [sys.executable, __file__, "--client", *words], subprocess.PIPE
    clients = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)]
    for one in clients:  # what they take to start belongs to nobody's figures
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    before, (asked, run) = server.cpu(), server.runs()
    for one in clients:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    told = [json.loads(one.communicate(timeout=seconds + 60)[0]) for one in clients]
    used, (asked_now, run_now) = server.cpu() - before, server.runs()
    count, times = sum(one["count"] for one in told), sorted(time_ for one in told for time_ in one["times"])
    return {
        "rate": sum(one["count"] / one["seconds"] for one in told),
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "server": used / count * 1e6,
        "client": sum(one["cpu"] for one in told) / count * 1e6,
        "batch": (asked_now - asked) / (run_now - run) if run_now > run else 1.0,
    }


def client(kind: str, address: str, model: str, width: str, seconds: str, binary: str) -> None:
    """Asks from several threads, and prints how it went."""
    import tritonclient.grpc
    import tritonclient.http

    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[kind]
    value = np.random.default_rng(0).standard_normal((1, int(width))).astype(np.float32)
    raw = {"binary_data": binary == "True"} if kind == "http" else {}
    times: list[float] = []
    ready = threading.Barrier(CLIENTS // PROCESSES + 1, timeout=30)  # one that fails ends all

    def ask() -> None:
        connection = module.InferenceServerClient(address)
        given = module.InferInput("input", [1, int(width)], "FP32")
        given.set_data_from_numpy(value, **raw)
        outputs = [module.InferRequestedOutput("output", **raw)]
        connection.infer(model, [given], outputs=outputs)
        ready.wait()
        end = time.perf_counter() + float(seconds)
        while (begun := time.perf_counter()) < end:
            connection.infer(model, [given], outputs=outputs)
            times.append((time.perf_counter() - begun) * 1e3)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS // PROCESSES)]
    for thread in threads:
        thread.start()
    while ready.n_waiting < len(threads) and not ready.broken:
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, used = time.perf_counter(), time.process_time()
    ready.wait()
    for thread in threads:
        thread.join()
    print(json.dumps({"count": len(times), "seconds": time.perf_counter() - begun, "cpu": time.process_time() - used, "times": times}))


def loop(file: Path, width: int, batch: int, seconds: float) -> dict[str, float]:
    """Runs the network on every core and nothing else: rows a second, and microseconds of a core for one row."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: np.random.default_rng(0).standard_normal((batch, width)).astype(np.float32)}
    counts: list[int] = []
    cpus: list[float] = []

    def run() -> None:
        count, end, used = 0, time.perf_counter() + seconds, time.thread_time()
        while time.perf_counter() < end:
            session.run(None, feeds)
            count += 1
        counts.append(count)
        cpus.append(time.thread_time() - used)

    threads = [threading.Thread(target=run) for _ in range(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = sum(counts) * batch
    return {"rate": rows / seconds, "cpu": sum(cpus) / rows * 1e6}


@dataclass
class Row:
    """One line of the table; figures are medians of the rounds, and ratios are taken within a round."""

    network: str
    protocol: str
    server: str
    share: float
    p50: float
    p99: float
    batch: float
    cpu: float
    client: float
    busy: float
    gain: float | None

    @classmethod
    def of(cls, network: str, kind: str, server: Server, alone: Any, together: Any, servers: Sequence[Server]) -> "Row":
        seen = server.seen[kind]
        batched = server is servers[0]
        own = together if batched else alone
        gains = [
            (one["rate"] / plain["rate"]) / (many["rate"] / single["rate"])
            for one, plain, many, single in zip(seen, servers[1].seen[kind], together, alone, strict=True)
            if many["batch"] > 1
        ]
        return cls(
            network,
            kind,
            server.name,
            _median(one["rate"] / base["rate"] for one, base in zip(seen, alone, strict=True)),
            _median(one["p50"] for one in seen),
            _median(one["p99"] for one in seen),
            _median(one["batch"] for one in seen),
            _median(one["server"] - ("alone" not in server.name) * base["cpu"] for one, base in zip(seen, own, strict=True)),
            _median(one["client"] for one in seen),
            _median(one["rate"] * (one["server"] + one["client"]) / 1e6 / CORES for one in seen),
            _median(gains) if batched and gains else None,
        )

    def __str__(self) -> str:
        gain = f"{self.gain:5.2f}" if self.gain is not None else ""
        figures = f"{self.share:6.3f} {self.p50:7.2f} {self.p99:7.2f} {self.batch:6.1f} {self.cpu:6.0f} {self.client:6.0f} {self.busy:5.2f}"
        return f"{self.protocol:5} {self.server:25} {figures} {gain}"


def judge(rows: Sequence[Row]) -> int:
    """Says which goals are missed, and returns the exit code."""
    missed = [
        f"{row.network}, {row.protocol}: {ours.server} takes {ours.cpu:.0f} us, {row.server} {row.cpu:.0f}"
        for row in rows
        for ours in rows
        if row.network == "quick"
        and "alone" not in row.server
        and ours.server == "exportkit, no batching"
        and not row.server.startswith("exportkit")
        if (row.network, row.protocol) == (ours.network, ours.protocol) and ours.cpu >= row.cpu
    ]
    missed += [f"{row.network}, {row.protocol}: gain {row.gain:.2f}" for row in rows if row.network == "slow" and (row.gain or 1.0) < GAIN]
    print("\n" + ("\n".join(f"missed: {one}" for one in missed) or "every goal is met"))
    return int(bool(missed))


def ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


def _median(values: Any) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(*sys.argv[2:])
    else:
        sys.exit(main())
