"""Verdicts as a JUnit XML file: what CI systems read. One suite a network or file, one test a format and backend.

The format has no specification; this is the form that Jenkins, GitLab and pytest agree on
(https://github.com/testmoapp/junitxml).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from exportkit import wording

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JUnitReporter:
    """Renders a `<testsuites>` document."""

    def render(self, summaries: Sequence[Summary]) -> str:
        """Renders all summaries of a command: what is not proven is a `<failure>`, what could not run an `<error>`."""
        root = ET.Element("testsuites", name="exportkit")
        for summary in wording.printable(summaries):
            suite = ET.SubElement(root, "testsuite", name=wording.title(summary))
            suite.extend(_tests(summary))
            _count(suite, summary.get("seconds", {}).get("total", 0.0))
        _count(root, sum(float(suite.get("time", "0")) for suite in root))
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _tests(summary: Summary) -> Iterator[ET.Element]:
    if "network" in summary:
        # No format is bad and the command fails: it was asked to be strict.
        strict = bool(summary["exit_code"]) and all(one["outcome"].startswith("passed") for one in summary["formats"])
        for one in summary["formats"]:
            yield from _format(summary, one, strict=strict)
        return
    test = _test(summary, summary.get("format", "check"), summary.get("seconds", {}).get("total", 0.0))
    if "error" in summary:
        fault = summary["error"]
        kind = "failure" if summary["outcome"] == "rejected" else "error"
        ET.SubElement(test, kind, message=wording.why(summary), type=fault["kind"]).text = wording.verdict(summary)
    else:
        ET.SubElement(test, "system-out").text = wording.verdict(summary)
    yield test


def _format(summary: Summary, one: Summary, *, strict: bool) -> Iterator[ET.Element]:
    told = [(severity, text) for severity, text, names in wording.notes(summary) if not names or one["format"] in names]
    lines = "\n".join(f"{severity}: {text}" for severity, text in told)
    for place, row in enumerate(wording.rows(one)):
        name = one["format"] if row["runs in"] == "-" else f"{one['format']} in {row['runs in']}"
        test = _test(summary, name, one["seconds"] if place == 0 else 0.0)
        outcome = row["verdict"]
        if outcome == "passed" or (outcome == "passed with warnings" and not strict):
            figures = f"error: {row['error']}, max abs: {row['max abs']}, max rel: {row['max rel']}"
            ET.SubElement(test, "system-out").text = f"{outcome}; {figures}\n{lines}"
        else:
            first = next((text for severity, text in told if severity not in ("note", "warning") or strict), outcome)
            ET.SubElement(test, "failure", message=first.partition("\n")[0], type=outcome).text = lines or outcome
        yield test


def _test(summary: Summary, name: str, seconds: float) -> ET.Element:
    return ET.Element("testcase", classname=wording.title(summary), name=name, time=f"{seconds:.3f}")


def _count(element: ET.Element, seconds: float) -> None:
    counts = {"tests": "testcase", "failures": "failure", "errors": "error"}
    for name, tag in counts.items():
        element.set(name, str(sum(1 for _ in element.iter(tag))))
    element.set("skipped", "0")
    element.set("time", f"{seconds:.3f}")


PLUGIN = JUnitReporter()
