"""How fast the layers run in onnxruntime on the CPU, beside eager PyTorch, frozen TorchScript and torch.compile.

    python benchmarks/layer_speed.py [--only SoftDTW,LinearChainCRF.decode] [--threads 1] [--rounds 25] [--compile 45] [--json FILE]

Each method that a server runs, at the two sizes of layer_sizes.py: exported and proven from a shorter example, then timed at sizes that the
export never saw. A row gives the milliseconds of the ONNX, and how many times longer each other way takes. Of the rounds, which go by
turns, the fastest counts: what else a busy machine does only adds to it.
- eager: under no_grad;  torchscript: scripted and frozen;  a result that is a view is written in the order of its shape, as ONNX gives it;
- compile: torch.compile as it comes, in a process of its own, by turns with the ONNX there. It has `--compile` seconds for both sizes of a
  layer, as it writes a loop out; then the row says so. "breaks": it runs a part in eager; "each size": it compiles anew for each length.
"wrong" is beside a way whose result is not eager's. The goal: the ONNX is ahead of all three at both sizes, or REASONS says why it is not.
Exits with 1 where the goal is missed. docs/make_layers.py reads the JSON.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from layer_sizes import CASES, Case, example, fixed
from torch import _dynamo as dynamo
from torch._dynamo import utils as dynamo_utils

import exportkit

COMPETITORS = ("eager", "torchscript", "compile")
FEWEST, ENOUGH, ROUND = 7, 3.0, 0.001  # rounds that each way gets; seconds after which it gets no more; seconds that a round lasts at least
LONGEST = 600.0  # seconds that the times of one size may take
# Where the ONNX is not ahead, and why: by its profile, and of torch.compile by the kernels of the code that it generates.
REASONS: Mapping[str, str] = {
    "GlobalResponseNorm": "torch.compile scales and shifts in one pass over the image; onnxruntime runs a kernel, and a pass, for each.",
    "HashEmbedding": "torch.compile reads the tables and adds in one pass; onnxruntime writes the gathered rows (two fifths of its "
    "profile) and multiplies 8,192 small matrices one by one (half of it).",
    "Inside": "torch.compile writes the loop out for one length; another length takes it tens of seconds again.",
    "Involution2d": "onnxruntime copies each tap's window (Slice, a quarter of its profile), which torch reads in place.",
    "MinGRU": "torch.compile writes the few rounds of the scan out and fuses each; onnxruntime runs a kernel for each product, sum, "
    "shift and pad.",
    "RotaryEmbedding": "onnxruntime copies the halves apart (Split) and together again (Concat): over half of its profile.",
}
NETWORK = """
import sys
sys.path.insert(0, {folder!r})
from layer_sizes import CASES, example, varies

case = next(one for one in CASES if one.name == {name!r})
dynamic_shapes = varies(case, {sizes!r})
model, example_inputs = case.make(example({sizes!r}))
"""


class UnprovenError(Exception):
    """No artifact of a layer is proven."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A proven ONNX.

    Attributes:
        error: its largest error in units of eager's own, over all outputs.
    """

    file: Path
    strategy: str
    operators: dict[str, int]
    error: float


@dataclass(frozen=True, slots=True)
class Row:
    """The times of one method at one size.

    Attributes:
        size: "small" or "large".
        onnx: milliseconds.
        ratios: how many times longer each competitor takes; a text where it has no time.
        notes: what else is to be said of torch.compile.
        wrong: the ways whose results are not eager's.
    """

    name: str
    size: str
    sizes: dict[str, int]
    threads: int
    onnx: float
    ratios: dict[str, float | str]
    notes: str
    wrong: tuple[str, ...]
    strategy: str
    operators: dict[str, int]
    error: float

    @property
    def behind(self) -> tuple[str, ...]:
        return tuple(way for way, ratio in self.ratios.items() if not isinstance(ratio, str) and ratio < 1)


def export(case: Case, sizes: Mapping[str, int], folder: Path) -> Exported:
    """Exports and proves one method at the example's sizes.

    Raises:
        UnprovenError: the artifact is not proven.
    """
    name = case.name.replace(".", "_")
    net = folder / f"{name}.py"
    net.write_text(NETWORK.format(folder=str(Path(__file__).parent), name=case.name, sizes=dict(sizes)))
    target = str(net) if case.method == "forward" else f"{net}:model.{case.method}"
    verdict = exportkit.export(target, to=folder, name=name, formats=("onnx",), timeout=LONGEST)
    [made] = verdict.made
    if not made.good or made.artifact is None or verdict.folder is None:
        raise UnprovenError(f"{case.name} is not timed: {verdict.outcome}: {made.refused or made.reports}")
    errors = [found["times_eager_max"] for report in made.reports for found in report.differences.values()]
    return Exported(verdict.folder / f"{name}.onnx", made.artifact.strategy, dict(made.artifact.facts["operators"]), max(errors))


def sent(connection: Connection, *args: Any) -> None:
    """Runs `timed`, and sends what it raises."""
    try:
        timed(connection, *args)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        connection.send(error)


def timed(connection: Connection, case: Case, sizes: Mapping[str, int], threads: int, rounds: int, compiled: bool) -> None:
    """Gets one side ready, in a process of its own, says so, is given the ONNX, and sends the times of all its ways in milliseconds."""
    _quiet()
    torch.set_num_threads(threads)
    layer, inputs = case.make(sizes)
    plain = getattr(layer, case.method)
    ways: dict[str, Callable[[], Any]] = {}
    with torch.no_grad():
        if compiled:
            quick = torch.compile(plain)
            ways["compile"] = lambda: listed(quick(*inputs))
        else:
            frozen = torch.jit.freeze(torch.jit.script(layer), None if case.method == "forward" else [case.method])
            scripted = getattr(frozen, case.method)
            ways |= {"eager": lambda: listed(plain(*inputs)), "torchscript": lambda: listed(scripted(*inputs))}
        for run in ways.values():
            run(), run(), run()  # the profiling executor of TorchScript settles in two runs
        connection.send(notes_of(case, sizes) if compiled else "")
        expected, onnx = listed(plain(*inputs)), Session(connection.recv(), threads, inputs)
        results = {way: run() for way, run in ways.items()} | {"onnx": onnx.results()}
        wrong = [way for way, got in results.items() if not same(got, expected)]
        ways["onnx"] = onnx
        connection.send(({way: 1e3 * min(taken) for way, taken in by_turns(ways, rounds).items()}, wrong))


def by_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Times all ways by turns; a round of a short one is the mean of many runs."""
    counts, times = {}, {way: list[float]() for way in ways}
    for way, run in ways.items():
        start = time.perf_counter()
        run()
        counts[way] = max(1, int(ROUND / (time.perf_counter() - start)))
    for at in range(rounds):
        for way, run in ways.items():
            if at >= FEWEST and sum(times[way]) * counts[way] > ENOUGH:
                continue
            start = time.perf_counter()
            for _ in range(counts[way]):
                run()
            times[way].append((time.perf_counter() - start) / counts[way])
    return times


def notes_of(case: Case, sizes: Mapping[str, int]) -> str:
    """Says whether torch.compile leaves a part to eager, and whether it compiles anew for each length."""
    graphs = []

    def count(module: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(module)
        return module.forward

    dynamo.reset()
    layer, _ = case.make(sizes)
    method = torch.compile(getattr(layer, case.method), backend=count)
    counts = []
    for longer in range(5):
        method(*case.make(example(sizes, longer))[1])
        counts.append(len(graphs))
    notes = ["breaks"] if dynamo_utils.counters["graph_break"] or not counts[0] else []
    return ", ".join(notes + ["each size"] * (counts[-1] > counts[-2] > counts[-3]))


class Session:
    """The ONNX in onnxruntime; its results stay in onnxruntime's memory, as those of torch in torch's: `run` would copy them to numpy."""

    def __init__(self, file: str, threads: int, inputs: Sequence[torch.Tensor]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        for one, value in zip(self.session.get_inputs(), inputs, strict=True):
            self.binding.bind_cpu_input(one.name, value.numpy())
        for one in self.session.get_outputs():
            self.binding.bind_output(one.name)

    def __call__(self) -> None:
        self.session.run_with_iobinding(self.binding)

    def results(self) -> list[torch.Tensor]:
        self()
        return [torch.as_tensor(one) for one in self.binding.copy_outputs_to_cpu()]


def same(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return all(torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-4) for one, other in zip(got, expected, strict=True))


def listed(outputs: Any) -> list[torch.Tensor]:
    """Lists results, in the order of their shapes."""
    return [one.contiguous() for one in (outputs if isinstance(outputs, tuple) else [outputs])]


def _quiet() -> None:
    """Silences what torch's compilers print."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class Side:
    """A process that times some of the ways at one size."""

    def __init__(self, *args: Any) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=sent, args=(other, *args))
        self.process.start()
        other.close()

    def receive(self, seconds: float) -> Any:
        """Waits for what the process sends; None where it sends nothing, and ends it then."""
        with contextlib.suppress(EOFError):
            if self.connection.poll(max(seconds, 0)):
                return self.connection.recv()
        self.end()
        return None

    def times(self, file: Path) -> Any:
        """Lets the process time its ways with the ONNX among them."""
        self.connection.send(str(file))
        found = self.receive(LONGEST)
        self.end()
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def rows_of(case: Case, threads: int, rounds: int, limit: float, scratch: Path) -> Iterator[Row]:
    """Exports one method, and times it at both sizes."""
    exported: dict[str, Exported] = {}
    given_up, left = "" if limit else "-", limit
    for size, sizes in (("small", case.small), ("large", case.large)):
        began = time.monotonic()
        compiled = None if given_up else Side(case, sizes, threads, rounds, True)  # it compiles while the export goes on
        try:
            if str(fixed(sizes)) not in exported:
                exported[str(fixed(sizes))] = export(case, sizes, scratch)
        except UnprovenError:
            if compiled:
                compiled.end()
            raise
        made = exported[str(fixed(sizes))]
        notes = compiled.receive(left - (time.monotonic() - began)) if compiled else None
        left -= time.monotonic() - began
        if compiled and not isinstance(notes, str):
            given_up = "fails" if left > 0 else f"> {limit:.0f} s"
        side = Side(case, sizes, threads, rounds, False)
        found = side.times(made.file) if (ready := side.receive(LONGEST)) == "" else ready
        if not isinstance(found, tuple):
            sys.exit(f"{case.name} at {size}: the times could not be taken: {found!r}")
        times, wrong = found
        ratios: dict[str, float | str] = {way: times[way] / times["onnx"] for way in ("eager", "torchscript")} | {"compile": given_up}
        if compiled and isinstance(notes, str):
            there = compiled.times(made.file)
            ratios["compile"] = there[0]["compile"] / there[0]["onnx"] if isinstance(there, tuple) else "fails"
            wrong += [way for way in there[1] if way not in wrong] if isinstance(there, tuple) else []
        facts = (made.strategy, made.operators, made.error)
        yield Row(
            case.name, size, dict(sizes), threads, times["onnx"], ratios, notes if isinstance(notes, str) else "", tuple(wrong), *facts
        )


def line(row: Row) -> str:
    cells = [f"{ratio:>9}" if isinstance(ratio, str) else f"{ratio:8.2f}x" for ratio in row.ratios.values()]
    sizes = "x".join(map(str, row.sizes.values()))
    marks = f"  {row.notes}" * bool(row.notes) + "".join(f"  {way} WRONG" for way in row.wrong)
    behind = f"  behind {', '.join(row.behind)}" * bool(row.behind)
    return f"{row.name:26} {sizes:>18} {row.strategy:>10} {row.error:5.2f} {row.onnx:>9.3f} ms {' '.join(cells)}{behind}{marks}"


def processor() -> str:
    """Names the processor."""
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write(file: Path, rows: Sequence[Row], limit: float) -> None:
    """Writes rows into a file; those of other methods stay in it."""
    old = json.loads(file.read_text())["rows"] if file.is_file() else []
    kept = [row for row in old if row["name"] not in {one.name for one in rows}]
    places = {case.name: place for place, case in enumerate(CASES)}
    every = sorted([*kept, *map(asdict, rows)], key=lambda row: places[row["name"]])
    for row in every:
        row["ratios"] = {way: ratio if isinstance(ratio, str) else float(f"{ratio:.3g}") for way, ratio in row["ratios"].items()}
        row |= {key: float(f"{row[key]:.3g}") for key in ("onnx", "error")}
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    content = {"processor": processor(), "versions": versions, "compile_limit": limit, "reasons": dict(REASONS), "rows": every}
    file.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(case.name for case in CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--compile", type=float, default=45.0, help="seconds that torch.compile has for a layer; 0: it is left out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process that is forked must not meet a pool of threads
    rows: list[Row] = []
    unproven: list[str] = []
    print(f"{'method':26} {'sizes':>18} {'strategy':>10} {'error':>5} {'ONNX':>12} {' '.join(f'{way:>9}' for way in COMPETITORS)}")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{scratch}/compiled"
        if args.compile:  # what the compiler does but once, importing itself and its header, is on no layer's account
            importlib.import_module("torch._inductor.compile_fx")
            first = Side(CASES[0], CASES[0].small, args.threads, 1, True)
            first.receive(LONGEST)
            first.end()
        for name in args.only.split(","):
            folder = Path(scratch, name)
            folder.mkdir()
            try:
                for row in rows_of(next(one for one in CASES if one.name == name), args.threads, args.rounds, args.compile, folder):
                    rows.append(row)
                    print(line(row), flush=True)
            except UnprovenError as error:
                unproven.append(name)
                print(error, flush=True)
            if args.json:
                write(args.json, rows, args.compile)
    behind = [row for row in rows if row.behind]
    print(f"ahead of all in {len(rows) - len(behind)} of {len(rows)} rows")
    for name in dict.fromkeys(row.name for row in behind):
        print(f"  {name}: {REASONS.get(name, 'behind, and nobody knows why')}")
    sys.exit(any(row.wrong or row.name not in REASONS for row in rows if row.behind or row.wrong) or bool(unproven))


if __name__ == "__main__":
    main()
