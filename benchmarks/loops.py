"""How fast lifted loops run in onnxruntime, beside eager PyTorch, frozen TorchScript and torch.onnx's own two ways.

    python benchmarks/loops.py [--only rnn,viterbi] [--threads 1 2] [--rounds 9] [--unroll 300] [--json FILE]

Each has a process of its own, and they run by turns; a row says how many times as long as the lifted ONNX each takes (median of rounds):
- eager: the plain Python loop;  torchscript: scripted and frozen;
- legacy Loop: torch.onnx.export(scripted, dynamo=False);  unrolled: the same of the module, which bakes the length of its example.
"wrong" is beside a competitor whose result is not eager's. What is unrolled has `--unroll` seconds to export, then the row says so.
The goal: ahead of each in geometric mean, nowhere slower than 1.1x; export time and file size that do not grow with the length.
Exits with 1 where the goal is missed.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import statistics
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
from torch import Tensor, nn

import exportkit

SIZES = ((1, 100, 64), (4, 200, 128), (16, 400, 256))
COMPETITORS = ("eager", "torchscript", "legacy Loop", "unrolled")
WORST = 1.1
FEWEST, ENOUGH = 3, 20.0  # rounds that every way gets; seconds after which it gets no more


class RNNCell(nn.Module):
    """Elman's recurrence (Elman 1990)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.keep = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            state = torch.tanh(self.enter(x[:, t]) + self.keep(state))
            states.append(state)
        return torch.stack(states, 1)


class GatedCell(nn.Module):
    """A recurrence with two gates (Cho et al. 2014, the GRU)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.keep = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            reset, update, new = self.enter(x[:, t]).chunk(3, 1)
            kept = self.keep(state).chunk(3, 1)
            gate = torch.sigmoid(update + kept[1])
            state = gate * state + (1 - gate) * torch.tanh(new + torch.sigmoid(reset + kept[0]) * kept[2])
            states.append(state)
        return torch.stack(states, 1)


class Viterbi(nn.Module):
    """The best path through `width` tags, with back-trace."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.move = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        score, came = x[:, 0], []
        for t in range(1, x.shape[1]):
            best, where = (score.unsqueeze(2) + self.move).max(1)
            score = best + x[:, t]
            came.append(where)
        total, tag = score.max(1)
        path = [tag]
        for t in range(len(came)):
            tag = came[len(came) - 1 - t].gather(1, tag.unsqueeze(1)).squeeze(1)
            path.append(tag)
        return total, torch.stack(path, 1).flip(1)


class CTCForward(nn.Module):
    """The forward variables of connectionist temporal classification (Graves et al. 2006); class 0 is blank."""

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        own = x.log_softmax(2).gather(2, targets.unsqueeze(1).expand(-1, x.shape[1], -1))
        far = torch.full_like(own[:, 0, :1], -1e30)
        skips = (targets[:, 2:] != 0) & (targets[:, 2:] != targets[:, :-2])
        alpha = torch.cat([own[:, 0, :2], far.expand(-1, targets.shape[1] - 2)], 1)
        for t in range(1, x.shape[1]):
            one = torch.cat([far, alpha[:, :-1]], 1)
            two = torch.cat([far, far, torch.where(skips, alpha[:, :-2], far)], 1)
            alpha = torch.logsumexp(torch.stack([alpha, one, two]), 0) + own[:, t]
        return -torch.logsumexp(alpha[:, -2:], 1)


class SoftDTW(nn.Module):
    """Soft dynamic time warping (Cuturi and Blondel 2017), cell by cell, as their algorithm 1 is written."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        cost = (x.pow(2).sum(2).unsqueeze(2) + y.pow(2).sum(2).unsqueeze(1) - 2 * x @ y.transpose(1, 2)) / x.shape[2]
        rows, columns = cost.shape[1], cost.shape[2]
        table = torch.full((cost.shape[0], rows + 1, columns + 1), 1e20)
        table[:, 0, 0] = 0.0
        for i in range(rows):
            for j in range(columns):
                ways = torch.stack([table[:, i, j], table[:, i, j + 1], table[:, i + 1, j]], 1)
                table[:, i + 1, j + 1] = cost[:, i, j] - torch.logsumexp(-ways, 1)
        return table[:, rows, columns]


class SoftDTWByDiagonals(nn.Module):
    """The same by anti-diagonals, whose cells hang on the two diagonals before alone: how such a table is better written."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        cost = (x.pow(2).sum(2).unsqueeze(2) + y.pow(2).sum(2).unsqueeze(1) - 2 * x @ y.transpose(1, 2)) / x.shape[2]
        batch, rows, columns = cost.shape[0], cost.shape[1] + 1, cost.shape[2] + 1
        wide = nn.functional.pad(cost, [1, rows, 1, 0], value=1e20).reshape(batch, rows * (columns + rows))
        moved = wide[:, : rows * (columns + rows - 1)].view(batch, rows, columns + rows - 1).permute(2, 0, 1).contiguous()
        before = torch.full_like(moved[0], 1e20)
        last = before.clone()
        last[:, 0] = 0.0
        for d in range(1, moved.shape[0]):
            corner = nn.functional.pad(before, [1, 0], value=1e20)[:, :-1]
            above = nn.functional.pad(last, [1, 0], value=1e20)[:, :-1]
            before, last = last, moved[d] - torch.logsumexp(-torch.stack([corner, above, last]), 0)
        return last[:, -1]


def one_input(batch: int, length: int, width: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, length, width),)


def two_series(batch: int, length: int, width: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, length, width), torch.randn(batch, length, width)


def labelling(batch: int, length: int, width: int) -> tuple[Tensor, ...]:
    """Makes scores, and labels with a blank before, between and behind them."""
    labels = torch.randint(1, width, (batch, length // 5))
    return torch.randn(batch, length, width), torch.nn.functional.pad(torch.stack([torch.zeros_like(labels), labels], 2).flatten(1), [0, 1])


NETWORKS: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[int, int, int], tuple[Tensor, ...]]]] = {
    "rnn": (RNNCell, one_input),
    "gated": (GatedCell, one_input),
    "viterbi": (Viterbi, one_input),
    "ctc": (lambda _: CTCForward(), labelling),
    "soft-dtw": (lambda _: SoftDTW(), two_series),
    "soft-dtw by diagonals": (lambda _: SoftDTWByDiagonals(), two_series),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The times of one network at one size.

    Attributes:
        lifted: milliseconds of the lifted ONNX.
        times: milliseconds of each competitor; a text where it has none.
        wrong: the competitors whose results are not eager's.
    """

    network: str
    size: tuple[int, int, int]
    threads: int
    lifted: float
    times: dict[str, float | str]
    wrong: tuple[str, ...]


def make(name: str, size: tuple[int, int, int]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Makes a network and its inputs, the same in every process."""
    build, draw = NETWORKS[name]
    torch.manual_seed(0)
    return build(size[2]).eval().requires_grad_(False), draw(*size)


def export_lifted(name: str, size: tuple[int, int, int], folder: Path) -> tuple[Path, float]:
    """Exports and proves a network at a size; returns its ONNX and the seconds that making it took, without the proof.

    Raises:
        SystemExit: the artifact is not proven, or its loops are not lifted.
    """
    model, inputs = make(name, size)
    shapes = tuple(dict.fromkeys(range(2), torch.export.Dim.DYNAMIC) for _ in inputs)
    verdict = exportkit.export(model, inputs, dynamic_shapes=shapes, to=folder, name=f"net_{size[1]}", formats=("onnx",), timeout=1800)
    [made] = verdict.made
    strategy = made.artifact.strategy if made.artifact else None
    if not verdict.outcome.startswith("passed") or strategy != "lifted" or verdict.folder is None:
        sys.exit(f"{name} at {size}: {verdict.outcome}, by {strategy}: {made.refused or made.earlier}")
    seconds = json.loads((verdict.folder / "run.json").read_text())["seconds"]
    return verdict.folder / f"net_{size[1]}.onnx", sum(value for key, value in seconds.items() if key.startswith("making"))


def export_legacy(name: str, size: tuple[int, int, int], file: Path, scripted: bool) -> None:
    """Exports by torch.onnx's older exporter: a scripted module keeps its loop, any other has it unrolled."""
    _quiet()
    model, inputs = make(name, size)
    names = [f"input_{at}" for at in range(len(inputs))]
    axes = {one: {0: "batch", 1: f"length_{at}"} for at, one in enumerate(names)} if scripted else None
    part = file.with_suffix(".part")
    given = torch.jit.script(model) if scripted else model
    torch.onnx.export(given, inputs, part, dynamo=False, opset_version=20, input_names=names, dynamic_axes=axes)
    part.rename(file)


def within(seconds: float, task: Callable[..., None], *args: Any) -> str:
    """Runs a task in a process of its own; returns why it did not end well."""
    process = multiprocessing.get_context("spawn").Process(target=task, args=args)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return f"> {seconds:.0f} s"
    return "fails" if process.exitcode else ""


def measure(name: str, size: tuple[int, int, int], threads: int, files: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Times all ways by turns; returns milliseconds of each, and whose results are not eager's.

    Each has a process of its own: threads of one that wait for work would take the cores from another.
    """
    ways: dict[str, str] = {"eager": "", "torchscript": "", **files}
    with contextlib.ExitStack() as stack:
        pipes = {way: _started(stack, name, size, threads, way, file) for way, file in ways.items()}
        wrong = [way for way, pipe in pipes.items() if not _answer(pipe)]
        times: dict[str, list[float]] = {way: [] for way in ways}
        for at in range(rounds):
            for way, pipe in pipes.items():
                if at < FEWEST or sum(times[way]) < ENOUGH:
                    pipe.send("run")
                    times[way].append(_answer(pipe))
    return {"times": {way: statistics.median(taken) * 1e3 for way, taken in times.items()}, "wrong": wrong}


def _started(stack: contextlib.ExitStack, *of: Any) -> Connection:
    """Starts the process of one way, and ends it with the stack."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_timed, args=(theirs, *of))
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)
    theirs.close()
    return ours


def _answer(pipe: Connection) -> Any:
    if not pipe.poll(1800):
        raise SystemExit("a measurement takes more than half an hour")
    return pipe.recv()


def _timed(pipe: Connection, name: str, size: tuple[int, int, int], threads: int, way: str, file: str) -> None:
    """Says whether one way gives eager's results; then runs whenever it is asked to, and says how many seconds that took."""
    _quiet()
    torch.set_num_threads(threads)
    model, inputs = make(name, size)
    run: Callable[[], Any] = lambda: model(*inputs)  # noqa: E731
    with torch.no_grad():
        expected = [torch.as_tensor(one) for one in _listed(run())]
        if way == "torchscript":
            frozen = torch.jit.freeze(torch.jit.script(model))
            run = lambda: frozen(*inputs)  # noqa: E731
        elif file:
            run = _session(file, threads, inputs)
        run(), run()  # the profiling executor of TorchScript settles in two runs
        got = [torch.as_tensor(one) for one in _listed(run())]
        pipe.send(all(torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4) for a, b in zip(got, expected, strict=True)))
        while pipe.recv():
            run()  # after the others' turns
            start = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - start)


def _session(file: str, threads: int, inputs: Sequence[Tensor]) -> Callable[[], Sequence[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feeds)


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _quiet() -> None:
    """Silences what torch's exporters print."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def rows_of(name: str, threads: Sequence[int], rounds: int, unroll: float, scratch: Path) -> Iterator[Row]:
    """Exports one network every way, and times it at all sizes."""
    given_up = ""
    for size in SIZES:
        files, missing = {"lifted": str(export_lifted(name, (2, 7, size[2]), scratch / f"lifted-{size[2]}")[0])}, {}
        for way, scripted in (("legacy Loop", True), ("unrolled", False)):
            file = scratch / f"{scripted}-{size[2]}.onnx"
            # What is too long to unroll at a length is so at a larger one.
            missing[way] = (not scripted and given_up) or within(
                unroll, export_legacy, name, size if not scripted else (2, 7, size[2]), file, scripted
            )
            if not missing[way]:
                files[way] = str(file)
            elif not scripted:
                given_up = missing[way]
        for count in threads:
            found = measure(name, size, count, files, rounds)
            times = {way: found["times"].get(way, missing.get(way, "")) for way in COMPETITORS}
            yield Row(name, size, count, found["times"]["lifted"], times, tuple(found["wrong"]))


def line(row: Row) -> str:
    """Writes one row: how many times longer each competitor takes."""
    cells = []
    for way in COMPETITORS:
        taken = row.times[way]
        cells.append(f"{taken:>12}" if isinstance(taken, str) else f"{taken / row.lifted:11.2f}x" + (" wrong" if way in row.wrong else ""))
    size = "x".join(map(str, row.size))
    return f"{row.network:22} {size:>11} {row.threads:>7} {row.lifted:>9.2f} ms {' '.join(cells)}" + (
        " LIFTED WRONG" if "lifted" in row.wrong else ""
    )


def growth(name: str, scratch: Path) -> str:
    """Says whether export time and file size grow with the example's length."""
    told = []
    for length in (100, 400):
        file, seconds = export_lifted(name, (2, length, 64), scratch / "growth")
        told.append(f"{seconds:.1f} s and {file.stat().st_size} bytes at length {length}")
    return f"  {name}: made in {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--unroll", type=float, default=300.0, help="seconds that the unrolled export may take")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    print(f"{'network':22} {'B x T x W':>11} {'threads':>7} {'lifted':>12} {' '.join(f'{way:>12}' for way in COMPETITORS)}")
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(KeyboardInterrupt):
        for name in args.only.split(","):
            for row in rows_of(name, args.threads, args.rounds, args.unroll, Path(scratch, name)):
                rows.append(row)
                print(line(row), flush=True)
            print(growth(name, Path(scratch, name)), flush=True)
    met = not any("lifted" in row.wrong for row in rows)
    for way in COMPETITORS:
        ratios = [row.times[way] / row.lifted for row in rows if not isinstance(row.times[way], str)]  # type: ignore[operator]
        if ratios:
            mean, least = math.exp(statistics.fmean(map(math.log, ratios))), min(ratios)
            met = met and mean > 1 and least >= 1 / WORST
            print(f"{way}: {mean:.2f}x as long as the lifted ONNX in geometric mean of {len(ratios)} rows, at least {least:.2f}x")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    sys.exit(not met)


if __name__ == "__main__":
    main()
