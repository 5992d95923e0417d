"""Which lines of the network file a summary holds."""

from exportkit.pipeline import Verdict
from exportkit.spec import Finding, Network, Source
from exportkit.summary import _source


def told(tmp_path, where, text=""):
    file = tmp_path / "net.py"
    file.write_text("\n".join(f"line {number}" for number in range(1, 11)))
    verdict = Verdict(Network("net", (), {}, Source("net.py", "", "", "")), (), (Finding("error", "blame", text, where),), None, 1)
    return _source(verdict, file)


def test_a_line_that_is_named_comes_with_its_neighbours(tmp_path):
    found = told(tmp_path, "net.py:5")
    assert [one["line"] for one in found["net.py:5"]] == [3, 4, 5, 6, 7]
    assert found["net.py:5"][2]["text"] == "line 5"
    assert [one["line"] for one in told(tmp_path, "", "see net.py:10 there")["net.py:10"]] == [8, 9, 10]


def test_no_other_file_is_read_whatever_a_verdict_names(tmp_path):
    (tmp_path / "secret.py").write_text("secret")
    assert told(tmp_path, "secret.py:1", "../secret.py:1 /etc/passwd:1") == {}
    assert told(tmp_path, "net.py:99")["net.py:99"] == []
