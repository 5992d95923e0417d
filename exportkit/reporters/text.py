"""A verdict as about one screen of plain text."""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exportkit import wording

Summary = Mapping[str, Any]
_MOST_NOTES = 16  # so that a usual verdict stays below 40 lines
_STACKED = ("made by", "runs in", "verdict")
_DISPENSABLE = ("seconds", "made by", "max rel", "size")  # left out of a table too wide, in this order
_STYLES = {
    "passed": "green",
    "runs": "green",
    "read": "green",
    "passed with warnings": "yellow",
    "undetermined": "yellow",
    "failed": "red",
    "rejected": "red",
    "could not run": "red",
}


@dataclass(frozen=True, slots=True)
class TextReporter:
    """Renders for a reader who sees exportkit for the first time."""

    def render(self, summary: Summary, *, colour: bool = False, width: int = 100) -> str:
        """Renders one verdict: what was read, what varies, each format's proof, what to know, and what to do."""
        summary = wording.printable(summary)
        if "network" not in summary:
            return self._render_file(summary, colour=colour, width=width)
        console = _console(width, colour=colour)
        console.print(_title(summary["network"]))
        for line in _signature(summary["network"]):
            _say(console, line, width, indent=11)
        console.print()
        console.print(_table(summary["formats"], width))
        for block in (wording.evidence(summary["formats"]), _notes(summary)):
            console.print()
            for line in block:
                _say(console, line, width, indent=4)
        console.print()
        # Not folded: it may hold a command to copy.
        console.print(Text(wording.verdict(summary), style=_STYLES[summary["outcome"]]), soft_wrap=True)
        return _text(console)

    def _render_file(self, summary: Summary, *, colour: bool, width: int) -> str:
        """Renders what a bare file is, and what nobody knows of it."""
        console = _console(width, colour=colour)
        size = Text(f"  {summary['format']}, {wording.size(summary['size'])}", style="not bold")
        console.print(Text(Path(summary["file"]).name, style="bold") + size)
        for line in _file_lines(summary):
            _say(console, line, width, indent=11)
        console.print()
        console.print(Text(wording.verdict(summary), style=_STYLES[summary["outcome"]]), soft_wrap=True)
        return _text(console)

    def render_many(self, summaries: Sequence[Summary], *, colour: bool = False, width: int = 100) -> str:
        """Renders one row for each network, and one line for all."""
        console = _console(width, colour=colour)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("network", "verdict", "formats", "seconds", "why"):
            table.add_column(title, overflow="fold", justify="right" if title == "seconds" else "left")
        for one in wording.printable(summaries):
            table.add_row(*_row(one))
        console.print(table)
        console.print()
        console.print(Text(wording.tally(summaries)), soft_wrap=True)
        return _text(console)


def _console(width: int, *, colour: bool) -> Console:
    kind: Literal["standard"] | None = "standard" if colour else None
    return Console(file=io.StringIO(), width=width, force_terminal=colour, no_color=not colour, color_system=kind, highlight=False)


def _say(console: Console, line: str, width: int, indent: int) -> None:
    """Prints a line folded between words, never inside one: a path or "net.py:12" stays whole. Lines after the first stand below it."""
    after = " " * indent
    for number, one in enumerate(line.splitlines()):
        before = after if number else ""
        for part in textwrap.wrap(before + one, width, subsequent_indent=after, break_long_words=False, break_on_hyphens=False):
            console.print(Text(part), soft_wrap=True)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().rstrip().splitlines()]
    return "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line or before)


def _title(network: Summary) -> Text:
    size = f", {network['parameters']:,} parameters" if network.get("parameters") is not None else ""
    return Text(network["name"], style="bold") + Text(f"  from {network['file']} ({network['object']}{size})", style="not bold")


def _signature(network: Summary) -> Iterator[str]:
    yield f"  inputs   {wording.tensors(network['inputs'])}"
    yield f"  outputs  {wording.tensors(network['outputs'])}"
    yield f"  varies   {wording.varying(network['symbols'])}"
    if network["fixed"]:
        yield f"  fixed    {wording.few(network['fixed'])}"


def _file_lines(summary: Summary) -> Iterator[str]:
    if summary["inputs"] or summary["outputs"]:
        yield f"  inputs   {wording.tensors(summary['inputs'])}"
        yield f"  outputs  {wording.tensors(summary['outputs'])}"
    if opsets := summary["facts"].get("opsets"):
        yield f"  opsets   {', '.join(f'{domain} {version}' for domain, version in opsets.items())}"
    yield f"  sha256   {summary['sha256']}"


def _table(formats: Sequence[Summary], width: int) -> Table:
    rows = [
        {title: _stack(row[title]) if title in _STACKED else row[title] for title in row} for one in formats for row in wording.rows(one)
    ]
    kept = list(wording.COLUMNS)
    for title in _DISPENSABLE:
        if _width(rows, kept) > width:
            kept.remove(title)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in kept:
        table.add_column(_indented(title, title), no_wrap=True, justify="right" if title in wording.NUMBERS else "left")
    for row in rows:
        table.add_row(*(Text(_indented(title, row[title]), style=_STYLES.get(" ".join(row[title].split()), "")) for title in kept))
    return table


def _indented(title: str, cell: str) -> str:
    return f"  {cell}" if title == "format" and cell else cell


def _width(rows: Sequence[Mapping[str, str]], titles: Sequence[str]) -> int:
    columns = [[title, *(line for row in rows for line in row[title].splitlines())] for title in titles]
    return 2 + sum(2 + max(map(len, column)) for column in columns)


def _stack(text: str) -> str:
    """Breaks a cell between words, to keep the table narrow."""
    return "\n".join(textwrap.wrap(text, 12, break_long_words=False, break_on_hyphens=False))


def _notes(summary: Summary) -> list[str]:
    lines = []
    for severity, text, names in wording.notes(summary):
        first, _, rest = text.partition("\n")
        lines.append(f"  {severity}: {first}" + (f" [{', '.join(names)}]" if names else "") + (f"\n{rest}" if rest else ""))
    left = len(lines) - _MOST_NOTES
    return lines if left <= 0 else [*lines[:_MOST_NOTES], f"  and {left} more, which --json lists"]


def _row(one: Summary) -> tuple[Text, ...]:
    outcome = Text(one["outcome"], style=_STYLES[one["outcome"]])
    seconds = f"{one['seconds']['total']:.1f}" if "seconds" in one else "-"
    return Text(wording.title(one)), outcome, Text(wording.made(one)), Text(seconds), Text(textwrap.shorten(wording.why(one), 120))


PLUGIN = TextReporter()
