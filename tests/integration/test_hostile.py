"""Networks that try to fool, crash or outwait an exporter: each is exported right or refused by name."""

import json
from pathlib import Path

import pytest

from exportkit.worker import Limits

FOLDER = Path(__file__).parents[1] / "samples" / "hostile"
EXPECTATIONS = json.loads((FOLDER / "expectations.json").read_text())


@pytest.mark.parametrize("name", sorted(EXPECTATIONS))
def test_hostile_network(exportkit, warm, tmp_path, name):
    expected = EXPECTATIONS[name]
    done = exportkit("export", FOLDER / name, "--timeout", "40")
    text = done.stdout + done.stderr
    made = sorted(tmp_path.rglob("*.onnx")) + sorted(tmp_path.rglob("*.pt*"))
    assert done.returncode in (0, 1, 2), text
    assert "Traceback (most recent call last)" not in text
    if expected["expect"] == "ok":
        assert done.returncode == 0, text
    if expected["expect"] == "refuse":
        assert done.returncode != 0, text
    assert bool(made) == (done.returncode == 0), text
    if done.returncode or expected["expect"] == "warn":
        told = text.replace(name, "").replace(Path(name).stem, "").lower()
        assert not expected["names"] or any(word.lower() in told for word in expected["names"]), text
    if made:
        assert warm.run("hostile_judge:judge", str(FOLDER / name), str(tmp_path), limits=Limits(100), stage="judging") == []
