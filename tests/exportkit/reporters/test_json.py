"""What a program reads of a verdict."""

import json

from exportkit import plugins

JSON = plugins.load("reporters", "json")


def test_keys_are_sorted_so_that_two_equal_verdicts_are_equal_bytes():
    one = JSON.render({"outcome": "passed", "exit_code": 0, "seconds": {"total": 1.5, "onnx": 0.5}})
    two = JSON.render({"seconds": {"onnx": 0.5, "total": 1.5}, "exit_code": 0, "outcome": "passed"})
    assert one == two
    assert json.loads(one) == {"exit_code": 0, "outcome": "passed", "seconds": {"onnx": 0.5, "total": 1.5}}


def test_numbers_that_json_lacks_are_strings_that_a_number_constructor_reads():
    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    told = JSON.render({"values": [float("nan"), float("inf"), float("-inf"), 1.0]})
    values = json.loads(told, parse_constant=refuse)["values"]
    assert values == ["NaN", "Infinity", "-Infinity", 1.0]
    assert [str(float(value)) for value in values] == ["nan", "inf", "-inf", "1.0"]


def test_many_summaries_are_one_list():
    assert json.loads(JSON.render([{"exit_code": 0}, {"exit_code": 2}])) == [{"exit_code": 0}, {"exit_code": 2}]
