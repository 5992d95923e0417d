"""The command line: reads options, prints what the pipeline found. Decides nothing."""

import shlex
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

import typer

from exportkit import __version__, inspection, pipeline, plugins, reports, signing, starter, wording
from exportkit.against import Against
from exportkit.baseline import SLOWER
from exportkit.errors import ExportKitError, LoadError, StoreError
from exportkit.pipeline import FORMATS, Request
from exportkit.spec import Runtime
from exportkit.worker import Host, Limits

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="TorchScript, torch.export and ONNX artifacts, proven to compute what eager PyTorch computes.",
    epilog="Exit codes: 0 proven and published, 1 a format failed or is undetermined, 2 could not run.",
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Provider = Annotated[str, typer.Option(help="Where artifacts run, and eager with them: cpu, cuda, or auto (cuda where a device exists).")]
Library = Annotated[str | None, typer.Option(help="The library of the network's own onnxruntime operators.")]
CpuNodes = Annotated[bool, typer.Option("--allow-cpu-nodes", help="On CUDA, tell of nodes that it has no kernel for, and pass.")]
Timeout = Annotated[float, typer.Option(help="Wall seconds that one step of the network, an exporter or a runtime may take.")]
Repro = Annotated[str | None, typer.Option(help="Write the node that makes ONNX fail into this folder, alone and ready to run.")]
_AGAINST: Any = {"rich_help_panel": "Drift"}
_SEARCH = "Search each proven artifact for so many seconds for a case on which it fails."
_CASE = "Try this drawn case, too, as a search prints it."
_REPORT: Any = {"metavar": "FILE", "rich_help_panel": "Reports"}
Junit = Annotated[Path | None, typer.Option(help="Write a JUnit XML file, for CI.", **_REPORT)]
Markdown = Annotated[Path | None, typer.Option(help="Write a pull request comment.", **_REPORT)]
Html = Annotated[Path | None, typer.Option(help="Write one page with plots; it needs no network.", **_REPORT)]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the network's own traceback with an error.")]


@app.command()
def export(  # noqa: PLR0913 - one argument an option
    nets: Annotated[list[str], typer.Argument(help="net.py, net.py:name, net.py:model.method, package.module:name or old.pt")],
    to: Annotated[str, typer.Option(help="The parent of the artifact folder.")] = "artifacts",
    name: Annotated[str | None, typer.Option(help="The artifact's name; default: after the file or object.")] = None,
    formats: Annotated[str, typer.Option("--format", help="Which formats, comma-separated.")] = ",".join(FORMATS),
    inputs: Annotated[list[str] | None, typer.Option("--input", help='An example input: "x: float32\\[batch, 64]".')] = None,
    weights: Annotated[str | None, typer.Option(help="Load these weights strictly (.safetensors, or torch.save's).")] = None,
    provider: Provider = "cpu",
    opset: Annotated[int | None, typer.Option(help="The ONNX opset; default: the exporter's own.")] = None,
    target: Annotated[str | None, typer.Option(help='Refuse what this runtime cannot load: "onnxruntime==1.20".')] = None,
    ort_library: Library = None,
    allow_cpu_nodes: CpuNodes = False,
    timeout: Timeout = 300.0,
    memory: Annotated[float | None, typer.Option(help="GiB that one process may allocate; default: what the machine has.")] = None,
    jobs: Annotated[int, typer.Option(help="How many networks at once.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail.")] = False,
    keep_partial: Annotated[bool, typer.Option("--keep-partial", help="Put what is proven into NAME.partial/.")] = False,
    keep_lifted: Annotated[bool, typer.Option("--keep-lifted", help="Keep what loops and branches became, as NAME.lifted.py.")] = False,
    golden_from_user: Annotated[bool, typer.Option("--golden-from-user", help="Store your own example, too.")] = False,
    search: Annotated[float, typer.Option(help=_SEARCH)] = 0.0,
    cases: Annotated[list[str] | None, typer.Option("--case", help=_CASE)] = None,
    repro: Repro = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
    as_json: JsonFlag = False,
    traceback: Traceback = False,
) -> None:
    """Export networks and prove each artifact equal to eager PyTorch."""
    answer = _Answer(reports.Files(junit, markdown, html), as_json=as_json, traceback=traceback)
    answer.prepare()
    requests = [
        Request(
            net=net, to=to, name=name, formats=_formats(formats), inputs=tuple(inputs or ()), weights=weights,
            runtime=Runtime(provider, ort_library, allow_cpu_nodes), opset=opset, target=target, timeout=timeout,
            memory=int(memory * 2**30) if memory else None, strict=strict, keep_partial=keep_partial, golden_from_user=golden_from_user,
            repro=_place(repro, net, nets), search=search, cases=tuple(cases or ()), keep_lifted=keep_lifted,
        )
        for net in nets
    ]  # fmt: skip
    # One network: fork as soon as torch is there. Many: warm up everything once, every fork has it.
    early, late = (
        (pipeline.PRELOAD, pipeline.JUDGING) if len(nets) == 1 else ((*pipeline.PRELOAD, *pipeline.EXPORTING, *pipeline.JUDGING), ())
    )
    with Host.start(early, late) as server, _Progress(quiet=as_json) as progress, ThreadPoolExecutor(max(jobs, 1)) as pool:
        outcomes = list(pool.map(lambda one: _attempt(one, server, progress), requests))
    answer.give(outcomes)


@app.command()
def check(  # noqa: PLR0913 - one argument an option
    targets: Annotated[list[str], typer.Argument(help="Artifact folders, or .onnx, .pt and .pt2 files from elsewhere; patterns too.")],
    against: Annotated[str | None, typer.Option(help="Judge folders against this network as it is now, too.", **_AGAINST)] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="As its export was given it.", **_AGAINST)] = None,
    weights: Annotated[str | None, typer.Option(help="As its export was given it.", **_AGAINST)] = None,
    search: Annotated[float, typer.Option(help=_SEARCH, **_AGAINST)] = 0.0,
    cases: Annotated[list[str] | None, typer.Option("--case", help=_CASE, **_AGAINST)] = None,
    provider: Provider = "cpu",
    ort_library: Library = None,
    allow_cpu_nodes: CpuNodes = False,
    baseline: Annotated[
        Path | None, typer.Option(help="Say what changed since this baseline, or since the one in this folder.", **_AGAINST)
    ] = None,
    slower: Annotated[float, typer.Option(help="So many times the baseline's run is a failure.", **_AGAINST)] = SLOWER,
    url: Annotated[str | None, typer.Option(help="Replay the golden cases against this server (KServe V2), in place of the files.")] = None,
    golden: Annotated[Path | None, typer.Option(help="Compare bare files with these golden cases (.safetensors).")] = None,
    expect_digest: Annotated[str | None, typer.Option(help="SHA-256 of the folder's manifest.json, or of the bare file.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="The signature of a folder must be of this key (PEM).")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Wall seconds that one step may take; default: 300, for a bare file 12, for one answer of a server 30."),
    ] = None,
    repro: Repro = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
    as_json: JsonFlag = False,
    traceback: Traceback = False,
) -> None:
    """Check folders: digests, then each artifact against its golden cases. Check bare files: read with limits, loaded, run once."""
    answer = _Answer(reports.Files(junit, markdown, html), as_json=as_json, traceback=traceback)
    answer.prepare()
    if not against and (search or cases):
        raise typer.BadParameter("a search needs the network: name it with --against", param_hint="--search" if search else "--case")
    if url and (against or baseline or golden or repro or ort_library or provider != "cpu"):
        raise typer.BadParameter("a server is compared with golden cases alone", param_hint="--url")
    net = Against(against, tuple(inputs or ()), weights, search, tuple(cases or ())) if against else None
    question = inspection.Question(
        Runtime(provider, ort_library, allow_cpu_nodes),
        golden,
        expect_digest,
        timeout,
        public_key,
        against=net,
        baseline=baseline,
        slower=slower,
        url=url,
    )
    try:
        paths = inspection.expand(targets, question)
    except LoadError as error:
        answer.give([_fault(" ".join(targets), error)])
    with Host.start(inspection.early(question), inspection.idle(paths)) as server, _Progress(quiet=as_json) as progress:
        asked = {one: replace(question, repro=_place(repro, one.name, paths)) for one in paths}
        outcomes = [
            _told(str(one), partial(inspection.check, one, server, asked[one], progress.listen(str(one))), net=against) for one in paths
        ]
    answer.give(outcomes)


@app.command()
def serve(  # noqa: PLR0913 - one argument an option
    folders: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    host: Annotated[
        str, typer.Option(help="The address to listen on; any other than this machine's own opens it to others.")
    ] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="0 for a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="0 for a free one.")] = 8001,
    provider: Provider = "cpu",
    ort_library: Library = None,
    allow_cpu_nodes: CpuNodes = False,
    max_batch: Annotated[int, typer.Option(min=1, help="The most rows of several requests in one run; 1 batches nothing.")] = 32,
    max_delay_ms: Annotated[float, typer.Option(min=0, help="So long a request waits for company while a core is free.")] = 0.0,
    max_queue: Annotated[int, typer.Option(min=1, help="So many requests may wait for one model; the next is refused (429).")] = 256,
    max_request_mb: Annotated[int, typer.Option(min=1, max=1024, help="MiB of one request.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 30.0,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="After SIGTERM, so long new requests are taken, while readiness says no.")
    ] = 1.0,
    allow_reload: Annotated[bool, typer.Option("--allow-reload", help="Let clients load and unload models.")] = False,
    canary: Annotated[
        bool, typer.Option("--canary", help="Be ready once the golden cases come back right from the running server.")
    ] = False,
) -> None:
    """Serve the ONNX of folders that pass `check`: the Open Inference Protocol (KServe V2) over REST and gRPC."""
    answer = _Answer(reports.Files(), as_json=False, traceback=False)
    try:
        with plugins.needs("serve", "exportkit[serve]"):
            from exportkit.serving import server
            from exportkit.serving.options import Options
        options = Options(
            host, http_port, grpc_port, Runtime(provider, ort_library, allow_cpu_nodes), max_batch, max_delay_ms, max_queue,
            max_request_mb << 20, timeout, drain_seconds, allow_reload, canary,
        )  # fmt: skip
        code = server.serve(folders, options)
    except ExportKitError as error:
        answer.give([_fault(" ".join(map(str, folders)), error)])
    raise typer.Exit(code)


@app.command()
def sign(
    folders: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    private_key: Annotated[Path, typer.Option(help="An elliptic-curve key (PEM, not encrypted).")],
) -> None:
    """Sign folders that are whole; `check --public-key` verifies."""
    answer = _Answer(reports.Files(), as_json=False, traceback=False)
    for folder in folders:
        try:
            typer.echo(f"{signing.sign(folder, private_key)} is written")
        except ExportKitError as error:
            answer.give([_fault(str(folder), error)])


@app.command()
def deploy(
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(plugins.names('targets'))}.")],
    folder: Annotated[Path, typer.Argument(help="An artifact folder with an ONNX artifact.")],
    to: Annotated[Path, typer.Option(help="The folder to write below: for triton the model repository.")],
    name: Annotated[str | None, typer.Option(help="What the server shall call it; default: the network's name.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the target: NAME=VALUE.")] = None,
    traceback: Traceback = False,
) -> None:
    """Check a folder, and write what a server needs to serve its ONNX artifact."""
    from exportkit import deployment

    with Host.start((), inspection.RUNNING) as server, _Progress(quiet=False) as progress:
        run = partial(deployment.deploy, target, folder, to, name, settings or (), server, progress.listen(str(folder)))
        outcome = _told(str(folder), run)
    if outcome["exit_code"]:
        _Answer(reports.Files(), as_json=False, traceback=traceback).give([outcome])
    path, *notes = [one["text"] for one in outcome["findings"] if one["code"] == "deployed"]
    typer.echo("\n".join([f"{path} is written", *(f"  {note}" for note in notes)]))


@app.command("baseline")
def write_baseline(
    folders: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    to: Annotated[Path, typer.Option(help="The folder for the baselines, one small text file each.")] = Path("baselines"),
    provider: Provider = "cpu",
    ort_library: Library = None,
    allow_cpu_nodes: CpuNodes = False,
    timeout: Timeout = 300.0,
    traceback: Traceback = False,
) -> None:
    """Check folders, and write what they hold into small text files for `check --baseline` to compare with."""
    question = inspection.Question(Runtime(provider, ort_library, allow_cpu_nodes), timeout=timeout)
    with Host.start((), inspection.idle(folders)) as server, _Progress(quiet=False) as progress:
        outcomes = [_told(str(one), partial(inspection.record, one, to, server, question, progress.listen(str(one)))) for one in folders]
    for one in outcomes:
        if not one["exit_code"]:
            typer.echo(one["findings"][-1]["text"])
    if bad := [one for one in outcomes if one["exit_code"]]:
        _Answer(reports.Files(), as_json=False, traceback=traceback).give(bad)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project.")] = Path(),
    install: Annotated[
        str, typer.Option(help="What pip installs in the workflow: it is not on PyPI yet, name a git+https://...")
    ] = "exportkit",
) -> None:
    """Write a network file to start from and a GitHub workflow; what is there already stays."""
    answer = _Answer(reports.Files(), as_json=False, traceback=False)
    try:
        written, kept = starter.write(folder, install)
    except StoreError as error:
        answer.give([_fault(str(folder), error)])
    for file in written:
        typer.echo(f"{file} is written")
    for file in kept:
        typer.echo(f"{file} stays as it is")
    typer.echo(f"Next: exportkit export {shlex.quote(str(folder / 'net.py'))}")


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Show versions, devices and providers, and what keeps one from loading."""
    with Host.start(("torch",)) as server:
        text = server.run("exportkit.doctor:report", as_json, limits=Limits(120.0), stage="examining this machine")
    typer.echo(text)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"exportkit {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line; a Ctrl-C ends it with 130 and leaves nothing behind."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


class _Progress:
    """What is being done: one live line on a terminal, plain lines on stderr elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.status: Any = None
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console

            self.status = Console(stderr=True).status("starting")
            self.status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status:
            self.status.stop()

    def listen(self, name: str) -> pipeline.Listener:
        told: set[str] = set()

        def tell(text: str) -> None:
            if self.status:
                self.status.update(f"{name}: {text}")
                return
            step = text.partition(",")[0].partition(":")[0]  # a step, without the number of its case
            with self.lock:
                if not self.quiet and step not in told:
                    told.add(step)
                    print(f"{name}: {step}", file=sys.stderr)  # noqa: T201 - the command line's own output

        return tell


def _formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [one for one in chosen if one not in FORMATS]
    if unknown or not chosen:
        raise typer.BadParameter(f"{', '.join(unknown) or 'nothing'} is no format; there are {', '.join(FORMATS)}", param_hint="--format")
    return chosen


def _place(repro: str | None, name: str, targets: Sequence[object]) -> str | None:
    """Gives each of several networks a folder of its own."""
    return repro if repro is None or len(targets) == 1 else str(Path(repro) / Path(name.replace(":", ".")).name)


def _attempt(request: Request, server: Host, progress: _Progress) -> dict[str, Any]:
    run = partial(pipeline.export, request, server, progress.listen(Path(request.net).name))
    return _told(request.net, run, _again(request), request.net)


def _again(request: Request) -> str:
    """Returns the command for this network, with the options that were given but for the formats."""
    from dataclasses import fields

    usual = {one.name: one.default for one in fields(Request)}
    words = ["exportkit", "export", request.net]
    for name in sorted(usual.keys() - {"net", "formats", "inputs", "memory", "cases"}):
        value, flag = getattr(request, name), f"--{name.replace('_', '-')}"
        if value != usual[name]:
            words += [flag] if value is True else [flag, str(value)]
    words += [word for text in request.inputs for word in ("--input", text)]
    words += [word for text in request.cases for word in ("--case", text)]
    words += ["--memory", f"{request.memory / 2**30:g}"] if request.memory else []
    return shlex.join(words)


def _told(target: str, run: Any, command: str = "", net: str | None = None) -> dict[str, Any]:
    """Runs a step and returns its summary, or that of its error; `net` is the network that the command was given."""
    from exportkit.summary import summarise

    try:
        return summarise(run(), command=command, net=net or "")
    except ExportKitError as error:
        return _fault(target, error)


def _fault(target: str, error: ExportKitError) -> dict[str, Any]:
    fault = {"kind": type(error).__name__, "what": error.what, "where": error.where, "todo": error.todo}
    details = getattr(error, "details", "")
    return {"target": target, "error": fault, "details": details, "outcome": error.outcome, "exit_code": error.exit_code}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a command says at its end: on stdout, and in the files that it was asked for."""

    files: reports.Files
    as_json: bool
    traceback: bool

    def prepare(self) -> None:
        """Ends the command at once where a report could not be written."""
        try:
            self.files.prepare()
        except ExportKitError as error:
            self._refuse(error)

    def give(self, outcomes: list[dict[str, Any]]) -> NoReturn:
        """Prints, writes the reports, and ends the command with the worst outcome's code."""
        if self.as_json:
            shown = [{key: value for key, value in one.items() if self.traceback or key != "details"} for one in outcomes]
            typer.echo(plugins.load("reporters", "json").render(shown if len(shown) > 1 else shown[0]))
        else:
            self._print(outcomes)
        try:
            self.files.write(outcomes)
        except ExportKitError as error:
            self._refuse(error)
        raise typer.Exit(max(one["exit_code"] for one in outcomes))

    def _print(self, outcomes: list[dict[str, Any]]) -> None:
        text = plugins.load("reporters", "text")
        for one in outcomes:
            if "error" in one:
                typer.echo(_error(one, traceback=self.traceback), err=True)
            elif len(outcomes) == 1 or one["exit_code"]:
                typer.echo(text.render(one, colour=sys.stdout.isatty(), width=_width()))
        if len(outcomes) > 1:
            typer.echo(text.render_many(outcomes, colour=sys.stdout.isatty(), width=_width()))

    def _refuse(self, error: ExportKitError) -> NoReturn:
        typer.echo(_error(_fault("", error), traceback=self.traceback), err=True)
        raise typer.Exit(error.exit_code)


def _error(outcome: dict[str, Any], *, traceback: bool) -> str:
    outcome = wording.printable(outcome)
    fault = outcome["error"]
    place = fault["where"] or outcome["target"]
    word = "rejected" if outcome["outcome"] == "rejected" else "error"
    lines = [*(outcome["details"].splitlines() if traceback else []), f"{word}: {place}: {fault['what']}"]
    return "\n".join([*lines, *([f"  {fault['todo']}"] if fault["todo"] else [])])


def _width() -> int:
    import shutil

    return min(shutil.get_terminal_size((120, 40)).columns, 140)
