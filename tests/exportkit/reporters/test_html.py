"""What a browser is given of a verdict; how the page looks is for eyes."""

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser

import canned
import pytest

from exportkit import plugins

HTML = plugins.load("reporters", "html")
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}\x00\x1b[31m\u202e\ud800"


class Page(HTMLParser):
    """The tags of a page, which must be closed in their order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def poison(value):
    """Puts an attack behind every name and text of a summary."""
    if isinstance(value, dict):
        return {key: poison(child) if key not in ("outcome", "severity", "metric") else child for key, child in value.items()}
    if isinstance(value, list):
        return [poison(child) for child in value]
    return value + ATTACK if isinstance(value, str) else value


def test_the_line_at_fault_is_shown_with_its_neighbours():
    summary = canned.fail_onnx(canned.summary())
    summary["source"] = {"net.py:12": [{"line": number, "text": f"line {number}"} for number in (11, 12, 13)]}
    assert "▶   12  line 12" in Page(HTML.render([summary])).text


def test_a_verdict_shows_formats_cases_dimensions_operators_and_blame():
    summary = canned.summary()
    blame = {"severity": "error", "code": "blame", "text": "node Mul is at fault:\nreturn x * 2", "where": "net.py:12"}
    summary["formats"][2]["verdicts"][0]["findings"] = [blame]
    page = Page(HTML.render([summary]))
    for text in (
        "tagger",
        "onnxruntime",
        "1.3x of 5x",
        "like-0",
        "time=8",
        "8 to 512, in steps of 8",
        "MatMul",
        "net.py:12: node Mul",
        "making onnx",
    ):
        assert text in page.text
    assert sum(tag == "circle" for tag, _ in page.tags) == 2 * 3 * 3  # outputs, formats, cases


def test_what_is_too_large_differs_by_shape_not_by_colour_alone():
    summary = canned.summary()
    summary["formats"][0]["verdicts"][0]["errors"]["logits"] = canned.points(float("nan"))
    page = HTML.render([summary])
    assert page.count('class="cross"') == 3
    assert "beyond the limit of 5x" in page
    assert "nanx (too large)" in page


def test_integers_are_counted_and_not_plotted():
    summary = canned.summary()
    for one in summary["formats"]:
        one["verdicts"][0]["errors"] = {"labels": canned.points(0.0, 0.0, "unequal elements")}
    page = HTML.render([summary])
    assert "equal in every case" in page
    assert "<circle" not in page


@pytest.mark.parametrize(
    "summaries", [[canned.summary()], [canned.fail_onnx(canned.summary()), canned.could_not_run(), canned.bare_file()]]
)
def test_names_are_shown_and_never_obeyed(summaries):
    text = HTML.render(poison(summaries))
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800]", text)
    text.encode()


def test_the_page_needs_no_network_and_says_so_to_the_browser():
    text = HTML.render([canned.summary(), canned.bare_file()])
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)


def test_readers_of_any_kind_find_their_way():
    text = HTML.render([canned.summary(), canned.could_not_run()])
    page = Page(text)
    attributes = [one for _, one in page.tags]
    ids = [one["id"] for one in attributes if "id" in one]
    assert len(ids) == len(set(ids))
    named = [one["aria-labelledby"] for one in attributes if "aria-labelledby" in one]
    linked = [one["href"].removeprefix("#") for one in attributes if "href" in one]
    assert {*named, *linked} <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert all("scope" in one for tag, one in page.tags if tag == "th")
    assert "prefers-color-scheme: dark" in text


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_is_wider_than_the_window(tmp_path, width):
    summary = canned.summary()
    summary["network"]["name"] = "n" * 300
    summary["findings"] = [{"severity": "error", "code": "e", "text": "x" * 500, "where": "y" * 300}]
    summary["formats"][0]["verdicts"][0]["errors"] = {"o" * 300: canned.points(81.0)}
    page = HTML.render([summary, canned.fail_onnx(canned.summary()), canned.could_not_run(), canned.bare_file()])
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("<details>", "<details open>")
    # A window is 500 pixels wide at least, a frame as narrow as it is told.
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
    size = "[frames[0].innerWidth, root.clientWidth, root.scrollWidth].join()"
    measure = f"onload = () => {{ const root = frames[0].document.documentElement; document.title = {size} }}"
    (tmp_path / "page.html").write_text(f"<title></title>{frame}<script>{measure}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *options, "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    window, visible, content = map(int, re.search(r"<title>(\d+),(\d+),(\d+)</title>", done.stdout).groups())
    assert window == width
    assert content == visible
