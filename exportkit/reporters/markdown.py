"""Verdicts as GitHub's Markdown: a pull request comment, or a job summary."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exportkit import wording

Summary = Mapping[str, Any]
_MOST = 60_000  # characters; GitHub refuses a comment beyond 65,536
_LONGEST = 600  # characters of one note
_SIGNS = {"passed": "✅", "runs": "✅", "read": "✅", "passed with warnings": "⚠️", "undetermined": "⚠️"}


@dataclass(frozen=True, slots=True)
class MarkdownReporter:
    """Renders tables; every text that is not exportkit's own is written so that GitHub shows it and does not obey it."""

    def render(self, summaries: Sequence[Summary]) -> str:
        """Renders a table of all summaries where they are many, then each: those that failed come first."""
        summaries = wording.printable(summaries)
        parts = ["\n".join(_overview(summaries))] if len(summaries) > 1 else []
        used = sum(map(len, parts))
        ordered = sorted(summaries, key=lambda one: wording.OUTCOMES.index(one["outcome"]))
        for place, summary in enumerate(ordered):
            part = "\n".join(_one(summary))
            if used + len(part) > _MOST:
                parts.append(f"_{wording.count(len(ordered) - place, 'more report')} left out: the text would be too long._")
                break
            parts.append(part)
            used += len(part)
        return "\n\n".join(parts) + "\n"


def _overview(summaries: Sequence[Summary]) -> Iterator[str]:
    yield f"**{_text(wording.tally(summaries))}**"
    yield ""
    yield from _table(
        ("network", "verdict", "formats", "why"),
        [
            (_code(wording.title(one)), _verdict(one["outcome"]), _text(wording.made(one)), _text(wording.why(one)))
            for one in summaries[:200]
        ],
    )


def _one(summary: Summary) -> Iterator[str]:
    yield f"### {_code(wording.title(summary))}: {_verdict(summary['outcome'])}"
    yield ""
    if "network" in summary:
        inputs, outputs = (_code(wording.tensors(summary["network"][key])) for key in ("inputs", "outputs"))
        yield f"inputs {inputs}, outputs {outputs}"
        yield ""
        titles = ("format", "made by", "runs in", "verdict", "error", "max abs", "max rel", "size")
        rows = [row for one in summary["formats"] for row in wording.rows(one)]
        yield from _table(titles, [tuple(_verdict(row[key]) if key == "verdict" else _text(row[key]) for key in titles) for row in rows])
        yield ""
        yield from (f"{_text(line.strip())}<br>" for line in wording.evidence(summary["formats"]))
        yield ""
        for severity, text, names in wording.notes(summary):
            where = f" ({', '.join(names)})" if names else ""
            yield f"- **{severity}**{where}: {_text(text)}"
        yield ""
    yield _text(wording.verdict(summary))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join('--:' if title in wording.NUMBERS else '---' for title in titles)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _verdict(outcome: str) -> str:
    return f"{_SIGNS.get(outcome, '❌')} {outcome}"


def _text(text: str) -> str:
    """Writes each sign as an entity, which is never structure (CommonMark 0.31, 6.2 and 2.5).

    What GitHub would still turn into a mention, a reference or a link stands in a code span, where it does not.
    """
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    lines = short.split("\n")
    return "<br>".join(
        " ".join(_code(word) if re.search(r"[@#]|://|www\.", word) else _entities(word) for word in line.split(" ")) for line in lines
    )


def _code(text: str) -> str:
    return f"<code>{_entities(text)}</code>" if text else ""


def _entities(text: str) -> str:
    return re.sub(r"[^\w\s.,;:()=/%+?{}'\"-]|_|\n", lambda found: "".join(f"&#{ord(one)};" for one in found[0]), text)


PLUGIN = MarkdownReporter()
