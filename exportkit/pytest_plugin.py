"""The pytest plugin: a network file becomes a test for each format, provider and group of cases; `prove` does it inside of a test.

    [tool.pytest.ini_options]
    exportkit_networks = ["nets/*.py"]      # below the folders that pytest collects from

Collecting imports no torch and runs no network file. A file is exported once, in whichever process of pytest-xdist comes first.
"""

import fcntl
import fnmatch
import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import exportkit
from exportkit import casegroups, pipeline, wording
from exportkit.errors import ExportKitError
from exportkit.pipeline import FORMATS, Request, Verdict
from exportkit.spec import Runtime
from exportkit.summary import summarise
from exportkit.worker import Host

_MARK = "exportkit"
_OPTIONS = {
    "networks": ("linelist", "PATTERN", "Network files to prove as tests; a pattern below the root folder."),
    "formats": ("args", "FORMATS", f"Which formats, comma-separated; default: {','.join(FORMATS)}."),
    "providers": ("args", "NAMES", "Where artifacts run, comma-separated: cpu, cuda, auto; default: cpu."),
}

_FLAGS = {
    "strict": "Warnings of exportkit fail.",
    "allow_cpu_nodes": "On CUDA, nodes that it has no kernel for are warnings.",
}


class NotProvenError(AssertionError):
    """A format is not proven equal to eager PyTorch; the text says what stands in the way."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(_MARK, "exportkit: networks proven as tests")
    for name, (kind, metavar, text) in _OPTIONS.items():
        group.addoption(f"--exportkit-{name}", metavar=metavar, help=text, action="append" if name == "networks" else "store")
        parser.addini(f"exportkit_{name}", text, type=kind, default=None)  # type: ignore[arg-type]
    for name, text in _FLAGS.items():
        group.addoption(f"--exportkit-{name.replace('_', '-')}", action="store_true", help=text)
        parser.addini(f"exportkit_{name}", text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_MARK}(**options): tests of exportkit; options are exportkit.export's, for `prove` in this test")
    config.stash[_SERVER] = _Server(getattr(config, "workerinput", {}).get(_SHARED))
    _formats(config)  # a wrong name ends the command here


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a process of pytest-xdist where all of them put what they exported."""
    node.workerinput[_SHARED] = str(node.config.stash[_SERVER].shared)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVER in config.stash:
        config.stash[_SERVER].stack.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "NetworkFile | None":
    return NetworkFile.from_parent(parent, path=file_path) if _is_network(parent.config, file_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> "Nothing | None":
    """Keeps pytest from importing a network file that the command line names, or that looks like one of tests."""
    return Nothing.from_parent(parent, path=module_path) if _is_network(parent.config, module_path) else None


class Nothing(pytest.File):
    """Stands in for the module that a network file is not."""

    def collect(self) -> Iterator[pytest.Item]:
        return iter(())


class NetworkFile(pytest.File):
    """A network file; exported once for each provider, in all formats that are selected."""

    def collect(self) -> Iterator["GroupItem"]:
        for form in _formats(self.config):
            for provider in _listed(self.config, "providers") or ("cpu",):
                for group in casegroups.GROUPS:
                    yield GroupItem.from_parent(self, name=f"{form}-{provider}-{group}", form=form, provider=provider, group=group)

    def verdict(self, provider: str) -> Verdict:
        """Exports the file on the first call of any process.

        Raises:
            ExportKitError: the network cannot be used; again on each call.
        """
        key = hashlib.sha256(f"{self.path} {provider}".encode()).hexdigest()
        found = self.config.stash[_SERVER].once(key, lambda: self._export(provider))
        if isinstance(found, ExportKitError):
            raise found
        return found

    def _export(self, provider: str) -> Verdict | ExportKitError:
        wanted = tuple(dict.fromkeys(item.form for item in self.session.items if isinstance(item, GroupItem) and item.parent is self))
        with tempfile.TemporaryDirectory() as folder:
            request = Request(
                str(self.path),
                folder,
                formats=wanted,
                runtime=Runtime(provider, allow_cpu_nodes=_allowed(self.config)),
                strict=_strict(self.config),
            )
            try:
                return pipeline.export(request, self.config.stash[_SERVER].get())
            except ExportKitError as error:
                return error


class GroupItem(pytest.Item):
    """One group of cases of one format on one provider."""

    def __init__(self, *, form: str, provider: str, group: str, **options: Any) -> None:
        super().__init__(**options)
        self.form, self.provider, self.group = form, provider, group
        self.add_marker(_MARK)

    def runtest(self) -> None:
        assert isinstance(self.parent, NetworkFile)
        verdict = self.parent.verdict(self.provider)
        summary = _only(verdict, self.form)
        row = next(wording.rows(summary["formats"][0]))
        self.user_properties += [(f"exportkit {key}", row[key]) for key in ("verdict", "error", "max abs", "max rel")]
        if faults := casegroups.faults(summary, self.group, strict=_strict(self.config)):
            raise NotProvenError(_why(verdict, self.form, faults))
        if why := casegroups.empty(summary, self.group):
            pytest.skip(why)
        self.add_report_section("call", _MARK, "\n".join(f"{severity}: {text}" for severity, text, _ in wording.notes(summary)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Shows what stands in the way: the plugin's own traceback tells nothing."""
        if isinstance(excinfo.value, NotProvenError | ExportKitError):
            return wording.printable(str(excinfo.value))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.path.name}: {self.form} on {self.provider}, {self.group}"


@pytest.fixture
def prove(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Verdict]:
    """Exports a network and fails the test unless every format is proven; `prove(net, example_inputs=None, **options)`.

    It takes what `exportkit.export` takes and returns its verdict. Options of the test's marker, as in
    `@pytest.mark.exportkit(formats=("onnx",))`, stand before those of the configuration; artifacts go into `tmp_path` unless `to` is given.
    """
    config = request.config
    usual = {
        "to": tmp_path,
        "formats": _formats(config),
        "provider": next(iter(_listed(config, "providers")), "cpu"),
        "strict": _strict(config),
        "allow_cpu_nodes": _allowed(config),
    }
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
    """A fork server for all network files of a process: it imports torch, the exporters and the runtimes once, for the first of them.

    Attributes:
        shared: a folder in which the processes of pytest-xdist tell each other what they found.
    """

    def __init__(self, shared: str | None) -> None:
        self.stack = ExitStack()
        self.host: Host | None = None
        self.shared = Path(shared or self.stack.enter_context(tempfile.TemporaryDirectory(prefix="exportkit-")))

    def once(self, key: str, find: Callable[[], Verdict | ExportKitError]) -> Verdict | ExportKitError:
        """Finds something in one process only; the others wait for it."""
        file = self.shared / key
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_bytes(pickle.dumps(find()))
            found: Verdict | ExportKitError = pickle.loads(file.read_bytes())  # noqa: S301 - what we wrote, in a folder of our own
            return found

    def get(self) -> Host:
        if self.host is None:
            self.host = self.stack.enter_context(Host.start(pipeline.PRELOAD, (*pipeline.JUDGING, *pipeline.EXPORTING)))
        return self.host


_SERVER = pytest.StashKey[_Server]()
_SHARED = "exportkit_shared"


def _is_network(config: pytest.Config, file: Path) -> bool:
    return any(fnmatch.fnmatch(str(file), str(config.rootpath / one)) for one in _setting(config, "networks") or ())


def _setting(config: pytest.Config, name: str) -> Any:
    """Returns an option of the command line, else of the configuration; None where neither is given."""
    return config.getoption(f"--exportkit-{name.replace('_', '-')}") or config.getini(f"exportkit_{name}")


def _strict(config: pytest.Config) -> bool:
    return bool(_setting(config, "strict"))


def _allowed(config: pytest.Config) -> bool:
    return bool(_setting(config, "allow_cpu_nodes"))


def _formats(config: pytest.Config) -> tuple[str, ...]:
    chosen = _listed(config, "formats") or FORMATS
    if unknown := [one for one in chosen if one not in FORMATS]:
        raise pytest.UsageError(f"exportkit_formats: {', '.join(unknown)} is no format; there are {', '.join(FORMATS)}")
    return chosen


def _listed(config: pytest.Config, name: str) -> tuple[str, ...]:
    given = _setting(config, name) or ()
    return tuple(part for one in ([given] if isinstance(given, str) else given) for part in one.replace(",", " ").split())


def _only(verdict: Verdict, name: str) -> dict[str, Any]:
    """Summarises one format of a verdict."""
    return summarise(replace(verdict, made=tuple(one for one in verdict.made if one.format == name)))


def _refuse(verdict: Verdict, name: str, *, strict: bool) -> None:
    """Raises a NotProvenError where a format is not proven, in the words of the text report."""
    __tracebackhide__ = True
    made = next(one for one in verdict.made if one.format == name)
    if made.good and not (strict and made.outcome != "passed"):
        return
    raise NotProvenError(_why(verdict, name, [f"{severity}: {text}" for severity, text, _ in wording.notes(_only(verdict, name))]))


def _why(verdict: Verdict, name: str, faults: Sequence[str]) -> str:
    """Words a failure: the format, its numbers, and what is wrong."""
    summary = _only(verdict, name)
    rows = [
        f"  in {row['runs in']}: {row['verdict']}; error {row['error']}, max abs {row['max abs']}, max rel {row['max rel']}"
        for row in wording.rows(summary["formats"][0])
    ]
    told = [f"  {text}".replace("\n", "\n    ") for text in faults]
    return "\n".join([f"{name} of {verdict.network.source.file} is not proven: {summary['formats'][0]['outcome']}", *rows, *told])
