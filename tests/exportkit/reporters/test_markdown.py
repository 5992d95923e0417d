"""What a pull request shows of a verdict."""

import html
import re

import canned

from exportkit import plugins

MARKDOWN = plugins.load("reporters", "markdown")


def test_one_verdict_is_a_table_and_its_notes():
    told = MARKDOWN.render([canned.summary()])
    assert told.startswith("### <code>tagger</code>: ✅ passed\n")
    row = next(line for line in told.splitlines() if "onnxruntime" in line)
    assert row == "| onnx | exported | onnxruntime | ✅ passed | 1.3x of 5x | 3.1e-07 | 2.2e-06 | 5.0 MiB |"


def test_many_begin_with_an_overview_and_go_on_with_the_worst():
    told = MARKDOWN.render([canned.summary(), canned.fail_onnx(canned.summary())])
    assert told.startswith("**1 of 2 networks proven; 1 failed**\n")
    assert re.findall(r"^### .*: (.*)$", told, re.MULTILINE) == ["❌ failed", "✅ passed"]
    assert "- **failed** (onnx): exported: net.py:12: the loop runs over a size" in told


def test_names_are_shown_and_never_obeyed():
    name = "a|b`c`<img src=x>[l](http://x) **@everyone** #12\n# title\n| x |\x1b"
    summary = canned.summary()
    summary["network"]["name"] = name
    summary["findings"] = [{"severity": "note", "code": "n", "text": name, "where": ""}]
    told = MARKDOWN.render([summary, summary])
    plain = re.sub(r"</?code>|<br>", "", told)
    assert not re.search(r"[`<>\[\]@#~]", re.sub(r"&#\d+;|^### ", "", plain, flags=re.MULTILINE))
    assert all(line.count("|") == 5 for line in told.splitlines()[2:6])  # the overview keeps its four columns
    assert "<img src=x>[l](http://x)" in html.unescape(plain)
    assert "<code>&#42;&#42;&#64;everyone&#42;&#42;</code>" in told  # a mention mentions nobody in a code span


def test_a_comment_stays_below_what_github_takes():
    summary = canned.summary()
    summary["findings"] = [{"severity": "note", "code": "n", "text": f"{n} {'words ' * 50}", "where": ""} for n in range(30)]
    told = MARKDOWN.render([summary] * 100)
    assert len(told) < 65_536
    assert "more reports left out" in told
