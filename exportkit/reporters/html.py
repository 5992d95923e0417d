"""Verdicts as one page: no script, nothing loaded from elsewhere, readable by phone, by keyboard, by ear, in light and in dark.

Jinja escapes every value; the page's own policy (Content-Security-Policy) forbids scripts and requests as well.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from exportkit import wording

Summary = Mapping[str, Any]
_LEAST, _MOST = 0.01, 1000.0  # multiples of eager's own rounding error where the axis ends; what lies beyond stands at its ends
_LEFT, _WIDE = 3.0, 94.0  # per cent of the plot's width
_TICKS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_TOP, _STRIP, _LANES = 26, 46, (0, 6, -6)  # pixels; neighbouring cases stand in lanes, so that equal values do not hide each other
_MOST_PLOTS = 40
_COLUMNS = ("format", "verdict", "error", *(one for one in wording.COLUMNS if one not in ("format", "verdict", "error")))  # for a phone
_TONES = {"passed": "good", "runs": "good", "read": "good", "passed with warnings": "fair", "undetermined": "fair"}


@dataclass(frozen=True, slots=True)
class HtmlReporter:
    """Renders one self-contained page."""

    def render(self, summaries: Sequence[Summary]) -> str:
        """Renders an overview where there are many summaries, then a section for each."""
        loader = jinja2.FileSystemLoader(Path(__file__).parent)
        environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.globals |= {
            "wording": wording,
            "tone": lambda outcome: _TONES.get(outcome, "bad"),
            "plots": _plots,
            "spans": _spans,
            "excerpt": _excerpt,
        }
        environment.globals |= {"columns": _COLUMNS, "x": _x, "ticks": _TICKS, "top": _TOP, "strip": _STRIP}
        return environment.get_template("html.jinja").render(summaries=wording.printable(summaries))


def _plots(summary: Summary) -> list[dict[str, Any]]:
    """Lays out a plot for each output: a strip for each format and backend, a point for each case."""
    strips: dict[str, list[dict[str, Any]]] = {}
    for one in summary["formats"]:
        for told in one["verdicts"]:
            for output, points in told["errors"].items():
                label = f"{one['format']} in {told['backend']}" + (f" on {told['device']}" if told["device"] != "cpu" else "")
                label += f" against {told['against']}" if told["against"] else ""
                if points:
                    strips.setdefault(output, []).append({"label": label, "points": points})
    found = [_plot(output, some) for output, some in strips.items()]
    if len(found) > _MOST_PLOTS:
        found.sort(key=lambda one: -float(one["share"]))
    return found[:_MOST_PLOTS]


def _plot(output: str, strips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    points = [point for strip in strips for point in strip["points"]]
    for place, strip in enumerate(strips):
        for number, point in enumerate(strip["points"]):
            point["y"] = _TOP + place * _STRIP + 30 + _LANES[number % len(_LANES)]
    cases = list(dict.fromkeys(point["case"] for point in points))
    values = [{point["case"]: point for point in strip["points"]} for strip in strips]
    return {
        "output": output,
        "counted": points[0]["metric"] == "unequal elements",  # integers and booleans: a count, no plot
        "limit": points[0]["limit"],
        "strips": strips,
        "height": _TOP + len(strips) * _STRIP + 22,
        "passed": all(point["passed"] for point in points),
        "table": [(case, [some.get(case) for some in values]) for case in cases],
        "share": max(_share(point) for point in points),
    }


def _excerpt(text: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the first line of the network file that a text names, and its neighbours."""
    places = sorted((text.find(place), -len(place), place) for place in source if place in text)
    place = places[0][2] if places else ""
    return {"place": place, "number": int(place.rpartition(":")[2] or 0), "lines": source.get(place, [])}


def _share(point: Summary) -> float:
    value, limit = float(point["value"]), float(point["limit"])
    return math.inf if math.isnan(value) or not limit else value / limit


def _x(value: float) -> str:
    """Places a value on the logarithmic axis, in per cent of the plot's width; NaN stands at its right end."""
    value = _MOST if math.isnan(value) else min(max(value, _LEAST), _MOST)
    return f"{_LEFT + _WIDE * math.log(value / _LEAST) / math.log(_MOST / _LEAST):.2f}%"


def _spans(seconds: Mapping[str, float]) -> Iterator[tuple[str, float, str]]:
    """Yields (step, seconds, per cent of the whole)."""
    total = seconds["total"] or 1.0
    for step, spent in sorted(seconds.items(), key=lambda one: -one[1]):
        if step != "total":
            yield step, spent, f"{min(100 * spent / total, 100):.1f}%"


PLUGIN = HtmlReporter()
