"""`check --url`: servers that are right, and in how many ways they may be wrong. All are written here, on 127.0.0.1."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import small_folder
from typer.testing import CliRunner

from exportkit import cli, inspection
from exportkit.elements import NUMPY, V2
from exportkit.errors import LoadError, RunError, StoreError
from exportkit.inspection import Question

LENGTH = "Inference-Header-Content-Length"


class Right(BaseHTTPRequestHandler):
    """A server of the small folder's network; what is wrong with one overrides a step."""

    binary = True
    seen = None  # what was asked

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.seen.append(self.path)
        if self.path == "/v2":
            self.answer({"name": "fake", "version": "1", "extensions": ["binary_tensor_data"] if self.binary else []})
        elif self.path.startswith("/v2/models/net"):
            self.answer(self.metadata())
        else:
            self.answer({"error": "no such model"}, 404)

    def do_POST(self):
        self.seen.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        cut = int(self.headers.get(LENGTH, len(body)))
        told, raw = json.loads(body[:cut]), body[cut:]
        inputs = {}
        for one in told["inputs"]:
            dtype = np.dtype(NUMPY[one["datatype"]])
            if self.binary:
                size = one["parameters"]["binary_data_size"]
                values, raw = np.frombuffer(raw[:size], dtype), raw[size:]
            else:
                values = np.array(one["data"], dtype)
            inputs[one["name"]] = values.reshape(one["shape"])
        self.infer(self.compute(**inputs))

    def compute(self, x, n):
        return small_folder.compute(x, n)

    def metadata(self):
        def told(specs):
            return [{"name": s.name, "datatype": V2[s.dtype], "shape": [-1 if isinstance(d, str) else d for d in s.shape]} for s in specs]

        return {"name": "net", "platform": "", "inputs": told(small_folder.INPUTS), "outputs": told(small_folder.OUTPUTS)}

    def infer(self, outputs):
        told = [self.describe(name, value) for name, value in outputs.items()]
        if self.binary:
            for one, value in zip(told, outputs.values(), strict=True):
                one["parameters"] = {"binary_data_size": value.nbytes}
            self.answer({"outputs": told}, raw=b"".join(value.tobytes() for value in outputs.values()))
        else:
            self.answer({"outputs": [{**one, "data": value.tolist()} for one, value in zip(told, outputs.values(), strict=True)]})

    def describe(self, name, value):
        return {"name": name, "datatype": V2[str(value.dtype)], "shape": list(value.shape)}

    def answer(self, data, status=200, raw=None):
        head = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        if raw is not None:
            self.send_header(LENGTH, str(len(head)))
        self.send_header("Content-Length", str(len(head) + len(raw or b"")))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(head + (raw or b""))


@contextlib.contextmanager
def serving(kind=Right, **steps):
    handler = type("Handler", (kind,), {**steps, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.block_on_close, server.handle_error = True, False, lambda *_: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_folder.write(tmp_path_factory.mktemp("artifacts"))


def told(verdict):
    return " ".join(finding.text for made in verdict.made for report in made.reports for finding in report.findings)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("path", "asked"), [("", "/v2/models/net"), ("/v2/models/net/versions/2/", "/v2/models/net/versions/2")])
def test_a_server_that_is_right_passes_each_case(host, folder, binary, path, asked):
    with serving(binary=binary) as (url, seen):
        verdict = inspection.check(folder, host, Question(url=url + path))
    assert (verdict.outcome, verdict.exit_code) == ("passed", 0)
    assert seen.count(f"{asked}/infer") == len(small_folder.SIZES)
    report = verdict.made[0].reports[0]
    assert report.facts == {"server": "fake 1", "wire": "binary" if binary else "json"}
    assert (report.backend, report.device) == ("server", url.removeprefix("http://"))


def off(values, change):
    return {**values, "y": change(values["y"])}


def wrong_values(change):
    return {"compute": lambda self, x, n: off(small_folder.compute(x, n), change)}


def wrong_form(**told):
    return {"describe": lambda self, name, value: {"data": [], **Right.describe(self, name, value), **(told if name == "y" else {})}}


def broken(answer):
    return {"infer": lambda self, outputs: answer(self)}


def large_batches_only(self, x, n):
    if len(x) == 1:
        raise OSError  # as a worker that dies
    return small_folder.compute(x, n)


def metadata(**changes):
    return {"metadata": lambda self: {**Right.metadata(self), **changes}}


def truncated(self):
    self.send_response(200)
    self.send_header("Content-Length", "1000000")
    self.end_headers()
    self.wfile.write(b'{"outputs": [')


def endless(self):
    self.send_response(200)
    self.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            self.wfile.write(b" " * (1 << 20))


def lying(self):
    self.answer({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 1 << 40}}]}, raw=b"1234")


def half_a_chunk(self):
    self.send_response(200)
    self.send_header("Transfer-Encoding", "chunked")
    self.end_headers()
    self.wfile.write(b"ffff\r\n{}")


WRONG = {
    "a value by 1e-5": (wrong_values(lambda y: y * np.float32(1 + 1e-5)), "failed"),
    "one element": (wrong_values(lambda y: np.where(np.arange(y.size).reshape(y.shape) == 0, y + np.float32(1e-5), y)), "failed"),
    "NaN": (wrong_values(lambda y: y * np.float32("nan")), "failed"),
    "float64": (wrong_values(lambda y: y.astype(np.float64)), "y is float64"),
    "another shape": (wrong_values(lambda y: y.T), "y is float32[3, 2]"),
    "one row fewer": (wrong_values(lambda y: y[:-1]), "y is float32"),
    "refuses one size": ({"compute": large_batches_only}, "does not run on sizes-0"),
    "another name": (wrong_form(name="z"), "the outputs z, m, not y, m"),
    "a name twice": (wrong_form(name="m"), "names an output twice"),
    "text": (wrong_form(datatype="BYTES"), "the datatype 'BYTES'"),
    "negative size": (wrong_form(shape=[-1, 3]), "the shape [-1, 3]"),
    "huge shape": (wrong_form(shape=[2**31, 2**31]), "needs 18,446,744,073,709,551,616"),
    "none of it": (wrong_form(shape=[0, 2**39, 2**39]), "says"),
    "an error": (broken(lambda self: self.answer({"error": "boom \x1b[2J"}, 500)), "answers 500: boom"),
    "an error without words": (broken(lambda self: self.answer(b"<html>", 502)), "answers 502"),
    "a redirection": (broken(lambda self: self.answer(b"", 307)), "answers 307"),
    "no JSON": (broken(lambda self: self.answer(b"\xff\xfe")), "no JSON object"),
    "deep JSON": (broken(lambda self: self.answer(b"[" * 200_000)), "no JSON object"),
    "a list": (broken(lambda self: self.answer([])), "no JSON object"),
    "no outputs": (broken(lambda self: self.answer({})), "has no list of named outputs"),
    "truncated": (broken(truncated), "more were announced"),
    "half a chunk": (broken(half_a_chunk), "no whole HTTP answer"),
    "endless": (broken(endless), "more than"),
    "lying sizes": (broken(lying), "needs 24"),
    "excess bytes": (broken(lambda self: self.answer({"outputs": []}, raw=b"12345678")), "8 bytes more"),
    "no HTTP": (broken(lambda self: self.wfile.write(b"SSH-2.0-x\r\n")), "no whole HTTP answer"),
    "closes": (broken(lambda self: None), "no whole HTTP answer"),
    "metadata: another dtype": (metadata(inputs=[{"name": "x", "datatype": "FP16", "shape": [-1, 3]}]), "input x is FP16[-1, 3]"),
    "metadata: fixed": (metadata(outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]), "output y is FP32[-1, 4]"),
    "metadata: nothing": (metadata(inputs=None, outputs=[1]), "has no input x; its inputs are none"),
}  # fmt: skip
JSON_WRONG = {
    "null": (wrong_form(data=[None] * 6), "the value None"),
    "text": (wrong_form(data=["1"] * 6), "the value '1'"),
    "too few": (wrong_form(data=[1.0]), "1 values"),
    "nothing": (wrong_form(data=None), "without data"),
    "no integers": (wrong_form(datatype="INT8", shape=[1], data=[1.5]), "of INT8, the value 1.5"),
    "out of range": (wrong_form(datatype="INT8", shape=[1], data=[300]), "out of range"),
    "digits without end": (broken(lambda self: self.answer(b'{"outputs": ' + b"9" * 100_000 + b"}")), "no JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_server_that_is_wrong_fails(host, folder, name):
    steps, words = WRONG[name]
    with serving(**steps) as (url, _):
        verdict = inspection.check(folder, host, Question(url=url))
    assert (verdict.outcome, verdict.exit_code) == ("failed", 1)
    assert words in told(verdict) or words == "failed"


@pytest.mark.parametrize("name", JSON_WRONG)
def test_a_server_that_is_wrong_in_json_fails(host, folder, name):
    steps, words = JSON_WRONG[name]
    if "describe" in steps:  # its data stays as described
        steps = {**steps, "infer": lambda self, outputs: self.answer({"outputs": [self.describe(*one) for one in outputs.items()]})}
    with serving(binary=False, **steps) as (url, _):
        verdict = inspection.check(folder, host, Question(url=url))
    assert verdict.outcome == "failed"
    assert words in told(verdict)


def trickle(self):
    with contextlib.suppress(OSError):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(600):
            self.wfile.write(b"x")
            time.sleep(0.1)


@pytest.mark.parametrize("stall", [lambda self: time.sleep(60), trickle], ids=["hangs", "trickles"])
def test_a_server_that_lets_one_request_wait_fails_and_is_asked_no_more(host, folder, stall):
    with serving(infer=lambda self, _: stall(self)) as (url, seen):
        verdict = inspection.check(folder, host, Question(url=url, timeout=0.5))
    assert verdict.outcome == "failed"
    assert "gives no whole answer within 0.5 s" in told(verdict)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"do_GET": lambda self: time.sleep(60)}, "gives no whole answer within 0.5 s"),
        ({"do_GET": lambda self: self.answer({"error": "who?"}, 404)}, "has no model at /v2/models/net: answers 404: who?"),
        ({"do_GET": lambda self: self.answer(b"garbage")}, "no JSON object"),
    ],
)
def test_a_server_without_the_model_cannot_be_judged(host, folder, steps, words):
    with serving(**steps) as (url, _), pytest.raises(RunError) as caught:
        inspection.check(folder, host, Question(url=url, timeout=0.5))
    assert words in caught.value.what
    assert caught.value.where == url


def test_where_nobody_listens_one_line_says_so(host, folder):
    with serving() as (url, _):
        pass
    with pytest.raises(RunError, match="cannot be reached: Connection refused"):
        inspection.check(folder, host, Question(url=url))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://a:b@127.0.0.1", "http://127.0.0.1:port", "http://127.0.0.1/?a", "http://a b"],
)
def test_what_is_no_address_of_a_server_is_refused(host, folder, url):
    with pytest.raises(LoadError):
        inspection.check(folder, host, Question(url=url))


def test_a_folder_that_is_not_whole_judges_nobody(host, tmp_path):
    folder = small_folder.write(tmp_path)
    (folder / "golden.safetensors").write_bytes(b"")
    with serving() as (url, seen), pytest.raises(StoreError):
        inspection.check(folder, host, Question(url=url))
    assert not seen


def test_a_bare_file_has_no_cases_to_replay(host, folder):
    with pytest.raises(LoadError, match="--url replays folders"):
        inspection.check(folder / "net.onnx", host, Question(url="http://127.0.0.1:1"))


def test_the_command_line_gives_the_usual_verdict_reports_and_exit_codes(folder, tmp_path, warm):
    def run(*words):
        return CliRunner().invoke(cli.app, ["check", str(folder), "--url", *map(str, words)], catch_exceptions=False)

    with serving() as (url, _):
        done = run(url, "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["formats"][0]["verdicts"][0]["backend"] == "server"
    with serving(**wrong_values(lambda y: y + 1)) as (url, _):
        done = run(url, "--junit", tmp_path / "junit.xml")
        assert done.exit_code == 1
        assert url.removeprefix("http://") in done.stdout
        assert "<failure" in (tmp_path / "junit.xml").read_text()
    done = run(url)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"error: {url}: cannot be reached: Connection refused"
    assert run(url, "--against", "net.py").exit_code == 2
