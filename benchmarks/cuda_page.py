"""What benchmarks/cuda.py measured, as tables in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TORCH = ("eager", "torchscript", "compile", "max-autotune")
ONNX = ("plain", "bound", "graph")
BEGIN, END = "<!-- measured by benchmarks/cuda.py -->", "<!-- end -->"

Row = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def page(data: Mapping[str, Any]) -> str:
    """Writes results as Markdown tables."""
    where = data["machine"]
    lines = [f"{where['gpu']}; {where['driver']}; " + ", ".join(f"{name} {version}" for name, version in where["versions"].items()) + "."]
    if data.get("parity"):
        head = ("network", "type", "format", "verdict", "error", "with TF32", "CUDA graph", "nodes on CUDA, CPU", "same bits", "notes")
        lines += ["", *table(head, [parity_cells(row) for row in data["parity"]])]
    if data.get("speed"):
        head = ("network", "batch", *(f"{way}, ms" for way in (*TORCH, *ONNX)), "fastest", "where the ONNX is behind")
        lines += ["", *table(head, [speed_cells(row) for row in data["speed"]])]
    if data.get("roofline"):
        head = ("network", "batch", "GFLOP", "MB", "least ms", "ms", "share")
        rows = [
            (one["network"], one["batch"], f"{one['operations'] / 1e9:.3g}", f"{one['bytes'] / 1e6:.3g}", f"{one['least ms']:.3g}",
             f"{one['ms']:.3g}", f"{one['share']:.0%}")
            for one in data["roofline"]
        ]  # fmt: skip
        lines += ["", *table(head, rows)]
    return "\n".join(lines)


def parity_cells(row: Row) -> tuple[str, ...]:
    ways = {name: f"{told:.3g}x" if isinstance(told, float) else told for name, told in row.get("ways", {}).items()}
    nodes = row.get("nodes", {})
    placed = f"{nodes.get('CUDAExecutionProvider', 0)}, {nodes.get('CPUExecutionProvider', 0)}" if nodes else "-"
    notes = [row["why"], *row.get("findings", ()), *([f"{row['on the CPU']} on the CPU"] if "on the CPU" in row else [])]
    error = f"{row['error']:.3g}x" if "error" in row else "-"
    same = {True: "yes", False: "no"}.get(row.get("same bits"), "-")
    text = "; ".join(filter(None, notes)).replace("|", "/").replace("\n", " ")
    told = (ways.get("TF32", "-"), ways.get("CUDA graph", "-"), placed, same, text[:200])
    return row["network"], row["dtype"], row["format"], row["outcome"], error, *told


def speed_cells(row: Row) -> tuple[str, ...]:
    times = {way: ms for way, ms in row["ms"].items() if isinstance(ms, float) and way not in row["wrong"]}
    cells = [row["ms"].get(way, "-") for way in (*TORCH, *ONNX)]
    shown = [f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]
    wrong = [f"{way} wrong" for way in row["wrong"]]
    return (
        row["network"],
        str(row["batch"]),
        *shown,
        min(times, key=times.__getitem__, default="-"),
        "; ".join(filter(None, [*wrong, row.get("costs", "")])),
    )


def write(text: str, file: Path) -> None:
    """Puts the tables between the marks of a page."""
    old = file.read_text()
    before, rest = old.split(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
