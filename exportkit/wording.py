"""What the reporters for people say alike: numbers, sizes, notes and the last line, in words."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]
NUMBERS = ("error", "max abs", "max rel", "size", "seconds")
COLUMNS = ("format", "made by", "runs in", "verdict", *NUMBERS)
_URGENCY = ("failed", "error", "undetermined", "warning", "note")
OUTCOMES = ("could not run", "rejected", "failed", "undetermined", "passed with warnings", "read", "runs", "passed")  # the worst first
_MOST = 6  # inputs, outputs or failures listed by name


def printable(value: Any) -> Any:
    """Escapes, in all texts of a summary, what a file or a network may have put there to be obeyed and not shown.

    That is all that Unicode calls not printable: control characters, which XML forbids too, marks that turn the direction of text,
    lone surrogates. Line breaks stay.
    """
    if isinstance(value, str):
        return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in value)
    if isinstance(value, Mapping):
        return {printable(key): printable(child) for key, child in value.items()}
    return [printable(child) for child in value] if isinstance(value, list | tuple) else value


def title(summary: Summary) -> str:
    """Names what a summary is about: a network, a bare file, or what could not be run."""
    return str(summary["network"]["name"] if "network" in summary else summary.get("file", summary.get("target")))


def verdict(summary: Summary, notes: str = "above") -> str:
    """Says in a line what came of it, and what to do; `notes` is where they stand, seen from this line."""
    if "error" in summary:
        fault = summary["error"]
        return f"{summary['outcome']}: {fault['where'] or summary['target']}: {fault['what']}" + (
            f". {fault['todo']}" if fault["todo"] else ""
        )
    return _last_line(summary, notes) if "network" in summary else _file_verdict(summary)


def why(summary: Summary) -> str:
    """Returns the most urgent note of a summary; "" where there is none to act on."""
    if "error" in summary:
        fault = summary["error"]
        return f"{fault['where']}: {fault['what']}" if fault["where"] else str(fault["what"])
    return next((text for severity, text, _ in notes(summary) if severity != "note"), "") if "network" in summary else ""


def made(summary: Summary) -> str:
    """Lists the formats that are proven, and those that are not."""
    if "network" not in summary:
        return str(summary.get("format", "-"))
    return " ".join(one["format"] if one["outcome"].startswith("passed") else f"(no {one['format']})" for one in summary["formats"])


def rows(one: Summary) -> Iterator[dict[str, str]]:
    """Yields a row for each backend that ran the format; the first one holds what they share: the file and the seconds."""
    amount = size(sum(file["size"] for file in one["files"]))
    for place, told in enumerate(one["verdicts"] or [None]):
        outcome = "failed" if one["refused"] or told is None else told["outcome"]
        device = "" if told is None or told["device"] == "cpu" else f" on {told['device']}"
        figures = numbers({} if told is None else told["differences"])
        if one["refused"] and figures[0] == "equal":
            figures = ("-",) * 3  # it failed for another reason
        shared = (one["format"], one["strategy"] or "-", amount, f"{one['seconds']:.1f}") if place == 0 else ("",) * 4
        backend = "-" if told is None else told["backend"] + device + (f" against {told['against']}" if told["against"] else "")
        yield dict(zip(COLUMNS, (*shared[:2], backend, outcome, *figures, *shared[2:]), strict=True))


def _file_verdict(summary: Summary) -> str:
    return f"{summary['done']} ({summary['seconds']['total']:.1f} s); nothing is proven about parity (--golden FILE compares)"


def tensors(specs: Sequence[Summary]) -> str:
    return few([f"{spec['name']}: {spec['dtype']}[{', '.join(map(str, spec['shape']))}]" for spec in specs]) or "none"


def few(items: Sequence[str]) -> str:
    more = f", and {len(items) - _MOST} more" if len(items) > _MOST else ""
    return ", ".join(items[:_MOST]) + more


def varying(symbols: Sequence[Summary]) -> str:
    told = []
    for symbol in symbols:
        places = few([f"{name} axis {axis}" + (f" less {offset}" if offset else "") for name, axis, offset in symbol["places"]])
        step = f", in steps of {symbol['step']}" if symbol["step"] > 1 else ""
        low, high = symbol.get("low") or 1, symbol.get("high")
        bounds = f", {low} to {high}" if high is not None else f", {low} or more" if low > 1 else ""
        told.append(f"{symbol['name']} ({places}{bounds}{step}; {'you asked for it' if symbol['declared'] else 'found by trying'})")
    return "; ".join(told) or "no dimension: eager takes these sizes only"


def numbers(differences: Mapping[str, Summary]) -> tuple[str, str, str]:
    """Words the worst output's error, and the largest differences of all outputs."""
    if not differences:
        return "-", "-", "-"
    metric, found = _worst(differences)[1:]
    value, limit = number(found[f"times_eager_{metric}"]), number(found[f"limit_{metric}"])
    largest = [max((number(one[key]) for one in differences.values()), key=_rank) for key in ("max_abs", "max_rel")]
    if not any(largest):
        return "equal", "0", "0"
    return f"{value:.2g}x of {limit:g}x" if value else "-", f"{largest[0]:.1e}", f"{largest[1]:.1e}"


def _worst(differences: Mapping[str, Summary]) -> tuple[str, str, Summary]:
    """Finds the output, and its metric ("rms" or "max"), that comes closest to its limit or lies farthest beyond it."""

    def share(one: tuple[str, str, Summary]) -> float:
        limit = number(one[2][f"limit_{one[1]}"])
        return _rank(number(one[2][f"times_eager_{one[1]}"]) / limit) if limit else math.inf

    return max(((name, metric, one) for name, one in differences.items() for metric in ("max", "rms")), key=share)


def number(value: Any) -> float:
    return float(value)  # JSON has no NaN: it may come as a string


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def size(count: float) -> str:
    if not count:
        return "-"  # no file was published
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 - binary units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def evidence(formats: Sequence[Summary]) -> Iterator[str]:
    """Says what the table's numbers are, and from how many cases and sizes they come."""
    told: dict[str, list[str]] = {}
    outputs: dict[str, None] = {}
    for one in formats:
        for verdict in one["verdicts"] if not one["refused"] else ():
            if verdict["cases"].get("inside"):
                told.setdefault(cases(verdict["cases"]), []).append(one["format"])
            if len(verdict["differences"]) > 1:
                outputs[_worst(verdict["differences"])[0]] = None
    for text, names in told.items():
        yield f"  Compared on {text}" + (f" ({', '.join(dict.fromkeys(names))})." if len(told) > 1 else ".")
    worst = f"is that of the worst output ({', '.join(outputs)}):" if outputs else "is"
    if told:
        yield f"  Error {worst} a multiple of eager PyTorch's own rounding error, and the most allowed."
    for verdict in (verdict for one in formats for verdict in one["verdicts"]):
        if verdict["device"] == "cuda" and (placement := verdict["facts"].get("placement")):
            counts = {provider.removesuffix("ExecutionProvider"): sum(nodes.values()) for provider, nodes in placement.items()}
            yield f"  Nodes in {verdict['backend']}: {', '.join(f'{number} on {name}' for name, number in sorted(counts.items())[::-1])}."


def cases(cases: Mapping[str, int]) -> str:
    sizes = f"{count(cases['sizes'], 'size')} the export never saw" if cases.get("sizes") else "the example's sizes only"
    more = [f"{cases['outside']} more outside the domain"] if cases.get("outside") else []
    more += [f"{cases['dropped']} dropped"] if cases.get("dropped") else []
    return ", ".join([f"{count(cases['inside'], 'case')} at {sizes}", *more])


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def notes(summary: Summary) -> list[tuple[str, str, list[str]]]:
    """Collects what a reader must know besides the numbers, as (severity, text, formats): each once, the most urgent first."""
    told: dict[tuple[str, str], dict[str, None]] = {}
    for severity, text, name in _all_notes(summary):
        told.setdefault((severity, text), {}).update({name: None} if name else {})
    return [(*note, list(told[note])) for note in sorted(told, key=lambda note: _URGENCY.index(note[0]))]


def _all_notes(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yields (severity, text, format or "")."""
    yield from ((one["severity"], place(one), "") for one in summary["findings"])
    for one in summary["formats"]:
        name, refused = one["format"], one["refused"] or ""
        if refused:
            yield "failed", refused, name
        else:
            yield from (("note", f"not made by {earlier['strategy']}: {earlier['reason']}", name) for earlier in one["earlier"])
        for verdict in (one, *one["verdicts"]):
            # What the refusal says is not said again.
            yield from ((finding["severity"], place(finding), name) for finding in verdict["findings"] if finding["text"] not in refused)
            yield from (("undetermined", reason, name) for reason in verdict.get("undetermined", ()))
            yield from (("failed", failure(number_beyond), name) for number_beyond in verdict.get("failures", ())[:_MOST])


def failure(one: Summary) -> str:
    """Words a number beyond its limit."""
    value, limit = number(one["value"]), number(one["limit"])
    more = f" (and too large on {count(one['cases'] - 1, 'more case')})" if one["cases"] > 1 else ""
    return f"{one['output']} on {one['case']}: {one['metric']} is {value:.3g}, at most {limit:g} is allowed{more}"


def place(finding: Summary) -> str:
    return f"{finding['where']}: {finding['text']}" if finding["where"] else str(finding["text"])


def _last_line(summary: Summary, notes: str) -> str:
    """Says the verdict and what to do."""
    outcome, folder = summary["outcome"], summary["folder"]
    bad = [one["format"] for one in summary["formats"] if not one["outcome"].startswith("passed")]
    if summary["exit_code"] == 0:
        files = [file["name"] for one in summary["formats"] for file in one["files"]]
        told = f"{outcome} in {summary['seconds']['total']:.1f} s: {folder} holds {few(files)}"
    elif not bad:
        told = f"{outcome}, which --strict refuses: {_published(folder)}. Settle the warnings {notes}, or leave --strict out"
    else:
        cause = {"undetermined": "the evidence does not suffice", "failed": f"what stands in the way is named {notes}"}.get(
            outcome, f"see {notes}"
        )
        which = f"{outcome}: {' and '.join(bad)} {'is' if len(bad) == 1 else 'are'}"
        told = f"{which} not proven ({cause}); {_published(folder)}"
        if all(_regressed(one) for one in summary["formats"] if one["format"] in bad):
            told = f"{which} worse than the baseline, as named {notes}; `exportkit baseline {folder}` accepts it"
    return told + (f". Next: {' ; '.join(summary['next'])}" if summary["next"] else "")


def _regressed(form: Summary) -> bool:
    """Says whether a format failed for what its baseline says alone."""
    errors = {finding["code"] for told in form["verdicts"] for finding in told["findings"] if finding["severity"] == "error"}
    return errors == {"baseline"} and not form["refused"] and not any(told["failures"] for told in form["verdicts"])


def _published(folder: str | None) -> str:
    if folder is None:
        return "nothing was published"
    return f"what is proven lies in {folder}" if folder.endswith(".partial") else f"{folder} is unchanged"


def tally(summaries: Sequence[Summary]) -> str:
    """Counts networks, which are proven, apart from bare files, which only run or read whole; an error tells not which it met."""
    files = sum("network" not in one and "error" not in one for one in summaries)
    good = sum(one["exit_code"] == 0 for one in summaries) - files
    bad = Counter(one["outcome"] for one in summaries if one["exit_code"])
    rest = [f"{bad[outcome]} {outcome}" for outcome in OUTCOMES if bad[outcome]]
    if not files:
        return "; ".join([f"{good} of {count(len(summaries), 'network')} proven", *([", ".join(rest)] if rest else [])])
    proven = [f"{count(good, 'network')} proven"] if good else []
    return "; ".join([*proven, f"{count(files, 'file')} without a fault, nothing proven about parity", *rest])
