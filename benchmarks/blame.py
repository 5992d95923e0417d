"""How often `exportkit` blames the node that was changed: single nodes of good ONNX exports are mutated one at a time.

    python benchmarks/blame.py [--each 4] [--seed 0] [--only cnn,gru]

Kept are the mutants that run and that the gate catches. A hit is the mutated node, or one that reads its output directly. Mutants that
change two nodes (weights swapped, outputs exchanged), and single elements of weights, are no part of the goal: they are told apart.
"""

import argparse
import collections
import contextlib
import copy
import importlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mutations
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from exportkit import blame, golden, intermediates, judge, load, make, reference, sample
from exportkit.errors import ExportKitError
from exportkit.load import Live
from exportkit.messages import Scene, Suspect, Trial
from exportkit.results import flatten, to_numpy
from exportkit.spec import Network, Runtime, TensorSpec
from exportkit.worker import Limits

GOAL = 0.95


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm, self.group, self.head = nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.one(x))), 2)
        x = F.leaky_relu(self.group(self.two(x)))
        return torch.as_tensor(self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))).log_softmax(-1)


class Upsampler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Conv2d(1, 6, 3, 2, 1), nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.elu(self.down(F.pad(x, (2, 2, 2, 2), mode="reflect"))))
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return torch.as_tensor(self.out(torch.cat([x, y], 1))).sigmoid()


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(40, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.layer(self.embed(ids) * 4, src_key_padding_mask=~mask)
        x = (self.norm(x) * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return torch.as_tensor(self.out(x))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Embedding(30, 16), nn.Linear(16, 48, bias=False), nn.Linear(16, 30, bias=False)
        self.gate, self.up, self.down = nn.Linear(16, 24, bias=False), nn.Linear(16, 24, bias=False), nn.Linear(24, 16, bias=False)
        self.norm = nn.RMSNorm(16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        angle = torch.arange(ids.shape[1])[:, None] / 100 ** (torch.arange(4) / 4)
        q, k = (torch.cat([a[..., :4] * angle.cos() - a[..., 4:] * angle.sin(), a[..., 4:] * angle.cos() + a[..., :4] * angle.sin()], -1)
                for a in (q, k))  # fmt: skip
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return torch.as_tensor(self.out(x))


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(6, 8, batch_first=True, bidirectional=True), nn.GRU(16, 8, batch_first=True)
        self.conv, self.out = nn.Conv1d(8, 8, 3, padding=1, groups=2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(x)
        y, h = self.gru(torch.tanh(y))
        z = F.softplus(self.conv(y.transpose(1, 2)).transpose(1, 2)) + y
        return self.out(z).softmax(-1), h.squeeze(0)


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.message, self.update, self.out = nn.Linear(8, 8), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for _ in range(2):
            sent = F.relu(self.message(x))[edges[0]]
            total = torch.zeros_like(x).index_add(0, edges[1], sent)
            degree = torch.zeros(x.shape[0]).index_add(0, edges[1], torch.ones(edges.shape[1])).clamp(min=1)
            x = torch.tanh(self.update(torch.cat([x, total / degree.unsqueeze(-1)], -1)))
        return torch.as_tensor(self.out(x - x.mean(0, keepdim=True)))


class Dynamic(nn.Module):
    """The forward algorithm of a linear chain, as a scan; then a branch."""

    loops = True

    def __init__(self) -> None:
        super().__init__()
        self.emit, self.mix = nn.Linear(5, 4), nn.Linear(4, 4)
        self.moves = nn.Parameter(torch.randn(4, 4), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.emit(x).transpose(0, 1).clone()

        def step(alpha: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            new = torch.logsumexp(alpha.unsqueeze(-1) + self.moves, 1) + row
            return new, new.exp()

        alpha, seen = torch._higher_order_ops.scan(step, scores[0] * 0, scores)  # noqa: SLF001 - torch has no public name for it yet
        other = torch.cond(x.mean() > 0, lambda a: self.mix(a).relu() + a, lambda a: self.mix(a).sigmoid() * a, (alpha,))
        return torch.logsumexp(other, -1), seen.sum(0)


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor, limit: Tensor) -> dict[str, Tensor]:
        y = F.hardswish(self.one(x)).clamp(-3, 3)
        z = F.gelu(self.two(y), approximate="tanh")
        best, where = z.topk(3, -1)
        kept = torch.where(z > limit, z, torch.full_like(z, -1e9))
        return {"best": best, "where": where, "kept": kept.softmax(-1), "total": z.cumsum(-1).floor() / 2, "norm": F.normalize(z, dim=-1)}


def networks() -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    yield "image", Image(), (torch.randn(2, 3, 16, 16),)
    yield "upsampler", Upsampler(), (torch.randn(2, 1, 12, 12),)
    yield "text", Text(), (torch.randint(0, 40, (2, 7)), torch.ones(2, 7, dtype=torch.bool))
    yield "decoder", Decoder(), (torch.randint(0, 30, (2, 6)),)
    yield "sequence", Sequence(), (torch.randn(2, 9, 6),)
    yield "graph", Graph(), (torch.randn(6, 8), torch.randint(0, 6, (2, 14)))
    yield "dynamic", Dynamic(), (torch.randn(2, 6, 5),)
    yield "scores", Scores(), (torch.randn(4, 12), torch.tensor(0.1))


class Here:
    """Runs in this process what exportkit runs in children."""

    def __init__(self, *held: Any) -> None:
        self.held = held

    def run(self, function: str, *args: Any, **_: Any) -> Any:
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(*self.held, *args)


@dataclass
class Subject:
    scene: Scene
    program: Any
    model: onnx.ModelProto

    def catch(self, mutant: onnx.ModelProto, folder: Path) -> str:
        """Returns the failing case of a mutant that runs; "" where it does not, or passes."""
        onnx.save(mutant, folder / self.scene.artifact.files[0])
        scene = replace(self.scene, folder=folder)
        try:
            reports = judge.judge_all(folder, scene.artifact, scene.network, Runtime(), scene.trial, probing=False)
        except ExportKitError:
            return ""
        if any(one.code == "does-not-run" for report in reports for one in report.findings):
            return ""
        return blame.failing_case(scene, reports)

    def blame(self, case: str, folder: Path) -> Suspect:
        tracer = blame.Tracer(Here(), Limits(), lambda _: None, Here(self.program))  # type: ignore[arg-type]
        return tracer.search(replace(self.scene, folder=folder), case)


def prepare(name: str, module: nn.Module, example: tuple[Tensor, ...], work: Path) -> Subject:
    _, live = load.hold_object(load.Given(module.requires_grad_(requires_grad=False), example), name)
    (work / "cases").mkdir(parents=True)
    network, trial = (plain_cases if hasattr(module, "loops") else proven_cases)(live, work / "cases")
    made = make.make(live, [("onnx", 0, work / "onnx")], network, None, None, Runtime())["onnx"].made
    if isinstance(made, ExportKitError):
        raise made
    scene = Scene(work / "onnx", made, network, trial, Runtime(), work)
    verdict = judge.judge_all(scene.folder, made, network, Runtime(), trial, probing=False)[0]
    if verdict.outcome == "failed":
        raise SystemExit(f"{name}: the good export fails: {[one for one in verdict.measurements if not one.passed][:2]}{verdict.findings}")
    _, program = intermediates.hold(live, network, made.strategy, None, None, Runtime())
    return Subject(scene, program, onnx.load(scene.folder / made.files[0]))


def proven_cases(live: Live, folder: Path) -> tuple[Network, Trial]:
    survey = reference.survey(live)
    network = replace(live.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
    proof = reference.build(live, survey.symbols, survey.cases, folder)
    trial = replace(proof.trial, budgets=judge.weigh(folder, proof.weighed, proof.outputs, narrow=proof.narrow))
    return replace(network, outputs=proof.outputs), trial


def plain_cases(live: Live, folder: Path) -> tuple[Network, Trial]:
    """Draws cases and runs them without any dispatch mode: torch 2.13 compiles a scan anew under one, and then not again."""
    cases = sample.plan(live.network, 0)
    double = copy.deepcopy(live.module).double()
    outputs: tuple[TensorSpec, ...] = ()
    for case in cases:
        inputs = sample.draw(live, (), case)
        eager = flatten(live.call(inputs), frozenset())[1]
        oracle = flatten(double(*(value.double() for value in inputs.values())), frozenset())[1]
        arrays = {f"input/{name}": value for name, value in inputs.items()}
        arrays |= {f"eager/{name}": value for name, value in eager.items()} | {f"oracle/{name}": value for name, value in oracle.items()}
        golden.write(folder / f"{case.name}.safetensors", {f"{case.name}/{name}": to_numpy(value) for name, value in arrays.items()})
        outputs = tuple(TensorSpec(name, "float32", tuple(value.shape)) for name, value in eager.items())
    inside = tuple(case for case in cases if case.domain == "inside")
    trial = Trial(folder, inside, judge.weigh(folder, [case.name for case in inside], outputs, narrow=False))
    return replace(live.network, outputs=outputs), trial


def is_hit(original: onnx.ModelProto, mutant: mutations.Mutant, suspect: Suspect) -> bool:
    """Says whether the blamed node changed, it or a weight that it reads, or reads the output of one that did."""
    if not suspect.nodes:
        return False
    blamed, before = suspect.nodes[0], mutations.prepared(original)
    weights = [{one.name: one.SerializeToString() for one in weights_of(model)} for model in (before, mutant.model)]
    nodes = {node.name: node.SerializeToString() for node in nodes_of(before)}
    changed = [
        node
        for node in nodes_of(mutant.model)
        if nodes.get(node.name) != node.SerializeToString() or any(weights[0].get(name) != weights[1].get(name) for name in node.input)
    ]
    return any(blamed.name == node.name or any(name in blamed.inputs for name in node.output) for node in changed)


def weights_of(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [one for graph in mutations._graphs(model.graph) for one in graph.initializer]  # noqa: SLF001 - one family of scripts


def nodes_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for graph in mutations._graphs(model.graph) for node in graph.node]  # noqa: SLF001 - one family of scripts


def family(mutant: mutations.Mutant) -> str:
    if mutant.kind in ("weights swapped", "output permuted"):
        return "two nodes"
    return "one element" if mutant.kind.startswith("element") else "one node"


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps onnxruntime's own error log off the terminal."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=4, help="mutants of each kind and network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="networks, comma-separated")
    parser.add_argument("--verbose", action="store_true", help="print every miss")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    hits: dict[tuple[str, str], list[bool]] = collections.defaultdict(list)
    seconds: list[float] = []
    for name, module, example in networks():
        if args.only and name not in args.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as scratch, silent():
            subject = prepare(name, module, example, Path(scratch) / "work")
            folder = Path(scratch) / "mutant"
            for mutant in mutations.mutants(subject.model, args.seed, args.each):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                case = subject.catch(mutant.model, folder)
                if not case:
                    continue
                started = time.monotonic()
                suspect = subject.blame(case, folder)
                seconds.append(time.monotonic() - started)
                hit = is_hit(subject.model, mutant, suspect)
                hits[name, family(mutant)].append(hit)
                if args.verbose and not hit:
                    who = suspect.nodes[0].name if suspect.nodes else "nobody"
                    print(f"  missed {name}: {mutant.kind}: {mutant.name}: blamed {who}, {suspect.local.times:.3g}x", flush=True)
        told = [f"{kind} {sum(found)} of {len(found)}" for (one, kind), found in hits.items() if one == name]
        print(f"{name:12} {', '.join(told)}", flush=True)
    for kind in ("one node", "two nodes", "one element"):
        found = [hit for (_, one), values in hits.items() if one == kind for hit in values]
        if found:
            goal = f" (goal: at least {GOAL:.0%})" if kind == "one node" else ""
            print(f"{kind:12} {sum(found)} of {len(found)} = {sum(found) / len(found):.1%}{goal}")
    print(f"a search takes {sorted(seconds)[len(seconds) // 2]:.2f} s (median), {max(seconds):.2f} s at most", file=sys.stderr)


if __name__ == "__main__":
    main()
