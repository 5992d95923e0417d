"""Does the gate fail what is right? It judges good ONNX artifacts, and should pass every one.

    python benchmarks/false_alarms.py [--random 300] [--seeds 5] [--jobs 2] [--json FILE] [NETWORK_OR_FOLDER ...]

- Random small networks, made to be hard: outputs of one element, differences that cancel, logits beside masks of -1e9.
- The reference networks (layers/networks, benchmarks/networks), or the files and folders named: each exported once, and judged on the cases
  of several seeds.
An artifact that fails is a false alarm, or a wrong export: the line says why, for a reader to find out. Outputs that end undetermined are
counted with their reasons. Seeds draw everything.
"""

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import gate
import torch
from torch import nn

from exportkit import load
from exportkit.errors import ExportKitError
from exportkit.load import Given

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "layers" / "networks", ROOT / "benchmarks" / "networks")


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict on a good artifact.

    Attributes:
        outcome: the gate's word, or "not exported".
        outputs: how many outputs it has.
        undetermined: why outputs are undetermined, one text each.
        dropped: how many cases were no evidence.
    """

    network: str
    seed: int
    outcome: str
    why: str
    outputs: int
    undetermined: tuple[str, ...]
    dropped: int


class Head(nn.Module):
    """A small network under a result that is hard to judge."""

    def __init__(self, body: nn.Module, kind: str, width: int, offset: float) -> None:
        super().__init__()
        self.body, self.kind, self.offset = body, kind, offset
        self.one, self.two = nn.Linear(width, 1), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return HEADS[self.kind](self, x, self.body(x))


def _variance(net: Head, _: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    moved = h + net.offset
    return moved.pow(2).mean(-1) - moved.mean(-1).pow(2)


HEADS: dict[str, Callable[[Head, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "one element": lambda net, _, h: net.one(h).mean(0),
    "sum": lambda _, __, h: h.sum(),
    "difference": lambda net, _, h: net.two(h).sum(-1) - (net.two(h) + net.offset).mean(-1) * 2,
    "variance by moments": _variance,
    "log-sum-exp less maximum": lambda net, _, h: torch.logsumexp(h * net.offset, -1) - (h * net.offset).amax(-1),
    "masked logits": lambda net, _, h: h.masked_fill(net.two(h) > 0, -1e9),
    "masked softmax": lambda _, x, h: (h + torch.where(x[..., :1] > 0, 0.0, -1e9)).softmax(-1),
}


def random_network(seed: int) -> tuple[str, nn.Module, torch.Tensor]:
    """Makes a network and its example from a seed."""
    torch.manual_seed(seed)

    def pick(*choices: Callable[[], nn.Module]) -> nn.Module:
        return choices[int(torch.randint(len(choices), ()))]()

    kind = list(HEADS)[seed % len(HEADS)]
    enter, width, batch = (int(torch.randint(low, high, ())) for low, high in ((2, 200), (2, 65), (1, 4)))
    layers: list[nn.Module] = [nn.Linear(enter, width)]
    for _ in range(int(torch.randint(0, 3, ()))):
        layers.append(pick(nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity))
        layers.append(pick(lambda: nn.Linear(width, width), lambda: nn.LayerNorm(width)))
    offset = 10.0 ** float(torch.rand(()) * 2 - 0.5)
    scale = 10.0 ** float(torch.rand(()) * 3 - 1.5)
    return kind, Head(nn.Sequential(*layers), kind, width, offset).eval(), torch.randn(batch, enter) * scale


def judge_random(seeds: Sequence[int]) -> list[Row]:
    """Judges random networks, each exported at one size."""
    _quiet()
    rows = []
    for seed in seeds:
        kind, model, example = random_network(seed)
        live = load.hold_object(Given(model, example, {}), f"random_{seed}")[1]
        rows += _judge(live, kind, [seed])
    return rows


def judge_network(file: str, seeds: int) -> list[Row]:
    """Judges one network file: exported once, judged on the cases of each seed."""
    _quiet()
    name = Path(file).stem
    try:
        return _judge(load.hold(file)[1], name, range(seeds))
    except ExportKitError as error:
        return [Row(name, 0, "not exported", error.what, 0, (), 0)]


def _judge(live: load.Live, name: str, seeds: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    proof: gate.Proof | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            network, evidence = gate.gather(live, Path(scratch, f"cases-{seed}"), seed)
            if proof is None or proof.made.artifact is None:
                proof = gate.prove(live, network, evidence, Path(scratch, f"made-{seed}"), "onnx")
                reports = proof.made.reports
            else:
                proof = gate.Proof(live, proof.network, evidence, proof.made)
                reports = (gate.judge_file(proof, proof.file),)
            outcome = reports[0].outcome if reports else "not exported"
            why = gate.why(reports[0]) if reports else proof.made.refused
            short = tuple(text for text in (reports[0].undetermined if reports else ()))
            rows.append(Row(name, seed, outcome, why, len(network.outputs), short, len(evidence.dropped)))
    return rows


def _quiet() -> None:
    """Silences what torch's exporters print."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yields the counts of outcomes by network or kind, and every verdict that is not "passed"."""
    count = collections.Counter(row.outcome for row in rows)
    judged = [row for row in rows if row.outcome != "not exported"]
    outputs, short = sum(row.outputs for row in judged), sum(len(row.undetermined) for row in judged)
    yield f"{title}: {len(rows)} verdicts, {', '.join(f'{number} {outcome}' for outcome, number in sorted(count.items()))}"
    yield f"  undetermined: {short} of {outputs} outputs; cases that were no evidence: {sum(row.dropped for row in judged)}"
    for name in sorted({row.network for row in rows}):
        of = collections.Counter(row.outcome for row in rows if row.network == name)
        yield f"  {name:32} {', '.join(f'{number} {outcome}' for outcome, number in sorted(of.items()))}"
    for row in rows:
        if not row.outcome.startswith("passed"):
            yield f"  {row.outcome}: {row.network}, seed {row.seed}: {row.why[:300]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[str(folder) for folder in REFERENCE], help="files or folders")
    parser.add_argument("--random", type=int, default=300, help="random networks")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    started = time.monotonic()
    files, blocks = gate.networks(args.networks), [range(first, min(first + 20, args.random)) for first in range(0, args.random, 20)]
    found: dict[str, list[Row]] = {"random": [], "files": []}
    context = multiprocessing.get_context("spawn")
    # A process for each network: what one leaves behind must not reach another.
    with concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        tasks = {pool.submit(judge_random, block): "random" for block in blocks}
        tasks |= {pool.submit(judge_network, file, args.seeds): "files" for file in files}
        for done, task in enumerate(concurrent.futures.as_completed(tasks), 1):
            found[tasks[task]] += task.result()
            print(f"[{time.monotonic() - started:5.0f} s] {done} of {len(tasks)}", file=sys.stderr, flush=True)
    for title, rows in (("random networks", found["random"]), ("network files", found["files"])):
        if rows:
            print("\n".join(table(title, sorted(rows, key=lambda row: (row.network, row.seed)))))
    if args.json:
        args.json.write_text(json.dumps({key: [asdict(row) for row in rows] for key, rows in found.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
