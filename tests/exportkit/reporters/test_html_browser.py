"""The page in a real browser, on a phone and on a desk, in light and in dark."""

import html
import json
import os
import re
import shutil
import subprocess

import canned
import pytest

from exportkit import plugins

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome here")]

# Stands around the page, which runs no script itself: its own policy forbids it.
LOOK = """
<body><iframe id="page" width="%d" height="900" srcdoc="%s"></iframe><script>
const rgb = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = color => color.slice(0, 3).map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
const solid = color => color.length < 4 || color[3] == 1;
onload = () => {
  const page = document.getElementById("page").contentDocument, view = page.defaultView, root = page.documentElement;
  const under = one => { while (one && !solid(rgb(view.getComputedStyle(one).backgroundColor))) one = one.parentElement;
    return rgb(view.getComputedStyle(one || root).backgroundColor); };
  const faint = [], small = [];
  for (const details of page.querySelectorAll("details")) details.open = true;
  for (const one of page.body.querySelectorAll("*")) {
    if (![...one.childNodes].some(node => node.nodeType == 3 && node.data.trim()) || one.tagName == "title") continue;
    const style = view.getComputedStyle(one), ink = rgb(one.closest("svg") ? style.fill : style.color);
    if (ratio(ink, under(one)) < 4.5) faint.push(one.outerHTML.slice(0, 80));
    if (parseFloat(style.fontSize) < 11) small.push(one.outerHTML.slice(0, 80));
  }
  const named = one => one.getAttribute("aria-label") || page.getElementById(one.getAttribute("aria-labelledby"));
  const unnamed = [...page.querySelectorAll("svg[role=img], [role=region]")].filter(one => !named(one)).length;
  document.body.dataset.found = JSON.stringify({wide: root.scrollWidth - root.clientWidth, faint, small, unnamed,
    loaded: view.performance.getEntriesByType("resource").length, dark: light(under(page.body)) < .5,
    headings: page.querySelectorAll("h1").length, alive: page.body.innerText.length});
};
</script>
"""


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_a_page_fits_is_legible_and_loads_nothing(tmp_path, width, dark):
    failed = canned.fail_onnx(canned.summary())
    failed["source"] = {"net.py:12": [{"line": 12, "text": "a line of the network"}]}
    failed["formats"][0]["verdicts"][0]["errors"] = {"logits": canned.points(81.0)}
    page = plugins.load("reporters", "html").render([canned.summary(), failed, canned.bare_file(), canned.could_not_run()])
    (tmp_path / "look.html").write_text(LOOK % (width, html.escape(page)))
    command = [
        BROWSER, "--headless",
        "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width + 100},900",
        f"--blink-settings=preferredColorScheme={int(not dark)}", "--virtual-time-budget=2000", "--dump-dom", str(tmp_path / "look.html"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(tmp_path)})
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', done.stdout)[1]))
    assert found["dark"] == dark
    assert found["wide"] <= 0
    assert found["faint"] == found["small"] == []
    assert found["loaded"] == found["unnamed"] == 0
    assert found["alive"] > 1000
    assert found["headings"] == 1
