"""`exportkit serve` where its extra is not installed."""

import subprocess
import sys


def test_a_missing_extra_is_named_in_one_line(tmp_path):
    code = "import sys; sys.modules['uvicorn'] = None; from exportkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "serve needs the package uvicorn" in done.stderr
    assert "pip install 'exportkit[serve]'" in done.stderr
