"""A verdict as about one screen of plain text."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Summary = Mapping[str, Any]
_MOST_LINES = 6  # of one kind: an output's failures, an input list
_STYLES = {"passed": "green", "passed with warnings": "yellow", "undetermined": "yellow", "failed": "red", "could not run": "red"}


@dataclass(frozen=True, slots=True)
class TextReporter:
    def render(self, summary: Summary, *, colour: bool = False, width: int = 100) -> str:
        """Renders one verdict: what was read, what varies, each format's proof, what to know, and what to do."""
        console = _console(width, colour=colour)
        network = summary["network"]
        console.print(Text(f"{network['name']}", style="bold") + Text(f"  from {network['file']} ({network['object']})"))
        for kind in ("inputs", "outputs"):
            console.print(f"  {kind:8}{_tensors(network[kind])}", highlight=False, markup=False)
        console.print(f"  varies  {_varying(network['symbols'])}", highlight=False, markup=False)
        if network["fixed"]:
            console.print(f"  fixed   {_few(network['fixed'])}", highlight=False, markup=False)
        console.print()
        console.print(_table(summary["formats"]))
        for line in _notes(summary):
            console.print(line, highlight=False, markup=False)
        console.print()
        console.print(_last_line(summary), style=_STYLES[summary["outcome"]], highlight=False, markup=False)
        return _text(console)

    def render_many(self, summaries: Sequence[Summary], *, colour: bool = False, width: int = 100) -> str:
        """Renders one line for each network."""
        console = _console(width, colour=colour)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("network", "verdict", "formats", "seconds", "why"):
            table.add_column(title, overflow="fold")
        for one in summaries:
            if "error" in one:
                table.add_row(one["target"], "could not run", "", "", one["error"]["what"][:120])
                continue
            made = ", ".join(f"{form['format']} ({form['strategy']})" if form["strategy"] else f"no {form['format']}" for form in one["formats"])
            refused = next((form["refused"] for form in one["formats"] if form["refused"]), "")
            table.add_row(one["network"]["name"], one["outcome"], made, f"{one['seconds']['total']:.1f}", (refused or "")[:120])
        console.print(table)
        good = sum(one["exit_code"] == 0 for one in summaries)
        console.print(f"{good} of {len(summaries)} networks proven and published", highlight=False)
        return _text(console)


def _console(width: int, *, colour: bool) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=colour, no_color=not colour, color_system="standard" if colour else None)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())


def _tensors(specs: Sequence[Summary]) -> str:
    told = [f"{spec['name']}: {spec['dtype']}[{', '.join(map(str, spec['shape']))}]" for spec in specs]
    return _few(told) or "none"


def _few(items: Sequence[str]) -> str:
    more = f", and {len(items) - _MOST_LINES} more" if len(items) > _MOST_LINES else ""
    return ", ".join(items[:_MOST_LINES]) + more


def _varying(symbols: Sequence[Summary]) -> str:
    told = []
    for symbol in symbols:
        places = " = ".join(f"{name} axis {axis}" + (f" {offset:+d}" if offset else "") for name, axis, offset in symbol["places"])
        step = f", in steps of {symbol['step']}" if symbol["step"] > 1 else ""
        told.append(f"{symbol['name']} ({places}; {'asked for' if symbol['declared'] else 'found by trying'}{step})")
    return "; ".join(told) or "nothing: eager takes no other size, or there is no axis"


def _table(formats: Sequence[Summary]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="bold")
    for title in ("format", "by", "runs in", "verdict", "error / eager's own", "max abs", "max rel", "cases", "size"):
        table.add_column(title, no_wrap=title != "verdict")
    for one in formats:
        size = _size(sum(file["size"] for file in one["files"])) if one["files"] else "-"
        if not one["verdicts"]:
            table.add_row(one["format"], "-", "-", Text("failed", style="red"), "-", "-", "-", "-", "-")
        for verdict in one["verdicts"]:
            outcome = "failed" if one["refused"] else verdict["outcome"]
            table.add_row(
                one["format"],
                one["strategy"] or "-",
                f"{verdict['backend']}, {verdict['device']}",
                Text(outcome, style=_STYLES[outcome]),
                *_worst(verdict["differences"]),
                _cases(verdict["cases"]),
                size,
            )
    return table


def _worst(differences: Mapping[str, Summary]) -> tuple[str, str, str]:
    if not differences:
        return "-", "-", "-"
    worst = max(differences.values(), key=lambda one: float(one["times_eager_max"]) / float(one["limit_max"]))
    largest = [max(float(one[key]) for one in differences.values()) for key in ("max_abs", "max_rel")]
    return f"{float(worst['times_eager_max']):.2g}x of {float(worst['limit_max']):g}x", f"{largest[0]:.1e}", f"{largest[1]:.1e}"


def _cases(cases: Mapping[str, int]) -> str:
    return f"{cases.get('inside', 0)} at {cases.get('sizes', 0)} new sizes" if cases else "-"


def _size(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - binary units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.2f} GiB"


def _notes(summary: Summary) -> list[str]:
    """Collects what a reader must know besides the numbers, each once."""
    told: dict[str, list[str]] = {}
    for one in summary["findings"]:
        told.setdefault(_finding(one), [])
    for form in summary["formats"]:
        if form["refused"]:
            told.setdefault(f"  failed: {form['refused']}", []).append(form["format"])
        else:
            for earlier in form["earlier"]:
                told.setdefault(f"  note: {form['format']} is not {earlier['strategy']}: {earlier['reason']}", [])
        for verdict in form["verdicts"]:
            for finding in [] if form["refused"] else verdict["findings"]:
                told.setdefault(_finding(finding), []).append(form["format"])
            for reason in verdict["undetermined"]:
                told.setdefault(f"  undetermined: {reason}", []).append(form["format"])
            for failure in verdict["failures"][:_MOST_LINES]:
                text = f"  failed: {failure['output']} on {failure['case']}: {failure['metric']} {failure['value']:.3g}, limit {failure['limit']:g}"
                told.setdefault(text, []).append(form["format"])
    lines = [f"{text} [{', '.join(dict.fromkeys(formats))}]" if formats else text for text, formats in told.items()]
    return ["", *lines] if lines else []


def _finding(finding: Summary) -> str:
    where = f"{finding['where']}: " if finding["where"] else ""
    return f"  {finding['severity']}: {where}{finding['text']}"


def _last_line(summary: Summary) -> str:
    bad = [one["format"] for one in summary["formats"] if not one["outcome"].startswith("passed")]
    if not bad and summary["exit_code"] == 0:
        return f"{summary['outcome']}: {summary['folder']} ({summary['seconds']['total']:.1f} s)"
    if not bad:
        return f"{summary['outcome']}: refused, because warnings fail under --strict"
    why = next((one["refused"] for one in summary["formats"] if one["refused"]), None) or next(
        (reason for one in summary["formats"] for verdict in one["verdicts"] for reason in verdict["undetermined"]), "see above"
    )
    advice = f". To publish the others: {summary['next'][0]}" if summary["next"] else ""
    kept = f"; what is proven is in {summary['folder']}" if summary["folder"] else ", nothing published"
    return f"{summary['outcome']}: {', '.join(bad)}{kept}: {why}{advice}"


PLUGIN = TextReporter()
