"""Every reason for which a format fails is told in one group, and only there."""

import pytest
from canned import difference, fail_onnx, points, verdict
from canned import summary as usual

from exportkit import casegroups


def told(summary, place=0, **options):
    one = summary | {"formats": [summary["formats"][place]]}
    return {group: casegroups.faults(one, group, **options) for group in casegroups.GROUPS}


@pytest.fixture
def summary():
    one = usual()
    one["cases"] = [
        {"name": "like-0", "sizes": {"batch": 2, "time": 32}, "kind": "like", "domain": "inside", "seed": 1},
        {"name": "sizes-0", "sizes": {"batch": 7, "time": 32}, "kind": "like", "domain": "inside", "seed": 2},
        {"name": "nan", "sizes": {"batch": 2}, "kind": "nan", "domain": "outside", "seed": 3},
    ]
    return one


def fail(summary, **changes):
    summary["formats"][0]["verdicts"] = [verdict("torchscript", "failed", **changes)]
    summary["formats"][0]["outcome"] = "failed"
    return told(summary)


def test_what_passed_has_no_faults(summary):
    assert not any(told(summary).values())


@pytest.mark.parametrize(("case", "group"), [("like-0", "values"), ("sizes-0", "sizes"), ("all cases", "artifact")])
def test_a_number_beyond_its_limit_is_told_where_its_case_belongs(summary, case, group):
    point = {"case": case, "metric": "largest error / eager's", "value": 9.0, "limit": 5.0, "passed": False}
    found = fail(summary, errors={"logits": [*points(1.0), point]})
    assert "9, at most 5 is allowed" in found.pop(group)[0]
    assert not any(found.values())


def test_another_pattern_of_nan_is_told_where_its_case_belongs(summary):
    one = {"case": "sizes-0", "output": "logits", "metric": "NaN and infinity pattern", "value": 3.0, "limit": 0.0, "cases": 1}
    found = fail(summary, failures=[one])
    assert "NaN and infinity pattern is 3" in found.pop("sizes")[0]
    assert not any(found.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"findings": [{"severity": "error", "code": "dimension-lost", "text": "the dimension is lost", "where": ""}]},
        {"undetermined": ["the dimension is lost"]},
    ],
)
def test_what_is_of_no_case_is_the_artifacts(summary, changes):
    found = fail(summary, **changes)
    assert found.pop("artifact") == ["the dimension is lost"]
    assert not any(found.values())


def test_what_was_not_made_fails(summary):
    assert "net.py:12" in told(fail_onnx(summary), 2)["artifact"][0]


def test_a_failure_that_nothing_explains_is_still_one(summary):
    summary["formats"][0] |= {"outcome": "failed", "verdicts": [verdict("torchscript", "failed", differences={"x": difference(1.0)})]}
    assert told(summary)["artifact"] == ["failed"]


def test_warnings_are_faults_where_they_are_asked_to_be(summary):
    outside = {"severity": "warning", "code": "outside-domain", "text": "outside the domain (nan): differs", "where": ""}
    other = {"severity": "warning", "code": "constant-output", "text": "does not depend on the input", "where": ""}
    summary["formats"][0]["verdicts"][0]["findings"] = [outside, other]
    assert not any(told(summary).values())
    assert told(summary, strict=True) == {"artifact": [other["text"]], "values": [], "sizes": [], "outside": [outside["text"]]}


def test_a_group_without_cases_says_why(summary):
    assert casegroups.empty(summary, "sizes") == ""
    summary["network"]["symbols"] = []
    assert casegroups.empty(summary, "sizes") == "no dimension varies"
