"""Where onnxruntime's CUDA provider put each node of a model, and why one runs on the CPU: its own log tells. Needs no torch."""

import contextlib
import faulthandler
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from exportkit.spec import Finding

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
INFO = 1  # the severity at which the providers say why they leave a node

# Sizes and places: onnxruntime computes them on the host, where they are needed, although CUDA could. That costs nothing.
CHEAPER = "cheaper on the CPU"
_NO_KERNEL, _UNFIT = "no CUDA kernel", "no CUDA kernel for its attributes"
_PREFERRED = re.compile(r"Force fallback to CPU execution for node: (.*?) because the CPU execution path is deemed faster")
_REFUSED = (
    (re.compile(r"CUDA kernel not found in registries for Op type: (\S+) node name: (.*)"), _NO_KERNEL),
    (re.compile(r"CUDA kernel not supported\. Fallback to CPU execution provider for Op type: (\S+) node name: (.*)"), _UNFIT),
)
_COPIES = re.compile(r"(\d+) Memcpy nodes are added to the graph (.*?) for CUDAExecutionProvider")
_WHOSE = ":onnxruntime:"  # in every line that onnxruntime logs


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """Collects what onnxruntime logs, which goes past Python to the process's stderr; lines of others go on to there."""
    lines: list[str] = []
    sys.stderr.flush()
    log, stderr = os.memfd_create("log"), os.dup(2)
    os.dup2(log, 2)
    traced = faulthandler.is_enabled()
    if traced:
        faulthandler.enable(stderr, all_threads=False)  # what a crash leaves behind goes where somebody reads it
    try:
        yield lines
    finally:
        os.dup2(stderr, 2)
        if traced:
            faulthandler.enable(2, all_threads=False)
        os.lseek(log, 0, os.SEEK_SET)
        with open(log, errors="replace") as file:  # noqa: PTH123 - a descriptor, no path
            for line in file:
                if _WHOSE in line:
                    lines.append(line.removesuffix("\n"))  # a node without a name ends its line in a space
                else:
                    os.write(stderr, line.encode())
        os.close(stderr)


def counts(session: Any) -> dict[str, dict[str, int]]:
    """Counts the nodes that each provider took, those of bodies too: provider -> operator -> count."""
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return {provider: dict(sorted(operators.items())) for provider, operators in found.items()}


def explain(session: Any, log: Sequence[str], file: Path, source: str) -> dict[str, Any]:
    """Says of each node on the CPU why it is there, and how many values are copied between GPU and host.

    Args:
        session: onnxruntime's, made while `logged` collected `log` at the severity `INFO`.
        source: the name of the network's file, to find its lines.

    Returns:
        Plain JSON values. "on_cpu": a list of {"node", "operator", "why"}, and where CUDA cannot run one also {"loop", "where"}; "why" is
        empty where onnxruntime does not say. "copies": graph -> number. "copies_in_loops": a list of {"loop", "count", "where"}, the
        number at each step.
    """
    refused = {(found[1], found[2]): why for pattern, why in _REFUSED for line in log if (found := pattern.search(line))}
    preferred = {found[1] for line in log if (found := _PREFERRED.search(line))}  # many nodes may have no name: a refusal counts first
    nodes = [node for part in session.get_provider_graph_assignment_info() if part.ep_name == CPU for node in part.get_nodes()]
    reasons = (refused.get((node.op_type, node.name), CHEAPER if node.name in preferred else "") for node in nodes)
    on_cpu = [{"node": node.name, "operator": node.op_type, "why": why} for node, why in zip(nodes, reasons, strict=True)]
    copies = {found[2]: int(found[1]) for line in log if (found := _COPIES.search(line))}
    strangers = [one for one in on_cpu if one["why"] != CHEAPER]
    in_loops: Counter[str] = Counter()
    lines: Mapping[str, str] = {}
    if strangers or copies:
        loops, lines = _places(file, source)
        for one in strangers:
            one |= {"loop": loops.get(one["node"], ""), "where": lines.get(one["node"], "")}
        for graph, count in copies.items():
            if loop := loops.get(graph):
                in_loops[loop] += count
    return {
        "on_cpu": on_cpu,
        "copies": copies,
        "copies_in_loops": [{"loop": loop, "count": count, "where": lines.get(loop, "")} for loop, count in in_loops.items()],
    }


def findings(facts: Mapping[str, Any], *, allowed: bool) -> Iterator[Finding]:
    """Words what `explain` found: an operator that CUDA cannot run is an error, unless nodes on the CPU are allowed.

    Args:
        facts: of a session; one that did not run on CUDA holds nothing of this.
    """
    strangers = [one for one in facts.get("on_cpu", ()) if one["why"] != CHEAPER]
    todo = "" if allowed else "; write it with other operators, or allow it with --allow-cpu-nodes"
    for operator in dict.fromkeys(one["operator"] for one in strangers):
        some = [one for one in strangers if one["operator"] == operator]
        why = ", ".join(dict.fromkeys(one["why"] or "onnxruntime does not say why" for one in some))
        loops = list(dict.fromkeys(one["loop"] for one in some if one["loop"]))
        when = f"at every step of {', '.join(loops)}" if loops else "in each run"
        text = f"{_nodes(some)} on the CPU ({why}): the GPU waits for it {when}{todo}"
        yield Finding("warning" if allowed else "error", "on-cpu", text, next((one["where"] for one in some if one["where"]), ""))
    for one in facts.get("copies_in_loops", ()):
        values = f"{one['count']} value{'s are' if one['count'] > 1 else ' is'}"
        text = f"{values} copied between GPU and host at every step of {one['loop']}, and the GPU waits"
        yield Finding("warning", "copies-in-loop", text, one["where"])


def _nodes(some: Sequence[Mapping[str, str]]) -> str:
    first = some[0]
    named = f"{first['operator']} ({first['node']})" if first["node"] else first["operator"]
    return f"{named} runs" if len(some) == 1 else f"{len(some)} nodes of {first['operator']} ({first['node']}, ...) run"


def _places(file: Path, source: str) -> tuple[dict[str, str], dict[str, str]]:
    """Reads from a model: node or body -> the loop around it, node -> the user's line."""
    import onnx_ir as ir

    from exportkit import graphs

    def inside(nodes: Iterable[ir.Node], loop: str) -> Iterator[tuple[str, str]]:
        for node in nodes:
            yield str(node.name), loop
            for body in graphs.bodies(node).values():
                around = str(node.name) if node.op_type in ("Loop", "Scan") else loop
                yield str(body.name), around
                yield from inside(body, around)

    graph = ir.load(file).graph
    lines = {str(node.name): graphs.origin(node, source).where for node in graph.all_nodes()}
    return dict(inside(graph, "")), {name: line for name, line in lines.items() if not line.startswith("<")}  # no source of the user's
