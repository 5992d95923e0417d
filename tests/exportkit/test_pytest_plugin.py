"""Networks as tests. The verdicts are made up in most of these; one network is really exported."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exportkit import pipeline

pytest_plugins = ["pytester"]

# Stands in for the export: torchscript passes, pt2 passes with a warning, onnx fails at sizes that the export never saw.
CONFTEST = """
import contextlib

from exportkit import pipeline
from exportkit.errors import LoadError
from exportkit.manifest import Made
from exportkit.spec import Artifact, Case, Finding, Measurement, Network, Report, Source, Symbol

def report(name):
    artifact = Artifact(name, (f"net.{name}",), "exported")
    value = 81.0 if name == "onnx" else 0.5
    metric = "largest error / eager's"
    measured = (Measurement("like-0", "y", metric, 0.5, 5.0), Measurement("sizes-0", "y", metric, value, 5.0))
    findings = {
        "pt2": (Finding("warning", "w", "a warning of pt2"),),
        "onnx": (Finding("error", "blame", "node Mul is at fault\\nreturn x * 2", "net.py:3"),),
    }.get(name, ())
    return Made(name, artifact, (Report("net", artifact, name, "cpu", measured, findings),))

def export(request, server, listen=None, given=None):
    with open("exports.txt", "a") as log:
        print(",".join(request.formats), request.runtime.device, file=log)
    if "broken" in request.net:
        raise LoadError("has no example_inputs", where="broken.py", todo="Write some.")
    network = Network("net", (), {}, Source("net.py", "model", "", ""), (Symbol("batch", (("x", 0, 0),), 2),))
    cases = (Case("like-0", {"batch": 2}, "like", "inside", 0), Case("sizes-0", {"batch": 7}, "like", "inside", 1))
    made = tuple(map(report, request.formats))
    return pipeline.Verdict(network, made, (), None, 0 if all(one.good for one in made) else 1, {"total": 1.0}, cases)

pipeline.export = export
pipeline.Host.start = lambda *_: contextlib.nullcontext()
"""


@pytest.fixture
def nets(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the others that are installed cost seconds
    # What the conftest replaces in this process is put back.
    monkeypatch.setattr(pipeline, "export", pipeline.export)
    monkeypatch.setattr(pipeline.Host, "start", pipeline.Host.start)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nexportkit_networks = nets/*.py\n")
    pytester.mkdir("nets").joinpath("net.py").write_text("raise SystemExit('collecting must not run this')")
    return pytester


def run(pytester, *words):
    return pytester.runpytest("-p", "exportkit.pytest_plugin", *words)


def test_a_network_file_is_a_test_for_each_format_and_group_of_cases_and_is_exported_once(nets):
    done = run(nets, "-v")
    done.assert_outcomes(passed=7, failed=2, skipped=3)
    done.stdout.fnmatch_lines([
        "nets/net.py::torchscript-cpu-values PASSED*", "nets/net.py::torchscript-cpu-outside SKIPPED (no values outside*",
        "nets/net.py::pt2-cpu-artifact PASSED*", "nets/net.py::onnx-cpu-artifact FAILED*", "nets/net.py::onnx-cpu-values PASSED*",
        "nets/net.py::onnx-cpu-sizes FAILED*",
    ])  # fmt: skip
    assert (nets.path / "exports.txt").read_text() == "torchscript,pt2,onnx cpu\n"


def test_a_failure_reads_like_a_verdict_and_shows_no_traceback_of_ours(nets):
    done = run(nets)
    done.stdout.fnmatch_lines([
        "*net.py: onnx on cpu, artifact*",
        "onnx of net.py is not proven: failed",
        "  net.py:3: node Mul is at fault",
        "    return x * 2",
        "*net.py: onnx on cpu, sizes*",
        "onnx of net.py is not proven: failed",
        "  y on sizes-0: largest error / eager's is 81, at most 5 is allowed",
        "FAILED nets/net.py::onnx-cpu-artifact*",
    ])  # fmt: skip
    assert "pytest_plugin.py" not in done.stdout.str()


def test_a_network_that_cannot_be_used_fails_each_of_its_tests_with_what_to_do(nets):
    (nets.path / "nets" / "net.py").rename(nets.path / "nets" / "broken.py")
    done = run(nets)
    done.assert_outcomes(failed=12)
    done.stdout.fnmatch_lines(["broken.py: has no example_inputs", "  Write some."])
    assert (nets.path / "exports.txt").read_text().count("\n") == 1


def test_options_choose_formats_provider_strictness_and_networks(nets):
    run(nets, "--exportkit-formats", "torchscript,pt2", "--exportkit-providers", "cpu,auto").assert_outcomes(passed=12, skipped=4)
    assert (nets.path / "exports.txt").read_text() == "torchscript,pt2 cpu\ntorchscript,pt2 auto\n"
    strict = run(nets, "--exportkit-strict", "-k", "pt2 and artifact")
    strict.assert_outcomes(failed=1, deselected=11)
    strict.stdout.fnmatch_lines(["pt2 of net.py is not proven: passed with warnings", "*a warning of pt2"])
    unknown = run(nets, "--exportkit-formats", "onyx")
    assert unknown.ret == pytest.ExitCode.USAGE_ERROR
    assert "onyx is no format" in unknown.stderr.str() + unknown.stdout.str()


def test_formats_that_are_deselected_are_not_exported_and_the_marker_selects_all(nets):
    nets.makepyfile("def test_other(): pass")
    run(nets, "-m", "exportkit", "-k", "onnx", "--strict-markers").assert_outcomes(failed=2, passed=1, skipped=1, deselected=9)
    assert (nets.path / "exports.txt").read_text() == "onnx cpu\n"


def test_junit_holds_the_numbers_and_the_reason(nets):
    run(nets, "--junitxml", "r.xml")
    cases = {one.get("name"): one for one in ET.parse(nets.path / "r.xml").iter("testcase")}
    properties = {one.get("name"): one.get("value") for one in cases["pt2-cpu-values"].iter("property")}
    assert properties["exportkit verdict"] == "passed with warnings"
    assert "node Mul is at fault" in cases["onnx-cpu-artifact"].find("failure").text


def test_the_processes_of_xdist_share_one_export(nets):
    done = run(nets, "-p", "xdist", "-n", "2", "--dist", "load")
    done.assert_outcomes(passed=7, failed=2, skipped=3)
    assert (nets.path / "exports.txt").read_text() == "torchscript,pt2,onnx cpu\n"


def test_prove_fails_at_the_line_that_calls_it(nets):
    nets.makepyfile("""
        import pytest

        @pytest.mark.exportkit(formats=("torchscript", "pt2"))
        def test_good(prove, tmp_path):
            assert prove("nets/net.py").outcome == "passed with warnings"

        def test_bad(prove):
            prove("nets/net.py", formats=("onnx",))
    """)
    done = run(nets, "-k", "good or bad")
    done.assert_outcomes(passed=1, failed=1, deselected=12)
    done.stdout.fnmatch_lines(
        ['>*prove("nets/net.py", formats=("onnx",))', "E *onnx of net.py is not proven: failed", "test_*.py:8: NotProvenError"]
    )


def test_collecting_imports_no_torch(nets):
    (nets.path / "conftest.py").write_text("def pytest_sessionfinish():\n    import sys\n    print('torch' in sys.modules)\n")
    done = nets.runpytest_subprocess("-p", "exportkit.pytest_plugin", "--collect-only", "-q", "nets/net.py")
    assert "nets/net.py::onnx-cpu-sizes" in done.stdout.str()
    assert re.search("^False$", done.stdout.str(), re.MULTILINE)


def test_pytest_finds_the_plugin_once_the_package_is_installed():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    # The module's own name, so that `-p exportkit.pytest_plugin` and the entry point are one plugin.
    assert project["entry-points"]["pytest11"] == {"exportkit.pytest_plugin": "exportkit.pytest_plugin"}


def test_a_real_network_is_proven(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.py").write_text("import torch\nmodel = torch.nn.Linear(3, 2)\nexample_inputs = torch.randn(2, 3)\n")
    command = [sys.executable, "-m", "pytest", "-p", "exportkit.pytest_plugin", "-p", "no:cacheprovider", "-v"]
    options = ["--exportkit-networks", "nets/*.py", "--exportkit-formats", "torchscript", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    for group in ("artifact", "values", "sizes", "outside"):
        assert f"nets/net.py::torchscript-cpu-{group} PASSED" in done.stdout, done.stdout + done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["nets"]  # nothing is published
