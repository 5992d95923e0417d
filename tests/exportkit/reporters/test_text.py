"""What a newcomer reads of a verdict."""

import copy
import re

import canned
import pytest
from canned import difference, fail_onnx, verdict

from exportkit import plugins

TEXT = plugins.load("reporters", "text")


@pytest.fixture
def summary():
    return canned.summary()


def test_a_usual_verdict_reads_like_this(summary):
    assert TEXT.render(summary) == (
        """\
tagger  from net.py (tagger, 1,234,567 parameters)
  inputs   x: float32[batch, time, 64]
  outputs  logits: float32[batch, time, 9], score: float32[batch]
  varies   batch (x axis 0; you asked for it); time (x axis 1, 8 to 512, in steps of 8; found by
           trying)
  fixed    x axis 2 = 64

  format       made by   runs in      verdict       error  max abs  max rel     size  seconds
  torchscript  exported  torchscript  passed   1.3x of 5x  3.1e-07  2.2e-06  5.0 MiB      2.3
  pt2          exported  pt2          passed   1.3x of 5x  3.1e-07  2.2e-06  5.0 MiB      2.3
  onnx         exported  onnxruntime  passed   1.3x of 5x  3.1e-07  2.2e-06  5.0 MiB      2.3

  Compared on 9 cases at 4 sizes the export never saw, 5 more outside the domain, 2 dropped.
  Error is that of the worst output (logits): a multiple of eager PyTorch's own rounding error, and
    the most allowed.

passed in 12.3 s: artifacts/tagger holds tagger.pt, tagger.pt2, tagger.onnx"""
    )


def test_a_failure_names_the_line_and_ends_in_the_command_that_publishes_the_others(summary):
    told = TEXT.render(fail_onnx(summary))
    assert "failed: exported: net.py:12: the loop runs over a size [onnx]" in told
    assert told.splitlines()[-1] == (
        "failed: onnx is not proven (what stands in the way is named above); nothing was published."
        " Next: exportkit export net.py --format torchscript,pt2"
    )


def test_the_worst_number_is_shown_even_where_it_is_no_number(summary):
    broken = {"logits": difference(float("nan")), "score": difference(0.4)}
    for order in (broken, dict(reversed(broken.items()))):
        summary["formats"][0]["verdicts"][0]["differences"] = order
        assert "nanx of 5x" in TEXT.render(summary)


def test_an_rms_error_closer_to_its_limit_is_the_one_shown(summary):
    summary["formats"][0]["verdicts"][0]["differences"] = {"logits": difference(3.0, rms=2.9)}
    assert "2.9x of 3x" in TEXT.render(summary)


def test_outputs_that_agree_exactly_are_called_equal(summary):
    same = difference(0.0, rms=0.0) | {"max_abs": 0.0, "max_rel": 0.0}
    summary["formats"][0]["verdicts"][0]["differences"] = {"labels": same}
    assert re.search(r"torchscript +passed +equal +0 +0", TEXT.render(summary))


def test_what_a_refusal_says_is_not_said_again(summary):
    lost = {"severity": "error", "code": "dimension-lost", "text": "dimension time was asked to vary", "where": ""}
    fail_onnx(summary)["formats"][2] |= {
        "refused": f"exported: {lost['text']}",
        "verdicts": [verdict("onnxruntime", "failed", findings=[lost])],
    }
    assert TEXT.render(summary).count(lost["text"]) == 1


def test_a_failed_number_states_output_case_and_limit(summary):
    failure = {"case": "like-3", "output": "logits", "metric": "largest error / eager's", "value": 81.234, "limit": 5.0, "cases": 3}
    summary["formats"][0]["verdicts"] = [verdict("torchscript", "failed", failures=[failure])]
    want = "logits on like-3: largest error / eager's is 81.2, at most 5 is allowed (and too large on 2 more cases) [torchscript]"
    assert f"failed: {want}" in TEXT.render(summary, width=200)


def test_the_same_finding_of_several_formats_is_told_once_and_errors_come_first(summary):
    note = {"severity": "note", "code": "n", "text": "it holds a draw", "where": "net.py:3"}
    error = {"severity": "error", "code": "e", "text": "lost batch", "where": ""}
    summary["findings"] = [note]
    for one in summary["formats"][:2]:
        one["verdicts"][0]["findings"] = [error]
    lines = TEXT.render(summary).splitlines()
    assert [line for line in lines if "lost batch" in line or "draw" in line] == [
        "  error: lost batch [torchscript, pt2]",
        "  note: net.py:3: it holds a draw",
    ]


def test_words_in_brackets_are_text_and_no_markup(summary):
    summary["network"]["name"] = "net[/bold]"
    summary["formats"][0]["strategy"] = "a[red]b"
    summary["findings"] = [{"severity": "note", "code": "n", "text": "output['a'] [/red] differs", "where": ""}]
    told = TEXT.render(summary)
    assert told.startswith("net[/bold]")
    assert "a[red]b" in told
    assert "output['a'] [/red] differs" in told
    fault = {"kind": "LoadError", "what": "no [/x] here", "where": "", "todo": ""}
    many = TEXT.render_many([{"target": "[/y].py", "error": fault, "outcome": "could not run", "exit_code": 2}])
    assert "[/y].py" in many
    assert "no [/x] here" in many


def test_what_would_steer_a_terminal_is_written_out(summary):
    evil = "\x1b]0;title\x07\x1b[2J\u202e"
    summary["network"] |= {"name": f"net{evil}", "fixed": [evil]}
    summary["formats"][0]["strategy"] = evil
    summary["findings"] = [{"severity": "note", "code": "n", "text": evil, "where": evil}]
    told = TEXT.render(summary) + TEXT.render_many([summary, summary])
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
    assert "net\\x1b]0;title\\x07" in told


def test_a_place_is_never_broken_so_that_an_editor_can_follow_it(summary):
    place = "some/rather/long/folder/of/a/user/with_a_long_network_name.py:1234"
    summary["findings"] = [{"severity": "warning", "code": "w", "text": "x " * 30, "where": place}]
    assert place in TEXT.render(summary, width=60)


def test_many_findings_stay_on_one_screen_and_say_where_the_rest_is(summary):
    summary["findings"] = [{"severity": "note", "code": "n", "text": f"finding {n}", "where": ""} for n in range(50)]
    told = TEXT.render(summary)
    assert len(told.splitlines()) <= 40
    assert "and 34 more, which --json lists" in told


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_a_narrow_terminal_loses_columns_and_no_word_is_torn(summary, width):
    summary["formats"][0]["verdicts"][0]["outcome"] = "passed with warnings"
    summary["formats"][2]["verdicts"][0]["device"] = "cuda"
    told = TEXT.render(summary, width=width)
    assert all(len(line) <= width for line in told.splitlines()[:-1])
    for words in ("torchscript", "passed with", "warnings", "onnxruntime", "on cuda", "1.3x of 5x", "3.1e-07"):
        assert words in told
    assert ("seconds" in told) == (width >= 100)


def test_undetermined_says_what_the_evidence_lacks(summary):
    summary["formats"][0]["verdicts"] = [verdict("torchscript", "undetermined", undetermined=["verified on the example only"])]
    summary["formats"][0]["outcome"] = "undetermined"
    summary |= {"outcome": "undetermined", "exit_code": 1, "folder": None}
    told = TEXT.render(summary)
    assert "undetermined: verified on the example only [torchscript]" in told
    assert told.splitlines()[-1] == "undetermined: torchscript is not proven (the evidence does not suffice); nothing was published"


def test_strict_says_that_it_was_the_warnings(summary):
    summary |= {"outcome": "passed with warnings", "exit_code": 1, "folder": None}
    last = TEXT.render(summary).splitlines()[-1]
    assert last == ("passed with warnings, which --strict refuses: nothing was published. Settle the warnings above, or leave --strict out")


def test_a_partial_folder_is_named_as_such(summary):
    fail_onnx(summary)["folder"] = "artifacts/tagger.partial"
    assert "what is proven lies in artifacts/tagger.partial" in TEXT.render(summary).splitlines()[-1]


def test_the_device_is_told_where_it_is_not_the_cpu(summary):
    summary["formats"][2]["verdicts"][0]["device"] = "cuda"
    assert re.search(r"onnxruntime +passed .*\n +on cuda", TEXT.render(summary))


def test_on_cuda_the_nodes_on_either_side_are_counted(summary):
    summary["formats"][2]["verdicts"][0] |= {"device": "cuda", "facts": {"placement": {
        "CPUExecutionProvider": {"Gather": 2}, "CUDAExecutionProvider": {"MatMul": 3, "Relu": 4}}}}  # fmt: skip
    assert "Nodes in onnxruntime: 7 on CUDA, 2 on CPU." in TEXT.render(summary)


def test_colour_is_written_only_when_asked_for_and_changes_no_word(summary):
    plain, coloured = TEXT.render(summary), TEXT.render(summary, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split()


def test_many_networks_are_one_row_each_and_a_tally(summary):
    fault = {"kind": "LoadError", "what": "no module named transformers", "where": "other.py:1", "todo": ""}
    failed = fail_onnx(copy.deepcopy(summary))
    failed["network"]["name"] = "speech"
    told = TEXT.render_many(
        [summary, failed, {"target": "other.py", "error": fault, "outcome": "could not run", "exit_code": 2}], width=140
    )
    lines = told.splitlines()
    assert lines[0].split() == ["network", "verdict", "formats", "seconds", "why"]
    assert lines[1].split() == ["tagger", "passed", "torchscript", "pt2", "onnx", "12.3"]
    assert "exported: net.py:12: the loop runs over a size" in lines[2]
    assert "(no onnx)" in lines[2]
    assert "other.py:1: no module named transformers" in lines[3]
    assert lines[-1] == "1 of 3 networks proven; 1 could not run, 1 failed"
