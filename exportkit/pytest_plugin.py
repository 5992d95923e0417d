"""The pytest plugin: a network file becomes a test for each format, and `prove` does the same inside of a test.

    [tool.pytest.ini_options]
    exportkit_networks = ["nets/*.py"]      # below the folders that pytest collects from

Collecting imports no torch and runs no network file. A file is exported once in each process: with pytest-xdist take `--dist loadfile`.
"""

import fnmatch
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import exportkit
from exportkit import pipeline, wording
from exportkit.errors import ExportKitError
from exportkit.pipeline import FORMATS, Request, Verdict
from exportkit.summary import summarise
from exportkit.worker import Host

_MARK = "exportkit"
_OPTIONS = {
    "networks": ("linelist", "PATTERN", "Network files to prove as tests; a pattern below the root folder."),
    "formats": ("args", "FORMATS", f"Which formats, comma-separated; default: {','.join(FORMATS)}."),
    "provider": ("string", "NAME", "Where ONNX runs: cpu, cuda, or auto."),
}


class NotProvenError(AssertionError):
    """A format is not proven equal to eager PyTorch; the text says what stands in the way."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(_MARK, "exportkit: networks proven as tests")
    for name, (kind, metavar, text) in _OPTIONS.items():
        group.addoption(f"--exportkit-{name}", metavar=metavar, help=text, action="append" if name == "networks" else "store")
        parser.addini(f"exportkit_{name}", text, type=kind, default=None)  # type: ignore[arg-type]
    group.addoption("--exportkit-strict", action="store_true", help="Warnings of exportkit fail.")
    parser.addini("exportkit_strict", "Warnings of exportkit fail.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_MARK}(**options): tests of exportkit; options are exportkit.export's, for `prove` in this test")
    config.stash[_SERVER] = _Server()
    _formats(config)  # a wrong name ends the command here


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVER in config.stash:
        config.stash[_SERVER].stack.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "NetworkFile | None":
    patterns = _setting(parent.config, "networks") or ()
    if any(fnmatch.fnmatch(str(file_path), str(parent.config.rootpath / one)) for one in patterns):
        return NetworkFile.from_parent(parent, path=file_path)
    return None


class NetworkFile(pytest.File):
    """A network file; exported once, for all of its formats that run in this process."""

    found: Verdict | ExportKitError | None = None

    def collect(self) -> Iterator["FormatItem"]:
        for name in _formats(self.config):
            yield FormatItem.from_parent(self, name=name)

    def verdict(self) -> Verdict:
        """Exports the file on the first call.

        Raises:
            ExportKitError: the network cannot be used; again on each call.
        """
        if self.found is None:
            self.found = self._export()
        if isinstance(self.found, ExportKitError):
            raise self.found
        return self.found

    def _export(self) -> Verdict | ExportKitError:
        wanted = tuple(item.name for item in self.session.items if item.parent is self)
        provider = _setting(self.config, "provider") or "cpu"
        with tempfile.TemporaryDirectory() as folder:
            request = Request(str(self.path), folder, formats=wanted, provider=provider, strict=_strict(self.config))
            try:
                return pipeline.export(request, self.config.stash[_SERVER].get())
            except ExportKitError as error:
                return error


class FormatItem(pytest.Item):
    """One format of a network file."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_marker(_MARK)

    def runtest(self) -> None:
        assert isinstance(self.parent, NetworkFile)
        verdict = self.parent.verdict()
        summary = _only(verdict, self.name)
        row = next(wording.rows(summary["formats"][0]))
        self.user_properties += [(f"exportkit {key}", row[key]) for key in ("verdict", "error", "max abs", "max rel")]
        _refuse(verdict, self.name, strict=_strict(self.config))
        self.add_report_section("call", _MARK, "\n".join(f"{severity}: {text}" for severity, text, _ in wording.notes(summary)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Shows what stands in the way: the plugin's own traceback tells nothing."""
        if isinstance(excinfo.value, NotProvenError | ExportKitError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.path.name}: {self.name}"


@pytest.fixture
def prove(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Verdict]:
    """Exports a network and fails the test unless every format is proven; `prove(net, example_inputs=None, **options)`.

    It takes what `exportkit.export` takes and returns its verdict. Options of the test's marker, as in
    `@pytest.mark.exportkit(formats=("onnx",))`, stand before those of the configuration; artifacts go into `tmp_path` unless `to` is given.
    """
    config = request.config
    usual = {"to": tmp_path, "formats": _formats(config), "provider": _setting(config, "provider") or "cpu", "strict": _strict(config)}
    marks = [mark.kwargs for mark in reversed(list(request.node.iter_markers(_MARK)))]

    def run(net: Any, example_inputs: Any = None, **options: Any) -> Verdict:
        __tracebackhide__ = True
        chosen = {key: value for one in (usual, *marks, options) for key, value in one.items()}
        verdict = exportkit.export(net, example_inputs, **chosen)
        for made in verdict.made:
            _refuse(verdict, made.format, strict=chosen["strict"])
        return verdict

    return run


class _Server:
    """A fork server for all network files of a process: it imports torch, the exporters and the runtimes once, for the first of them."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.host: Host | None = None

    def get(self) -> Host:
        if self.host is None:
            self.host = self.stack.enter_context(Host.start(pipeline.PRELOAD, (*pipeline.JUDGING, *pipeline.EXPORTING)))
        return self.host


_SERVER = pytest.StashKey[_Server]()


def _setting(config: pytest.Config, name: str) -> Any:
    """Returns an option of the command line, else of the configuration; None where neither is given."""
    return config.getoption(f"--exportkit-{name}") or config.getini(f"exportkit_{name}")


def _strict(config: pytest.Config) -> bool:
    return bool(_setting(config, "strict"))


def _formats(config: pytest.Config) -> tuple[str, ...]:
    given = _setting(config, "formats") or FORMATS
    chosen = tuple(name for one in ([given] if isinstance(given, str) else given) for name in one.replace(",", " ").split())
    if unknown := [one for one in chosen if one not in FORMATS]:
        raise pytest.UsageError(f"exportkit_formats: {', '.join(unknown)} is no format; there are {', '.join(FORMATS)}")
    return chosen


def _only(verdict: Verdict, name: str) -> dict[str, Any]:
    """Summarises one format of a verdict."""
    return summarise(replace(verdict, made=tuple(one for one in verdict.made if one.format == name)))


def _refuse(verdict: Verdict, name: str, *, strict: bool) -> None:
    """Raises a NotProvenError where a format is not proven, in the words of the text report."""
    __tracebackhide__ = True
    made = next(one for one in verdict.made if one.format == name)
    if made.good and not (strict and made.outcome != "passed"):
        return
    summary = _only(verdict, name)
    rows = [
        f"  in {row['runs in']}: {row['verdict']}; error {row['error']}, max abs {row['max abs']}, max rel {row['max rel']}"
        for row in wording.rows(summary["formats"][0])
    ]
    notes = [f"  {severity}: {text}".replace("\n", "\n    ") for severity, text, _ in wording.notes(summary)]
    raise NotProvenError("\n".join([f"{name} of {verdict.network.source.file} is not proven: {made.outcome}", *rows, *notes]))
