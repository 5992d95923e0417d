"""Servers on free ports, in processes of their own that end with the test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest


class Served:
    """A server that runs.

    Attributes:
        told: the lines of its log so far.
    """

    def __init__(self, command):
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        self.told, self._news = [], threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        (start,) = self.wait_for("listening")
        self.http, self.grpc = f"127.0.0.1:{start['http_port']}", f"127.0.0.1:{start['grpc_port']}"

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self.told.append(json.loads(line) if line.startswith(b"{") else {"event": "text", "text": line.decode()})
                self._news.notify_all()
        with self._news:
            self.told.append({"event": "closed"})
            self._news.notify_all()

    def end(self):
        """Ends it at once, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def wait_for(self, event, count=1):
        """Waits until an event was logged so many times; returns those lines."""
        found = lambda: [one for one in self.told if one["event"] in (event, "closed")]  # noqa: E731
        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count or found()[-1:] == [{"event": "closed"}], 60), self.told
        assert [one["event"] for one in found()[:count]] == [event] * count, self.told
        return found()[:count]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def memory(self):
        """Bytes that the process has in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def started(*command):
    served = Served([sys.executable, *map(str, command)])
    try:
        yield served
    finally:
        served.end()


@pytest.fixture(scope="session")
def start():
    """Starts `python ...`, which serves: `with start("-c", "...") as served`."""
    return started


@pytest.fixture(scope="session")
def serve_bare():
    """Serves models of serving_models.py: `with serve_bare(folder, **options) as served`."""
    script = Path(__file__).parents[1] / "serving_models.py"
    return lambda folder, **options: started(script, folder, json.dumps(options))


@pytest.fixture(scope="session")
def served(serve_bare, tmp_path_factory):
    """All models of serving_models.py, on one server. It is alive and right when the tests of this process are over."""
    with serve_bare(tmp_path_factory.mktemp("models")) as server:
        yield server
        assert server.process.poll() is None
        assert not [one for one in server.told if one["event"] == "fault of the server"]
        assert server.stop() == 0
