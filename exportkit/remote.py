"""Checks a server against a published folder: `exportkit check --url`."""

import time
from pathlib import Path

from exportkit import exchange, published, store
from exportkit.errors import RunError
from exportkit.manifest import Made
from exportkit.pipeline import Listener, Verdict
from exportkit.worker import Host, Limits

SECONDS = 30.0  # wall time that one answer may take


def check(folder: Path, url: str, server: Host, seconds: float | None, listen: Listener = lambda _: None) -> Verdict:
    """Compares the digests of a folder, then what a server answers with the folder's golden cases. No artifact is loaded.

    Args:
        url: http://HOST:PORT, where the model has the network's name; or the model's own address, .../v2/models/NAME/versions/2.
        seconds: wall time that one answer may take; None for the usual.

    Raises:
        LoadError: the URL is none.
        StoreError: a file of the folder is missing, extra or changed.
        RunError: nobody listens there, or the server has no such model.
    """
    started, place, each = time.monotonic(), exchange.parse(url), seconds or SECONDS
    data = store.verify(folder)
    network, artifacts, cases = published.read(folder, data)
    artifact = next((one for one in artifacts if one.format == "onnx"), artifacts[0])
    limits = Limits(each * (len(cases) + 3))  # the clock of each answer ends first
    call = ("exportkit.replay:judge_server", folder, artifact, network, place, data["evidence"], each)
    try:
        report = server.run(*call, limits=limits, stage=f"checking {place.name}", on_event=listen)
    except RunError as error:
        raise RunError(error.what, where=url, todo=error.todo) from error
    made = Made(artifact.format, artifact, (report,), (), "", time.monotonic() - started, folder)
    return Verdict(network, (made,), (), folder, 0 if made.good else 1, {"total": time.monotonic() - started}, cases)
