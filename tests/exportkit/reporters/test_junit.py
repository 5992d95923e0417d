"""What a CI system reads of a verdict."""

from xml.etree import ElementTree as ET

import canned

from exportkit import plugins

JUNIT = plugins.load("reporters", "junit")


def read(*summaries):
    return ET.fromstring(JUNIT.render(summaries).encode())


def test_each_format_is_a_test_and_each_network_a_suite():
    root = read(canned.summary(), canned.fail_onnx(canned.summary()))
    assert [suite.get("name") for suite in root] == ["tagger", "tagger"]
    assert [test.get("name") for test in root[0]] == ["torchscript in torchscript", "pt2 in pt2", "onnx in onnxruntime"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("6", "1", "0")
    assert (root[1].get("tests"), root[1].get("failures")) == ("3", "1")
    failure = root[1].find(".//failure")
    assert failure.get("message") == "exported: net.py:12: the loop runs over a size"


def test_what_could_not_run_is_an_error_and_a_rejected_file_a_failure():
    rejected = canned.could_not_run() | {"outcome": "rejected", "exit_code": 1}
    root = read(canned.could_not_run(), rejected, canned.bare_file())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    assert root[0].find(".//error").get("message") == "other.py:1: no module named transformers"


def test_undetermined_is_red_and_so_are_warnings_where_the_command_was_strict():
    summary = canned.summary()
    summary["formats"][0]["verdicts"] = [canned.verdict("torchscript", "undetermined", undetermined=["on the example only"])]
    summary["formats"][0]["outcome"] = "undetermined"
    assert read(summary).find(".//failure").get("message") == "on the example only"
    warned = canned.summary()
    warning = {"severity": "warning", "code": "w", "text": "loads once", "where": ""}
    warned["formats"][1]["verdicts"] = [canned.verdict("pt2", "passed with warnings", findings=[warning])]
    warned["formats"][1]["outcome"] = "passed with warnings"
    assert read(warned).find(".//failure") is None
    assert read(warned | {"exit_code": 1}).find(".//failure").get("message") == "loads once"


def test_names_hold_no_character_that_xml_forbids():
    summary = canned.summary()
    summary["network"]["name"] = "net\x00\x1b\ufffe\ud800]]><x a='\"'>"
    summary["findings"] = [{"severity": "note", "code": "n", "text": "\x08 & <b>\nnext", "where": ""}]
    root = read(summary)
    assert root[0].get("name") == "net\\x00\\x1b\\ufffe\\ud800]]><x a='\"'>"
    assert "\\x08 & <b>\nnext" in root[0][0].find("system-out").text
