"""Draws the pictures of docs/layers.md with the layers themselves: `python docs/make_pictures.py`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from layers.dynamic_programming import DynamicTimeWarping, LinearChainCRF, SoftDTW
from layers.text import AlibiBias

FOLDER = Path(__file__).parent / "pictures"
# Ink and accent stand out from a light page and from a dark one; a reader's own colour scheme chooses.
STYLE = """
text { font: 13px sans-serif; fill: #1f2328 } .small { font-size: 11px } .end { text-anchor: end } .middle { text-anchor: middle }
.cell { fill: #0969da } .line { fill: none; stroke: #1f2328; stroke-width: 1.5 } .frame { fill: none; stroke: #8c959f }
.path { fill: none; stroke: #cf222e; stroke-width: 2.5 } .second { fill: none; stroke: #8250df; stroke-width: 1.5; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .cell { fill: #58a6ff } .line { stroke: #e6edf3 } .frame { stroke: #6e7681 }
.path { stroke: #ff7b72 } .second { stroke: #d2a8ff } }
"""
TAGS, WORDS = ("determiner", "adjective", "noun", "verb"), ("the", "old", "man", "the", "boats")


def pictures() -> dict[str, str]:
    """Returns each picture's file name and its SVG."""
    torch.set_num_threads(1)
    return {"alignment.svg": alignment(), "alibi.svg": alibi(), "tagging.svg": tagging()}


def svg(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    lines = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    return f"{head}\n<title>{title}</title>\n<style>{STYLE}</style>\n{lines}\n</svg>\n"


def cells(table: torch.Tensor, left: float, top: float, side: float) -> Iterator[str]:
    """Draws a table of numbers from 0 to 1, in twentieths, by how opaque its cells are."""
    for i, row in enumerate(table.tolist()):
        for j, value in enumerate(row):
            shade = round(20 * value) / 20
            if shade > 0:
                place = f'x="{left + j * side:g}" y="{top + i * side:g}" width="{side:g}" height="{side:g}"'
                yield f'<rect class="cell" {place} opacity="{shade:g}"/>'
    height, width = table.shape
    yield f'<rect class="frame" x="{left:g}" y="{top:g}" width="{width * side:g}" height="{height * side:g}"/>'


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"/>'


def alignment() -> str:
    """Draws two series, the share of all alignments that pass each pair (SoftDTW's gradient), and the best one (DynamicTimeWarping)."""
    time = torch.linspace(0, 1, 28)
    one = torch.sin(6.5 * time) + 0.4 * torch.sin(14 * time)
    other = torch.sin(6.5 * time**1.7) + 0.4 * torch.sin(14 * time**1.7)
    cost = (one.unsqueeze(1) - other).square().unsqueeze(0).requires_grad_()
    mask = torch.ones(1, 28, dtype=torch.bool)
    SoftDTW(0.1)(cost, mask, mask).sum().backward()
    _, path = DynamicTimeWarping()(cost, mask, mask)
    assert cost.grad is not None
    share, side, left, top = cost.grad[0], 11.0, 80.0, 80.0

    def parts() -> Iterator[str]:
        yield from cells(share, left, top, side)
        yield line([(left + (j + 0.5) * side, top + (i + 0.5) * side) for i, j in path[0].tolist() if i >= 0], "path")
        yield line([(left + (j + 0.5) * side, round(40 - 22 * value, 1)) for j, value in enumerate(other.tolist())], "line")
        yield line([(round(40 - 22 * value, 1), top + (i + 0.5) * side) for i, value in enumerate(one.tolist())], "line")
        yield '<text class="small" x="10" y="407">red: the cheapest alignment; blue: how large a share of the soft ones pass</text>'

    return svg(400, 416, "Two series of one shape at different speeds, and how they align", parts())


def alibi() -> str:
    """Draws by what each head's bias multiplies the attention to each key, with a causal mask."""
    places = torch.arange(12)
    weights = AlibiBias(8)(places, places).exp() * (places <= places.unsqueeze(1))

    def parts() -> Iterator[str]:
        for at, head in enumerate((0, 2, 4, 7)):
            left = 30 + 130 * at
            yield from cells(weights[head], left, 30, 10)
            yield f'<text class="middle" x="{left + 60}" y="20">head {head + 1}: 2<tspan dy="-5" font-size="9">-{head + 1}</tspan></text>'
        yield '<text class="small middle" x="285" y="170">keys</text>'
        yield '<text class="small middle" transform="translate(20 90) rotate(-90)">queries</text>'

    return svg(560, 180, "What the bias of four heads multiplies attention with: a small slope sees far", parts())


def tagging() -> str:
    """Draws a tagging that the transitions turn around: word by word "old" is an adjective and "man" a noun."""
    crf = LinearChainCRF(4, k=2)
    with torch.no_grad():
        crf.start.copy_(torch.tensor([1.0, 0.0, 0.0, -1.0]))
        crf.end.copy_(torch.tensor([-2.0, -2.0, 1.0, 0.0]))
        crf.transitions.copy_(torch.tensor([[-4.0, 1, 1, -3], [-4.0, 0, 1, -3], [-3.0, -2, 0, 2], [2.0, 0, 0, -2]]))
    scores = torch.tensor([[4.0, -2, -2, -2], [-2, 2, 1.0, -2], [-2, -2, 2, 1.0], [4.0, -2, -2, -2], [-2, -2, 3.0, 0]]).unsqueeze(0)
    mask = torch.ones(1, 5, dtype=torch.bool)
    _, best = crf.decode(scores, mask)
    _, both = crf.k_best(scores, mask)
    shown = scores[0].softmax(1)

    def place(step: int, tag: int) -> tuple[float, float]:
        return 130 + 90 * step, 50 + 40 * tag

    def parts() -> Iterator[str]:
        for tag, name in enumerate(TAGS):
            yield f'<text class="end" x="100" y="{54 + 40 * tag}">{name}</text>'
        for step, word in enumerate(WORDS):
            yield f'<text class="middle" x="{130 + 90 * step}" y="22">{word}</text>'
            for tag in range(len(TAGS)):
                x, y = place(step, tag)
                yield f'<circle class="cell" cx="{x}" cy="{y}" r="11" opacity="{round(20 * float(shown[step, tag])) / 20:g}"/>'
                yield f'<circle class="frame" cx="{x}" cy="{y}" r="11"/>'
        for kind, tags in (("second", both[0, 1]), ("path", best[0])):
            yield line([place(step, tag) for step, tag in enumerate(tags.tolist())], kind)
        yield '<text class="small" x="60" y="204">blue: each word alone; red: decode; dashed: the second of k_best</text>'

    return svg(530, 214, "The best tagging of a sentence, and the second best", parts())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text)
