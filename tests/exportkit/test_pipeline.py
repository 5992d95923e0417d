"""Which device the references of an export come from."""

from types import SimpleNamespace

import pytest

from exportkit import pipeline
from exportkit.errors import ExportError, RunError
from exportkit.messages import Evidence, Survey, Trial
from exportkit.worker import Limits

SURVEY = Survey((), (), {}, (), "digest", 0.1, ())


def holder(error=None):
    def run(function, symbols, cases, folder, device, **_):
        if error and device != "cpu":
            raise error
        return Evidence(Trial(folder, (), {}), {}, (), (), "digest", device)

    return SimpleNamespace(run=run)


def reference(tmp_path, device, error=None):
    server = SimpleNamespace(run=lambda *_, **__: {})
    return pipeline.reference(server, holder(error), SURVEY, tmp_path, device, Limits(), print, {})


def test_references_come_from_the_device_that_was_asked_for(tmp_path):
    assert [reference(tmp_path, device).device for device in ("cpu", "cuda")] == ["cpu", "cuda"]


@pytest.mark.parametrize(
    "error", [RunError("CUDA error: device-side assert triggered", where="net.py:3"), ExportError("forward is random")]
)
def test_where_eager_fails_on_the_gpu_it_runs_on_the_cpu_and_that_is_told(tmp_path, error):
    proof = reference(tmp_path, "cuda", error)
    (note,) = proof.findings
    assert proof.device == "cpu"
    assert (note.severity, note.code, note.where) == ("note", "eager-on-cpu", error.where)
    assert error.what in note.text
