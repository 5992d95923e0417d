"""A verdict as about one screen of plain text."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Summary = Mapping[str, Any]
_MOST = 6  # inputs, outputs or failures listed by name
_MOST_NOTES = 16  # so that a usual verdict stays below 40 lines
_NUMBERS = ("error", "max abs", "max rel", "size", "seconds")
_COLUMNS = ("  format", "made by", "runs in", "verdict", *_NUMBERS)
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
_URGENCY = ("failed", "error", "undetermined", "warning", "note")


@dataclass(frozen=True, slots=True)
class TextReporter:
    """Renders for a reader who sees exportkit for the first time."""

    def render(self, summary: Summary, *, colour: bool = False, width: int = 100) -> str:
        """Renders one verdict: what was read, what varies, each format's proof, what to know, and what to do."""
        if "network" not in summary:
            return self._render_file(summary, colour=colour, width=width)
        console = _console(width, colour=colour)
        console.print(_title(summary["network"]))
        for line in _signature(summary["network"]):
            _say(console, line, width, indent=11)
        console.print()
        console.print(_table(summary["formats"], width))
        for block in (_evidence(summary["formats"]), _notes(summary)):
            console.print()
            for line in block:
                _say(console, line, width, indent=4)
        console.print()
        # Not folded: it may hold a command to copy.
        console.print(Text(_last_line(summary), style=_STYLES[summary["outcome"]]), soft_wrap=True)
        return _text(console)

    def _render_file(self, summary: Summary, *, colour: bool, width: int) -> str:
        """Renders what a bare file is, and what nobody knows of it."""
        console = _console(width, colour=colour)
        size = Text(f"  {summary['format']}, {_size(summary['size'])}", style="not bold")
        console.print(Text(Path(summary["file"]).name, style="bold") + size)
        for line in _file_lines(summary):
            _say(console, line, width, indent=11)
        console.print()
        console.print(Text(_file_verdict(summary), style=_STYLES[summary["outcome"]]), soft_wrap=True)
        return _text(console)

    def render_many(self, summaries: Sequence[Summary], *, colour: bool = False, width: int = 100) -> str:
        """Renders one row for each network, and one line for all."""
        console = _console(width, colour=colour)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("network", "verdict", "formats", "seconds", "why"):
            table.add_column(title, overflow="fold", justify="right" if title == "seconds" else "left")
        for one in summaries:
            table.add_row(*_row(one))
        console.print(table)
        console.print()
        console.print(Text(_tally(summaries)), soft_wrap=True)
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
    yield f"  inputs   {_tensors(network['inputs'])}"
    yield f"  outputs  {_tensors(network['outputs'])}"
    yield f"  varies   {_varying(network['symbols'])}"
    if network["fixed"]:
        yield f"  fixed    {_few(network['fixed'])}"


def _file_lines(summary: Summary) -> Iterator[str]:
    if summary["inputs"] or summary["outputs"]:
        yield f"  inputs   {_tensors(summary['inputs'])}"
        yield f"  outputs  {_tensors(summary['outputs'])}"
    if opsets := summary["facts"].get("opsets"):
        yield f"  opsets   {', '.join(f'{domain} {version}' for domain, version in opsets.items())}"
    yield f"  sha256   {summary['sha256']}"


def _file_verdict(summary: Summary) -> str:
    return f"{summary['done']} ({summary['seconds']['total']:.1f} s); nothing is proven about parity (--golden FILE compares)"


def _tensors(specs: Sequence[Summary]) -> str:
    return _few([f"{spec['name']}: {spec['dtype']}[{', '.join(map(str, spec['shape']))}]" for spec in specs]) or "none"


def _few(items: Sequence[str]) -> str:
    more = f", and {len(items) - _MOST} more" if len(items) > _MOST else ""
    return ", ".join(items[:_MOST]) + more


def _varying(symbols: Sequence[Summary]) -> str:
    told = []
    for symbol in symbols:
        places = _few([f"{name} axis {axis}" + (f" less {offset}" if offset else "") for name, axis, offset in symbol["places"]])
        step = f", in steps of {symbol['step']}" if symbol["step"] > 1 else ""
        low, high = symbol.get("low") or 1, symbol.get("high")
        bounds = f", {low} to {high}" if high is not None else f", {low} or more" if low > 1 else ""
        told.append(f"{symbol['name']} ({places}{bounds}{step}; {'you asked for it' if symbol['declared'] else 'found by trying'})")
    return "; ".join(told) or "no dimension: eager takes these sizes only"


def _table(formats: Sequence[Summary], width: int) -> Table:
    rows = [row for one in formats for row in _rows(one)]
    kept = list(_COLUMNS)
    for title in _DISPENSABLE:
        if _width(rows, kept) > width:
            kept.remove(title)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in kept:
        table.add_column(title, no_wrap=True, justify="right" if title in _NUMBERS else "left")
    for row in rows:
        table.add_row(*(Text(row[title], style=_STYLES.get(" ".join(row[title].split()), "")) for title in kept))
    return table


def _width(rows: Sequence[Mapping[str, str]], titles: Sequence[str]) -> int:
    columns = [[title, *(line for row in rows for line in row[title].splitlines())] for title in titles]
    return sum(2 + max(map(len, column)) for column in columns)


def _rows(one: Summary) -> Iterator[dict[str, str]]:
    """Yields a row for each backend that ran the format; the first one holds what they share: the file and the seconds."""
    size = _size(sum(file["size"] for file in one["files"]))
    for number, verdict in enumerate(one["verdicts"] or [None]):
        outcome = "failed" if one["refused"] or verdict is None else verdict["outcome"]
        device = "" if verdict is None or verdict["device"] == "cpu" else f" on {verdict['device']}"
        backend = "-" if verdict is None else verdict["backend"] + device
        numbers = _numbers({} if verdict is None else verdict["differences"])
        if one["refused"] and numbers[0] == "equal":
            numbers = ("-",) * 3  # it failed for another reason
        shared = (f"  {one['format']}", _stack(one["strategy"] or "-"), size, f"{one['seconds']:.1f}") if number == 0 else ("",) * 4
        cells = (shared[0], shared[1], _stack(backend), _stack(outcome), *numbers, *shared[2:])
        yield dict(zip(_COLUMNS, cells, strict=True))


def _stack(text: str) -> str:
    """Breaks a cell between words, to keep the table narrow."""
    return "\n".join(textwrap.wrap(text, 12, break_long_words=False, break_on_hyphens=False))


def _numbers(differences: Mapping[str, Summary]) -> tuple[str, str, str]:
    """Words the worst output's error, and the largest differences of all outputs."""
    if not differences:
        return "-", "-", "-"
    metric, worst = _worst(differences)[1:]
    value, limit = _number(worst[f"times_eager_{metric}"]), _number(worst[f"limit_{metric}"])
    largest = [max((_number(one[key]) for one in differences.values()), key=_rank) for key in ("max_abs", "max_rel")]
    if not any(largest):
        return "equal", "0", "0"
    return f"{value:.2g}x of {limit:g}x" if value else "-", f"{largest[0]:.1e}", f"{largest[1]:.1e}"


def _worst(differences: Mapping[str, Summary]) -> tuple[str, str, Summary]:
    """Finds the output, and its metric ("rms" or "max"), that comes closest to its limit or lies farthest beyond it."""

    def share(one: tuple[str, str, Summary]) -> float:
        limit = _number(one[2][f"limit_{one[1]}"])
        return _rank(_number(one[2][f"times_eager_{one[1]}"]) / limit) if limit else math.inf

    return max(((name, metric, one) for name, one in differences.items() for metric in ("max", "rms")), key=share)


def _number(value: Any) -> float:
    return float(value)  # JSON has no NaN: it may come as a string


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _size(size: float) -> str:
    if not size:
        return "-"  # no file was published
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - binary units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def _evidence(formats: Sequence[Summary]) -> Iterator[str]:
    """Says what the table's numbers are, and from how many cases and sizes they come."""
    told: dict[str, list[str]] = {}
    outputs: dict[str, None] = {}
    for one in formats:
        for verdict in one["verdicts"] if not one["refused"] else ():
            if verdict["cases"].get("inside"):
                told.setdefault(_cases(verdict["cases"]), []).append(one["format"])
            if len(verdict["differences"]) > 1:
                outputs[_worst(verdict["differences"])[0]] = None
    for text, names in told.items():
        yield f"  Compared on {text}" + (f" ({', '.join(dict.fromkeys(names))})." if len(told) > 1 else ".")
    worst = f"is that of the worst output ({', '.join(outputs)}):" if outputs else "is"
    if told:
        yield f"  Error {worst} a multiple of eager PyTorch's own rounding error, and the most allowed."


def _cases(cases: Mapping[str, int]) -> str:
    sizes = f"{_count(cases['sizes'], 'size')} the export never saw" if cases.get("sizes") else "the example's sizes only"
    more = [f"{cases['outside']} more outside the domain"] if cases.get("outside") else []
    more += [f"{cases['dropped']} dropped"] if cases.get("dropped") else []
    return ", ".join([f"{_count(cases['inside'], 'case')} at {sizes}", *more])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _notes(summary: Summary) -> list[str]:
    """Collects what a reader must know besides the numbers: each once, the most urgent first."""
    told: dict[tuple[str, str], list[str]] = {}
    for severity, text, name in _all_notes(summary):
        told.setdefault((severity, text), []).extend([name] if name else [])
    lines = []
    for severity, text in sorted(told, key=lambda note: _URGENCY.index(note[0])):
        names = dict.fromkeys(told[severity, text])
        first, _, rest = text.partition("\n")
        lines.append(f"  {severity}: {first}" + (f" [{', '.join(names)}]" if names else "") + (f"\n{rest}" if rest else ""))
    left = len(lines) - _MOST_NOTES
    return lines if left <= 0 else [*lines[:_MOST_NOTES], f"  and {left} more, which --json lists"]


def _all_notes(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yields (severity, text, format or "")."""
    yield from ((one["severity"], _place(one), "") for one in summary["findings"])
    for one in summary["formats"]:
        name, refused = one["format"], one["refused"] or ""
        if refused:
            yield "failed", refused, name
        else:
            yield from (("note", f"not made by {earlier['strategy']}: {earlier['reason']}", name) for earlier in one["earlier"])
        for verdict in (one, *one["verdicts"]):
            # What the refusal says is not said again.
            yield from ((finding["severity"], _place(finding), name) for finding in verdict["findings"] if finding["text"] not in refused)
            yield from (("undetermined", reason, name) for reason in verdict.get("undetermined", ()))
            yield from (("failed", _failure(failure), name) for failure in verdict.get("failures", ())[:_MOST])


def _failure(one: Summary) -> str:
    value, limit = _number(one["value"]), _number(one["limit"])
    more = f" (and too large on {_count(one['cases'] - 1, 'more case')})" if one["cases"] > 1 else ""
    return f"{one['output']} on {one['case']}: {one['metric']} is {value:.3g}, at most {limit:g} is allowed{more}"


def _place(finding: Summary) -> str:
    return f"{finding['where']}: {finding['text']}" if finding["where"] else str(finding["text"])


def _last_line(summary: Summary) -> str:
    """Says the verdict and what to do."""
    outcome, folder = summary["outcome"], summary["folder"]
    bad = [one["format"] for one in summary["formats"] if not one["outcome"].startswith("passed")]
    if summary["exit_code"] == 0:
        files = [file["name"] for one in summary["formats"] for file in one["files"]]
        told = f"{outcome} in {summary['seconds']['total']:.1f} s: {folder} holds {_few(files)}"
    elif not bad:
        told = f"{outcome}, which --strict refuses: {_published(folder)}. Settle the warnings above, or leave --strict out"
    else:
        cause = {"undetermined": "the evidence does not suffice", "failed": "what stands in the way is named above"}.get(
            outcome, "see above"
        )
        told = f"{outcome}: {' and '.join(bad)} {'is' if len(bad) == 1 else 'are'} not proven ({cause}); {_published(folder)}"
    return told + (f". Next: {' ; '.join(summary['next'])}" if summary["next"] else "")


def _published(folder: str | None) -> str:
    if folder is None:
        return "nothing was published"
    return f"what is proven lies in {folder}" if folder.endswith(".partial") else f"{folder} is unchanged"


def _row(one: Summary) -> tuple[Text, ...]:
    if "error" in one:
        fault = one["error"]
        why = f"{fault['where']}: {fault['what']}" if fault.get("where") else fault["what"]
        return Text(one["target"]), Text(one["outcome"], style="red"), Text("-"), Text("-"), Text(textwrap.shorten(why, 120))
    if "network" not in one:
        return Text(one["file"]), Text(one["outcome"], style=_STYLES[one["outcome"]]), Text(one["format"]), _seconds(one), Text("")
    made = " ".join(form["format"] if form["outcome"].startswith("passed") else f"(no {form['format']})" for form in one["formats"])
    notes = sorted(_all_notes(one), key=lambda note: _URGENCY.index(note[0]))
    why = next((text for severity, text, _ in notes if severity != "note"), "")
    verdict = Text(one["outcome"], style=_STYLES[one["outcome"]])
    return Text(one["network"]["name"]), verdict, Text(made), _seconds(one), Text(textwrap.shorten(why, 120))


def _seconds(one: Summary) -> Text:
    return Text(f"{one['seconds']['total']:.1f}")


def _tally(summaries: Sequence[Summary]) -> str:
    """Counts networks, which are proven, apart from bare files, which only run or read whole; an error tells not which it met."""
    files = sum("network" not in one and "error" not in one for one in summaries)
    good = sum(one["exit_code"] == 0 for one in summaries) - files
    bad = Counter(one["outcome"] for one in summaries if one["exit_code"])
    rest = [f"{bad[outcome]} {outcome}" for outcome in reversed(_STYLES) if bad[outcome]]
    if not files:
        return "; ".join([f"{good} of {_count(len(summaries), 'network')} proven", *([", ".join(rest)] if rest else [])])
    proven = [f"{_count(good, 'network')} proven"] if good else []
    return "; ".join([*proven, f"{_count(files, 'file')} without a fault, nothing proven about parity", *rest])


PLUGIN = TextReporter()
