"""A format's verdict taken apart into what a test runner reports one by one: the artifact, values, sizes, and values outside the domain."""

from collections.abc import Iterator, Mapping
from typing import Any

from exportkit import wording

Summary = Mapping[str, Any]

GROUPS = ("artifact", "values", "sizes", "outside")


def faults(summary: Summary, group: str, *, strict: bool = False) -> list[str]:
    """Says what is wrong in one group; empty where nothing is. Whatever makes a format fail is a fault of at least one group.

    "values" and "sizes" hold what was measured on cases of the example's sizes, and of others; "outside" what differs outside the domain;
    "artifact" all that is of no single case: it was not made, does not run, lost a dimension, lacks evidence.

    Args:
        summary: of a single format.
        strict: warnings are faults, too.
    """
    (form,) = summary["formats"]
    measured = list(_measured(summary, form))
    found = [text for where, text in measured if where == group]
    outside = {wording.place(one) for verdict in form["verdicts"] for one in verdict["findings"] if one["code"] == "outside-domain"}
    if group == "outside" and strict:
        found += sorted(outside)
    if group == "artifact":
        told = ("failed", "error", "undetermined", *(("warning",) if strict else ()))
        known = {wording.failure(one) for verdict in form["verdicts"] for one in verdict["failures"]} | outside
        found += [text for severity, text, _ in wording.notes(summary) if severity in told and text not in known]
        if not found and not measured and not form["outcome"].startswith("passed"):
            found = [str(form["outcome"])]
    return list(dict.fromkeys(found))


def empty(summary: Summary, group: str) -> str:
    """Says why a group holds no case; "" where it holds some."""
    if group == "sizes" and not summary["network"]["symbols"]:
        return "no dimension varies"
    if group == "outside" and not any(case["domain"] == "outside" for case in summary["cases"]):
        return "no values outside the domain were tried"
    return ""


def _measured(summary: Summary, form: Summary) -> Iterator[tuple[str, str]]:
    """Yields (group, text) of each number beyond its limit."""
    groups = {case["name"]: _group(summary, case) for case in summary["cases"]}
    for verdict in form["verdicts"]:
        points = [{"output": output, "cases": 1, **point} for output, some in verdict["errors"].items() for point in some]
        single = {point["metric"] for point in points}
        for one in [point for point in points if not point["passed"]] + [one for one in verdict["failures"] if one["metric"] not in single]:
            yield groups.get(one["case"], "artifact"), wording.failure(one)


def _group(summary: Summary, case: Summary) -> str:
    usual = {symbol["name"]: symbol["size"] for symbol in summary["network"]["symbols"]}
    return "values" if all(usual.get(name, size) == size for name, size in case["sizes"].items()) else "sizes"
